"""INIT_PRODUCER_ID: ids for idempotent producers, and the next epoch of an id.

An id is a number that counts up, which makes it unique, and 32 random bits, which nobody can guess
before it is given out: a batch with a forged id cannot stand in the way of a producer that gets
that id later. Numbers are taken in blocks that are durable before the first id of them is given
out; what is left of a block when a broker ends is never used.

The next epoch of an id is the one after the epoch that the request names; nothing is remembered for
it. Only the one producer that was given the id asks, and the partitions go by the batches they see.

Source: KIP-98, KIP-360.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from streambus_broker.metadata.registry import CommandError, TakeProducerIds
from streambus_broker.network.connection import error_frame, response_frame
from streambus_protocol import (
    ApiKey,
    ErrorCode,
    InitProducerIdRequest,
    InitProducerIdResponse,
    decode_message,
    encode_message,
)
from streambus_storage import StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from streambus_broker.network.connection import Connection
    from streambus_broker.node import Node

BLOCK = 1_000
"""Numbers taken at once."""
RANDOM_BITS = 32
PRODUCER_EPOCH_MAX = 2**15 - 1  # the batch header has 16 bits for it


class ProducerIdentity(NamedTuple):
    """What a producer puts into its batches."""

    producer_id: int
    epoch: int


class ProducerIds:
    """Gives ids out; one for each broker.

    Args:
        take_block: Takes so many numbers for good, and returns the first.
        taken: Says below which number all have been taken, as far as this broker knows.
        random: Makes ids that cannot be guessed.
    """

    def __init__(
        self,
        take_block: Callable[[int], Awaitable[int]],
        taken: Callable[[], int],
        random: Random,
    ) -> None:
        self._take_block = take_block
        self._taken = taken
        self._random = random
        self._next = self._stop = 0
        self._taking = asyncio.Lock()

    async def take(self) -> ProducerIdentity:
        """Give an id that nobody else has.

        Raises:
            CommandError: The metadata cannot be changed now.
            StorageError: It could not be stored.
            UncertainError: The metadata group of a cluster has not answered.
        """
        async with self._taking:
            if self._next == self._stop:
                first = await self._take_block(BLOCK)
                self._next, self._stop = first, first + BLOCK
            number = self._next
            self._next += 1
        return ProducerIdentity(number << RANDOM_BITS | self._random.getrandbits(RANDOM_BITS), 0)

    async def after(self, before: ProducerIdentity) -> ProducerIdentity:
        """Give the next epoch of an id; a new id where there is none.

        Raises:
            CommandError: There is no such id, or as `take`.
            StorageError: As `take`.
            UncertainError: As `take`.
        """
        producer_id, epoch = before
        if producer_id < 0 or not 0 <= epoch <= PRODUCER_EPOCH_MAX:
            raise CommandError(
                ErrorCode.INVALID_REQUEST,
                f"producer {producer_id} of epoch {epoch}: ids are 0 or more, epochs 0 to"
                f" {PRODUCER_EPOCH_MAX}, and both -1 ask for a new id",
            )
        if producer_id >> RANDOM_BITS >= self._taken():
            raise CommandError(
                ErrorCode.UNKNOWN_PRODUCER_ID, f"producer id {producer_id} was never given out"
            )
        if epoch == PRODUCER_EPOCH_MAX:
            return await self.take()
        return ProducerIdentity(producer_id, epoch + 1)


def ids_of_single_broker(node: Node) -> ProducerIds:
    """Ids whose blocks are noted in the metadata of a broker on its own."""

    async def take_block(count: int) -> int:
        await node.commit(TakeProducerIds(count))
        return node.registry.cluster.next_producer_id - count

    return ProducerIds(take_block, lambda: node.registry.cluster.next_producer_id, node.random)


class ProducersApi:
    """The handler."""

    def __init__(self, node: Node, ids: ProducerIds) -> None:
        self._node = node
        self._ids = ids
        self._tasks: set[asyncio.Task[None]] = set()

    def init(self, connection: Connection, version: int, correlation_id: int, body: bytes) -> None:
        """INIT_PRODUCER_ID.

        Raises:
            ProtocolError: It cannot be read.
        """
        request = decode_message(InitProducerIdRequest, body, version)
        before = ProducerIdentity(request.producer_id, request.producer_epoch)
        connection.pending += 1
        task = self._node.loop.create_task(
            self._answer(connection, version, correlation_id, before)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, connection: Connection, version: int, correlation_id: int, before: ProducerIdentity
    ) -> None:
        api, server = ApiKey.INIT_PRODUCER_ID, self._node.server
        try:
            if before == (-1, -1):
                identity = await self._ids.take()
            else:
                identity = await self._ids.after(before)
            response = InitProducerIdResponse(0, None, *identity)
        except CommandError as error:
            response = InitProducerIdResponse(error.code, error.detail, -1, -1)
        except StorageError as error:
            code, detail = self._node.storage_failed("take producer ids", error)
            response = InitProducerIdResponse(code, detail, -1, -1)
        except Exception as error:  # noqa: BLE001 - one bad request costs nobody else anything
            server.unexpected(api, error)
            code = ErrorCode.INTERNAL
            connection.answer_later(error_frame(api, version, correlation_id, code, code.advice))
            server.flush_dirty()
            return
        encoded = encode_message(response, version)
        connection.answer_later(response_frame(api, version, correlation_id, encoded))
        server.flush_dirty()
