"""`python -m tests.bench.bench_feed`: how many bytes the end of a session is on the wire to somebody who follows: as a
server-sent event, and as a message of Redis's channel, with the protocol around it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from redis.asyncio import Redis

from app.embedded import Embedded
from tests.bench.environment import describe, quick
from tests.bench.figures import keep
from tests.service import Api, Backend

REVOKED = 50 if quick() else 500


async def over_http(api: Api, backend: Backend, sids: list[str]) -> float:
    """Bytes of the stream for each revocation, heartbeats left out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {backend.key}\r\nAccept: text/event-stream"
    writer.write(f"{head}\r\n\r\n".encode())
    await reader.readuntil(b"event: heartbeat")
    told, carried = 0, 0
    for sid in sids:
        await asyncio.to_thread(backend.call, "DELETE", f"/v1/sessions/{sid}")
    async with asyncio.timeout(20):
        while told < len(sids):
            part = await reader.readuntil(b"\n\n")
            if b"session.revoked" in part:
                told, carried = told + 1, carried + len(part)
    writer.close()
    await writer.wait_closed()
    return carried / told


async def over_redis(server: Embedded, backend: Backend, sids: list[str]) -> float:
    """Bytes of a message to one subscriber."""
    async with Redis(port=server.port) as redis, redis.pubsub() as channel:
        await channel.psubscribe("hj:revocations:*")
        await channel.get_message(timeout=5)
        told, carried = 0, 0
        for sid in sids:
            await asyncio.to_thread(backend.call, "DELETE", f"/v1/sessions/{sid}")
        while told < len(sids):
            message = await channel.get_message(timeout=5)
            if message is None:
                raise RuntimeError(f"only {told} of {len(sids)} messages came")
            told += 1
            carried += sum(_framed(message[part]) for part in ("pattern", "channel", "data")) + _framed(b"pmessage") + 4
        return carried / told


def _framed(part: bytes) -> int:
    """A bulk string of the Redis protocol: its length, itself, and two line ends."""
    return len(f"${len(part)}\r\n") + len(part) + 2


async def run(server: Embedded, api: Api) -> list[str]:
    backend = await asyncio.to_thread(api.tenant)
    created = [await asyncio.to_thread(backend.create, f"usr_{number}") for number in range(2 * REVOKED)]
    sids = [one["session"]["id"] for one in created]
    sse = await over_http(api, backend, sids[:REVOKED])
    redis = await over_redis(server, backend, sids[REVOKED:])
    keep(sse_bytes=sse, redis_bytes=redis)
    return [f"- over HTTP: {sse:.0f} bytes", f"- over Redis: {redis:.0f} bytes"]


def main() -> list[str]:
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder)) as server:
        api = Api(server.url)
        try:
            return [describe(), "", *asyncio.run(run(server, api))]
        finally:
            api.stop()


if __name__ == "__main__":
    print("\n".join(main()))
