"""Session ids and shards, as the wire and the log show them (DESIGN §6). Frozen: stored ids depend on it."""

from __future__ import annotations

from binascii import crc_hqx
from itertools import product
from typing import Final

SHARDS: Final = 1_024
CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

_PAIRS: Final = [high + low for high in CROCKFORD for low in CROCKFORD]
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_SLOTS_PER_SHARD: Final = 16_384 // SHARDS
_TO_PYTHON: Final = {code: "!" for code in range(128)} | str.maketrans(CROCKFORD, _DIGITS[:32])
_BELOW_TIME: Final = 80


def base32(number: int, length: int) -> str:
    """`number` in `length` characters of Crockford's base 32, most significant first."""
    pairs = [_PAIRS[(number >> shift) & 1_023] for shift in range(5 * (length + length % 2) - 10, -1, -10)]
    return "".join(pairs)[-length:]


def session_number(session_id: str) -> int:
    """A session id as a number of 125 bits, one to one. Raises `ValueError` for what has not the form of one."""
    if len(session_id) != 30 or session_id[:5] != "ses_0" or not session_id.isascii():
        raise ValueError("not a session id")
    return int(session_id[5:].translate(_TO_PYTHON), 32)


def created_ms(number: int) -> int:
    """When the session of that number was created, epoch milliseconds."""
    return number >> _BELOW_TIME


def log_key(shard: int) -> str:
    """The stream that is the shard's part of the log."""
    return f"hj:{{{TAGS[shard]}}}:events"


def event_ids_key(shard: int, tenant_id: str) -> str:
    """The index of one tenant's entries in that stream: a sorted set of `index_member`s."""
    return f"hj:{{{TAGS[shard]}}}:eventids:{tenant_id}"


def index_member(ms: int, sequence: int) -> str:
    """An entry's id as the index has it: instead of the hyphen a letter for the length of the sequence number (a: one
    digit), so that members sort as ids do. The twin of `index_member` in app/store/prelude.lua."""
    return f"{ms:013}{chr(96 + len(str(sequence)))}{sequence}"


SIGNING_KEYS: Final = "hj:keys"
"""The ring of signing keys: a hash, whose fields are the `kid`s of the JWKS."""


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
