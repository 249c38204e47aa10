"""Page cursors: a position that only its own list accepts back, because it carries a MAC over that list's terms."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode

from app.errors import ValidationError

_MAC_BYTES = 12


class Cursors:
    """`keys`: cursors are sealed with the first and opened with any."""

    def __init__(self, *keys: bytes) -> None:
        self._keys = keys

    def seal(self, position: str, *terms: str | None) -> str:
        """An opaque cursor for `position` in the list that `terms` describe (tenant, filters)."""
        return urlsafe_b64encode(_mac(self._keys[0], position, terms) + position.encode()).decode().rstrip("=")

    def open(self, cursor: str, *terms: str | None, field: str = "cursor") -> str:
        """The position again. Raises `ValidationError` for anything that `seal` did not make for these terms; `field`
        is what the caller calls the cursor."""
        try:
            raw = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
            position = raw[_MAC_BYTES:].decode()
        except ValueError:
            raise ValidationError(f"{field} is not one of this list", field=field) from None
        if not any([hmac.compare_digest(raw[:_MAC_BYTES], _mac(key, position, terms)) for key in self._keys]):
            raise ValidationError(f"{field} is not one of this list", field=field)
        return position


def _mac(key: bytes, position: str, terms: tuple[str | None, ...]) -> bytes:
    text = "\0".join([position, *("" if term is None else term for term in terms)])
    return hmac.digest(key, text.encode(), "sha256")[:_MAC_BYTES]
