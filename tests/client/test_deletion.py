"""A deletion that is asked again says which topic it means. No sockets."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from streambus_client._addresses import Address
from streambus_client._admin_operations import delete_topic
from streambus_client._operations import Call, Session
from streambus_client._options import ClientOptions
from streambus_client.errors import ClientError, ConnectionLostError, TopicNotFoundError
from streambus_protocol import (
    BrokerInfo,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DescribeTopicsRequest,
    DescribeTopicsResponse,
    ErrorCode,
    MetadataRequest,
    MetadataResponse,
    TopicResult,
    TopicSettings,
)

LOST = ConnectionLostError("a:1", "as in a test")
DELETED = DeleteTopicsResponse((TopicResult(0, None),))
UNKNOWN = DeleteTopicsResponse((TopicResult(ErrorCode.UNKNOWN_TOPIC, "no"),))
NOTHING = DescribeTopicsResponse((TopicSettings(ErrorCode.UNKNOWN_TOPIC, "no", ()),))


def described(topic_id: bytes) -> DescribeTopicsResponse:
    return DescribeTopicsResponse((TopicSettings(0, None, (), topic_id),))


def delete(found: Any, *answers: Any) -> list[DeleteTopicsRequest]:
    """Delete a topic; return what was asked of the controller."""
    options = ClientOptions.make(
        "a:1", client_id="test", connect_timeout_ms=1000, request_timeout_ms=1000,
        retry_backoff_ms=100, retry_backoff_ms_max=1000, metadata_age_ms_max=60_000,
        random=Random(1),
    )  # fmt: skip
    session = Session(options, lambda: 0.0)
    metadata = MetadataResponse("c", 1, (BrokerInfo(1, "a", 1, None),), ())
    session.cluster.apply(metadata, (), Address("a", 1), 0.0)
    operation = delete_topic(session, "t", validate_only=False, deadline=10.0)
    left, asked = list(answers), []
    step = next(operation)
    try:
        while True:
            answer: Any = None
            if isinstance(step, Call):
                if isinstance(step.request, DeleteTopicsRequest):
                    asked.append(step.request)
                    answer = left.pop(0)
                elif isinstance(step.request, DescribeTopicsRequest):
                    answer = found
                else:
                    assert isinstance(step.request, MetadataRequest)
                    answer = metadata
            if isinstance(answer, ClientError):
                step = operation.throw(answer)
            else:
                step = operation.send(answer)
    except StopIteration:
        assert not left
        return asked


def test_each_attempt_means_the_topic_that_was_there_at_first() -> None:
    asked = delete(described(b"i" * 16), LOST, LOST, DELETED)
    assert [each.topic_ids for each in asked] == [(b"i" * 16,)] * 3


def test_one_that_is_unknown_after_a_lost_answer_is_gone() -> None:
    delete(described(b"i" * 16), LOST, UNKNOWN)
    delete(described(b""), LOST, UNKNOWN)  # a broker that does not tell ids


@pytest.mark.parametrize("answers", [(UNKNOWN,), (LOST, UNKNOWN)])
def test_one_that_never_was_there_is_not_deleted(answers: tuple[Any, ...]) -> None:
    """Found by reading: a connection that could not be made was taken for a lost answer."""
    with pytest.raises(TopicNotFoundError):
        delete(NOTHING, *answers)
