"""Sessions, tokens and ready-made requests for a load, made through the use cases: many users, no hot key."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from app.client.redis_address import parse_address
from app.model import SHARDS, Session, Tenant, new_session_id
from app.runtime import Runtime, now_ms, open_runtime
from app.sessions import Issued, NewSession
from app.settings import Settings
from app.store.redis import RedisSessionStore
from app.store.wire import Wire, open_wire
from tests.service import ADMIN_KEY, SECRET

ISSUER = "https://sessions.example"
USER_AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0"
    ".0 Safari/537.36 Edg/126."
)
_AT_ONCE = 200


class Stock(msgspec.Struct, frozen=True):
    """The use cases on a server, with the secret and the issuer of `tests.service.Api`, and what lies below them."""

    runtime: Runtime
    store: RedisSessionStore
    wire: Wire


@asynccontextmanager
async def opened(redis_url: str) -> AsyncIterator[Stock]:
    settings = Settings(redis_url=parse_address(redis_url), secret=SECRET.encode(), admin_key=ADMIN_KEY, issuer=ISSUER)
    wire = await open_wire(redis_url, 10_000)
    store = RedisSessionStore(wire)
    async with open_runtime(settings, wire=wire, store=store) as runtime:
        yield Stock(runtime, store, wire)


def sign_in(number: int, each: int) -> NewSession:
    """The `number`-th sign-in of users who have `each` sessions."""
    return NewSession(
        user_id=f"usr_{number // each:011d}",
        role="member",
        user_agent=USER_AGENT,
        ip_address=f"203.0.{number // 250 % 250}.{number % 250}",
        country="US",
    )


async def sessions(stock: Stock, tenant: Tenant, count: int, each: int) -> list[Issued]:
    """`count` new sessions, `each` for every user."""
    made: list[Issued] = []
    for first in range(0, count, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, count))
        made += await asyncio.gather(
            *(stock.runtime.sessions.create(tenant, sign_in(number, each), now_ms()) for number in numbers)
        )
    return made


async def living(stock: Stock, tenant: Tenant) -> list[str]:
    """The ids of a tenant's sessions that have not ended, up to 500 for each shard."""
    rows = await asyncio.gather(*(stock.store.tenant_members(tenant.id, shard, "", 500) for shard in range(SHARDS)))
    return [member.session_id for row in rows for member in row]


async def bare_sessions(
    stock: Stock, tenant: Tenant, count: int, each: int, begun: int | None = None, start: int = 0
) -> None:
    """`count` sessions straight through the store, without tokens, as if they had begun at `begun`; numbers from
    `start` on."""
    now = now_ms() if begun is None else begun
    for first in range(start, start + count, _AT_ONCE):
        await asyncio.gather(
            *(
                stock.store.create(_session(tenant, number, each, now), secrets.token_bytes(16), tenant.rules, now)
                for number in range(first, min(first + _AT_ONCE, start + count))
            )
        )


def _session(tenant: Tenant, number: int, each: int, now: int) -> Session:
    new = sign_in(number, each)
    details = msgspec.structs.asdict(new) | {"device_type": "desktop"}
    sid = new_session_id(tenant.id, new.user_id, now)
    return Session(id=sid, tenant_id=tenant.id, expires_at=now + tenant.rules.duration, last_active_at=now, **details)
