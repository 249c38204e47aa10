"""JSON as RFC 8259 means it to be exchanged: what two parsers could read differently is refused."""

from __future__ import annotations

import math
import re
from codecs import BOM_UTF8
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from app.api import wording
from app.errors import MalformedRequest, ValidationError

Shape = TypeVar("Shape")

MAX_DEPTH: Final = 16
MAX_INTEGER: Final = 2**53 - 1
_PLACE: Final = re.compile(r" - at `(?:key in `)?\$\.?([^`]*)`")
_NAME: Final = re.compile(r"(?:required|unknown) field `([^`]*)`")
_FORM: Final = re.compile(r"Expected `str` matching regex (.*)", re.DOTALL)
_SHOWN: Final = re.compile(r"\w{1,40}", re.ASCII)


def parse(raw: bytes) -> Any:
    """The value in `raw`. Raises `MalformedRequest`: not UTF-8, not JSON, a name twice, NaN or Infinity, an
    integer beyond 2^53 - 1, deeper than 16, a NUL or a lone surrogate."""
    if raw.startswith(BOM_UTF8):
        raise MalformedRequest("The body begins with a byte order mark: send JSON in UTF-8 without one (RFC 8259 §8.1)")
    try:
        value = _DECODER.decode(raw.decode())
    except UnicodeDecodeError:
        raise MalformedRequest("The body is not UTF-8") from None
    except JSONDecodeError as error:
        raise MalformedRequest(f"The body is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise MalformedRequest(f"The body is nested deeper than {MAX_DEPTH}") from None
    if b"\\u" in raw or raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
        _inspect(value, MAX_DEPTH)
    return value


def shaped(value: Any, shape: type[Shape]) -> Shape:
    """`value` as a `shape`. Raises `ValidationError` that names the field."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        message = str(error)
        place = _PLACE.search(message)
        name = _NAME.search(message)
        if name and not shown(name[1]):
            raise ValidationError(f"Object contains an unknown field; {wording.known(shape)}") from None
        inside = [part for part in (place and place[1], name and name[1]) if part]
        field = ".".join(inside) or None
        reason = _reason(shape, message, place)
        raise ValidationError(f"{field}: {reason}" if field else reason, field=field) from None


def _reason(shape: Any, message: str, place: re.Match[str] | None) -> str:
    """What msgspec says, or what would have fitted; never what was sent."""
    if place is None:
        whole = f"{message}; {wording.known(shape)}" if "unknown field" in message else message
        return wording.kind_rule(whole, "The body must be")
    fitting = wording.rule(shape, place[1])
    said = _FORM.sub(lambda form: wording.pattern_rule(shape, form[1]), message[: place.start()])
    return fitting or wording.kind_rule(said, "must be")


def shown(name: str) -> str | None:
    """A name that a caller made up, if it may be repeated: what is long or odd could be a secret in the wrong place."""
    return name if _SHOWN.fullmatch(name) else None


def _inspect(value: Any, depth: int) -> None:
    """What only a walk can find: depth, and escapes that stand for no character."""
    if isinstance(value, str):
        if "\0" in value or not _is_text(value):
            raise MalformedRequest("The body has a NUL or a lone surrogate")
    elif isinstance(value, dict | list):
        if depth == 0:
            raise MalformedRequest(f"The body is nested deeper than {MAX_DEPTH}")
        for item in value:
            _inspect(item, depth - 1)
        if isinstance(value, dict):
            for item in value.values():
                _inspect(item, depth - 1)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedRequest("The body has a name twice in one object")
    return found


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        raise MalformedRequest("The body has an integer beyond 2^53 - 1")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise MalformedRequest("The body has a number that is out of range")
    return number


def _constant(text: str) -> NoReturn:
    raise MalformedRequest(f"The body is not JSON: {text}")


_DECODER: Final = JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
