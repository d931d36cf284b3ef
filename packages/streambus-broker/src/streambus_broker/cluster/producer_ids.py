"""Producer ids for this broker's clients, taken from the metadata group a block at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streambus_broker.cluster.commands import TakeProducerIds

if TYPE_CHECKING:
    from streambus_broker.cluster.group import MetadataGroup

BLOCK = 1_000


class ProducerIds:
    """See the module; ids that were taken and not given out are never used."""

    def __init__(self, group: MetadataGroup) -> None:
        self._group = group
        self._next = self._stop = 0
        self._taking = asyncio.Lock()

    async def take(self) -> int:
        """Give an id that nobody else has.

        Raises:
            CommandError: The metadata group cannot be asked now.
            UncertainError: It has not answered.
        """
        async with self._taking:
            if self._next == self._stop:
                first = await self._group.propose(TakeProducerIds(BLOCK))
                self._next, self._stop = first, first + BLOCK
            self._next += 1
            return self._next - 1
