"""Follow revocations in Redis itself, on one server or a cluster. Needs the extra `redis`.

The channel is the quick way and may miss; the log, 1,024 streams, is the truth. First subscribed, then read in full,
again and again: what a pass that began at t has read is everything that happened up to t.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.exceptions import NoPermissionError, ReadOnlyError, RedisError

from .breaker import Outage
from .events import Event, channel, event_of
from .feed import Backoff, Listener
from .freshness import clock
from .log_index import own_entries
from .redis_address import AddressError, RedisAddress, parse_address
from .shards import SHARDS, SIGNING_KEYS, base32, log_key

_PAST_S: Final = 24 * 3_600 + 600
"""No access token lives longer than a day; ten minutes for clocks that differ."""
_COUNT: Final = 200
_GROUPS: Final = 16
_GIVEN: Final = 20_000
_TIMEOUT_S: Final = 5.0
_event: Final = msgspec.json.Decoder(Event).decode

Client = Redis | RedisCluster


class RedisFeed:
    """Keeps for each shard the id of the last entry read. It is read again with what follows it: if it is no longer
    there the log has lost entries (a failover), and the shard is read from its beginning."""

    def __init__(self, url: str, tenant_id: str, listener: Listener, every: float) -> None:
        self._address = _address(url)
        hosts = self._address.hosts
        self._doorbells = [self._address.at(*host) for host in hosts] if hosts else [self._address]
        self._channel = channel(tenant_id)
        self._tenant = tenant_id.encode()
        self._listener = listener
        self._every = every
        self._backoff = Backoff()
        self._last: dict[int, bytes] = {}
        self._begun: set[int] = set()
        self._given: set[str] = set()
        self._given_before: set[str] = set()
        self._generation = 0
        self._heard = 0.0
        self._turn = 0
        self._outage = Outage("Redis")

    async def follow(self) -> None:
        while True:
            try:
                await self._session()
            except* (RedisError, OSError, TimeoutError, ValueError, msgspec.DecodeError, LookupError) as group:
                self._turn += 1
                self._outage.failed(type(group.exceptions[0]).__name__)
            await asyncio.sleep(self._backoff.next())

    def reload(self) -> None:
        self._last.clear()
        self._begun.clear()
        self._given, self._given_before = set(), set()
        self._generation += 1

    async def _session(self) -> None:
        """Listen and read until either fails."""
        log = self._open()
        address = self._doorbells[self._turn % len(self._doorbells)]
        doorbell: Any = Redis(**address.options(), **_options())
        bell = doorbell.pubsub()
        try:
            async with asyncio.TaskGroup() as group:
                async with asyncio.timeout(_TIMEOUT_S):
                    await bell.subscribe(self._channel)
                group.create_task(self._listen(bell))
                group.create_task(self._ping(bell))
                group.create_task(self._read(log))
        finally:
            await bell.aclose()
            await doorbell.aclose()
            await log.aclose()

    async def _listen(self, bell: PubSub) -> None:
        """Straight from the connection: redis-py's own loop costs more than all that is done with a message, and would
        connect again in silence."""
        connection: Any = bell.connection
        while True:
            reply = await connection.read_response()
            self._heard = clock()
            if reply[0] == b"message":
                event = _event(reply[2])
                self._listener.take(event)
                if len(self._given) < _GIVEN:
                    self._given.add(event.id)

    async def _ping(self, bell: PubSub) -> None:
        """Notice a connection on which nothing arrives any more."""
        self._heard = clock()
        while clock() < self._heard + _TIMEOUT_S:
            await bell.ping()
            await asyncio.sleep(_TIMEOUT_S / 4)
        raise TimeoutError("no answer on the channel")

    async def _read(self, log: Client) -> None:
        while True:
            began, generation = clock(), self._generation
            for group in range(_GROUPS):
                await self._read_shards(log, range(group, SHARDS, _GROUPS))
            kids = await _kids(log)
            await _refuse_replica(log)
            if kids:
                self._listener.listed(kids, began)
            if generation == self._generation:
                self._backoff.reset()
                self._outage.ended()
                self._listener.confirm(began)
                self._given, self._given_before = set(), self._given
            await asyncio.sleep(self._every)

    async def _read_shards(self, log: Client, shards: range) -> None:
        beginning = b"%d-0" % int((time.time() - _PAST_S) * 1_000)
        generation = self._generation
        await self._begin(log, [shard for shard in shards if shard not in self._begun], beginning)
        if generation != self._generation:
            return
        wanted = {shard: _before(self._last[shard]) if shard in self._last else beginning for shard in shards}
        while wanted:
            pages = await _pages(log, wanted)
            if generation != self._generation:
                return
            wanted, asked = {}, wanted
            for shard, start in asked.items():
                page, last = pages.get(shard, []), self._last.get(shard)
                if last is not None and start == _before(last) and (not page or page[0][0] != last):
                    del self._last[shard]
                    wanted[shard] = beginning
                    continue
                self._take(shard, page)
                if len(page) == _COUNT:
                    wanted[shard] = page[-1][0]
            await asyncio.sleep(0)

    async def _begin(self, log: Client, shards: list[int], beginning: bytes) -> None:
        """Read the tenant's own entries of shards for the first time, as far as there is an index."""
        generation = self._generation
        async with aclosing(own_entries(log, shards, self._tenant.decode(), beginning)) as parts:
            async for shard, entries, reached in parts:
                if generation != self._generation:
                    return
                self._take(shard, entries)
                self._last[shard] = reached
        if generation == self._generation:
            self._begun.update(shards)

    def _take(self, shard: int, page: list[Any]) -> None:
        """Give what the channel has not given, or too long ago to be remembered."""
        name = base32(shard, 2)
        for entry in page:
            if self._tenant not in entry[1] or entry[0] == self._last.get(shard):
                continue
            event_id = f"{name}-{entry[0].decode()}"
            if event_id not in self._given and event_id not in self._given_before:
                self._listener.take(event_of(shard, entry))
        if page:
            self._last[shard] = page[-1][0]

    def _open(self) -> Client:
        """A client whose XRANGE, XREVRANGE and XREAD answer as the server does."""
        address = self._address
        if address.cluster:
            nodes = [ClusterNode(host, port) for host, port in address.hosts]
            options = {**address.login(), **address.tls_options(), **_options()}
            client: Client = RedisCluster(startup_nodes=nodes, ssl=address.tls is not None, **options)
        else:
            client = Redis(**address.options(), **_options())
        for command in ("XRANGE", "XREVRANGE", "XREAD"):
            client.set_response_callback(command, _as_sent)
        return client


def _as_sent(response: Any, **_: Any) -> Any:
    return response


def _options() -> dict[str, Any]:
    """RESP2, whose answers every version of redis-py gives alike. Without a timeout of its own for answers: on Python
    3.11 that can lose a cancellation."""
    return {"socket_timeout": None, "socket_connect_timeout": _TIMEOUT_S, "socket_keepalive": True, "protocol": 2}


def _address(url: str) -> RedisAddress:
    """Raises `ValueError`, which never quotes the address."""
    try:
        return parse_address(url)
    except AddressError as error:
        refusal = f"redis_url {error}"
    raise ValueError(refusal)


async def _pages(log: Client, wanted: dict[int, bytes]) -> dict[int, list[Any]]:
    """The next page of each shard, behind an entry id, where there is one. A single server is asked once for all; in a
    cluster each shard by itself, in one write to each server."""
    async with asyncio.timeout(2 * _TIMEOUT_S):
        if isinstance(log, Redis):
            keys = [log_key(shard) for shard in wanted]
            read: Any = log.execute_command
            found = await read("XREAD", "COUNT", _COUNT, "STREAMS", *keys, *wanted.values())
            pages = {key.decode(): page for key, page in found or ()}
            return {shard: pages[key] for shard, key in zip(wanted, keys, strict=True) if key in pages}
        pipeline: Any = log.pipeline(transaction=False)
        for shard, start in wanted.items():
            pipeline.execute_command("XRANGE", log_key(shard), b"(" + start, "+", "COUNT", _COUNT)
        return dict(zip(wanted, await pipeline.execute(), strict=True))


async def _kids(log: Client) -> frozenset[str]:
    """All keys of the service; none where that is not to be known: there is no ring yet, or this user may not ask."""
    with suppress(NoPermissionError):
        ask: Any = log.execute_command
        async with asyncio.timeout(_TIMEOUT_S):
            return frozenset(kid.decode() for kid in await ask("HKEYS", SIGNING_KEYS))
    return frozenset()


async def _refuse_replica(log: Client) -> None:
    """A single server that has become a replica (a failover behind one address) may have stopped hearing. In a cluster
    a replica sends readers on by itself. Who may not ask for ROLE trusts the address. Raises `ReadOnlyError`."""
    if isinstance(log, Redis):
        with suppress(NoPermissionError):
            ask: Any = log.execute_command
            async with asyncio.timeout(_TIMEOUT_S):
                role = await ask("ROLE")
            if role[0] == b"slave":
                raise ReadOnlyError("the server has become a replica")


def _before(entry_id: bytes) -> bytes:
    """The entry id just below another (Redis Streams, "Entry IDs")."""
    ms, _, sequence = entry_id.partition(b"-")
    if int(sequence):
        return b"%b-%d" % (ms, int(sequence) - 1)
    return b"%d-%d" % (int(ms) - 1, (1 << 64) - 1)
