"""Very many sessions at once, written as `app/store/create.lua` writes them but without asking it one by one."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Final

import hiredis

from app.census import kind_of, place_of
from app.embedded import Embedded
from app.model import DAY, Session, new_session_id, shard_in
from app.store import keyspace
from app.store.record import fields_of
from app.store.resp import packed
from app.store.wire import Argument

KIND: Final = kind_of(None, None)
_BATCH: Final = 10_000
_KEPT: Final = 7 * DAY


def fill(server: Embedded, tenant_id: str, users: int, each: int, now: int, expires: int) -> list[str]:
    """`each` sessions for users `filled_0` … of a tenant, begun at `now`; their ids. Nothing is scheduled yet."""
    sessions = (
        Session(
            id=new_session_id(tenant_id, user, now),
            tenant_id=tenant_id,
            user_id=user,
            expires_at=expires,
            last_active_at=now,
        )
        for user in (f"filled_{number}" for number in range(users))
        for _ in range(each)
    )
    ids: list[str] = []

    def commands() -> Iterator[bytes]:
        for session in sessions:
            ids.append(session.id)
            yield from (packed(*command) for command in _commands(session))

    _send(server, commands())
    return ids


def schedule(server: Embedded, ids: list[str], due: int) -> None:
    """Give sessions their place in the due index."""
    shards: dict[int, list[Argument]] = defaultdict(list)
    for sid in ids:
        shards[shard_in(sid)] += (due, sid)
    rows = ((keyspace.due(shard), row[i : i + 400]) for shard, row in shards.items() for i in range(0, len(row), 400))
    _send(server, (packed("ZADD", key, *row) for key, row in rows))


def _commands(session: Session) -> Iterator[tuple[Argument, ...]]:
    """Plain commands with the effect of `create.lua`."""
    shard, sid, kept = shard_in(session.id), session.id, session.expires_at + _KEPT
    own, user = keyspace.session(shard, sid), keyspace.user(shard, session.tenant_id, session.user_id)
    yield "HSET", own, *fields_of(session, b"d" * 16)
    yield "PEXPIREAT", own, kept
    yield "ZADD", user, session.last_active_at, sid
    yield "PEXPIREAT", user, kept
    yield "ZADD", keyspace.tenant_index(shard, session.tenant_id), place_of(session.created_at, KIND), sid


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
