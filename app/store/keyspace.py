"""Every Redis key, channel and prefix, and nothing else (DESIGN §6)."""

from __future__ import annotations

from binascii import crc_hqx
from itertools import product
from typing import Final

from app.model import SHARDS

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_SLOTS_PER_SHARD: Final = 16_384 // SHARDS


def _tags() -> tuple[str, ...]:
    """For shard i the shortest base-36 tag whose cluster slot lies in [16i, 16i+15], so that 1,024 tags spread
    evenly over any number of nodes. Redis Cluster specification, "Hash tags": slot = CRC16(tag) mod 16384."""
    tags: dict[int, str] = {}
    for length in (1, 2, 3):
        for letters in product(_DIGITS, repeat=length):
            tag = "".join(letters)
            tags.setdefault(crc_hqx(tag.encode(), 0) % 16_384 // _SLOTS_PER_SHARD, tag)
    return tuple(tags[shard] for shard in range(SHARDS))


TAGS: Final = _tags()

TENANTS: Final = "hj:tenants"
PENDING: Final = "hj:pending"
SIGNING_KEYS: Final = "hj:keys"
REPAIRED: Final = "hj:repaired"


def session(shard: int, session_id: str) -> str:
    return f"hj:{{{TAGS[shard]}}}:session:{session_id}"


def user(shard: int, tenant_id: str, user_id: str) -> str:
    return f"hj:{{{TAGS[shard]}}}:user:{tenant_id}:{user_id}"


def ended(shard: int, tenant_id: str, user_id: str) -> str:
    return f"hj:{{{TAGS[shard]}}}:ended:{tenant_id}:{user_id}"


def once(shard: int, tenant_id: str, key: str) -> str:
    return f"hj:{{{TAGS[shard]}}}:once:{tenant_id}:{key}"


def tenant_index(shard: int, tenant_id: str) -> str:
    return f"hj:{{{TAGS[shard]}}}:tenant:{tenant_id}"


def due(shard: int) -> str:
    return f"hj:{{{TAGS[shard]}}}:due"


def cutoff(shard: int) -> str:
    return f"hj:{{{TAGS[shard]}}}:cutoff"


def events(shard: int) -> str:
    return f"hj:{{{TAGS[shard]}}}:events"


def counts(shard: int) -> str:
    return f"hj:{{{TAGS[shard]}}}:counts"


def tenant(tenant_id: str) -> str:
    return f"hj:tenant:{tenant_id}"


def tenant_api_keys(tenant_id: str) -> str:
    return f"hj:apikeys:{tenant_id}"


def api_key(key_id: str) -> str:
    return f"hj:apikey:{key_id}"


def stats(tenant_id: str, hour: int) -> str:
    return f"hj:stats:{tenant_id}:{hour}"
