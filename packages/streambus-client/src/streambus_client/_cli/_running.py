"""Runs one sub-command, and decides the exit code."""

from __future__ import annotations

import importlib
import os
import sys
from enum import IntEnum
from typing import Any

from streambus_client import errors
from streambus_protocol import ErrorCode


class ExitCode(IntEnum):
    """What a command ends with; the same for all of them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    EXISTS = 6
    PARTLY_DONE = 7
    CHECK_FAILED = 8
    INTERRUPTED = 130


_EXITS: tuple[tuple[type[errors.ClientError], ExitCode], ...] = (
    (errors.BrokerUnreachableError, ExitCode.UNREACHABLE),
    (errors.ConnectionLostError, ExitCode.UNREACHABLE),
    (errors.RequestTimedOutError, ExitCode.UNREACHABLE),
    (errors.DeliveryTimedOutError, ExitCode.UNREACHABLE),
    (errors.NotLeaderError, ExitCode.UNREACHABLE),
    (errors.NotEnoughReplicasError, ExitCode.UNREACHABLE),
    (errors.BrokerUnavailableError, ExitCode.UNREACHABLE),
    (errors.TopicNotFoundError, ExitCode.NOT_FOUND),
    (errors.PartitionNotFoundError, ExitCode.NOT_FOUND),
    (errors.OffsetOutOfRangeError, ExitCode.NOT_FOUND),
    (errors.TopicExistsError, ExitCode.EXISTS),
    (errors.InvalidArgumentError, ExitCode.USAGE),
    (errors.InvalidTopicError, ExitCode.USAGE),
    (errors.InvalidSettingError, ExitCode.USAGE),
)


def exit_code_for(error: errors.ClientError) -> ExitCode:
    """The exit code that an error of the client stands for."""
    for kind, code in _EXITS:
        if isinstance(error, kind):
            return code
    return ExitCode.NOT_FOUND if error.code == ErrorCode.UNKNOWN_BROKER else ExitCode.FAILED


def run_target(name: str, target: str, arguments: list[str]) -> int:
    """Load ``module:object`` and run it as ``streambus NAME``; returns the exit code.

    Messages go to standard error. A reader of our output that goes away ends the command quietly.
    """
    import typer

    try:
        app = _load(target)
        command: Any = typer.main.get_command(app)
        result = command.main(arguments, prog_name=f"streambus {name}", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return ExitCode.OK
    except SystemExit as stop:
        if not isinstance(stop.__context__, BrokenPipeError):
            raise
        _forget_stdout()
        return ExitCode.OK
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except errors.ClientError as error:
        say(str(error))
        return exit_code_for(error)
    except Exception as error:
        shown = getattr(error, "show", None)  # what typer raises for wrong usage shows itself
        if shown is None:
            raise
        shown()
        return int(getattr(error, "exit_code", ExitCode.USAGE))
    return result if isinstance(result, int) else ExitCode.OK


def say(message: str) -> None:
    """Tell the person at the terminal; never mixed with data."""
    sys.stderr.write(f"streambus: {message}\n")


def _load(target: str) -> Any:
    import typer

    module_name, _, attribute = target.partition(":")
    loaded = getattr(importlib.import_module(module_name), attribute)
    if isinstance(loaded, typer.Typer):
        loaded.rich_markup_mode = None
        loaded._add_completion = False
        return loaded
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(loaded)
    return app


def _forget_stdout() -> None:
    """Keep the interpreter from complaining once more when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
