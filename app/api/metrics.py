"""Counts and times by operation, for Prometheus. Labels come from the rows, never from a caller."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app.store.faults import CAUSES, FAULTS

_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """One registry per application, so that two in one process do not meet."""

    media_type: Final = CONTENT_TYPE_LATEST.encode()

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._answers = _Answers()
        self._registry.register(self._answers)
        self._regressions = Counter(
            "hellojohn_state_regressions",
            "Refresh tokens and cursors that were newer than the store: it has lost writes",
            registry=self._registry,
        )
        self._refused = Gauge(
            "hellojohn_store_refuses_writes",
            "1 while a server of the store refuses writes, for example because its memory is full",
            registry=self._registry,
        )
        self._repaired = _Repaired()
        self._registry.register(self._repaired)
        self._registry.register(_StoreFaults())

    def answered(self, operation: str, status: int, seconds: float) -> None:
        self._answers.add(operation, status, seconds)

    def regressed(self) -> None:
        self._regressions.inc()

    def repaired(self, damages: dict[str, int]) -> None:
        """What repair passes have mended, ever, as the store has counted it."""
        self._repaired.damages = damages

    def refuses_writes(self, refuses: bool) -> None:
        """Whether a server of the store does, as of now."""
        self._refused.set(refuses)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Times:
    """How long the answers of one operation took: how many within each bucket, and the sum."""

    def __init__(self) -> None:
        self.within = [0] * (len(_BUCKETS) + 1)
        self.sum = 0.0


class _Answers(Collector):
    """Plain numbers, added to by one thread; they become metrics when somebody asks, not with each request."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int], int] = defaultdict(int)
        self._times: dict[str, _Times] = defaultdict(_Times)

    def add(self, operation: str, status: int, seconds: float) -> None:
        self._numbers[operation, status] += 1
        times = self._times[operation]
        times.within[bisect_left(_BUCKETS, seconds)] += 1
        times.sum += seconds

    def collect(self) -> Iterable[Metric]:
        answers = CounterMetricFamily("hellojohn_http_requests", "Answers", labels=["operation", "status"])
        for (operation, status), number in self._numbers.items():
            answers.add_metric([operation, str(status)], number)
        yield answers
        seconds = HistogramMetricFamily("hellojohn_http_request_seconds", "Time to answer", labels=["operation"])
        for operation, times in self._times.items():
            bounds = [*map(floatToGoString, _BUCKETS), "+Inf"]
            seconds.add_metric([operation], [*zip(bounds, accumulate(times.within), strict=True)], times.sum)
        yield seconds


class _Repaired(Collector):
    """A counter that the worker keeps and this process only shows."""

    def __init__(self) -> None:
        self.damages: dict[str, int] = {}

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily("hellojohn_repaired", "Damages that repair passes have mended", labels=["damage"])
        for damage, number in self.damages.items():
            family.add_metric([damage], number)
        yield family


class _StoreFaults(Collector):
    """Why this process cannot use the store, now and since its start."""

    def collect(self) -> Iterable[Metric]:
        now = GaugeMetricFamily("hellojohn_store_fault", "1 while the store cannot be used so", labels=["cause"])
        ever = CounterMetricFamily("hellojohn_store_faults", "Times that a fault of the store began", labels=["cause"])
        current = FAULTS.current()
        for cause in CAUSES:
            now.add_metric([cause], int(cause in current))
            ever.add_metric([cause], FAULTS.counts[cause])
        yield now
        yield ever
