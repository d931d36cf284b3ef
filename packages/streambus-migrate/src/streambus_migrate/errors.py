"""Errors of the migration tool: one root; each names the file, what was wrong and what to do.

Nothing has been written where one of these is raised.
"""

from __future__ import annotations


class MigrateError(Exception):
    """Root of everything that this distribution raises on purpose.

    Attributes:
        exit_code: What the command line ends with.
    """

    exit_code = 1


class UnreadableFileError(MigrateError):
    """A file that cannot be opened or read. Correct the path or its permissions."""

    def __init__(self, path: str, problem: str, exit_code: int) -> None:
        self.path = path
        self.problem = problem
        self.exit_code = exit_code
        super().__init__(f"{path}: {problem}")


class NotPropertiesError(MigrateError):
    """Content that Kafka would not read either: binary, too large, a broken escape."""

    def __init__(self, path: str, problem: str, line: int | None = None) -> None:
        self.path = path
        self.problem = problem
        self.line = line
        where = path if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {problem}")


class UnknownKindError(MigrateError):
    """Content that does not tell what it configures. Say so with ``--kind``."""

    exit_code = 2

    def __init__(self, path: str, candidates: list[str]) -> None:
        self.path = path
        self.candidates = candidates
        if candidates:
            problem = f"could be {' or '.join(candidates)} settings"
        else:
            problem = "holds no key of a Kafka broker, topic, producer or consumer"
        super().__init__(f"{path}: {problem}; say which with --kind server|topic|producer|consumer")


class OutputError(MigrateError):
    """The configuration could not be written; an existing file is as it was."""

    def __init__(self, path: str, problem: str, exit_code: int) -> None:
        self.path = path
        self.problem = problem
        self.exit_code = exit_code
        super().__init__(f"{path}: {problem}")
