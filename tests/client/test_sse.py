"""The reader of server-sent events: the same messages however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.client.sse import Message, Messages

STREAM = (
    b": a comment\nretry: 1000\n\n"
    b'event: session.revoked\ndata: {"id":"1"}\n\n'
    b"event:heartbeat\r\nid: c1\r\ndata: one\r\ndata:two\r\n\r\n"
    b"data\n\n"
    b"event: nothing\n\n"
    b"data: plain\n\n"
)
EXPECTED = [
    Message("session.revoked", b'{"id":"1"}'),
    Message("heartbeat", b"one\ntwo"),
    Message("message", b""),
    Message("message", b"plain"),
]


@given(st.lists(st.integers(1, len(STREAM) - 1)))
def test_messages_do_not_depend_on_how_the_bytes_come(cuts: list[int]) -> None:
    places = [0, *sorted(set(cuts)), len(STREAM)]
    messages = Messages()
    found = [message for first, last in pairwise(places) for message in messages.feed(STREAM[first:last])]
    assert found == EXPECTED


def test_a_message_without_an_end_is_given_up() -> None:
    messages = Messages()
    with pytest.raises(ValueError, match="too long"):
        for _ in range(3):
            list(messages.feed(b"x" * (1 << 19)))
