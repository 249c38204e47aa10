"""Requests at a fixed rate, whatever becomes of the answers: a slow one delays no other, and is measured from the
moment at which it was due (an open-loop generator, without coordinated omission)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_PATIENCE_S: Final = 10.0
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)")

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Request:
    kind: str
    raw: bytes

    @classmethod
    def of(cls, kind: str, method: str, path: str, body: object = None, key: str = "") -> Request:
        sent = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(sent)}\r\n"
        head += "Content-Type: application/json\r\n" if sent else ""
        head += f"Authorization: Bearer {key}\r\n" if key else ""
        return cls(kind, f"{head}\r\n".encode() + sent)


@dataclass(frozen=True)
class Shot:
    """One request: when it was due (seconds of the loop's clock), how long until the answer; `status` 0 is none."""

    kind: str
    due: float
    took: float
    status: int
    head: bytes
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Load:
    """`choose` gives the next request. `ports` are tried in turn, those in `resting` only if there is no other. A
    refused connection is tried at the next port, nothing else is repeated."""

    def __init__(self, ports: Sequence[int], rate: float, choose: Callable[[], Request]) -> None:
        self.shots: list[Shot] = []
        self.refused = 0
        self.resting: set[int] = set()
        self._ports = list(ports)
        self._rate = rate
        self._choose = choose
        self._idle: dict[int, list[Line]] = {port: [] for port in ports}
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Load:
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._running
        for lines in self._idle.values():
            for line in lines:
                line[1].transport.abort()
        await asyncio.sleep(0)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        began, number = loop.time(), 0
        under_way: set[asyncio.Task[None]] = set()
        while not self._stop.is_set():
            due = began + number / self._rate
            await asyncio.sleep(max(0.0, due - loop.time()))
            shot = asyncio.create_task(self._shoot(self._choose(), due, number))
            under_way.add(shot)
            shot.add_done_callback(under_way.discard)
            number += 1
        await asyncio.gather(*under_way)

    async def _shoot(self, request: Request, due: float, number: int) -> None:
        status, head, body = 0, b"", b""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                status, head, body = await self._ask(request.raw, number)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            body = repr(error).encode()
        took = asyncio.get_running_loop().time() - due
        self.shots.append(Shot(request.kind, due, took, status, head, body))

    async def _ask(self, raw: bytes, number: int) -> tuple[int, bytes, bytes]:
        port, (reader, writer) = await self._line(number)
        try:
            writer.write(raw)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
        except BaseException:
            writer.transport.abort()
            raise
        if b"\r\nconnection: close" in head:
            writer.transport.abort()
        else:
            self._idle[port].append((reader, writer))
        return int(head.split(b" ", 2)[1]), head, body

    async def _line(self, number: int) -> tuple[int, Line]:
        """A kept connection that is still open, or a new one."""
        count = len(self._ports)
        turn = [self._ports[(number + step) % count] for step in range(count)]
        for port in sorted(turn, key=lambda port: port in self.resting):
            while self._idle[port]:
                kept = self._idle[port].pop()
                if not kept[0].at_eof():
                    return port, kept
                kept[1].transport.abort()
            try:
                return port, await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                self.refused += 1
        raise ConnectionRefusedError


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def resident_mb(pid: int) -> float:
    """The memory of a process that is in RAM."""
    statm = Path(f"/proc/{pid}/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)])) / 1_024
