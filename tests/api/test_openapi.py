"""The document is made from the rows, says everything about each of them, and is the one that is committed."""

from __future__ import annotations

import json
import re
from html import escape, unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

from app.api import docs, openapi
from app.api.operation import Operation
from app.api.operations import OPERATIONS
from app.errors import Problem, RefreshTokenInvalid, catalogue
from app.model import Reason

COMMITTED = Path(__file__).parent / "openapi.json"
UNLISTED = ("confirmation_required", "csrf_refused", "fresh_sign_in_required", "method_not_allowed", "not_found")
"""Codes that belong to no call of the document: the dashboard's own, and those of paths that are none."""
DOCUMENT: dict[str, Any] = json.loads(openapi.encoded(OPERATIONS))


def test_the_committed_document_is_the_generated_one() -> None:
    assert COMMITTED.read_bytes() == openapi.encoded(OPERATIONS), "run `make openapi`"


def test_no_two_rows_share_a_name_or_a_place() -> None:
    assert len({row.name for row in OPERATIONS}) == len(OPERATIONS)
    assert len({(row.method, row.path) for row in OPERATIONS}) == len(OPERATIONS)


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
def test_every_row_says_who_may_call_and_what_can_go_wrong(row: Operation) -> None:
    entry = DOCUMENT["paths"][row.path][row.method.lower()]
    assert entry["operationId"] == row.name
    assert str(row.status) in entry["responses"]
    assert {"400", "414", "431", "500"} <= entry["responses"].keys()
    assert ("401" in entry["responses"]) == (row.credential != "none" or RefreshTokenInvalid in row.errors)
    assert bool(entry["security"]) == (row.credential != "none")
    known = DOCUMENT["components"]["securitySchemes"]
    assert all(name in known for choice in entry["security"] for name in choice)
    if row.body is not None:
        assert {"413", "415", "422"} <= entry["responses"].keys()


def test_every_reference_leads_somewhere() -> None:
    prefix = "#/components/schemas/"
    shapes = DOCUMENT["components"]["schemas"]
    assert [ref for ref in references(DOCUMENT) if ref.removeprefix(prefix) not in shapes] == []


def test_a_path_that_has_a_variable_declares_it() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for entry in methods.values():
            given = [f"{{{p['name']}}}" for p in entry.get("parameters", []) if p["in"] == "path"]
            assert given == [part for part in path.split("/") if part.startswith("{")]


def test_patterns_have_no_syntax_of_one_dialect_alone() -> None:
    """RE2, which Go's and Rust's tools have, knows no look-ahead, and only Python knows `\\Z`."""
    patterns = re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', COMMITTED.read_text())
    assert len(patterns) > 20
    assert [text for text in patterns if "(?!" in text or "(?=" in text or "\\\\Z" in text] == []


def test_a_session_has_its_eleven_fields_always() -> None:
    assert DOCUMENT["components"]["schemas"]["SessionView"]["required"] == [
        "id",
        "user_id",
        "tenant_id",
        "status",
        "user_agent",
        "ip_address",
        "country",
        "device_type",
        "created_at",
        "last_active_at",
        "expires_at",
    ]


def test_an_event_lists_the_reasons_of_an_end_as_a_session_does() -> None:
    shapes = DOCUMENT["components"]["schemas"]
    assert shapes["EventView"]["properties"]["reason"]["enum"] == sorted(get_args(Reason))
    assert shapes["SessionView"]["properties"]["end_reason"]["enum"] == sorted(get_args(Reason))


def test_the_page_names_every_call_and_runs_nothing() -> None:
    page = docs.render(DOCUMENT).decode()
    assert all(f'id="{row.name}"' in page for row in OPERATIONS)
    assert "<script" not in page and "://" not in page


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("user_id", "string 1-255 characters of Unicode, no control characters or noncharacters, kept as they are"),
        ("role", "string or null 1-128 visible ASCII characters"),
        ("org_id", "string or null 1-128 visible ASCII characters"),
        ("user_agent", "string or null kept up to 512 characters"),
        ("ip_address", "string or null one IPv4 or IPv6 address, also with a port or a zone id, or a word for unknown"),
        ("country", "string or null two letters, ISO 3166-1 alpha-2, or a code for unknown: "),
        ("device_type", "string or null up to 32 printable ASCII characters"),
        ("mfa_verified", "boolean or null "),
        ("claims", "object or null up to 20 names and 1024 bytes of JSON, nested up to 8 deep; no name of these: acr "),
        ("metadata", "object or null up to 2048 bytes of JSON"),
    ],
)
def test_the_page_says_what_a_value_has_to_keep_to(field: str, said: str) -> None:
    assert cell("CreateSession", field).startswith(said)


def test_the_page_has_bounds_where_the_document_has_no_words() -> None:
    ids = "list of string at least 1 items; up to 500 items; each up to 64 characters; of the form ^ses_0"
    assert cell("Activity", "session_ids").startswith(ids)
    assert cell("ConfigChange", "max_sessions_per_user") == "integer or null at least 1; up to 10000"
    assert cell("ConfigChange", "refresh_grace").endswith('a duration like "15m" or whole seconds, 0s to 1m')


def cell(shape: str, field: str) -> str:
    """What the page says of a field, as it is read."""
    section = docs.render(DOCUMENT).decode().split(f'<section id="{shape}">')[1].split("</section>")[0]
    found = re.search(rf"<code>{field}</code>(?: \*)?</th><td>(.*?)</td>", section)
    assert found is not None
    return unescape(re.sub("<[^>]*>", "", found[1]))


class Outline(HTMLParser):
    """The headings, the anchors and where links lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.levels, self.ids, self.links = list[int](), list[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.levels += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if tag == "a" else []


def kinds_of(base: type[Problem]) -> list[type[Problem]]:
    return [kind for part in base.__subclasses__() for kind in (part, *kinds_of(part))]


def test_every_problem_says_what_to_do() -> None:
    """A class that has a code of its own has advice of its own, and stands where the page is made from."""
    coded = [kind for kind in kinds_of(Problem) if "code" in vars(kind)]
    assert len(coded) > 30
    assert [kind.__name__ for kind in coded if not vars(kind).get("advice")] == []
    assert {Problem, *coded} == {*catalogue()}
    assert {kind.__module__ for kind in coded} == {Problem.__module__}
    advice = [kind.advice for kind in catalogue()]
    assert len({*advice}) == len(advice)
    assert all(text.endswith(".") and text.count("`") % 2 == 0 for text in advice)


def test_the_page_of_errors_has_a_place_for_each_code() -> None:
    page = docs.errors(catalogue()).decode()
    assert all(f"<h3><code>{kind.code}</code></h3><p>{escape(kind.title)}.</p>" in page for kind in catalogue())
    assert all(docs._prose(kind.advice) in page for kind in catalogue())
    assert "<script" not in page and "://" not in page


@pytest.mark.parametrize("page", [docs.errors(catalogue()), docs.render(DOCUMENT)], ids=["errors", "calls"])
def test_a_page_can_be_found_through(page: bytes) -> None:
    """One main part and one first heading, no level left out, no anchor twice, no link of ours to nowhere."""
    outline, text = Outline(page.decode()), page.decode()
    assert '<html lang="en">' in text and text.count("<main>") == outline.levels.count(1) == 1
    assert all(after <= level + 1 for level, after in pairwise(outline.levels))
    assert len(outline.ids) == len({*outline.ids})
    codes = {f"/docs/problems#{kind.code}" for kind in catalogue()}
    known = {f"#{name}" for name in outline.ids} | codes | {"/docs", "/docs/problems", "/openapi.json"}
    assert {*outline.links} <= known
    assert {*outline.links} >= codes - {"/docs/problems#" + code for code in UNLISTED}


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        found = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return found + [ref for inner in part.values() for ref in references(inner)]
    return [ref for inner in part for ref in references(inner)] if isinstance(part, list) else []
