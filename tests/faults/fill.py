"""Very many sessions at once, written as `app/store/create.lua` writes them but without asking it one by one."""

from __future__ import annotations

import random
import socket
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Final

import hiredis

from app.census import kind_of, place_of
from app.embedded import Embedded
from app.model import DAY, Session, new_session_id, shard_in, shard_of
from app.store import keyspace
from app.store.record import fields_of
from app.store.resp import packed
from app.store.wire import Argument

KIND: Final = kind_of(None, None)
_BATCH: Final = 10_000
_KEPT: Final = 7 * DAY


def fill(
    server: Embedded, tenant_id: str, users: int, each: int, now: int, expires: int, begun_over: int = 1
) -> list[str]:
    """`each` sessions for users `filled_0` … of a tenant, begun in the `begun_over` ms up to `now`; their ids. Nothing
    is scheduled yet."""
    ids: list[str] = []
    chance = random.Random(users)

    def commands() -> Iterator[bytes]:
        for user in (f"filled_{number}" for number in range(users)):
            own = [new_session_id(tenant_id, user, now - chance.randrange(begun_over)) for _ in range(each)]
            ids.extend(own)
            yield from (packed(*command) for command in _commands(tenant_id, user, own, now, expires))

    _send(server, commands())
    return ids


def schedule(server: Embedded, ids: list[str], due: int) -> None:
    """Give sessions their place in the due index."""
    shards: dict[int, list[Argument]] = defaultdict(list)
    for sid in ids:
        shards[shard_in(sid)] += (due, sid)
    rows = ((keyspace.due(shard), row[i : i + 400]) for shard, row in shards.items() for i in range(0, len(row), 400))
    _send(server, (packed("ZADD", key, *row) for key, row in rows))


def _commands(tenant_id: str, user_id: str, sids: list[str], now: int, expires: int) -> Iterator[tuple[Argument, ...]]:
    """Plain commands with the effect of `create.lua`, once for each session of a user."""
    shard, kept = shard_of(tenant_id, user_id), expires + _KEPT
    members, places = list[Argument](), list[Argument]()
    for sid in sids:
        session = Session(id=sid, tenant_id=tenant_id, user_id=user_id, expires_at=expires, last_active_at=now)
        yield "HSET", keyspace.session(shard, sid), *fields_of(session, b"d" * 16)
        yield "PEXPIREAT", keyspace.session(shard, sid), kept
        members += (now, sid)
        places += (place_of(session.created_at, KIND), sid)
    user = keyspace.user(shard, tenant_id, user_id)
    yield "ZADD", user, *members
    yield "PEXPIREAT", user, kept
    yield "ZADD", keyspace.tenant_index(shard, tenant_id), *places


def _send(server: Embedded, commands: Iterator[bytes]) -> None:
    """While the server works on one batch the next is made."""
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        awaited = 0
        while batch := list(islice(commands, _BATCH)):
            _read(link, awaited)
            link.sendall(b"".join(batch))
            awaited = len(batch)
        _read(link, awaited)


def _read(link: socket.socket, replies: int) -> None:
    """As many replies as there must be. They are small, so the server never waits for the reader."""
    parser = hiredis.Reader()
    while replies:
        parser.feed(link.recv(1 << 16))
        while (reply := parser.gets()) is not False:
            assert not isinstance(reply, Exception), reply
            replies -= 1
