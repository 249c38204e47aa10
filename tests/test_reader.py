"""The one reader of a process: it works as long as somebody follows, whatever happens, and no longer."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from redis.asyncio import Redis

from app.client.events import Event, channel
from app.client.shards import log_key
from app.embedded import Embedded
from app.feed import Feed
from app.log import Lasting
from app.model import DAY, SHARDS
from app.reader import Beat, Listener, Reader
from app.store.doorbell import Doorbell
from app.store.log import Entry, EventLog
from app.store.wire import Wire, open_wire
from tests.builders import announce
from tests.servers import commands, until

TENANT = "tnt_1"


@pytest.fixture
async def wire(own_server: Embedded) -> AsyncIterator[Wire]:
    opened = await open_wire(own_server.url, 2_000)
    yield opened
    await opened.close()


@pytest.fixture
def reader(wire: Wire, own_server: Embedded) -> Reader:
    async def restore(_: object) -> list[Event]:
        raise AssertionError("nothing is lost here")

    return Reader(EventLog(wire), Doorbell(own_server.url), DAY, restore)


async def _ring(url: str) -> None:
    """Events of others, more than a hundred a second."""
    async with Redis.from_url(url) as client:
        for number in range(1_000_000):
            await client.publish(channel("tnt_2"), f'{{"id":"0{number % 8}-1-0"}}')
            await asyncio.sleep(0.001)


async def test_the_last_who_leaves_is_let_go_and_nobody_reads_on(reader: Reader, own_server: Embedded) -> None:
    """A cancellation that meets a ring is not lost (CPython issue 86296: wait_for before 3.12)."""
    others = asyncio.all_tasks()
    ringing = [asyncio.create_task(_ring(own_server.url)) for _ in range(3)]
    try:
        for _ in range(60):
            async with asyncio.timeout(2), reader.here():
                await asyncio.sleep(random.uniform(0.05, 0.1))
    finally:
        for task in ringing:
            task.cancel()
        await asyncio.gather(*ringing, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == others
    assert reader.lag is None


async def test_what_nobody_foresaw_does_not_end_it(
    reader: Reader, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """An entry that is none of ours."""
    async with reader.here():
        await asyncio.sleep(0.1)
        key = log_key(3)
        await wire.call(key, "XADD", key, "*", "no", "event")
        await asyncio.sleep(2.5)
        assert caplog.text.count("begins again") == 1
        await wire.call(key, "DEL", key)
        with reader.listening(TENANT) as listener:
            entry = "t session.revoked n tnt_1 s ses_1 r revoked at 1 na 2".split()
            await wire.call(key, "XADD", key, "*", *entry)
            async with asyncio.timeout(6):
                while not any(getattr(item, "event", None) for item in await listener.take()):
                    pass


async def test_a_part_of_the_log_that_cannot_be_read_keeps_no_other_from_its_followers(
    reader: Reader, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    async def heard(listener: Listener, key: str) -> None:
        final = reader.final
        await wire.call(key, "XADD", key, "*", *"t session.revoked n tnt_1 s ses_1 r revoked at 1 na 2".split())
        async with asyncio.timeout(6):
            while not any(getattr(item, "event", None) for item in await listener.take()):
                pass
            await until(lambda: reader.final > final, 6)

    async with reader.here():
        bad = log_key(3)
        await wire.call(bad, "SET", bad, "no stream")
        with reader.listening(TENANT) as listener:
            await heard(listener, log_key(4))
            await wire.call(bad, "DEL", bad)
            await heard(listener, bad)
        assert caplog.text.count("shard 3 cannot be read") == 1, "it is told once a minute"


async def test_what_cannot_be_restored_is_tried_again(wire: Wire, own_server: Embedded) -> None:
    offered: list[list[str]] = []
    entry = "t session.revoked n tnt_1 s ses_1 r revoked at 1 na 2".split()

    async def restore(events: list[Event]) -> list[Event]:
        offered.append([event.id for event in events])
        return events if len(offered) < 3 else []

    log = EventLog(wire)
    reader, key = Reader(log, Doorbell(own_server.url), DAY, restore), log_key(4)
    async with reader.here():
        lost = (await wire.call(key, "XADD", key, "*", *entry)).decode()
        async with asyncio.timeout(20):
            await until(lambda: bool([*reader.window.of_shard(4, 0)]), 20)
            await wire.call(key, "DEL", key)
            await until(lambda: len(offered) == 3, 20)
        await asyncio.sleep(2.5)
    assert offered == [[f"04-{lost}"]] * 3


def test_a_fault_that_lasts_is_told_at_once_and_then_once_a_minute() -> None:
    fault = Lasting()
    told = [(second, times) for second in range(200) for _ in range(5) if (times := fault.came(1_000.0 + second))]
    assert told == [(0, 1), (60, 300), (120, 300), (180, 300)]
    assert fault.came(9_999.0) == 100 and fault.came(99_999.0) == 1, "one that comes back is told at once"


async def test_a_tenant_with_many_streams_waits_for_itself(reader: Reader, wire: Wire) -> None:
    """Another tenant's only snapshot waits for one part of theirs at a time, not for twelve."""
    reader.window.most = 100
    log, now = EventLog(wire), await EventLog(wire).final()
    for shard in range(8):
        key, entry = log_key(shard), "t session.revoked s ses_1 r revoked at 1 na 2 n".split()
        places = [(f"{now - 60_000 + number}-0", f"tnt_{1 + number % 2}") for number in range(1_600)]
        await wire.batch(key, [("XADD", key, place, *entry, tenant) for place, tenant in places])
    feed, parts = Feed(log, DAY, reader), Counter[str]()

    async def follow(tenant_id: str) -> None:
        async with aclosing(feed.follow(tenant_id, None, True, now - 61_000, now)) as items:
            async for some in items:
                if any(isinstance(item, Beat) for item in some):
                    return
                parts[tenant_id] += 1

    many = [asyncio.create_task(follow("tnt_1")) for _ in range(12)]
    try:
        await follow("tnt_2")
        assert parts["tnt_2"] > 10
        assert parts["tnt_1"] < 3 * parts["tnt_2"] + len(many)
    finally:
        for task in many:
            task.cancel()
        await asyncio.gather(*many, return_exceptions=True)


async def test_a_page_behind_others_events_ends_after_a_while_and_goes_on(
    reader: Reader, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose own event is the last of 801, fifty of which are read at once: written by a version without an index."""
    log, now, key = EventLog(wire), await EventLog(wire).final(), log_key(0)
    whose = [(number, "tnt_1" if number == 800 else "tnt_0") for number in range(801)]
    rows = [(f"{now - 60_000 + ms}-0", f"t session.revoked n {name} s s r revoked at 1 na 2") for ms, name in whose]
    await wire.batch(key, [("XADD", key, stream_id, *entry.split()) for stream_id, entry in rows])
    feed = Feed(log, DAY, reader)
    monkeypatch.setattr("app.feed._PATIENCE_S", 0.0)
    pages = [await feed.page("tnt_1", None, 20)]
    while pages[-1].more:
        pages.append(await feed.page("tnt_1", pages[-1].bookmark, 20))
    assert [[event.tenant_id for event in page.events] for page in pages] == [[]] * 16 + [["tnt_1"]]


async def test_the_first_heartbeat_waits_for_no_events_of_others(
    reader: Reader, wire: Wire, own_server: Embedded
) -> None:
    """However many there are, in the log and in the window, and although more come all the time."""
    reader.window.most = 1_000
    log, feed = EventLog(wire), Feed(EventLog(wire), DAY, reader)
    await announce(wire, 9, "tnt_2")
    begun = await log.final() - 60_000

    async def first_part() -> tuple[list[str], int]:
        """The events before the first heartbeat, and how many commands they took."""
        before, events = commands(own_server), list[str]()
        async with aclosing(feed.follow("tnt_2", None, True, begun, 1)) as items:
            async for some in items:
                events += [item.event.tenant_id for item in some if isinstance(item, Entry)]
                if any(isinstance(item, Beat) for item in some):
                    return events, commands(own_server) - before
        raise AssertionError("no heartbeat")

    async with reader.here():
        await asyncio.sleep(0.5)
        reading, few = await first_part()
        for _ in range(300):
            await announce(wire, 9, "tnt_1", 100)
        await until(lambda: reader.window.floor > begun + 60_000, 10)
        again, many = await first_part()
    assert reading == again == ["tnt_2"]
    assert many < 2 * few + SHARDS


@pytest.mark.parametrize(("tenants", "others"), [(1, 0), (1, 20_000), (30, 0)])
async def test_many_who_come_back_share_one_reading(
    reader: Reader, wire: Wire, own_server: Embedded, tenants: int, others: int
) -> None:
    """Of the whole log where little was written since, else of their tenant's events."""
    for number in range(30):
        await announce(wire, number, f"tnt_{number % tenants}", 10)
    for _ in range(others // 100):
        await announce(wire, 9, "tnt_other", 100)
    log = EventLog(wire)
    begun, feed = await log.final() - 60_000, Feed(log, DAY, reader)
    await asyncio.sleep(0.1)

    async def count(number: int) -> int:
        found = 0
        async with aclosing(feed.follow(f"tnt_{number % tenants}", None, True, begun, 1)) as items:
            async for some in items:
                found += sum(isinstance(item, Entry) for item in some)
                if any(isinstance(item, Beat) for item in some):
                    break
        return found

    async with reader.here():
        await asyncio.sleep(0.5)
        before = commands(own_server)
        assert await asyncio.gather(*(count(number) for number in range(30))) == [300 // tenants] * 30
        assert commands(own_server) - before < 5 * SHARDS
