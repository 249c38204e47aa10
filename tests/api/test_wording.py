"""What is refused is refused in words: no pattern is quoted at people."""

from __future__ import annotations

import re
from typing import Any, get_type_hints

import pytest

from app.api import strict_json, wording
from app.api.operations import OPERATIONS
from app.api.schema import CreateSession, NewApiKey, UpdateSession
from app.errors import ValidationError

FITTING = (
    r"must be (one of \w[\w:]*(, \w[\w:]*)+|true or false|a whole number from \d+ to \d+|"
    r'a duration like "15m" or whole seconds, \d+[smhd] to \d+[smhd])(, or null)?'
)
SHAPES = [shape for row in OPERATIONS for shape in (row.body, row.query) if shape is not None]


def test_every_pattern_has_its_rule_in_words() -> None:
    found = {pattern: words for shape in SHAPES for pattern, words in wording.described(shape).items()}
    assert len(found) >= 4
    assert [pattern for pattern, words in found.items() if not words] == []


def test_every_value_that_has_bounds_is_refused_with_them() -> None:
    """Whatever field takes one of a few values, a number, a duration or a truth says so, and no other does."""
    bounded = 0
    for shape in SHAPES:
        for name, hint in get_type_hints(shape).items():
            words, kind = wording.rule(shape, name), str(hint)
            bounded += words is not None
            texts = kind.replace("typing.Any", "").replace("str", "")
            assert (words is not None) == bool(re.search("Literal|int|bool", texts) and "list" not in texts), (
                name,
                hint,
            )
            assert words is None or re.fullmatch(FITTING, words), (name, words)
    assert bounded > 15


def test_what_is_an_item_of_a_list_is_told_too() -> None:
    with pytest.raises(ValidationError) as refused:
        strict_json.shaped({"name": "k", "scopes": ["stats:read", "stats:raed"]}, NewApiKey)
    assert refused.value.field == "scopes[1]"
    assert refused.value.detail.startswith("scopes[1]: must be one of audit:read, config:read, ")


@pytest.mark.parametrize(
    ("shape", "sent", "said"),
    [
        (
            CreateSession,
            {"user_id": "a\n"},
            "user_id: must be 1-255 characters of Unicode, no control characters or noncharacters, kept as they are",
        ),
        (UpdateSession, {"role": "\u00e9"}, "role: must be 1-128 visible ASCII characters"),
        (NewApiKey, {"name": "a\nb"}, "name: must be 1-128 characters, no control characters"),
        (NewApiKey, {"name": 1}, "name: must be a string, not an integer"),
        (NewApiKey, {"name": 1.5}, "name: must be a string, not a number"),
        (NewApiKey, {"name": None}, "name: must be a string, not null"),
        (NewApiKey, {"name": "k", "scopes": {}}, "scopes: must be an array or null, not an object"),
        (NewApiKey, {"name": "k", "scopes": []}, "scopes: must be an array of length >= 1"),
        (CreateSession, {"user_id": "u", "claims": [1]}, "claims: must be an object or null, not an array"),
        (CreateSession, {"user_id": "u", "org_id": True}, "org_id: must be a string or null, not a boolean"),
        (CreateSession, {"user_id": "u", "ip_address": "1" * 129}, "ip_address: must be a string of length <= 128"),
        (CreateSession, ["user_id"], "The body must be an object, not an array"),
        (CreateSession, None, "The body must be an object, not null"),
    ],
)
def test_a_text_of_another_form_is_refused_in_words(shape: Any, sent: Any, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        strict_json.shaped(sent, shape)
    assert refused.value.detail == said
