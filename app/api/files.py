"""The dashboard's files: read once at the start, so that no path of a request ever reaches the file system."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from app.api.call import Header, Reply
from app.errors import NotFound

_TYPES: Final = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".mjs": b"text/javascript; charset=utf-8",
    ".png": b"image/png",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
    ".webp": b"image/webp",
    ".woff2": b"font/woff2",
}
"""What is served; other files are not."""
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'"
)
SHELL: Final[tuple[Header, ...]] = (
    (b"content-security-policy", _POLICY),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class _File(msgspec.Struct, frozen=True):
    body: bytes
    media_type: bytes
    tag: bytes


class Files:
    """`folder`: has `index.html`, the shell of every view, and `assets/`."""

    def __init__(self, folder: Path) -> None:
        self._shell = (folder / "index.html").read_bytes()
        assets = folder / "assets"
        self._assets = {
            path.relative_to(assets).as_posix(): _read(path)
            for path in sorted(assets.rglob("*"))
            if path.is_file() and path.suffix in _TYPES
        }

    def shell(self) -> Reply:
        """Without any data in it, and never kept: after a sign-out the back button asks again."""
        return Reply(self._shell, _TYPES[".html"], headers=SHELL)

    def asset(self, name: str, headers: dict[bytes, bytes]) -> Reply:
        """304 for who has it already (RFC 9110 §13.1.2). Raises `NotFound`."""
        file = self._assets.get(name)
        if file is None:
            raise NotFound
        own = ((b"cache-control", b"no-cache"), (b"etag", file.tag))
        if file.tag in [known.strip() for known in headers.get(b"if-none-match", b"").split(b",")]:
            return Reply(status=304, headers=own)
        return Reply(file.body, file.media_type, headers=own)


def _read(path: Path) -> _File:
    body = path.read_bytes()
    return _File(body, _TYPES[path.suffix], b'"' + sha256(body).hexdigest()[:32].encode() + b'"')
