"""What a pattern cannot say about a value: addresses, sizes of free objects, reserved names, ids."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from app.addresses import is_unknown, parse_address
from app.census import UNKNOWN
from app.client.claims import MAX_DEPTH, RESERVED, depth
from app.errors import ValidationError
from app.model import is_session_id

MAX_CLAIMS: Final = 20
MAX_CLAIMS_BYTES: Final = 1_024
MAX_METADATA_BYTES: Final = 2_048
IP_ADDRESS: Final = "one IPv4 or IPv6 address, also with a port or a zone id, or a word for unknown"
COUNTRY: Final = "two letters, ISO 3166-1 alpha-2, or a code for unknown: XX, ZZ, T1, A1, A2, O1"

_COUNTRY: Final = re.compile(r"[A-Za-z]{2}")
_UNKNOWN_COUNTRIES: Final = frozenset("XX ZZ T1 A1 A2 O1 UNKNOWN NULL NONE UNDEFINED NIL N/A - -- ? ??".split()) | {""}
"""ISO 3166-1 user-assigned, CLDR, Cloudflare (T1: Tor) and MaxMind (anonymous proxy, satellite, other); then words."""


@lru_cache(10_000)
def canonical_ip(text: str) -> str | None:
    """One spelling per address (RFC 5952), `None` for a text that says "unknown". Raises `ValidationError`."""
    address = parse_address(text)
    if address is None and not is_unknown(text):
        raise ValidationError(f"ip_address must be {IP_ADDRESS}", field="ip_address")
    return None if address is None else str(address)


def canonical_country(text: str) -> str | None:
    """Two capital letters, `None` for a code that says "unknown". Raises `ValidationError`."""
    code = text.strip()
    if code.upper() in _UNKNOWN_COUNTRIES:
        return None
    if not _COUNTRY.fullmatch(code):
        raise ValidationError(f"country must be {COUNTRY}", field="country")
    return code.upper()


def known_word(text: str | None) -> str | None:
    """`text` without blanks around it; `None` if nothing is left or it says "unknown"."""
    word = (text or "").strip()
    return None if word.lower() in ("", UNKNOWN) else word


def check_claims(claims: dict[str, Any] | None) -> None:
    """Raises `ValidationError`; custom claims can never shadow what the service says in a token."""
    if claims is None:
        return
    if len(claims) > MAX_CLAIMS or len(msgspec.json.encode(claims)) > MAX_CLAIMS_BYTES:
        raise ValidationError(
            f"claims may have {MAX_CLAIMS} names and {MAX_CLAIMS_BYTES} bytes of JSON", field="claims"
        )
    if depth(claims) > MAX_DEPTH:
        raise ValidationError(f"claims may be nested {MAX_DEPTH} deep, as tokens are", field="claims")
    for name in claims:
        if name in RESERVED:
            raise ValidationError(f"claims may not set {name}", field=f"claims.{name}")


def check_metadata(metadata: dict[str, Any] | None) -> None:
    """Raises `ValidationError`."""
    if metadata is not None and len(msgspec.json.encode(metadata)) > MAX_METADATA_BYTES:
        raise ValidationError(f"metadata may have {MAX_METADATA_BYTES} bytes of JSON", field="metadata")


def check_session_id(text: str, field: str) -> None:
    """Raises `ValidationError`."""
    if not is_session_id(text):
        raise ValidationError(f"{field} is no session id", field=field)


def rfc3339(ms: int) -> str:
    """UTC, to the second: `2024-01-15T10:30:00Z`."""
    minutes, seconds = divmod(ms // 1_000, 60)
    return f"{_minute(minutes)}{seconds:02d}Z"


def rfc3339_ms(ms: int) -> str:
    """UTC, to the millisecond: `2024-01-15T10:30:00.123Z`."""
    return f"{rfc3339(ms)[:-1]}.{ms % 1_000:03d}Z"


@lru_cache(65_536)
def _minute(minutes: int) -> str:
    """`2024-01-15T10:30:`; the sessions of a month and a half begin in as many different minutes."""
    return datetime.fromtimestamp(60 * minutes, UTC).isoformat()[:17]
