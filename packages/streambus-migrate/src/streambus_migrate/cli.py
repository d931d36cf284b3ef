"""``streambus-migrate``, which ``streambus migrate`` loads too: a thin shell around `config`.

Exit codes: 0 everything has a counterpart, 1 failed (a file that Kafka would not read either), 2
usage, 4 not allowed, 5 a file does not exist, 6 the output exists, 7 something has no counterpart.
"""

from __future__ import annotations

import enum
import os
import sys
import tempfile
from typing import TYPE_CHECKING, Annotated

import typer

from streambus_migrate.errors import MigrateError, OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streambus_migrate.config.conversion import Conversion

EXIT_OK, EXIT_USAGE, EXIT_NOT_ALLOWED, EXIT_EXISTS, EXIT_PARTLY = 0, 2, 4, 6, 7

app = typer.Typer(
    name="migrate",
    help="Move from Apache Kafka to StreamBus.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class Kind(enum.StrEnum):
    """What a file configures."""

    SERVER = "server"
    TOPIC = "topic"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class OutputFormat(enum.StrEnum):
    """How findings are shown."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


@app.callback()
def migrate() -> None:
    """Move from Apache Kafka to StreamBus."""


@app.command()
def config(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Kafka configuration files.")
    ],
    kind: Annotated[
        Kind | None, typer.Option(help="What the files configure, if their keys do not tell.")
    ] = None,
    output_format: Annotated[
        OutputFormat, typer.Option("-o", "--output-format", help="How to show what became of keys.")
    ] = OutputFormat.TABLE,
    output: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the StreamBus settings of one file, as TOML."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Overwrite the output file.")] = False,
) -> None:
    """Convert Kafka settings, and say what becomes of each key.

    Reads server.properties, topic, producer and consumer properties, and what
    kafka-configs --describe prints. Ends with 7 if something has no counterpart.
    """
    try:
        complete = _run(files, kind, output_format, output, overwrite=yes)
    except MigrateError as error:
        _say(f"streambus-migrate: {error}")
        raise typer.Exit(error.exit_code) from error
    raise typer.Exit(EXIT_OK if complete else EXIT_PARTLY)


def _run(
    files: list[str],
    kind: Kind | None,
    output_format: OutputFormat,
    output: str | None,
    *,
    overwrite: bool,
) -> bool:
    """Read everything, then convert, then write, then show; return whether all was converted."""
    from streambus_migrate.config.conversion import convert
    from streambus_migrate.config.kinds import TABLES, recognise
    from streambus_migrate.config.properties import parse, read_bytes
    from streambus_migrate.config.report import as_toml, summary

    contents = [(path, read_bytes(path)) for path in files]
    sections = [(path, part) for path, content in contents for part in parse(path, content)]
    results = []
    for path, section in sections:
        table = TABLES[kind] if kind is not None else recognise(path, section)
        results.append((path, convert(section, table)))
    if output is not None:
        if output in set(OutputFormat):
            problem = f"--output names a file; to show what became of keys as {output}: -o {output}"
            raise OutputError(output, problem, EXIT_USAGE)
        if len(results) != 1:
            problem = f"holds the settings of one thing, and there are {len(results)}; split them"
            raise OutputError(output, problem, EXIT_USAGE)
        write_new(output, as_toml(*results[0]), overwrite=overwrite)
    _show(results, output_format)
    for path, conversion in results:
        _say(f"{path}: {summary(conversion)}")
    return all(conversion.complete for _, conversion in results)


def _show(results: Sequence[tuple[str, Conversion]], output_format: OutputFormat) -> None:
    from streambus_migrate.config import report

    if output_format is OutputFormat.JSON:
        print(report.as_json(results))
    elif output_format is OutputFormat.JSONL:
        for line in report.as_json_lines(results):
            print(line)
    else:
        from rich.console import Console

        console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 160)
        for path, conversion in results:
            report.print_table(console, path, conversion)


def _say(message: str) -> None:
    from streambus_migrate.config.conversion import printable

    print(printable(message), file=sys.stderr)


def write_new(path: str, content: str, *, overwrite: bool) -> None:
    """Write a whole file or none: into a temporary file beside it, then into place.

    Raises:
        OutputError: It exists and ``overwrite`` is False, or it cannot be written.
    """
    folder = os.path.dirname(path) or "."
    try:
        if not overwrite and os.path.lexists(path):
            raise OutputError(path, "exists; choose another name, or pass --yes", EXIT_EXISTS)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=folder, prefix=".streambus-", delete=False
        ) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except PermissionError as exc:
        raise OutputError(path, "may not be written by this user", EXIT_NOT_ALLOWED) from exc
    except OSError as exc:
        raise OutputError(path, f"cannot be written: {exc.strerror or exc}", 1) from exc


def main() -> None:
    """Run ``streambus-migrate``."""
    app(prog_name="streambus-migrate")
