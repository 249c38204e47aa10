"""Is this server fit to keep sessions? Read from INFO and TIME alone, which every provider allows."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from app.store.wire import Wire

Topic = Literal["version", "eviction", "persistence", "role", "clock"]

_OLDEST: Final = (6, 2)
_SKEW_MS: Final = 5_000


class Finding(msgspec.Struct, frozen=True):
    """Something about a server that puts sessions at risk."""

    topic: Topic
    text: str


async def examine(wire: Wire, now: int) -> list[Finding]:
    """What is wrong with any of the primaries at `now` (this process's clock, ms). Raises `StoreUnavailable`."""
    found: dict[Topic, Finding] = {}
    for info, (seconds, micros) in zip(await wire.each("INFO"), await wire.each("TIME"), strict=True):
        skew = now - (int(seconds) * 1_000 + int(micros) // 1_000)
        for finding in _judge(_fields(info), skew):
            found.setdefault(finding.topic, finding)
    return list(found.values())


def _judge(info: dict[str, str], skew: int) -> list[Finding]:
    """The findings for one server, given its INFO and how many ms this clock is ahead of its."""
    findings: list[Finding] = []
    version = tuple(int(part) for part in info.get("redis_version", "0.0").split(".")[:2])
    if version < _OLDEST:
        findings.append(Finding("version", f"Redis {info.get('redis_version')} is older than 6.2"))
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        findings.append(Finding("eviction", f"maxmemory-policy is {policy}: a full server would drop sessions"))
    if info.get("aof_enabled") == "0":
        findings.append(Finding("persistence", "appendonly is off: a restart forgets sessions and revocations"))
    if info.get("role", "master") != "master":
        findings.append(Finding("role", "this server is a replica: nothing can be written"))
    if abs(skew) > _SKEW_MS:
        findings.append(Finding("clock", f"this clock is {skew} ms ahead of the server's"))
    return findings


def _fields(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode().splitlines() if ":" in line and line[0] != "#")
    return {name: value for name, _, value in lines}
