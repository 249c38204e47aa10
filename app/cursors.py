"""Page cursors: a position that only its own list accepts back, because it carries a MAC over that list's terms."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode

from app.errors import ValidationError

_MAC_BYTES = 12


class Cursors:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, position: str, *terms: str | None) -> str:
        """An opaque cursor for `position` in the list that `terms` describe (tenant, filters)."""
        return urlsafe_b64encode(self._mac(position, terms) + position.encode()).decode().rstrip("=")

    def open(self, cursor: str, *terms: str | None) -> str:
        """The position again. Raises `ValidationError` for anything that `seal` did not make for these terms."""
        try:
            raw = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
            position = raw[_MAC_BYTES:].decode()
        except ValueError:
            raise ValidationError("cursor is not one of this list", field="cursor") from None
        if not hmac.compare_digest(raw[:_MAC_BYTES], self._mac(position, terms)):
            raise ValidationError("cursor is not one of this list", field="cursor")
        return position

    def _mac(self, position: str, terms: tuple[str | None, ...]) -> bytes:
        text = "\0".join([position, *("" if term is None else term for term in terms)])
        return hmac.digest(self._key, text.encode(), "sha256")[:_MAC_BYTES]
