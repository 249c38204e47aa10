"""Is this server fit to keep sessions? Read from INFO, where that is permitted, and TIME."""

from __future__ import annotations

from time import perf_counter
from typing import Final, Literal

import msgspec

from app.model import SKEW_MS
from app.store.wire import NotPermitted, Wire

Topic = Literal["version", "eviction", "persistence", "role", "clock"]

_OLDEST: Final = (6, 2)


class Finding(msgspec.Struct, frozen=True):
    """Something about a server that puts sessions at risk."""

    topic: Topic
    text: str


class StoreHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How the servers of the store are. Sums over the primaries; `latency_ms` is of the slowest answer to a small
    question; `max_memory` 0: no limit. `warnings`: what puts sessions at risk."""

    ok: bool
    version: str
    used_memory: int
    max_memory: int
    clients: int
    ops_per_s: int
    latency_ms: float
    warnings: list[str]


class Vitals:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def read(self, now: int) -> StoreHealth:
        """At `now` (this process's clock, ms). Raises `StoreUnavailable`."""
        began = perf_counter()
        await self._wire.each("TIME")
        latency = perf_counter() - began
        servers = [_fields(info) for info in await _infos(self._wire)]
        warnings = [finding.text for finding in await examine(self._wire, now)]
        return StoreHealth(
            ok=not warnings,
            version=servers[0].get("valkey_version") or servers[0].get("redis_version", ""),
            used_memory=_sum(servers, "used_memory"),
            max_memory=_sum(servers, "maxmemory"),
            clients=_sum(servers, "connected_clients"),
            ops_per_s=_sum(servers, "instantaneous_ops_per_sec"),
            latency_ms=round(latency * 1_000, 3),
            warnings=warnings,
        )


def _sum(servers: list[dict[str, str]], name: str) -> int:
    return sum(int(server.get(name, 0)) for server in servers)


async def examine(wire: Wire, now: int) -> list[Finding]:
    """What is wrong with any of the primaries at `now` (this process's clock, ms). Raises `StoreUnavailable`."""
    found: dict[Topic, Finding] = {}
    for info, (seconds, micros) in zip(await _infos(wire), await wire.each("TIME"), strict=True):
        skew = now - (int(seconds) * 1_000 + int(micros) // 1_000)
        for finding in _judge(_fields(info), skew):
            found.setdefault(finding.topic, finding)
    return list(found.values())


def _judge(info: dict[str, str], skew: int) -> list[Finding]:
    """The findings for one server, given its INFO and how many ms this clock is ahead of its."""
    findings: list[Finding] = []
    version = tuple(int(part) for part in info.get("redis_version", "0.0").split(".")[:2])
    if info and version < _OLDEST:
        findings.append(Finding("version", f"Redis {info.get('redis_version')} is older than 6.2"))
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        findings.append(Finding("eviction", f"maxmemory-policy is {policy}: a full server would drop sessions"))
    if info.get("aof_enabled") == "0":
        findings.append(Finding("persistence", "appendonly is off: a restart forgets sessions and revocations"))
    if info.get("role", "master") != "master":
        findings.append(Finding("role", "this server is a replica: nothing is served until it is a primary"))
    if abs(skew) > SKEW_MS:
        findings.append(Finding("clock", f"this clock is {skew} ms ahead of the server's"))
    return findings


async def _infos(wire: Wire) -> list[bytes]:
    """INFO of every primary; empty where it is not permitted, so that nothing is found."""
    try:
        return list(await wire.each("INFO"))
    except NotPermitted:
        return [b"" for _ in await wire.each("TIME")]


def _fields(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode().splitlines() if ":" in line and line[0] != "#")
    return {name: value for name, _, value in lines}
