"""A trace context survives the frame and the record header."""

from __future__ import annotations

import pytest

from streambus_protocol import TRACE_CONTEXT_BYTES, TraceContext, split_trace
from streambus_protocol.errors import MalformedFrameError

CONTEXT = TraceContext(bytes(range(16)), bytes(range(8)), 1)


def test_trace_context_precedes_the_body() -> None:
    prefix = CONTEXT.to_bytes()
    assert len(prefix) == TRACE_CONTEXT_BYTES
    assert split_trace(prefix + b"body") == (CONTEXT, b"body")
    with pytest.raises(MalformedFrameError):
        split_trace(prefix[:-1])


def test_trace_context_has_the_text_form_of_w3c() -> None:
    text = "00-000102030405060708090a0b0c0d0e0f-0001020304050607-01"
    assert CONTEXT.to_traceparent() == text
    assert TraceContext.from_traceparent(text) == CONTEXT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-xyz-abc-01",
        "ff-000102030405060708090a0b0c0d0e0f-0001020304050607-01",
        "00-" + "0" * 32 + "-0001020304050607-01",
        "00-000102030405060708090a0b0c0d0e0f-" + "0" * 16 + "-01",
        "00-" + "g" * 32 + "-0001020304050607-01",
    ],
)
def test_trace_context_that_is_none_is_ignored(text: str) -> None:
    assert TraceContext.from_traceparent(text) is None
