"""Pub/sub as a doorbell: it says early where to look in the log, and may miss; the log is the truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.client.events import PATTERN
from app.model import shard_of_event

_PAUSE_S: Final = 0.5


class _Ring(msgspec.Struct):
    """All that is read of a message: its id names the shard."""

    id: str


_decode: Final = msgspec.json.Decoder(_Ring).decode


class Doorbell:
    """In a cluster a message published on any node reaches every node, so one connection is enough."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        scheme, login = parts.scheme.replace("+cluster", ""), f"{login}@" if login else ""
        addresses = hosts.split(",") if hosts else [""]
        self._urls = [urlunsplit(parts._replace(scheme=scheme, netloc=login + host)) for host in addresses]

    async def rings(self) -> AsyncIterator[int]:
        """The shard of each message, for ever; after a lost connection the next address is tried."""
        turn = 0
        while True:
            client = Redis.from_url(self._urls[turn % len(self._urls)], health_check_interval=5)
            try:
                async with client.pubsub() as listener:
                    await listener.psubscribe(PATTERN)
                    async for message in listener.listen():
                        if message["type"] == "pmessage":
                            yield shard_of_event(_decode(message["data"]).id)
            except (RedisError, OSError, msgspec.DecodeError, LookupError):
                turn += 1
                await asyncio.sleep(_PAUSE_S)
            finally:
                await client.aclose()
