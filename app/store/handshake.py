"""Handshake of a new connection: which server it leads to, what that server can do, and how it shows its role.

A provider may forbid INFO and ROLE. Then other commands take their place, or what depends on the answer is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any, Final

import msgspec
from redis.asyncio.connection import AbstractConnection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import Connection as TcpConnection
from redis.exceptions import NoPermissionError, ReadOnlyError, ResponseError

from app.client.redis_address import RedisAddress
from app.errors import StoreUnavailable
from app.store.faults import cause_of
from app.store.resp import packed, told
from app.store.wire import Argument, Command

_ROLE_COMMANDS: Final[tuple[Command, ...]] = (("ROLE",), ("INFO", "replication"), ("DEL", "hj:role"))
"""Each shows whether the server is a replica; the first that this user may send is used. A replica refuses the last."""
_PROBE_S: Final = 0.5
_numbers: Final = count(1)


class Peer(msgspec.Struct, frozen=True):
    """The server at the other end. `server`: its run id, or if that is unknown (not `identified`) a name for this
    connection alone. `shebang`: scripts take flags from their first line. `role_command`: how to ask for the role."""

    server: str = ""
    identified: bool = True
    info_permitted: bool = True
    shebang: bool = False
    role_command: bytes | None = None


def link_to(address: RedisAddress, timeout: float) -> AbstractConnection:
    """A connection of redis-py, not yet open. `timeout` in seconds."""
    options: dict[str, Any] = {
        "db": address.database,
        "socket_connect_timeout": timeout,
        "protocol": 2,
        **address.login(),
    }
    if address.socket is not None:
        return UnixDomainSocketConnection(path=address.socket, **options)
    [(host, port)] = address.hosts
    if address.tls is None:
        return TcpConnection(host=host, port=port, **options)
    return SSLConnection(host=host, port=port, **address.tls_options(), **options)


async def shake_hands(link: AbstractConnection, primary_only: bool, degraded: Callable[[str], None]) -> Peer:
    """Raises `RedisError`, `OSError`, or `StoreUnavailable` for a replica where only a primary will do. `degraded` is
    called with a text for the log for each thing that this user may not ask."""
    await link.connect()  # type: ignore[no-untyped-call]
    try:
        info = await _ask(link, "INFO", "server")
    except ResponseError as error:
        if not _is_forbidden(error):
            raise
        info = b""
        degraded("INFO is not permitted, so memory policy, persistence and version are not checked")
    run_id, version = told(info, "run_id"), told(info, "redis_version").split(".")[0]
    role_command = await _choose_role_command(link) if primary_only else None
    if primary_only and role_command is None:
        degraded("no command that shows its role is permitted, so only a write shows that it became a replica")
    return Peer(
        server=run_id or f"connection {next(_numbers)}",
        identified=bool(run_id),
        info_permitted=bool(info),
        shebang=int(version or 0) >= 7 if info else await _takes_flags(link),
        role_command=role_command,
    )


def refuse_replica(role: Any) -> None:
    """Of the reply to a role command; an error decides nothing. Raises `StoreUnavailable`."""
    if (isinstance(role, list) and role[:1] == [b"slave"]) or (isinstance(role, bytes) and b"role:slave" in role):
        raise StoreUnavailable("the server has become a replica")


async def handshake_cause(address: RedisAddress, error: BaseException) -> str:
    """The cause of a failed handshake. A server that expects TLS closes a plain connection; one that does not may wait
    for the rest of what it takes for a command."""
    cause = cause_of(error)
    if cause == "connection_lost" and address.tls is None:
        return "tls_required"
    if cause in ("connection_lost", "no_answer") and address.tls is not None and await _answers_plainly(address):
        return "tls_unsupported"
    return cause


async def _answers_plainly(address: RedisAddress) -> bool:
    [(host, port)] = address.hosts
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PROBE_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"PING\r\n")
                return (await reader.read(1)) in (b"+", b"-")
            finally:
                writer.transport.abort()
    return False


async def _choose_role_command(link: AbstractConnection) -> bytes | None:
    for command in _ROLE_COMMANDS:
        try:
            refuse_replica(await _ask(link, *command))
        except ReadOnlyError:
            raise StoreUnavailable("the server has become a replica") from None
        except ResponseError as error:
            if not _is_forbidden(error):
                raise
            continue
        return packed(*command)
    return None


def _is_forbidden(error: ResponseError) -> bool:
    """By an ACL, or because the provider has renamed the command."""
    return isinstance(error, NoPermissionError) or str(error).startswith("unknown command")


async def _takes_flags(link: AbstractConnection) -> bool:
    """Servers from version 7 on do (Redis: "Eval scripts flags"); older ones do not compile this script."""
    with suppress(ResponseError):
        return bool(await _ask(link, "EVAL", "#!lua\nreturn 1", 0))
    return False


async def _ask(link: AbstractConnection, *command: Argument) -> Any:
    await link.send_command(*command)
    return await link.read_response()
