"""Numbered batches: whatever is lost on the way, a record is written once and in order.

The sender is driven through a network that loses requests and answers, against what a broker
remembers of producers; the shells send through a proxy that swallows the answers of a real broker.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_broker import BrokerConfig, EmbeddedBroker
from streambus_broker.log.producers import ProducerStates, SequenceError
from streambus_client import Admin, Consumer, Producer
from streambus_client._encoding import encode_pending
from streambus_client._idempotence import EPOCH_MAX, Sequencer, Verdict, judge
from streambus_client._operations import Session
from streambus_client._options import ClientOptions, ProducerOptions
from streambus_client._producing import OneRecord, ProducerCore, send_one
from streambus_client._types import TopicPartition
from streambus_client.errors import ClientError, ConnectionLostError, InvalidArgumentError
from streambus_protocol import (
    ErrorCode,
    FrameDecoder,
    ProducedPartition,
    ProduceResponse,
    ProducerStamp,
    decode_columns,
    encode_batch,
    read_batch_header,
)
from tests.client.both import SHELLS, Shell, ready, run_on
from tests.client.test_sender import Clock, learn
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streambus_client._accumulator import Outcome
    from streambus_client._sender import ProduceCall

WHERE = TopicPartition("t", 0)


def test_numbers_count_records_and_begin_again_in_the_next_epoch() -> None:
    sequencer = Sequencer(7)
    assert sequencer.stamp(WHERE, 3) == (7, 0, 0)
    assert sequencer.stamp(WHERE, 2**31 - 4) == (7, 0, 3)
    assert sequencer.stamp(WHERE, 2) == (7, 0, 2**31 - 1)
    assert sequencer.stamp(WHERE, 1) == (7, 0, 1), "after the last number comes 0"
    other = TopicPartition("t", 1)
    assert sequencer.stamp(other, 1) == (7, 0, 0)
    sequencer.restart(WHERE)
    assert sequencer.stamp(WHERE, 1) == (7, 1, 0)
    assert sequencer.stamp(other, 1) == (7, 0, 1), "an epoch belongs to a partition"


def test_a_sequencer_ends_with_its_last_epoch() -> None:
    sequencer = Sequencer(7, EPOCH_MAX - 1)
    sequencer.stamp(WHERE, 1)
    sequencer.restart(WHERE)
    assert not sequencer.exhausted
    sequencer.restart(WHERE)
    assert sequencer.exhausted


def test_an_id_that_somebody_else_has_written_under_is_given_up() -> None:
    sequencer = Sequencer(7)
    sequencer.stamp(WHERE, 1)
    sequencer.refused(WHERE, ErrorCode.UNKNOWN_PRODUCER_ID)
    assert not sequencer.exhausted
    sequencer.refused(WHERE, ErrorCode.INVALID_PRODUCER_EPOCH)
    assert sequencer.exhausted


@pytest.mark.parametrize(
    ("code", "uncertain", "verdict"),
    [
        (ErrorCode.OUT_OF_ORDER_SEQUENCE, False, Verdict.RENUMBER),
        (ErrorCode.OUT_OF_ORDER_SEQUENCE, True, Verdict.RENUMBER),
        (ErrorCode.UNKNOWN_PRODUCER_ID, False, Verdict.RENUMBER),
        (ErrorCode.UNKNOWN_PRODUCER_ID, True, Verdict.UNKNOWN),
        (ErrorCode.INVALID_PRODUCER_EPOCH, True, Verdict.UNKNOWN),
        (ErrorCode.DUPLICATE_SEQUENCE, True, Verdict.WRITTEN),
    ],
)
def test_refusals_are_judged_by_what_they_say_of_the_log(
    code: ErrorCode, uncertain: bool, verdict: Verdict
) -> None:
    assert judge(code, uncertain=uncertain) is verdict


@pytest.mark.parametrize("acks", [0, 1])
def test_numbers_need_acknowledgements_by_all(acks: int) -> None:
    with pytest.raises(InvalidArgumentError, match='only acks="all"'):
        Producer("127.0.0.1:1", acks=acks, idempotent=True)  # type: ignore[arg-type]  # an int, not its literal


# --- The sender against what a broker remembers ---------------------------------------------------


class Partition:
    """A log, and what a broker knows of its producers."""

    def __init__(self) -> None:
        self.values: list[bytes | None] = []
        self.producers = ProducerStates()

    def produce(self, batch: bytes) -> ProducedPartition:
        header = read_batch_header(batch)
        try:
            known = self.producers.check(header)
        except SequenceError as error:
            return ProducedPartition(error.code, str(error), -1, -1, 0)
        if known is not None:
            return ProducedPartition(0, None, known.base_offset, -1, 0)
        base_offset = len(self.values)
        self.values += decode_columns(batch).values
        self.producers.appended(header, base_offset)
        return ProducedPartition(0, None, base_offset, -1, 0)


class LossyRun:
    """One sender, two partitions, and a network that draws what is lost."""

    def __init__(self, seed: int, *, delivery_timeout_ms: float) -> None:
        self.dice, self.clock = Random(seed), Clock()
        common = ClientOptions.make(
            "a:1", client_id="test", connect_timeout_ms=1000, request_timeout_ms=1000,
            retry_backoff_ms=100, retry_backoff_ms_max=1000, metadata_age_ms_max=60_000,
            random=self.dice,
        )  # fmt: skip
        options = ProducerOptions.make(
            acks="all", compression="none", partitioner="xxhash", linger_ms=0,
            batch_bytes_max=100, buffer_bytes_max=100_000,
            delivery_timeout_ms=delivery_timeout_ms, retries_max=None, idempotent=None,
        )  # fmt: skip

        self.core = ProducerCore(Session(common, self.clock), options)
        self.logs = [Partition(), Partition()]
        self.ids = 0
        self.delayed: list[tuple[int, bytes]] = []

    def deliver(self, call: ProduceCall) -> None:
        """Carry one request and its answer, or lose either; deliver what was late before."""
        dice, now = self.dice, self.clock.now
        for batch in call.batches:
            encode_pending(batch, 0)
        request = [(batch.partition, batch.encoded or b"") for batch in call.batches]
        fate = dice.choice(["good", "good", "lost", "late", "unanswered", "refused", "forgotten"])
        if fate == "forgotten" and not self.delayed and not self._uncertain():
            dice.choice(self.logs).producers.clear()  # as a broker does with those long silent
        if fate == "late":
            self.delayed += request
        if fate in ("lost", "late"):
            self.core.sender.failed(call, ConnectionLostError("a:1", fate), now)
            return
        if fate == "refused":
            refusals = [ProducedPartition(ErrorCode.NOT_LEADER, None, -1, -1, 0)] * len(request)
            self.core.sender.succeeded(call, ProduceResponse(0, tuple(refusals)), now)
            return
        answers = tuple(self.logs[partition].produce(batch) for partition, batch in request)
        if fate == "unanswered":
            self.core.sender.failed(call, ConnectionLostError("a:1", fate), now)
        else:
            self.core.sender.succeeded(call, ProduceResponse(0, answers), now)

    def _uncertain(self) -> bool:
        return any(batch.uncertain for batch in self.core.accumulator.pending())

    def step(self) -> None:
        sender, now = self.core.sender, self.clock.now
        learn(self.core, [1, 1], now=now)
        sender.expire(now)
        if sender.needs_sequencer(now):
            if self.dice.random() < 0.3:
                sender.sequencer_failed(ConnectionLostError("a:1", "no id"), now)
            else:
                self.ids += 1
                sender.sequencer = Sequencer(self.ids)
        call = sender.take(1, now)
        if call is not None:
            self.deliver(call)
        if self.delayed and self.dice.random() < 0.3:
            partition, batch = self.delayed.pop(0)
            self.logs[partition].produce(batch)
        self.clock.now += self.dice.random() / 5


@given(st.integers(0, 2**32 - 1))
def test_whatever_is_lost_a_record_is_written_once_and_in_order(seed: int) -> None:
    run = LossyRun(seed, delivery_timeout_ms=run_timeout_ms(seed))
    sent: list[tuple[bytes, int, Outcome, int]] = []
    for number in range(60):
        partition = run.dice.randrange(2)
        value = b"%d" % number
        batch, index = run.core.append(TopicPartition("t", partition), None, value, None, 5, 20)
        sent.append((value, partition, batch.outcome, index))
        run.step()
    for _ in range(3000):
        if run.core.accumulator.empty:
            break
        run.step()
    assert run.core.accumulator.empty, "nothing waits for ever"
    for log in run.logs:
        assert len(set(log.values)) == len(log.values), "nothing is there twice"
        numbers = [int(value or b"") for value in log.values]
        assert numbers == sorted(numbers), "nothing overtakes"
    for value, partition, outcome, index in sent:
        if outcome.error is not None:
            continue
        values = run.logs[partition].values
        assert value in values, "what is acknowledged is there"
        if outcome.base_offset >= 0:
            assert values[outcome.base_offset + index] == value


def run_timeout_ms(seed: int) -> float:
    """Half of the runs give batches up in the middle."""
    return 2_000 if seed % 2 else 100_000


# --- The shells against a real broker -------------------------------------------------------------


class SwallowingProxy:
    """Forwards to a broker; cuts a connection in place of handing back some of the answers.

    Attributes:
        swallowed: how many answers nobody saw.
        doomed: the next answer of each of these is not seen either.
    """

    def __init__(self, port: int, broker_port: int) -> None:
        self.swallowed = 0
        self.loss = 0.0  # the share of answers
        self.doomed: set[int] = set()
        self._dice = Random(1)
        self._broker_port = broker_port
        self._server = socket.create_server(("127.0.0.1", port))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self._broker_port))
            except OSError:
                client.close()
                continue
            for source, target, answers in ((client, broker, False), (broker, client, True)):
                thread = threading.Thread(target=self._pump, args=(source, target, answers))
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 20):
                if answers and (self._dice.random() < self.loss or self._is_doomed(data)):
                    self.swallowed += 1
                    break
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        target.close()

    def _is_doomed(self, data: bytes) -> bool:
        """Whether these bytes begin with an answer that is not to be seen."""
        if not self.doomed:
            return False
        found = {frame.api for frame in FrameDecoder().receive(data)} & self.doomed
        self.doomed -= found
        return bool(found)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[tuple[SwallowingProxy, str]]:
    """A broker that calls itself by the address of a proxy."""
    port, broker_port = free_ports(2)
    address = f"127.0.0.1:{port}"
    config = BrokerConfig(
        data_dir=str(tmp_path), listen=f"127.0.0.1:{broker_port}", advertise=address, http="off"
    )
    proxy = SwallowingProxy(port, broker_port)
    with contextlib.closing(proxy), EmbeddedBroker(config):
        yield proxy, address
    for thread in proxy._threads:
        thread.join(10)


def values_of(address: str, topic: str) -> list[bytes | None]:
    with Consumer(address, topic, start="earliest") as consumer:
        end = sum(consumer.latest().values())
        values: list[bytes | None] = []
        while len(values) < end:
            values += [record.value for record in consumer.poll(timeout=5.0)]
    return values


@pytest.mark.parametrize("name", SHELLS)
def test_swallowed_answers_double_nothing(name: str, proxied: tuple[SwallowingProxy, str]) -> None:
    proxy, address = proxied
    with Admin(address) as admin:
        admin.create_topic("single")
        admin.create_topic("many")

    async def scenario(shell: Shell) -> None:
        async with shell.producer(address, retry_backoff_ms=5) as producer:
            await ready(producer.send("single", b"0"))
            proxy.loss = 0.25
            for number in range(1, 20):
                await ready(producer.send("single", b"%d" % number))
            for number in range(30):
                await ready(producer.submit("many", b"%d" % number))
                if number % 3 == 0:
                    await ready(producer.flush())
            await ready(producer.flush())
            proxy.loss = 0.0

    run_on(name, scenario)
    assert proxy.swallowed > 5
    assert values_of(address, "single") == [b"%d" % number for number in range(20)]
    assert values_of(address, "many") == [b"%d" % number for number in range(30)]


def test_threads_that_send_at_once_double_nothing(proxied: tuple[SwallowingProxy, str]) -> None:
    proxy, address = proxied
    with Admin(address) as admin:
        admin.create_topic("t")
    failures: list[BaseException] = []
    with Producer(address, retry_backoff_ms=5) as producer:

        def send(thread: int) -> None:
            try:
                for number in range(15):
                    producer.send("t", b"%d-%d" % (thread, number))
            except ClientError as error:
                failures.append(error)

        threads = [threading.Thread(target=send, args=(thread,)) for thread in range(4)]
        proxy.loss = 0.2
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        proxy.loss = 0.0
    assert not failures
    values = [value or b"" for value in values_of(address, "t")]
    for sender in range(4):
        mine = [value for value in values if value.startswith(b"%d-" % sender)]
        assert mine == [b"%d-%d" % (sender, number) for number in range(15)]


def test_forged_epochs_of_an_id_cost_its_owner_no_record(address: str) -> None:
    """Somebody writes under the ids of a producer, in their last epoch: it goes on with others."""
    with Admin(address) as admin, Producer(address) as producer:
        admin.create_topic("forged")
        producer.send("forged", b"0")
        producer.submit("forged", b"1").result()
        background = producer._core.sender.sequencer
        assert background is not None
        ids = {producer._sequencers[0].producer_id, background.producer_id}
        for producer_id in ids:
            stamp = ProducerStamp(producer_id, EPOCH_MAX, 0)
            batch = encode_batch([b"forged"], base_timestamp_ms=0, producer=stamp)

            def encode(_: ProducerStamp, batch: bytes = batch) -> bytes:
                return batch

            record = OneRecord(
                TopicPartition("forged", 0),
                encode,
                -1,
                1_000,
                time.monotonic() + 20,
                None,
            )
            producer._run(send_one(producer._session, record))
        assert producer.send("forged", b"4").offset == 4
        assert producer.submit("forged", b"5").result().offset == 5
        assert producer.send("forged", b"6").offset == 6
        assert values_of(address, "forged") == [b"0", b"1", b"forged", b"forged", b"4", b"5", b"6"]
        admin.delete_topic("forged")


def test_a_topic_made_anew_does_not_stop_its_producer(address: str) -> None:
    with Admin(address) as admin, Producer(address) as producer:
        admin.create_topic("again")
        for _ in range(3):
            producer.send("again", b"x")
            producer.submit("again", b"y")
            producer.flush()
        admin.delete_topic("again")
        admin.create_topic("again")
        assert producer.send("again", b"x").offset == 0
        producer.submit("again", b"y")
        producer.flush()
        admin.delete_topic("again")
