"""One request as the door reads it: headers once, the query strictly."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Container
from http import HTTPMethod
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.types import Scope

from app.api.strict_json import shown
from app.errors import HeadersTooLarge, MalformedRequest, UriTooLong

MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 16 * 1024
MAX_TARGET: Final = 4 * 1024

_SINGLE: Final = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"host",
        b"idempotency-key",
        b"if-match",
        b"if-none-match",
        b"transfer-encoding",
        b"x-tenant-id",
    }
)
_JOINED: Final[dict[bytes, bytes]] = {
    b"accept": b", ",
    b"access-control-request-headers": b", ",
    b"cache-control": b", ",
    b"cookie": b"; ",
    b"forwarded": b", ",
    b"if-none-match": b", ",
    b"x-forwarded-for": b", ",
}
"""Lists, and what joins their lines (RFC 9110 §5.3, RFC 6265bis §4.2)."""
_METHODS: Final = frozenset(method.value for method in HTTPMethod)
_MAX_PIECES: Final = 6
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}", re.ASCII)
_HOST: Final = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=\[\]:-]*", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_IDEMPOTENCY_KEY: Final = re.compile(rb'"?([!#-\[\]-~]{1,255})"?', re.ASCII)

_ENTITY_TAGS: Final = re.compile(rb'(?:W/)?"[!#-~]{0,128}"(?:[ \t]*,[ \t]*(?:W/)?"[!#-~]{0,128}"){0,31}', re.ASCII)
_OWN_TAG: Final = re.compile(rb'(?<!W/)"v([1-9][0-9]{0,14})"', re.ASCII)


def request_id(scope: Scope) -> str:
    """The caller's `X-Request-ID` if it is harmless in logs and headers, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            value = value.strip(b" \t")
            return value.decode() if _REQUEST_ID.fullmatch(value) else _new_id()
    return _new_id()


def _new_id() -> str:
    """A name, not a secret: it needs no system call."""
    return f"{random.getrandbits(128):032x}"


def known_method(scope: Scope) -> str:
    """For the log: what is no method of HTTP was made up by the caller."""
    return scope["method"] if scope["method"] in _METHODS else "other"


def path_class(scope: Scope, words: Container[str]) -> str:
    """For the log: a path that no operation has, with a star for each piece that is not one of our own `words`."""
    pieces = scope["path"].split("/", _MAX_PIECES)[1:]
    return "".join(f"/{piece}" if piece in words else "/*" for piece in pieces)


def headers(scope: Scope) -> dict[bytes, bytes]:
    """Each header's value without blanks at its ends (RFC 9110 §5.5), the lines of a list joined. Raises
    `HeadersTooLarge`, and `MalformedRequest` where a second value could be read another way."""
    pairs = scope["headers"]
    if len(pairs) > MAX_HEADERS or sum(len(name) + len(value) for name, value in pairs) > MAX_HEADER_BYTES:
        raise HeadersTooLarge
    found: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in found and name in _SINGLE:
            raise MalformedRequest(f"The header {name.decode()} was sent twice", field=name.decode())
        value = value.strip(b" \t")
        found[name] = found[name] + _JOINED[name] + value if name in found and name in _JOINED else value
    _check_framing(found, scope)
    return found


def _check_framing(found: dict[bytes, bytes], scope: Scope) -> None:
    """What a proxy before us could understand in another way (RFC 9112 §3.2, §6.1). Raises `MalformedRequest`."""
    host, coding = found.get(b"host"), found.get(b"transfer-encoding")
    if host is None:
        if scope.get("http_version") != "1.0":
            raise MalformedRequest("The header host is missing", field="host")
    elif _HOST.fullmatch(host) is None:
        raise MalformedRequest("The header host is not valid", field="host")
    if coding is not None and (coding.lower() != b"chunked" or scope.get("http_version") == "1.0"):
        raise MalformedRequest("The only transfer coding is chunked, with HTTP/1.1", field="transfer-encoding")


def idempotency_key(headers: dict[bytes, bytes]) -> str | None:
    """What the header `Idempotency-Key` says, with or without the quotes of a structured field (RFC 9651 §3.3.3).

    Raises `MalformedRequest`.
    """
    sent = headers.get(b"idempotency-key")
    if sent is None:
        return None
    form = _IDEMPOTENCY_KEY.fullmatch(sent)
    if form is None:
        raise MalformedRequest("Idempotency-Key must be 1-255 visible ASCII characters", field="Idempotency-Key")
    return form[1].decode()


def if_match(headers: dict[bytes, bytes]) -> frozenset[int] | None:
    """The versions that `If-Match` names (RFC 9110 §13.1.1); `None` where any will do. A weak tag matches nothing.

    Raises `MalformedRequest`.
    """
    sent = headers.get(b"if-match", b"*")
    if sent == b"*":
        return None
    if _ENTITY_TAGS.fullmatch(sent) is None:
        raise MalformedRequest("If-Match must be * or a list of quoted entity tags", field="If-Match")
    return frozenset(int(number) for number in _OWN_TAG.findall(sent))


def check_target(scope: Scope) -> None:
    """Raises `UriTooLong`, and `MalformedRequest` for a path that is not UTF-8 or has control characters."""
    path = scope.get("raw_path") or scope["path"].encode()
    if len(path) + len(scope["query_string"]) > MAX_TARGET:
        raise UriTooLong
    if b"%" in path and _CONTROL.search(scope["path"]):
        raise MalformedRequest("The path has a control character")
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise MalformedRequest("The path is not UTF-8") from None


def query(raw: bytes) -> dict[str, Any]:
    """Each name once. Raises `MalformedRequest`."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32)
    except ValueError:
        raise MalformedRequest("The query string cannot be read") from None
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise MalformedRequest("A query parameter was sent twice", field=shown(name))
        found[name] = _READ[name](value) if name in _READ else value
    return found


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _truth(text: str) -> bool | str:
    return text == "true" if text in ("true", "false") else text


_READ: Final[dict[str, Callable[[str], object]]] = {"limit": _number, "snapshot": _truth}
"""Parameters that are no texts. What cannot be read stays a text, and its shape refuses it."""
