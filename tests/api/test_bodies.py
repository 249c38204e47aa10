"""Bodies: what is not here in time is refused, and nobody else's is touched; what two parsers could read differently is
refused, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.api import strict_json
from app.api.body import Bodies
from app.errors import MalformedRequest, RequestTimeout

JSON = {b"content-type": b"application/json"}


def sending(*parts: bytes, last: bool = True) -> Any:
    """A client that sends these parts, and then nothing more."""
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if last:
        waiting[-1]["more_body"] = False

    async def receive() -> Any:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return receive


async def test_a_body_that_does_not_arrive_is_refused_and_the_others_are_not() -> None:
    bodies = Bodies(seconds=0.05)
    stuck = [bodies.read(JSON, sending(b"{", last=False)), bodies.read(JSON, sending(last=False))]
    answers = await asyncio.gather(*stuck, bodies.read(JSON, sending(b"{", b"}")), return_exceptions=True)
    assert [type(answer) for answer in answers] == [RequestTimeout, RequestTimeout, bytes]


async def test_one_that_comes_while_another_waits_has_its_own_time() -> None:
    bodies = Bodies(seconds=0.2)
    loop = asyncio.get_running_loop()
    first = asyncio.create_task(bodies.read(JSON, sending(last=False)))
    await asyncio.sleep(0.1)
    begun = loop.time()
    with pytest.raises(RequestTimeout):
        await bodies.read(JSON, sending(last=False))
    assert loop.time() - begun >= 0.19
    assert isinstance(first.exception(), RequestTimeout)


async def test_a_caller_that_is_cancelled_from_outside_stays_cancelled() -> None:
    bodies = Bodies(seconds=5)
    reading = asyncio.create_task(bodies.read(JSON, sending(last=False)))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"{}", {}),
        (b' { "a" : "b" , "c":true,"d":null, "e":false }\n', {"a": "b", "c": True, "d": None, "e": False}),
        ('{"a":"\u00e9 : { } , \u007f"}'.encode(), {"a": "\u00e9 : { } , \u007f"}),
        (b'{"a":{"b":"c"}}', {"a": {"b": "c"}}),
        (b'{"a":["b",1,1.5]}', {"a": ["b", 1, 1.5]}),
        (b'{"a":"\\u00e9\\""}', {"a": '\u00e9"'}),
        (b'"a"', "a"),
    ],
)
def test_what_two_parsers_read_alike_is_read(raw: bytes, value: object) -> None:
    assert strict_json.parse(raw) == value


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":"b","a":"b"}',
        b'{"a":true,"a":true}',
        b'{"":"","":""}',
        b'{"a":"b",}',
        b'{"a" "b"}',
        b'{"a"::"b"}',
        b'{"a":b}',
        b'{"a":tru}',
        b'{"a":"b"}}',
        b'{"a":"b"} "',
        b'{"a":"\x00"}',
        b'{"a":"\x1f"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"b"}\x0c',
        b"{,}",
    ],
)
def test_what_they_could_read_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedRequest):
        strict_json.parse(raw)


def test_a_byte_order_mark_is_named() -> None:
    with pytest.raises(MalformedRequest, match="byte order mark"):
        strict_json.parse(b"\xef\xbb\xbf{}")
