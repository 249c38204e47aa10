"""The circuit breaker, and what an outage writes to the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from app.client import breaker as module
from app.client.breaker import Breaker, Outage
from app.client.errors import ServiceUnavailable
from app.client.jwks import KeySet
from app.client.reports import Reports


class Silent:
    """A server that takes each request and answers none until it is told to."""

    def __init__(self) -> None:
        self.open = self.most = self.requests = 0
        self.answer = asyncio.Event()
        self.serving_now: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def serving(cls) -> AsyncIterator[tuple[Silent, httpx.AsyncClient]]:
        silent = cls()
        server = await asyncio.start_server(silent._serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, httpx.AsyncClient(base_url=url, trust_env=False) as http:
            yield silent, http
            silent.answer.set()
            await asyncio.gather(*silent.serving_now)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._answer(reader, writer))
        self.serving_now.add(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.open, self.requests = self.open + 1, self.requests + 1
        self.most = max(self.most, self.open)
        gone, answered = asyncio.create_task(reader.read()), asyncio.create_task(self.answer.wait())
        await asyncio.wait([gone, answered], return_when=asyncio.FIRST_COMPLETED)
        self.open -= 1
        if self.answer.is_set():
            writer.write(b'HTTP/1.1 200 X\r\ncontent-length: 14\r\nconnection: close\r\n\r\n{"accepted":1}')
        for task in (gone, answered):
            task.cancel()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_after_a_time_out_calls_are_refused_at_once_and_one_at_a_time_tries_again() -> None:
    async with Silent.serving() as (silent, http):
        breaker = Breaker()

        async def ask() -> bool:
            try:
                return (await breaker.run(lambda: http.get("/"), 0.2)).status_code == 200
            except ServiceUnavailable:
                return False

        assert await asyncio.gather(*(ask() for _ in range(5))) == [False] * 5
        assert silent.most == 5
        silent.most = silent.requests = 0
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert not any([await ask() for _ in range(500)])
        assert loop.time() - began < 0.2 * 10  # rather than 500 waits
        while silent.requests < 3:
            assert not await ask()
            await asyncio.sleep(0.01)
        assert silent.most == 1
        silent.answer.set()
        for _ in range(200):
            if await ask():
                break
            await asyncio.sleep(0.01)
        assert all(await asyncio.gather(*(ask() for _ in range(5))))
        await breaker.close()


async def test_a_late_time_out_of_an_old_call_does_not_open_it_again() -> None:
    async with Silent.serving() as (silent, http):
        breaker = Breaker()
        old = asyncio.create_task(breaker.run(lambda: http.get("/"), 0.3))
        await asyncio.sleep(0.1)
        breaker.answered()
        with pytest.raises(ServiceUnavailable):
            await old
        silent.answer.set()
        assert (await breaker.run(lambda: http.get("/"))).status_code == 200


async def test_fetches_of_keys_and_reports_share_it() -> None:
    async with Silent.serving() as (silent, http):
        breaker = Breaker()
        keys = KeySet(http, 600.0, 0.0, lambda gone: None, breaker, 0.2)
        reports = Reports(http, 5.0, breaker)
        with pytest.raises(ServiceUnavailable):
            await keys.found("k1")
        silent.most, began = 0, asyncio.get_running_loop().time()
        reports.note("ses_1")
        await reports.send()
        assert asyncio.get_running_loop().time() - began < 1.0
        await asyncio.sleep(0.05)
        assert silent.most == 1 and reports._late == {"ses_1"}
        await keys.close()
        await breaker.close()


def test_an_outage_is_logged_when_it_begins_once_a_minute_and_when_it_ends(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    now = 1_000.0
    monkeypatch.setattr(module, "clock", lambda: now)
    outage = Outage("the session service")
    outage.ended()
    for _ in range(150):
        outage.failed("no answer")
        now += 1
    outage.ended()
    outage.ended()
    assert [record.getMessage() for record in caplog.records] == [
        "the session service is not available: no answer",
        "the session service has not been available for 60 s: no answer",
        "the session service has not been available for 120 s: no answer",
        "the session service is available again after 150 s",
    ]
    for _ in range(20):  # it comes and goes
        outage.failed("no answer")
        outage.ended()
    assert len(caplog.records) == 4


def test_an_outage_lasts_until_what_failed_works_again(caplog: pytest.LogCaptureFixture) -> None:
    """Public keys are answered from memory while the store behind the service is away."""
    breaker = Breaker()
    breaker.outage.failed("it answers 503", module.EVENTS)
    for kind in (module.KEYS, module.CALLS):
        breaker.answered(kind)
        assert len(caplog.records) == 1
    breaker.answered(module.EVENTS)
    assert len(caplog.records) == 2
