"""What a refused value should have been, in words: from the same shapes that the document is made from."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

from msgspec import inspect

_ITEM: Final = re.compile(r"\[[^\]]*\]")
_EXPECTED: Final = re.compile(r"Expected `([a-z |]+)`( of length [<>=]+ [0-9]+)?(?:, got `([a-z]+)`)?")
_KINDS: Final = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
"""As JSON names what msgspec names after Python (RFC 8259 §1); a number without a fraction is an integer."""


def rule(shape: Any, place: str) -> str | None:
    """What may stand at a place as msgspec names it (`scopes[0]`): the values of an enumeration, the bounds of a number
    or a duration. `None` where what msgspec says is all there is to say."""
    field = _fields(shape).get(_ITEM.sub("", place))
    if field is None:
        return None
    kinds = _kinds(field.type)
    for _ in _ITEM.findall(place):
        kinds = [inner for kind, _ in kinds if isinstance(kind, inspect.ListType) for inner in _kinds(kind.item_type)]
    words = next((found for kind, extra in kinds if (found := _words(kind, extra))), None)
    clears = field.default is not None and any(isinstance(kind, inspect.NoneType) for kind, _ in kinds)
    return words and f"must be {words}{', or null' if clears else ''}"


def pattern_rule(shape: Any, quoted: str) -> str:
    """What a text must be, in the words that the document has for its pattern. `quoted`: as msgspec quotes it."""
    words = {repr(pattern): text for pattern, text in described(shape).items()}.get(quoted)
    return f"must be {words}" if words else "has not the form that the document describes"


def kind_rule(message: str, begin: str) -> str:
    """What msgspec says of a value of the wrong kind or length, in the words of JSON: `must be a string, not null`."""
    found = _EXPECTED.fullmatch(message)
    if found is None:
        return message
    kinds, length, got = found.groups()
    fitting = " or ".join(_KINDS.get(kind, kind) for kind in kinds.split(" | "))
    return f"{begin} {fitting}{length or ''}{f', not {_KINDS.get(got, got)}' if got else ''}"


def known(shape: Any) -> str:
    """The fields there are."""
    return f"it may have {', '.join(_fields(shape))}"


@cache
def described(shape: Any) -> dict[str, str]:
    """The patterns in a shape, each with its description."""
    kinds = [kind for field in _fields(shape).values() for kind in _kinds(field.type)]
    kinds += [inner for kind, _ in kinds if isinstance(kind, inspect.ListType) for inner in _kinds(kind.item_type)]
    return {kind.pattern: extra.get("description", "") for kind, extra in kinds if getattr(kind, "pattern", None)}


@cache
def _fields(shape: Any) -> dict[str, inspect.Field]:
    found = inspect.type_info(shape)
    return {field.encode_name: field for field in found.fields} if isinstance(found, inspect.StructType) else {}


def _kinds(node: Any, said: dict[str, Any] | None = None) -> list[tuple[Any, dict[str, Any]]]:
    """The alternatives of a type, each with what the document says of it beyond what msgspec checks; first of all the
    union itself, if there is something to say of it as a whole."""
    said = said or {}
    if isinstance(node, inspect.Metadata):
        return _kinds(node.type, {**said, **(node.extra_json_schema or {})})
    if isinstance(node, inspect.UnionType):
        return [(node, said), *(kind for part in node.types for kind in _kinds(part))]
    return [(node, said)]


def _words(kind: Any, said: dict[str, Any]) -> str | None:
    match kind:
        case inspect.UnionType():
            return said.get("description")
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}"
        case inspect.IntType(ge=low, le=high):
            return f"a whole number from {said.get('minimum', low)} to {said.get('maximum', high)}"
        case inspect.BoolType():
            return "true or false"
    return None
