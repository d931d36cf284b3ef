"""What can become of a Kafka key: the vocabulary in which the tables are written.

A table maps each key to its `Rule`; to several only where one key feeds several settings. A rule
either converts (``convert`` and ``target``), or states a fate with its reason. ``harmless`` tells
the values for which an unsupported key asks for nothing that StreamBus does not do anyway.
"""

from __future__ import annotations

import enum
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from streambus_migrate.config.values import Value, text


class Fate(enum.StrEnum):
    """What became of one line of the file."""

    SAME = "same"
    CONVERTED = "converted"
    NOT_NEEDED = "not needed"
    OVERRIDDEN = "overridden"
    NOT_SUPPORTED = "not supported"
    UNKNOWN = "unknown"
    INVALID = "invalid"

    @property
    def lost(self) -> bool:
        """Whether something that was asked for has no counterpart."""
        return self in {Fate.NOT_SUPPORTED, Fate.UNKNOWN, Fate.INVALID}


@dataclass(frozen=True, slots=True)
class Target:
    """A StreamBus setting that conversion may produce; a test holds it to the real one.

    Attributes:
        type: ``int``, ``bool`` or ``str``.
        minimum: Smallest integer, inclusive.
        maximum: Largest integer, inclusive.
        unlimited: Whether -1 stands for no limit.
        choices: Allowed words; empty where any text will do.
        default: What StreamBus takes where nothing is said.
    """

    type: type[int] | type[bool] | type[str]
    minimum: int | None = None
    maximum: int | None = None
    unlimited: bool = False
    choices: tuple[str, ...] = ()
    default: Value | None = None

    def problem(self, value: Value) -> str:
        """Say why ``value`` does not fit, or return an empty string."""
        if self.choices and value not in self.choices:
            return f"takes only {', '.join(self.choices)}"
        if self.type is not int or not isinstance(value, int) or (self.unlimited and value == -1):
            return ""
        low, high = self.minimum, self.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = f"at least {low}" if high is None else f"{low} to {high}"
            return f"takes {bounds}" + (", or -1 for no limit" if self.unlimited else "")
        return ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of one key.

    Attributes:
        fate: The fate; CONVERTED where there is a ``target`` (which may turn out SAME).
        reason: Why, or how it is converted; one sentence without a full stop.
        target: Name of the StreamBus setting.
        convert: Text to value; raises what `values` defines.
        rank: Where several keys feed one target, the lowest rank wins, as in Kafka.
        harmless: Whether a value (in lower case) asks for nothing special.
    """

    fate: Fate
    reason: str
    target: str = ""
    convert: Callable[[str], Value] = text
    rank: int = 0
    harmless: Callable[[str], bool] = lambda value: False  # noqa: ARG005 - nothing is harmless


@dataclass(frozen=True, slots=True)
class Table:
    """All keys of one kind of configuration.

    Attributes:
        kind: ``server``, ``topic``, ``producer`` or ``consumer``.
        rules: Key → its rules, at least one.
        families: Beginning of keys (``*`` stands for any part) → rule, tried in order.
        targets: The settings that rules may name.
        defaults: Kafka key → value that Kafka takes where the key is missing, for keys whose
            default in StreamBus differs in what a program would notice.
        pairs: Settings of which the first must not exceed the second.
    """

    kind: str
    rules: Mapping[str, Sequence[Rule]]
    families: Mapping[str, Rule]
    targets: Mapping[str, Target]
    defaults: Mapping[str, str] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()

    def find(self, key: str) -> Sequence[Rule]:
        """Return the rules for a key, by name or by prefix; none if it is unknown."""
        if rules := self.rules.get(key):
            return rules
        return [
            rule for start, rule in self.families.items() if fnmatch.fnmatchcase(key, start + "*")
        ][:1]


Rows = Iterator[tuple[str, Rule]]


def becomes(
    key: str,
    target: str,
    convert: Callable[[str], Value],
    how: str = "",
    rank: int = 0,
) -> Rows:
    """State that ``key`` turns into the setting ``target``."""
    yield key, Rule(Fate.CONVERTED, how, target, convert, rank)


def not_needed(reason: str, keys: str) -> Rows:
    """State that each of the white-space separated ``keys`` has no use in StreamBus."""
    for key in keys.split():
        yield key, Rule(Fate.NOT_NEEDED, reason)


def not_supported(
    reason: str, keys: str, harmless: Iterable[str] | Callable[[str], bool] = ()
) -> Rows:
    """State that StreamBus cannot do what each of ``keys`` asks, but for ``harmless`` values."""
    accepts = harmless if callable(harmless) else frozenset(harmless).__contains__
    for key in keys.split():
        yield key, Rule(Fate.NOT_SUPPORTED, reason, harmless=accepts)


def table(*groups: Rows) -> dict[str, list[Rule]]:
    """Collect rows.

    Raises:
        ValueError: A key stands twice without converting to two settings: a mistake in the table.
    """
    rules: dict[str, list[Rule]] = {}
    for group in groups:
        for key, rule in group:
            others = rules.setdefault(key, [])
            if others and (not rule.target or rule.target in {other.target for other in others}):
                raise ValueError(f"{key} stands twice in the table")
            others.append(rule)
    return rules
