"""Pub/sub as a doorbell: it says early where to look in the log, and may miss; the log is the truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.client.events import PATTERN
from app.client.redis_address import RedisAddress, as_address
from app.model import shard_of_event
from app.store.faults import FAULTS, cause_of

_PAUSE_S: Final = 0.5


class _Ring(msgspec.Struct):
    """All that is read of a message: its id names the shard."""

    id: str


_decode: Final = msgspec.json.Decoder(_Ring).decode


class Doorbell:
    """In a cluster a message published on any node reaches every node, so one connection is enough."""

    def __init__(self, address: RedisAddress | str) -> None:
        address = as_address(address)
        self._addresses = [address] if address.socket else [address.at(*host) for host in address.hosts]

    async def rings(self) -> AsyncIterator[int]:
        """The shard of each message, for ever; after a lost connection the next address is tried."""
        turn = 0
        while True:
            address = self._addresses[turn % len(self._addresses)]
            client, place = Redis(**address.options(), health_check_interval=5), f"pub/sub at {address.place}"
            try:
                async with client.pubsub() as listener:
                    await listener.psubscribe(PATTERN)
                    FAULTS.worked(place)
                    async for message in listener.listen():
                        if message["type"] == "pmessage":
                            yield shard_of_event(_decode(message["data"]).id)
            except (RedisError, OSError, msgspec.DecodeError, LookupError) as error:
                FAULTS.saw(place, cause_of(error))
                turn += 1
                await asyncio.sleep(_PAUSE_S)
            finally:
                await client.aclose()
