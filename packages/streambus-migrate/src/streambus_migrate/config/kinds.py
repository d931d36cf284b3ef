"""Tell by its keys what a file configures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_migrate.config.consumer_keys import CONSUMER
from streambus_migrate.config.producer_keys import PRODUCER
from streambus_migrate.config.server_keys import SERVER
from streambus_migrate.config.topic_keys import TOPIC
from streambus_migrate.errors import UnknownKindError

if TYPE_CHECKING:
    from streambus_migrate.config.properties import Section
    from streambus_migrate.config.rules import Table

TABLES: dict[str, Table] = {table.kind: table for table in (SERVER, TOPIC, PRODUCER, CONSUMER)}


def recognise(path: str, section: Section) -> Table:
    """Choose the table that knows the most keys of a section.

    Raises:
        UnknownKindError: None knows any, or several know equally many.
    """
    if section.kind is not None:
        return TABLES[section.kind]
    keys = {entry.key for entry in section.entries}
    known = {kind: sum(key in table.rules for key in keys) for kind, table in TABLES.items()}
    most = max(known.values())
    best = [kind for kind, count in known.items() if count == most and count]
    if len(best) != 1:
        raise UnknownKindError(path, best)
    return TABLES[best[0]]
