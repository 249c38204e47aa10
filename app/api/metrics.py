"""Counts and times by operation, for Prometheus. Labels come from the rows, never from a caller."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """One registry per application, so that two in one process do not meet."""

    media_type: Final = CONTENT_TYPE_LATEST.encode()

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._requests = Counter("hellojohn_http_requests", "Answers", ("operation", "status"), registry=self._registry)
        self._seconds = Histogram(
            "hellojohn_http_request_seconds",
            "Time to answer",
            ("operation",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._regressions = Counter(
            "hellojohn_state_regressions",
            "Refresh tokens and cursors that were newer than the store: it has lost writes",
            registry=self._registry,
        )
        self._repaired = _Repaired()
        self._registry.register(self._repaired)
        self._known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def answered(self, operation: str, status: int, seconds: float) -> None:
        known = self._known.get((operation, status))
        if known is None:
            known = (self._requests.labels(operation, str(status)), self._seconds.labels(operation))
            self._known[operation, status] = known
        known[0].inc()
        known[1].observe(seconds)

    def regressed(self) -> None:
        self._regressions.inc()

    def repaired(self, damages: dict[str, int]) -> None:
        """What repair passes have mended, ever, as the store has counted it."""
        self._repaired.damages = damages

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Repaired(Collector):
    """A counter that the worker keeps and this process only shows."""

    def __init__(self) -> None:
        self.damages: dict[str, int] = {}

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily("hellojohn_repaired", "Damages that repair passes have mended", labels=["damage"])
        for damage, number in self.damages.items():
            family.add_metric([damage], number)
        yield family
