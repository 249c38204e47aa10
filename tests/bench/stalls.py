"""What keeps other clients of Redis waiting: its slow commands by name, what else it says took long, and what the waits
of a bystander are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from app.store.scripts import SCRIPTS
from app.store.wire import Wire
from tests.bench.bystander import Wait
from tests.bench.environment import percentile

SLOW_MS: Final = 2
LONG_MS: Final = 5
PARTS: Final = ("worked", "queued", "own", "rest")
_SHOWN: Final = 5


async def listen(wire: Wire) -> None:
    """Have Redis note every command and every other thing that takes `SLOW_MS` or longer, from now on."""
    await wire.call("", "CONFIG", "SET", "slowlog-log-slower-than", SLOW_MS * 1_000, "slowlog-max-len", 10_000)
    await wire.call("", "CONFIG", "SET", "latency-monitor-threshold", SLOW_MS)
    await wire.call("", "SLOWLOG", "RESET")
    await wire.call("", "LATENCY", "RESET")


async def slow_things(wire: Wire) -> tuple[dict[str, list[float]], dict[str, float]]:
    """What was noted since `listen`, in milliseconds: each slow command by name, a script under that of its file, and
    the longest of each kind of what is no command. A command inside a script is noted beside it. Wall time: where a
    command that touches one key took long, the server did not run."""
    commands: dict[str, list[float]] = defaultdict(list)
    for _, _, micros, words, *_ in await wire.call("", "SLOWLOG", "GET", -1):
        verb = words[0].decode().upper()
        if verb == "SLOWLOG":  # our own, before and after
            continue
        name = await _file_of(wire, words[1]) if verb == "EVALSHA" else verb
        commands[name].append(micros / 1e3)
    latest = await wire.call("", "LATENCY", "LATEST")
    return commands, {name.decode(): float(most) for name, _, _, most, *_ in latest if not name.endswith(b"command")}


async def _file_of(wire: Wire, digest: bytes) -> str:
    """The server may know a script with another first line than ours (Valkey: SCRIPT SHOW)."""
    text = (await wire.call("", "SCRIPT", "SHOW", digest)).decode()
    return next(f"{name}.lua" for name, script in SCRIPTS.items() if text.endswith(script.text))


def together(rounds: Iterable[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for seen in rounds:
        for name, times in seen.items():
            found[name] += times
    return found


def named(commands: Mapping[str, Sequence[float]]) -> str:
    ordered = sorted(commands.items(), key=lambda one: -max(one[1]))
    return (
        ", ".join(f"{name} {len(times):,} times, the longest {max(times):.1f} ms" for name, times in ordered) or "none"
    )


def most(rounds: Iterable[Mapping[str, float]]) -> str:
    longest = {name: max(times) for name, times in together({k: [v] for k, v in one.items()} for one in rounds).items()}
    return ", ".join(f"{name} {longest[name]:.0f} ms" for name in sorted(longest)) or "nothing"


def table(rows: Sequence[str]) -> list[str]:
    times = "PINGs | p50 ms | p99 ms | p99.9 ms | most ms"
    parts = "Redis at work | Redis waiting for its core | the client waiting for a core | neither"
    return [f"| Redis | {times} | above {LONG_MS} ms | of these: {parts} |", f"|{'---|' * 11}", *rows]


def row(name: str, waits: Sequence[Wait]) -> str:
    """Of one setting: how long a PING waited, and what those above `LONG_MS` spent together."""
    waited = [one.waited for one in waits]
    times = " | ".join(f"{percentile(waited, share):.1f}" for share in (0.5, 0.99, 0.999, 1.0))
    long = [one for one in waits if one.waited > LONG_MS]
    total = sum(one.waited for one in long)
    shares = (sum(getattr(one, part) for one in long) / total if total else 0 for part in PARTS)
    return f"| {name} | {len(waits):,} | {times} | {len(long):,} | {' | '.join(f'{one:.0%}' for one in shares)} |"


def longest(waits: Sequence[Wait]) -> str:
    """The parts of the longest, one by one."""
    worst = sorted(waits, key=lambda one: -one.waited)[:_SHOWN]
    parts = (" + ".join(f"{getattr(one, part):.1f}" for part in PARTS) for one in worst)
    said = "; ".join(f"{one.waited:.1f} ms = {part}" for one, part in zip(worst, parts, strict=True))
    return f"{said} (Redis at work + waiting for its core + the client waiting for one + neither)"
