"""Opens what a process needs: one connection layer, the store and the use cases over it. API and worker share it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from app.activity import Activity
from app.apikeys import ApiKeys
from app.audit import Audit
from app.cursors import Cursors
from app.device import Locator, device_type
from app.feed import Feed
from app.keys import KeyRing, derive
from app.operators import Operators
from app.overview import Overview
from app.quotas import Quotas
from app.reader import Reader
from app.replays import Replays
from app.sessions import Sessions
from app.settings import Settings
from app.store.audit import AuditLog
from app.store.base import Registry, SessionStore
from app.store.dashboard import DashboardSessions
from app.store.doorbell import Doorbell
from app.store.health import Vitals
from app.store.log import EventLog
from app.store.quotas import QuotaLedger
from app.store.redis import RedisSessionStore
from app.store.registry import RedisRegistry
from app.store.replays import ReplayStore
from app.store.statistics import Statistics
from app.store.wire import Wire, open_wire
from app.tenants import Tenants
from app.tokens import AccessTokens, RefreshTokens
from app.upkeep import Upkeep


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    settings: Settings
    sessions: Sessions
    feed: Feed
    cursors: Cursors
    upkeep: Upkeep
    tenants: Tenants
    api_keys: ApiKeys
    audit: Audit
    operators: Operators
    quotas: Quotas
    replays: Replays
    keys: KeyRing
    overview: Overview
    registry: Registry
    clock: Callable[[], int]


def now_ms() -> int:
    """The wall clock, in milliseconds since the epoch. A process that serves reads it through an `app.clock.Clock`."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def open_runtime(
    settings: Settings,
    clock: Callable[[], int] = now_ms,
    wire: Wire | None = None,
    store: SessionStore | None = None,
) -> AsyncIterator[Runtime]:
    """Everything built and connected; on leaving, pending activity is written and the connections are closed.

    `clock`, in milliseconds since the epoch, is read at the door and handed down. `wire` and `store` stand in for those
    that `settings` name.
    """
    wire = wire or await open_wire(settings.redis_url, settings.redis_timeout_ms)
    locator = Locator(settings.geoip_file)
    store, registry = store or RedisSessionStore(wire, settings.retention_ms), RedisRegistry(wire)
    cursors = Cursors(*(derive(secret, "cursors") for secret in settings.secrets))
    keys = KeyRing(registry, *settings.secrets)
    tenants = Tenants(registry, store)
    api_keys = ApiKeys(registry, tenants, *(derive(secret, "api keys") for secret in settings.secrets))
    statistics = Statistics(wire)
    upkeep = Upkeep(store, registry, tenants, statistics)
    log = EventLog(wire)
    reader = Reader(
        log, Doorbell(settings.redis_url), settings.retention_ms, lambda lost: upkeep.restore(lost, clock())
    )
    feed = Feed(log, settings.retention_ms, reader)
    per_minute = (settings.verifies_per_minute, settings.reads_per_minute, settings.writes_per_minute)
    quotas = Quotas(QuotaLedger(wire), *per_minute)
    sessions = Sessions(
        store=store,
        registry=registry,
        statistics=statistics,
        tenants=tenants,
        access=AccessTokens(keys, settings.issuer),
        refresh=RefreshTokens(*settings.secrets),
        cursors=cursors,
        activity=Activity(store, clock),
        device_of=device_type,
        country_of=locator.country,
    )
    try:
        yield Runtime(
            settings=settings,
            sessions=sessions,
            feed=feed,
            cursors=cursors,
            upkeep=upkeep,
            tenants=tenants,
            api_keys=api_keys,
            audit=Audit(AuditLog(wire), cursors, *(derive(secret, "audit") for secret in settings.secrets)),
            operators=Operators(
                DashboardSessions(wire),
                api_keys,
                settings.admin_keys,
                frozenset() if settings.oidc is None else settings.oidc.allowed,
                *(derive(secret, "dashboard") for secret in settings.secrets),
            ),
            quotas=quotas,
            replays=Replays(ReplayStore(wire), *(derive(secret, "replays") for secret in settings.secrets)),
            keys=keys,
            overview=Overview(statistics, Vitals(wire), reader),
            registry=registry,
            clock=clock,
        )
    finally:
        await feed.close()
        await quotas.close()
        await sessions.flush()
        await api_keys.flush()
        await wire.close()
        locator.close()
