"""What a pattern cannot say about a value: addresses, sizes of free objects, reserved names, ids."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

import msgspec

from app.client.claims import MAX_DEPTH, RESERVED, depth
from app.errors import ValidationError
from app.model import is_session_id

MAX_CLAIMS: Final = 20
MAX_CLAIMS_BYTES: Final = 1_024
MAX_METADATA_BYTES: Final = 2_048


@lru_cache(10_000)
def canonical_ip(text: str) -> str:
    """One spelling per address (RFC 5952); a mapped IPv4 address is that address. Raises `ValidationError`."""
    try:
        address = ip_address(text)
    except ValueError:
        raise ValidationError("ip_address is no IPv4 or IPv6 address", field="ip_address") from None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValidationError("ip_address may not have a zone id", field="ip_address")
        return str(address.ipv4_mapped or address)
    return str(address)


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
