"""What is refused is refused in words: no pattern is quoted at people."""

from __future__ import annotations

from typing import Any

import pytest

from app.api import strict_json
from app.api.operations import OPERATIONS
from app.api.schema import CreateSession, NewApiKey, UpdateSession
from app.errors import ValidationError

SHAPES = [shape for row in OPERATIONS for shape in (row.body, row.query) if shape is not None]


def test_every_pattern_has_its_rule_in_words() -> None:
    found = {pattern: words for shape in SHAPES for pattern, words in strict_json.described(shape).items()}
    assert len(found) >= 4
    assert [pattern for pattern, words in found.items() if not words] == []


@pytest.mark.parametrize(
    ("shape", "sent", "said"),
    [
        (CreateSession, {"user_id": "a b"}, "user_id: must be 1-128 visible ASCII characters"),
        (CreateSession, {"user_id": "u", "country": "us"}, "country: must be two capital letters, ISO 3166-1 alpha-2"),
        (UpdateSession, {"role": "\u00e9"}, "role: must be 1-128 visible ASCII characters"),
        (NewApiKey, {"name": "a\nb"}, "name: must be 1-128 characters, no control characters"),
        (NewApiKey, {"name": 1}, "name: Expected `str`, got `int`"),
    ],
)
def test_a_text_of_another_form_is_refused_in_words(shape: Any, sent: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        strict_json.shaped(sent, shape)
    assert refused.value.detail == said
