"""Write docs/guides/settings.md: ``python -m tests.repository.settings_document``."""

from __future__ import annotations

from streambus_broker import BrokerConfig, TopicSettings
from streambus_broker.config.table import Facts, settings_of
from tests.repository.conftest import ROOT

DOCUMENT = ROOT / "docs" / "guides" / "settings.md"

INTRODUCTION = """# Settings

Written from the declarations in `streambus_broker.config`; do not edit by hand.

A broker takes its settings from a TOML file (`streambus serve --config FILE`, settings as top-level
keys), then from the environment (`STREAMBUS_<SETTING>`), then from flags (`--data-dir` for
`data_dir`, and so on for each); the later wins. A topic takes its own from
`streambus topic create --config NAME=VALUE`. Times are milliseconds and sizes bytes; `7d`, `90s`,
`16MiB`, `10GB` are understood too. A value that is wrong is refused with its key, its source, the
range and what to do.

## Broker
"""

TOPIC = """
## Topics

What a topic does not set, it takes from the broker's `default_<setting>`.
"""


def _range(facts: Facts) -> str:
    if facts.choices:
        return ", ".join(f"`{choice}`" for choice in facts.choices)
    if facts.minimum is None:
        return ""
    high = "" if facts.maximum == 2**63 - 1 else f" to {facts.maximum:,}"
    return f"{facts.minimum:,}{high or ' or more'}" + ("; -1: no limit" if facts.unlimited else "")


def _default(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int):
        return f"{value:,}"
    return f"`{value}`" if value else "empty"


def _table(model: type) -> list[str]:
    lines = ["| setting | default | range | meaning |", "|---|---|---|---|"]
    for name, (_, default, facts) in settings_of(model).items():
        meaning = facts.help.replace("|", "\\|")
        lines.append(f"| `{name}` | {_default(default)} | {_range(facts)} | {meaning} |")
    return lines


def render() -> str:
    """The whole document."""
    parts = [INTRODUCTION, *_table(BrokerConfig), TOPIC, *_table(TopicSettings)]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(render(), encoding="utf-8")
