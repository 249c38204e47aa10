"""How a tenant, or the whole deployment, is doing: from counters that are kept anyway, never by looking at sessions."""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal

import msgspec

from app.census import country_in, device_in
from app.model import DAY, HOUR, MINUTE, SECOND
from app.reader import Reader
from app.store.health import StoreHealth, Vitals
from app.store.statistics import EVERYONE, Statistics, WorkerReport

Window = Literal["1h", "24h", "7d"]

_STEPS: Final[dict[Window, tuple[int, int]]] = {
    "1h": (MINUTE, HOUR // MINUTE),
    "24h": (HOUR, DAY // HOUR),
    "7d": (HOUR, 7 * DAY // HOUR),
}
"""The length of a step (ms) and how many of them."""
_SILENT: Final = 15 * SECOND
"""A worker that has said nothing for so long is away."""
_IDLE: Final = 5 * SECOND
"""A sweep that is not older than this is going on."""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in each step of `step` ms from `start` (epoch ms) on; the last one is not over yet."""

    step: int
    start: int
    created: list[int]
    ended: dict[str, list[int]]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Times in ms. What lives is as of `counted_at`. `sweep_lag`, `feed_lag`: `None` where nobody knows, because no
    worker has ever run, or nobody in this process follows the feed."""

    by_device: dict[str, int]
    by_country: dict[str, int]
    series: Series
    counted_at: int | None
    swept_at: int | None
    sweep_lag: int | None
    feed_lag: int | None
    worker_seen_at: int | None
    worker_ok: bool

    @property
    def active(self) -> int:
        return sum(self.by_device.values())


class Overview:
    def __init__(self, statistics: Statistics, vitals: Vitals, reader: Reader) -> None:
        self._statistics = statistics
        self._vitals = vitals
        self._reader = reader

    async def state(self, tenant_id: str | None, window: Window, now: int) -> State:
        """Of a tenant; `None`: of all together."""
        name, report = tenant_id or EVERYONE, await self._statistics.worker()
        devices, countries = Counter[str](), Counter[str]()
        for kind, number in (await self._statistics.living(name)).items():
            devices[device_in(kind)] += number
            countries[country_in(kind)] += number
        return State(
            by_device=dict(devices.most_common()),
            by_country=dict(countries.most_common()),
            series=await self._series(name, window, now),
            counted_at=report.collected_at,
            swept_at=report.swept_at,
            sweep_lag=_lag(report, now),
            feed_lag=self._reader.lag,
            worker_seen_at=report.seen_at,
            worker_ok=report.seen_at is not None and now - report.seen_at < _SILENT,
        )

    async def health(self, now: int) -> StoreHealth:
        """Of the store's servers. Raises `StoreUnavailable`."""
        return await self._vitals.read(now)

    async def _series(self, name: str, window: Window, now: int) -> Series:
        step, many = _STEPS[window]
        times = range(now // step - many + 1, now // step + 1)
        read = self._statistics.by_minute if step == MINUTE else self._statistics.by_hour
        found = await read(name, times)
        reasons = sorted({what for _, what in found} - {"created"})
        return Series(
            step=step,
            start=times.start * step,
            created=[found.get((time, "created"), 0) for time in times],
            ended={reason: [found.get((time, reason), 0) for time in times] for reason in reasons},
        )


def _lag(report: WorkerReport, now: int) -> int | None:
    """How late the session is that is due longest: as the sweep saw it, and more with each moment since it stopped."""
    if report.swept_at is None:
        return None
    since = max(0, now - report.swept_at)
    return report.lag + (since if since > _IDLE else 0)
