"""Access tokens that this process has verified to the full, remembered by their digests alone.

An Ed25519 check costs more than all the rest of a verification, and a token is shown many times in its life. What is
remembered is only that a text is genuine, never a verdict: audience, expiry and the state of the session are looked at
each time. Another ring of keys forgets all.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

_MOST: Final = 100_000


class Genuine:
    """Two generations of at most `most` digests each, about 110 bytes a piece; the older one is dropped as a whole."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._keys: Mapping[str, object] = {}
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def knows(self, token: str, keys: Mapping[str, object]) -> bool:
        """Whether `token` was noted under this very ring of keys. Ask this before `note`."""
        if keys is not self._keys:
            self._keys, self._young, self._old = keys, set(), set()
        digest = _digest(token)
        if digest in self._young:
            return True
        if digest not in self._old:
            return False
        self._add(digest)
        return True

    def note(self, token: str) -> None:
        """`token` is genuine under the ring that `knows` was last asked about."""
        self._add(_digest(token))

    def _add(self, digest: bytes) -> None:
        if len(self._young) >= self._most:
            self._young, self._old = set(), self._young
        self._young.add(digest)


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
