"""Apply a table to the entries of a file: pure; every entry ends in at least one finding.

Rules:

- Of two lines with one key, the last counts, as in Java; the other is reported as overridden.
- Of two keys that feed one setting, the rule's rank decides, as in Kafka
  (``log.retention.ms`` before ``log.retention.minutes`` before ``log.retention.hours``).
- A default of Kafka that differs from that of StreamBus in what a program notices is written down
  as if the file had held it: its finding has line 0.
- A value that may be secret never enters a finding, nor does one of a key that no table knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from streambus_migrate.config.properties import Entry, Section
from streambus_migrate.config.rules import Fate, Rule, Table
from streambus_migrate.config.security_keys import is_secret
from streambus_migrate.config.values import InvalidValueError, NoCounterpartError, Value

DEFAULT_LINE = 0
VALUE_CHARACTERS_MAX = 200
_KEY_SHAPE = re.compile(
    r"[a-z_-]{1,24}|[a-z0-9_-]{1,40}(?:\.[a-zA-Z0-9_-]{1,40}){1,12}", re.ASCII
)  # narrow, because a line of a pasted key or token is parsed as a key
_BYTE_ORDER_MARKS = ("\u00ef\u00bb\u00bf", "\ufeff")


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one line, or of one of Kafka's defaults.

    Attributes:
        line: Its number from 1; 0 for a default of Kafka that the file does not hold.
        key: As written; a placeholder where it does not look like a key and may be a secret.
        fate: What became of it.
        reason: Why, or how it was converted; may be empty where nothing needs saying.
        given: The value as written; None where it must not be shown.
        setting: Name of the StreamBus setting; empty where none results.
        value: Its value; None where none results.
    """

    line: int
    key: str
    fate: Fate
    reason: str
    given: str | None
    setting: str = ""
    value: Value | None = None


@dataclass(frozen=True, slots=True)
class Conversion:
    """The result for one section.

    Attributes:
        kind: Which table was used.
        name: The entity that a listing named; empty for a file.
        findings: In order of lines; defaults last.
        settings: The resulting StreamBus settings, in order of lines.
    """

    kind: str
    name: str
    findings: list[Finding]
    settings: dict[str, Value] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for has a counterpart."""
        return not any(finding.fate.lost for finding in self.findings)


def convert(section: Section, table: Table) -> Conversion:
    """Say what becomes of every entry, and collect the settings."""
    last = {entry.key: entry for entry in section.entries}
    findings: list[Finding] = []
    ranks: dict[int, int] = {}
    for entry in section.entries:
        winner = last[entry.key]
        if winner is not entry:
            findings.append(_overridden(entry, f"line {winner.line} sets it again"))
            continue
        rules = table.find(entry.key)
        for rule in rules:
            ranks[len(findings)] = rule.rank
            findings.append(_finding(entry, rule, table))
        if not rules:
            findings.append(_unknown(entry))
    findings.extend(
        Finding(line, _shown_key("?"), Fate.UNKNOWN, why, None) for line, why in section.ignored
    )
    findings = _resolve_ranks(findings, ranks)
    findings.sort(key=lambda finding: finding.line)
    findings.extend(_defaults(findings, last, table))
    settings = {
        finding.setting: finding.value
        for finding in findings
        if finding.value is not None and finding.fate in {Fate.SAME, Fate.CONVERTED}
    }
    findings.extend(_order_pairs(settings, table))
    return Conversion(table.kind, section.name, findings, settings)


def _finding(entry: Entry, rule: Rule, table: Table) -> Finding:
    value = entry.value.strip()
    shown = None if entry.hidden or is_secret(entry.key, value) else _shortened(value)
    base = Finding(entry.line, entry.key, rule.fate, rule.reason, shown)
    if "${" in value and not rule.target:
        return base
    if "${" in value:
        reason = "its value is fetched from elsewhere; write the value itself into the file"
        return replace(base, fate=Fate.NOT_SUPPORTED, reason=reason)
    if shown is None and rule.target:
        reason = "its value is, or holds, a secret; set it by hand"
        return replace(base, fate=Fate.NOT_SUPPORTED, reason=reason)
    if not rule.target:
        if rule.fate is Fate.NOT_SUPPORTED and rule.harmless(value.lower()):
            reason = f"this value needs nothing; of any other it holds that {rule.reason}"
            return replace(base, fate=Fate.NOT_NEEDED, reason=reason)
        return base
    return _converted(base, value, rule, table)


def _converted(base: Finding, value: str, rule: Rule, table: Table) -> Finding:
    try:
        result = rule.convert(value)
    except InvalidValueError as problem:
        reason = f"the value {problem}; Kafka would refuse it too"
        return replace(base, fate=Fate.INVALID, reason=reason)
    except NoCounterpartError as problem:
        return replace(base, fate=Fate.NOT_SUPPORTED, reason=str(problem))
    if problem_text := table.targets[rule.target].problem(result):
        reason = f"{rule.target} {problem_text}"
        return replace(base, fate=Fate.NOT_SUPPORTED, reason=reason)
    same_name = base.key.replace(".", "_") == rule.target
    same = same_name and _written(result) == value.lower()
    return replace(
        base, fate=Fate.SAME if same else Fate.CONVERTED, setting=rule.target, value=result
    )


def _written(value: Value) -> str:
    return str(value).lower()


def _unknown(entry: Entry) -> Finding:
    """Report a key that no table knows; what may be a piece of a secret is not repeated."""
    if entry.key.startswith(_BYTE_ORDER_MARKS):
        reason = "the file begins with a byte order mark, which Kafka takes for part of this key"
    elif not entry.value and not _KEY_SHAPE.fullmatch(entry.key):
        reason = "no '=' and no key: a line that lost the backslash before it?"
    else:
        reason = "no Kafka key that this version knows; a plugin of yours, or misspelt"
    return Finding(entry.line, _shown_key(entry.key), Fate.UNKNOWN, reason, None)


def _shown_key(key: str) -> str:
    if _KEY_SHAPE.fullmatch(key) and len(key) <= VALUE_CHARACTERS_MAX:
        return key
    return f"({len(key)} characters that are no key)"


def _shortened(value: str) -> str:
    shown = printable(value)
    if len(shown) <= VALUE_CHARACTERS_MAX:
        return shown
    return shown[: VALUE_CHARACTERS_MAX - 1] + "…"


def printable(text: str) -> str:
    """Replace what would move a terminal's cursor, colour it, or break a line into two."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _overridden(entry: Entry, reason: str) -> Finding:
    return Finding(entry.line, _shown_key(entry.key), Fate.OVERRIDDEN, reason, None)


def _resolve_ranks(findings: list[Finding], ranks: dict[int, int]) -> list[Finding]:
    """Where several keys feed one setting, keep the one that Kafka would obey."""
    winners: dict[str, int] = {}
    for index, finding in enumerate(findings):
        if finding.setting and (
            finding.setting not in winners or ranks[index] < ranks[winners[finding.setting]]
        ):
            winners[finding.setting] = index
    resolved = []
    for index, finding in enumerate(findings):
        winner = winners.get(finding.setting, index)
        if winner == index:
            resolved.append(finding)
            continue
        reason = f"Kafka obeys {findings[winner].key} where both are set"
        resolved.append(
            replace(finding, fate=Fate.OVERRIDDEN, reason=reason, setting="", value=None)
        )
    return resolved


def _defaults(findings: list[Finding], given: dict[str, Entry], table: Table) -> list[Finding]:
    """Write down the defaults of Kafka that differ, unless the file decides the setting."""
    decided = {finding.setting for finding in findings}
    implied = []
    for key, value in table.defaults.items():
        if key in given:
            continue
        for rule in table.find(key):
            finding = _finding(Entry(DEFAULT_LINE, key, value), rule, table)
            if rule.target not in decided and finding.value != table.targets[rule.target].default:
                because = "the default of Kafka, which differs from that of StreamBus"
                reason = f"{because}; {rule.reason}" if rule.reason else because
                implied.append(replace(finding, fate=Fate.CONVERTED, reason=reason))
    return implied


def _order_pairs(settings: dict[str, Value], table: Table) -> list[Finding]:
    """Lower the first setting of each pair to the second, which StreamBus insists on."""
    lowered = []
    for low_name, high_name in table.pairs:
        low = settings.get(low_name, table.targets[low_name].default)
        high = settings.get(high_name, table.targets[high_name].default)
        if isinstance(low, int) and isinstance(high, int) and low > high:
            settings[low_name] = high
            reason = f"{low_name} may not exceed {high_name}, and is lowered to it"
            lowered.append(
                Finding(DEFAULT_LINE, low_name, Fate.CONVERTED, reason, str(low), low_name, high)
            )
    return lowered
