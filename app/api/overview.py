"""How things are, and what a change of policy would do."""

from __future__ import annotations

from typing import Final

import msgspec

from app.api.call import Call
from app.api.limits import rfc3339, rfc3339_ms
from app.api.operation import Operation
from app.api.schema import ConfigChange, Request
from app.api.views import Answer
from app.errors import TenantNotFound
from app.overview import Series, State, Window
from app.preview import Preview
from app.store.health import StoreHealth


class OverviewQuery(Request):
    window: Window = "1h"


class ActiveView(Answer):
    active: int


class SeriesView(Answer):
    """One number for each `step_s` seconds, the first from `from` on; the last one is not over yet."""

    step_s: int
    from_: str = msgspec.field(name="from")
    created: list[int]
    ended: dict[str, list[int]]

    @classmethod
    def of(cls, series: Series) -> SeriesView:
        start = rfc3339(series.start)
        return cls(step_s=series.step // 1_000, from_=start, created=series.created, ended=series.ended)


class SweepView(Answer):
    """`lag_ms`: how late the session is that is due longest; null until a worker has run."""

    lag_ms: int | None
    last_run_at: str | None


class FeedView(Answer):
    """`lag_ms`: how late events reach those who follow this process; null while nobody does."""

    lag_ms: int | None


class WorkerView(Answer):
    ok: bool
    last_seen_at: str | None


class OverviewView(Answer):
    """Of the tenant; for the operator who names none, of all. `counted_at`: when the numbers were last collected.
    `redis` and `worker` are for the operator."""

    at: str
    counted_at: str | None
    sessions: ActiveView
    active_by_device: dict[str, int]
    active_by_country: dict[str, int]
    series: SeriesView
    sweep: SweepView
    feed: FeedView
    redis: StoreHealth | None
    worker: WorkerView | None

    @classmethod
    def of(cls, state: State, health: StoreHealth | None, now: int) -> OverviewView:
        """`health` `None`: what is the operator's business stays unsaid."""
        worker = WorkerView(ok=state.worker_ok, last_seen_at=_when(state.worker_seen_at))
        return cls(
            at=rfc3339_ms(now),
            counted_at=_when(state.counted_at),
            sessions=ActiveView(active=state.active),
            active_by_device=state.by_device,
            active_by_country=state.by_country,
            series=SeriesView.of(state.series),
            sweep=SweepView(lag_ms=state.sweep_lag, last_run_at=_when(state.swept_at)),
            feed=FeedView(lag_ms=state.feed_lag),
            redis=health,
            worker=None if health is None else worker,
        )


class WouldEnd(Answer):
    """`total` = `idle_timeout` + `evicted`, and with 95 % confidence no further off than `margin`."""

    total: int
    margin: int
    idle_timeout: int
    evicted: int


class PreviewView(Answer):
    """`exact`: every session was looked at; else `evaluated` of them, drawn at random."""

    active: int
    evaluated: int
    exact: bool
    would_end: WouldEnd

    @classmethod
    def of(cls, found: Preview) -> PreviewView:
        ending = WouldEnd(
            total=found.total, margin=found.margin, idle_timeout=found.idle_timeout, evicted=found.evicted
        )
        return cls(active=found.active, evaluated=found.evaluated, exact=found.exact, would_end=ending)


async def overview(call: Call) -> OverviewView:
    query: OverviewQuery = call.query
    tenant_id = None if call.caller.tenant is None else call.caller.tenant.id
    state = await call.runtime.overview.state(tenant_id, query.window, call.now)
    health = await call.runtime.overview.health(call.now) if call.caller.kind == "admin" else None
    return OverviewView.of(state, health, call.now)


async def preview(call: Call) -> PreviewView:
    body: ConfigChange = call.body
    return PreviewView.of(await call.runtime.sessions.preview(call.tenant, body.changes(), call.now))


def _when(ms: int | None) -> str | None:
    return None if ms is None else rfc3339_ms(ms)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/admin/overview",
        name="getOverview",
        summary="Sessions now by device and country, what began and ended when, and how the service itself is",
        handler=overview,
        credential="key_or_admin",
        scope="stats:read",
        query=OverviewQuery,
        answer=OverviewView,
        errors=(TenantNotFound,),
    ),
    Operation(
        method="POST",
        path="/v1/admin/config/preview",
        name="previewConfig",
        summary="How many sessions a change of the policy would end now; changes nothing",
        handler=preview,
        credential="key_or_admin",
        scope="config:read",
        body=ConfigChange,
        answer=PreviewView,
        errors=(TenantNotFound,),
    ),
)
