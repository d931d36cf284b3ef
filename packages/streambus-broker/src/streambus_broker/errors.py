"""Errors of the broker: one root, facts as attributes, messages built from the facts.

What goes over the wire to a client is an error code of ``streambus_protocol``; these exceptions
are for whoever starts, embeds or configures a broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AddressInUseError",
    "BrokerError",
    "BrokerFailedError",
    "ConfigError",
    "DataDirectoryError",
    "ServeTimeoutError",
    "SettingError",
    "StoredStateError",
]


class BrokerError(Exception):
    """Root of every error that the broker package raises."""


class SettingError(BrokerError):
    """One setting has a wrong value, or does not exist.

    Attributes:
        key: Name of the setting as the user wrote it.
        value: The offending value, as given; None where the key itself is wrong.
        problem: What is wrong with it.
        remedy: What to write instead.
        source: Where the value came from (a file, the environment, a flag); may be empty.
    """

    def __init__(
        self, key: str, value: object, problem: str, remedy: str, source: str = ""
    ) -> None:
        self.key = key
        self.value = value
        self.problem = problem
        self.remedy = remedy
        self.source = source
        shown = "" if value is None else f" = {value!r}"
        origin = f" ({source})" if source else ""
        super().__init__(f"{key}{shown}{origin}: {problem}; {remedy}")


class ConfigError(BrokerError):
    """The configuration cannot be used; every wrong value is listed, not only the first.

    Attributes:
        problems: One `SettingError` for each wrong value, in the order of discovery.
    """

    def __init__(self, problems: Sequence[SettingError]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DataDirectoryError(BrokerError):
    """The data directory cannot be opened: in use, damaged, of an unknown format or not writable.

    Attributes:
        path: The directory.
        problem: What is wrong with it.
        remedy: What to do.
    """

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        self.path = path
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"data directory {path}: {problem}; {remedy}")


class StoredStateError(DataDirectoryError):
    """The stored metadata was read without damage but makes no sense to this version."""


class AddressInUseError(BrokerError):
    """A listening address cannot be bound.

    Attributes:
        address: ``host:port`` as configured.
        setting: The setting that names it (``listen`` or ``http``).
        problem: What the operating system said.
    """

    def __init__(self, address: str, setting: str, problem: str) -> None:
        self.address = address
        self.setting = setting
        self.problem = problem
        super().__init__(
            f"cannot listen on {address}: {problem}; stop the program that uses the address,"
            f" or choose another with --{setting} HOST:PORT (port 0 takes a free one)"
        )


class BrokerFailedError(BrokerError):
    """A broker that served cannot go on; it has stopped.

    Attributes:
        reason: Why.
    """

    def __init__(self, reason: Exception) -> None:
        self.reason = reason
        super().__init__(f"the broker stopped: {reason}")


class ServeTimeoutError(BrokerError):
    """An embedded broker did not start or stop in the time allowed.

    Attributes:
        waited_s: Seconds waited.
        what: ``start`` or ``stop``.
    """

    def __init__(self, what: str, waited_s: float) -> None:
        self.what = what
        self.waited_s = waited_s
        super().__init__(f"the broker did not {what} within {waited_s:g} s")
