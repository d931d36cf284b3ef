"""A fetch that repeats the last one at another offset is answered as any other."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from streambus_client._quick_fetch import FetchTemplate
from streambus_protocol import (
    DeleteTopicsRequest,
    ErrorCode,
    FetchPartition,
    FetchRequest,
    MetadataRequest,
)
from tests.broker.raw import RawClient

if TYPE_CHECKING:
    from streambus_broker.embedded import EmbeddedBroker


def question(
    bytes_max: int, bytes_min: int = 0, epoch: int = -1, rack: str | None = None
) -> FetchRequest:
    wanted = (FetchPartition("t", 0, 0, epoch, bytes_max),)
    return FetchRequest(0, bytes_min, 1 << 20, wanted, rack)


def ask(client: RawClient, request: FetchRequest, offset: int, version: int = 1) -> Any:
    """Ask with an offset of eight bytes, as the client does who repeats its question."""
    client.socket.sendall(FetchTemplate(request, version).frame(7, offset))
    return client.receive()


def test_repeated_questions_are_answered_as_new_ones(
    broker: EmbeddedBroker, client: RawClient
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    client.create_topic("t")
    end = 0
    with RawClient(broker.address) as repeating:
        for _ in range(30):
            for _ in range(dice.randrange(4)):
                values = [b"v" * dice.randrange(300) for _ in range(dice.randrange(1, 4))]
                end = client.produce("t", *values).base_offset + len(values)
            sizes = dice.choice([1, 500, 1 << 20]), dice.choice([0, 1, 400])
            request = question(*sizes, rack=dice.choice([None, "r"]))
            version = dice.randrange(2)
            for _ in range(dice.randrange(2, 6)):
                offset = dice.choice([0, end, end + 1, dice.randrange(end + 1), 2**63 - 1])
                with RawClient(broker.address) as new:
                    again = ask(repeating, request, offset, version)
                    assert again == ask(new, request, offset, version)


def test_a_repeated_question_meets_what_has_changed(
    broker: EmbeddedBroker, client: RawClient
) -> None:
    client.create_topic("t")
    first = client.produce("t", b"one")
    request = question(1 << 20, epoch=client_epoch(client))
    with RawClient(broker.address) as repeating:
        for _ in range(3):
            assert ask(repeating, request, first.base_offset).partitions[0].error == 0
        old = question(1 << 20, epoch=client_epoch(client) + 1)
        for _ in range(3):
            answer = ask(repeating, old, first.base_offset).partitions[0]
            assert answer.error == ErrorCode.UNKNOWN_LEADER_EPOCH
        ask(repeating, request, 0)
        client.call(DeleteTopicsRequest(("t",), 20_000, False))
        for _ in range(3):
            assert ask(repeating, request, 0).partitions[0].error == ErrorCode.UNKNOWN_TOPIC
        client.create_topic("t")
        client.produce("t", b"two")
        request = question(1 << 20)
        answers = [ask(repeating, request, 0).partitions[0] for _ in range(3)]
        assert [answer.high_watermark for answer in answers] == [1, 1, 1]
        assert all(b"two" in answer.batches for answer in answers)


def client_epoch(client: RawClient) -> int:
    epoch: int = client.call(MetadataRequest(("t",))).topics[0].partitions[0].leader_epoch
    return epoch
