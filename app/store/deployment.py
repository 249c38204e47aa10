"""The values that every process of a deployment must share, such as the issuer."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from app.store import keyspace
from app.store.scripts import SCRIPTS
from app.store.wire import Wire


async def read_shared(wire: Wire) -> dict[str, str]:
    """Field → value; empty on a new store. Raises `StoreUnavailable`."""
    flat = await wire.call(keyspace.DEPLOYMENT, "HGETALL", keyspace.DEPLOYMENT)
    words = [word.decode(errors="replace") for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


async def keep_shared(wire: Wire, values: Mapping[str, str], replaced: Collection[str]) -> dict[str, str]:
    """Write each value that the store lacks, and those named in `replaced`; return what the store has then."""
    words = [word for name, value in values.items() for word in (name, value, int(name in replaced))]
    await wire.script(SCRIPTS["deployment"], [keyspace.DEPLOYMENT], words)
    return await read_shared(wire)
