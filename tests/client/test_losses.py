"""Brokers that are killed, stopped, silent or absent: real processes, real sockets."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from streambus_client import Consumer, Producer, Record
from streambus_client.errors import (
    BrokerUnreachableError,
    ClientClosedError,
    ClientError,
    ConnectionLostError,
    DeliveryTimedOutError,
    ProtocolViolationError,
    RequestTimedOutError,
)
from tests.client.both import Shell, ready, run_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client.conftest import BrokerProcess

PROCESS_SHELLS = ["blocking", "asyncio", "trio"]
FAST: dict[str, Any] = {"retry_backoff_ms": 10, "retry_backoff_ms_max": 100}


@pytest.mark.parametrize("name", PROCESS_SHELLS)
def test_clients_live_through_a_kill(name: str, broker_process: BrokerProcess) -> None:
    """Everything acknowledged is there, in order; whatever is doubled follows its first copy."""
    broker = broker_process
    topic = broker.new_topic()

    async def scenario(shell: Shell) -> None:
        acknowledged: list[int] = []
        async with (
            shell.producer(broker.address, acks=1, **FAST) as producer,
            shell.consumer(broker.address, topic, start="earliest", **FAST) as consumer,
        ):
            futures = []
            for number in range(300):
                if number == 100:
                    broker.kill()
                    broker.start()
                if number % 3:
                    futures.append(await ready(producer.submit(topic, b"%d" % number)))
                else:
                    await ready(producer.send(topic, b"%d" % number))
                    acknowledged.append(number)
                if number == 50:
                    assert await ready(consumer.poll(timeout=40.0))
            await ready(producer.flush())
            assert all([await ready(future.exception()) is None for future in futures])
            await ready(consumer.seek(topic, 0, "earliest"))
            seen: list[int] = []
            deadline = time.monotonic() + 30
            while len(set(seen)) < 300 and time.monotonic() < deadline:
                seen += [int(one.value) for one in await ready(consumer.poll(timeout=1.0))]
        assert list(dict.fromkeys(seen)) == list(range(300))

    run_on(name, scenario)


@pytest.mark.parametrize("name", PROCESS_SHELLS)
def test_idempotent_producers_write_once_through_a_kill(
    name: str, broker_process: BrokerProcess
) -> None:
    """Retries on, SIGKILL with batches under way: the log holds every record once, in order.

    A broker that starts again knows its producers from its log alone.
    """
    broker = broker_process
    topic = broker.new_topic()

    async def scenario(shell: Shell) -> None:
        offsets: list[int] = []
        async with shell.producer(broker.address, linger_ms=1, **FAST) as producer:
            futures = []
            for number in range(200):
                if number == 100:
                    broker.kill()
                    broker.start()
                if number % 3:
                    futures.append(await ready(producer.submit(topic, b"%d" % number)))
                else:
                    offsets.append((await ready(producer.send(topic, b"%d" % number))).offset)
            offsets += [(await ready(future.result())).offset for future in futures]
        async with shell.consumer(broker.address, topic, start="earliest", **FAST) as consumer:
            end = sum((await ready(consumer.latest())).values())
            seen: list[int] = []
            while len(seen) < end:
                seen += [int(one.value) for one in await ready(consumer.poll(timeout=5.0))]
        assert seen == list(range(200))
        assert sorted(offsets) == list(range(200))

    run_on(name, scenario)


@pytest.mark.parametrize("name", PROCESS_SHELLS)
def test_send_waits_for_a_broker_that_is_late(name: str, broker_process: BrokerProcess) -> None:
    broker = broker_process
    topic = broker.new_topic()
    broker.kill()
    starter = threading.Timer(0.5, broker.start)
    starter.start()

    async def scenario(shell: Shell) -> None:
        async with shell.producer(broker.address, acks=1, **FAST) as producer:
            assert (await ready(producer.send(topic, b"x"))).offset == 0

    run_on(name, scenario)
    starter.join()


@pytest.mark.parametrize("name", PROCESS_SHELLS)
def test_stopped_broker_ends_in_deadlines_not_in_waiting(
    name: str, broker_process: BrokerProcess
) -> None:
    broker = broker_process
    topic = broker.new_topic()

    async def scenario(shell: Shell) -> None:
        async with shell.producer(
            broker.address, acks=1, request_timeout_ms=300, delivery_timeout_ms=1000, **FAST
        ) as producer:
            await ready(producer.send(topic, b"0"))
            broker.send(signal.SIGSTOP)
            began = time.monotonic()
            future = await ready(producer.submit(topic, b"1"))
            many = await ready(producer.submit_many(topic, [b"2", b"3"]))
            with pytest.raises(ClientError) as caught:
                await ready(producer.send(topic, b"4"))
            assert caught.value.retriable
            assert isinstance(await ready(future.exception()), DeliveryTimedOutError)
            assert isinstance(await ready(many.exception()), DeliveryTimedOutError)
            assert time.monotonic() - began < 30
            broker.send(signal.SIGCONT)
            assert (await ready(producer.send(topic, b"5"))).offset >= 1

    run_on(name, scenario)


@pytest.mark.parametrize("name", PROCESS_SHELLS)
def test_without_retries_a_lost_connection_is_the_callers_to_judge(
    name: str, broker_process: BrokerProcess
) -> None:
    broker = broker_process
    topic = broker.new_topic()

    async def scenario(shell: Shell) -> None:
        async with shell.producer(broker.address, acks=1, retries_max=0, **FAST) as producer:
            await ready(producer.send(topic, b"0"))
            await ready((await ready(producer.submit(topic, b"1"))).result())
            broker.kill()
            with pytest.raises((ConnectionLostError, RequestTimedOutError)):
                await ready(producer.send(topic, b"2"))
            future = await ready(producer.submit(topic, b"3"))
            assert isinstance(await ready(future.exception()), ClientError)
            broker.start()
            assert (await ready(producer.send(topic, b"4"))).offset == 2

    run_on(name, scenario)


@pytest.mark.parametrize("name", PROCESS_SHELLS)
def test_hard_close_ends_every_future(name: str, broker_process: BrokerProcess) -> None:
    broker = broker_process
    topic = broker.new_topic()

    async def scenario(shell: Shell) -> None:
        async with shell.producer(broker.address, acks=1, linger_ms=60_000) as producer:
            futures = [await ready(producer.submit(topic, b"%d" % n)) for n in range(10)]
            broker.send(signal.SIGSTOP)
            await ready(producer.close(timeout=0.2))
            for future in futures:
                assert isinstance(await ready(future.exception()), ClientClosedError)

    run_on(name, scenario)


@pytest.fixture
def answers() -> Iterator[Callable[[bytes], str]]:
    """Serve every connection with the same bytes."""
    servers: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(data: bytes) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def loop() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with closing(connection):
                    connection.recv(65536)
                    if data:
                        connection.sendall(data)
                    else:
                        connection.recv(65536)

        thread = threading.Thread(target=loop)
        thread.start()
        threads.append(thread)
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield serve
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("name", PROCESS_SHELLS)
def test_server_of_another_kind_is_named(name: str, answers: Callable[[bytes], str]) -> None:
    address = answers(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def scenario(shell: Shell) -> None:
        async with shell.admin(address, request_timeout_ms=5000) as admin:
            with pytest.raises(ProtocolViolationError, match="does not speak StreamBus"):
                await ready(admin.list_topics())

    run_on(name, scenario)


@pytest.mark.parametrize("name", PROCESS_SHELLS)
def test_silent_and_absent_brokers_are_unreachable(
    name: str, answers: Callable[[bytes], str]
) -> None:
    silent = answers(b"")
    addresses = [silent, "127.0.0.1:1"]
    options: dict[str, Any] = {"request_timeout_ms": 300, "connect_timeout_ms": 200, **FAST}

    async def scenario(shell: Shell) -> None:
        async with shell.admin(addresses, **options) as admin:
            with pytest.raises(BrokerUnreachableError) as caught:
                await ready(admin.list_topics())
            assert set(caught.value.reasons) == set(addresses)
        async with shell.consumer(addresses, "t", **options) as consumer:
            with pytest.raises(BrokerUnreachableError):
                await ready(consumer.poll(timeout=0.5))
        async with shell.producer(addresses, delivery_timeout_ms=500, **options) as producer:
            with pytest.raises(BrokerUnreachableError):
                await ready(producer.send("t", b""))

    run_on(name, scenario)


def test_any_of_the_bootstrap_servers_is_enough(
    address: str, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    with Producer(["127.0.0.1:1", address], acks=1) as producer:
        assert producer.send(topic, b"x").offset == 0


def test_interrupted_poll_and_send_leave_usable_clients(
    address: str, new_topic: Callable[..., str]
) -> None:
    """Ctrl-C in the middle of a wait; afterwards everything goes on."""
    topic = new_topic()
    with Consumer(address, topic, start="earliest", fetch_wait_ms=5000) as consumer:
        consumer.positions()
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            consumer.poll(timeout=20.0)
        timer.join()
        with Producer(address, acks=1) as producer:
            producer.send(topic, b"x")
        deadline = time.monotonic() + 20
        records: list[Record] = []
        while not records and time.monotonic() < deadline:
            records = consumer.poll(timeout=1.0)
        assert [record.value for record in records] == [b"x"]


def test_interrupted_flush_and_room(broker_process: BrokerProcess) -> None:
    broker = broker_process
    topic = broker.new_topic()
    with Producer(
        broker.address, acks=1, batch_bytes_max=100, buffer_bytes_max=200, linger_ms=0
    ) as producer:
        producer.send(topic, b"0")
        broker.send(signal.SIGSTOP)
        for wait in (producer.flush, lambda: [producer.submit(topic, b"x" * 90) for _ in range(9)]):
            producer.submit(topic, b"y")
            timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                wait()
            timer.join()
        broker.send(signal.SIGCONT)
        producer.flush()
        assert producer.send(topic, b"last").offset >= 3


def test_fork_after_import_is_safe(address: str, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    child = os.fork()
    if child == 0:
        try:
            with Producer(address, acks=1) as producer:
                producer.submit(topic, b"child").result(timeout=40)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - whatever it is, the parent has to see it
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with Consumer(address, topic, start="earliest") as consumer:
        assert [record.value for record in consumer.poll(timeout=40)] == [b"child"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_bug_in_the_background_leaves_no_future_hanging(
    address: str, new_topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic()
    before = set(threading.enumerate())
    with Producer(address, acks=1, buffer_bytes_max=1000, batch_bytes_max=100) as producer:
        monkeypatch.setattr(producer._core.sender, "take", lambda *_: 1 // 0)
        future = producer.submit(topic, b"x")
        assert "ZeroDivisionError" in str(future.exception(timeout=40))
        with pytest.raises(ClientError, match="background failed"):
            producer.submit(topic, b"y")
    for thread in set(threading.enumerate()) - before:
        thread.join(20)  # its end is told of here, and not in the test that comes next


def test_interrupted_send_is_not_taken_for_the_next(broker_process: BrokerProcess) -> None:
    """The answer to a send that Ctrl-C cut off must not be read as that of a later one."""
    broker = broker_process
    topic = broker.new_topic()
    with Producer(broker.address, acks=1, **FAST) as producer:
        producer.send(topic, b"0")
        broker.send(signal.SIGSTOP)
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            producer.send(topic, b"1")
        timer.join()
        broker.send(signal.SIGCONT)
        offsets = [producer.send(topic, b"x").offset for _ in range(3)]
        assert offsets == list(range(offsets[0], offsets[0] + 3))
        with Consumer(broker.address, topic, start=offsets[0]) as consumer:
            assert consumer.poll(timeout=40)[0].value == b"x"
