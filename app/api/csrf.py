"""Requests that other sites could have a browser send with our cookie.

The cookie is `SameSite=Strict`; this does not rely on it. A change must say that it comes from our own pages in ways
that a form of another site cannot: a header of its own, and what the browser says of its origin (Fetch Metadata;
RFC 6454).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from app.errors import CsrfRefused

SAFE: Final = frozenset({"GET", "HEAD"})
_OURS: Final = (b"x-requested-with", b"hellojohn-dashboard")


def check(method: str, headers: dict[bytes, bytes], url: str) -> None:
    """`url`: the address this service is known by, in case a proxy changes `Host`. Raises `CsrfRefused`."""
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site not in (None, b"same-origin") and (site != b"none" or method not in SAFE):
        raise CsrfRefused
    if origin is not None and not _is_ours(origin, headers.get(b"host", b""), url):
        raise CsrfRefused
    if method in SAFE:
        return
    if headers.get(_OURS[0]) != _OURS[1] or (site is None and origin is None):
        raise CsrfRefused


def _is_ours(origin: bytes, host: bytes, url: str) -> bool:
    known = urlsplit(url)
    ours = {b"http://" + host, b"https://" + host, f"{known.scheme}://{known.netloc}".encode()}
    return origin.lower() in {one.lower() for one in ours}
