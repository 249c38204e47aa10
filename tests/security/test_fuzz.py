"""Whatever comes in, each gate says yes or no in its own words: no crash, and through the whole door no 500."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import msgspec
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jwk import OKPKey
from starlette.types import Message

from app.api import request, strict_json
from app.api.body import Bodies
from app.api.http import Door
from app.api.limits import canonical_country, canonical_ip, check_claims, check_metadata
from app.api.operation import Operation
from app.api.operations import OPERATIONS
from app.client.claims import InvalidAccessToken, verify
from app.cursors import Cursors
from app.errors import Problem, RefreshTokenInvalid, ValidationError
from app.model import new_session_id
from app.tokens import RefreshTokens
from tests.api.world import World, a_world
from tests.security.mutants import b64, signed

EXAMPLES = 20_000 if os.environ.get("SECURITY") == "full" else 400
KEY = OKPKey.generate_key("Ed25519", auto_kid=True)
REFRESH, CURSORS = RefreshTokens(b"s" * 32), Cursors(b"c" * 32)
GENUINE = REFRESH.first(new_session_id("tnt_1", "u", 1_700_000_000_000), "tnt_1", "u", b"x" * 32)

fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[*HealthCheck], derandomize=True)
TEXT = st.text(max_size=200) | st.text("ABCXYZabc019-_.=+/~ \n\0", max_size=200)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


@fuzz
@given(TEXT, st.booleans())
def test_the_gate_of_access_tokens_refuses_in_its_own_words(text: str, dots: bool) -> None:
    with pytest.raises(InvalidAccessToken):
        verify(f"{text}.{text}." + "A" * 86 if dots else text, {str(KEY.kid): KEY}, "i", None, 1)


@fuzz
@given(st.binary(max_size=300) | VALUES.map(lambda value: json.dumps(value).encode()), st.binary(max_size=300))
def test_so_it_does_for_genuine_signatures_over_rubbish(payload: bytes, header: bytes) -> None:
    ours = json.dumps({"alg": "EdDSA", "typ": "at+jwt", "kid": KEY.kid}).encode()
    for head in (ours, header):
        if payload and head:
            with pytest.raises(InvalidAccessToken):
                verify(signed(KEY, head, payload), {str(KEY.kid): KEY}, "i", None, 1)


@fuzz
@given(TEXT | st.binary(min_size=57, max_size=300).map(lambda raw: "rt_" + b64(raw)))
def test_refresh_tokens_that_we_did_not_make_are_refused(text: str) -> None:
    for forged in (text, "rt_" + text):
        with pytest.raises(RefreshTokenInvalid):
            REFRESH.parse(forged)


def test_a_refresh_token_with_any_one_character_changed_is_refused() -> None:
    for place in range(len(GENUINE)):
        for letter in "Aa0-_=.\n é":
            if GENUINE[place] != letter:
                with pytest.raises(RefreshTokenInvalid):
                    REFRESH.parse(GENUINE[:place] + letter + GENUINE[place + 1 :])
    assert REFRESH.parse(GENUINE).user_id == "u"


@fuzz
@given(TEXT, TEXT)
def test_cursors_open_only_for_their_own_list(text: str, terms: str) -> None:
    with pytest.raises(ValidationError):
        CURSORS.open(text, "tnt", "events")
    sealed = CURSORS.seal("position", "tnt", terms)
    assert CURSORS.open(sealed, "tnt", terms) == "position"
    with pytest.raises(ValidationError):
        CURSORS.open(sealed, "tnt", terms + "x")


@fuzz
@given(st.binary(max_size=300) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_strict_json_reads_what_everyone_reads_alike_and_nothing_else(raw: bytes) -> None:
    try:
        value = strict_json.parse(raw)
    except Problem as refused:
        assert refused.status == 400
        return
    assert json.loads(raw) == value
    assert msgspec.json.decode(msgspec.json.encode(value)) == value


SHAPES = sorted({row.body for row in OPERATIONS if row.body} | {row.query for row in OPERATIONS if row.query}, key=str)


@fuzz
@given(st.sampled_from(SHAPES), st.data())
def test_a_shape_refuses_by_field_or_fits(shape: Any, data: st.DataObject) -> None:
    names = st.sampled_from([*shape.__struct_encode_fields__, "status"])
    value = data.draw(st.dictionaries(names, VALUES, max_size=5) | VALUES)
    try:
        fitting = strict_json.shaped(value, shape)
        for method in ("new_session", "changes"):
            getattr(fitting, method, lambda: None)()
    except ValidationError as refused:
        assert refused.status == 422


@fuzz
@given(st.binary(max_size=200) | TEXT.map(str.encode))
def test_the_query_is_read_or_refused(raw: bytes) -> None:
    try:
        found = request.query(raw)
    except Problem as refused:
        assert refused.status == 400
        return
    assert all(isinstance(name, str) for name in found)


@pytest.mark.parametrize("length", [b"", b"+2", b"2_0", b" 2", b"-1", "２".encode(), b"x", b"9" * 5_000])
async def test_a_length_that_is_no_number_is_refused(length: bytes) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    with pytest.raises(Problem) as refused:
        await Bodies().read({b"content-type": b"application/json", b"content-length": length}, receive)
    assert refused.value.status in (400, 413)


@fuzz
@given(st.lists(st.tuples(st.sampled_from([b"host", b"authorization", b"x"]) | st.binary(), st.binary()), max_size=120))
def test_headers_are_read_or_refused(pairs: list[tuple[bytes, bytes]]) -> None:
    try:
        found = request.headers({"type": "http", "headers": pairs})
    except Problem as refused:
        assert refused.status in (400, 431)
        return
    assert b"host" in found
    try:
        request.idempotency_key(found)
    except Problem as refused:
        assert refused.status == 400


@fuzz
@given(TEXT, VALUES)
def test_addresses_claims_and_metadata_are_taken_or_refused(text: str, value: Any) -> None:
    checks: list[Callable[[], object]] = [
        lambda: canonical_ip(text),
        lambda: canonical_country(text),
        lambda: check_claims({text: value}),
        lambda: check_metadata({"a": value}),
    ]
    for check in checks:
        try:
            check()
        except ValidationError:
            pass


class Inside:
    """The whole door in this process, in a loop that also runs while Hypothesis thinks: one that stood still between
    two requests would take its own pause for silence of the store."""

    def __init__(self, url: str) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._opening = a_world(url)
        self.world: World = self._run(self._opening.__aenter__())
        self.door: Door = self.world.door

    def close(self) -> None:
        self._run(self._opening.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def ask(self, scope: dict[str, Any], body: bytes) -> tuple[int, bytes]:
        answer: tuple[int, bytes] = self._run(self._ask(scope, body))
        return answer

    def _run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    async def _ask(self, scope: dict[str, Any], body: bytes) -> tuple[int, bytes]:
        messages: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            messages.append(message)

        async with asyncio.timeout(5):
            await self.door(scope, receive, send)
        return messages[0]["status"], b"".join(message.get("body", b"") for message in messages[1:])


@pytest.fixture(scope="module")
def inside(valkey_url: str) -> Iterator[Inside]:
    found = Inside(valkey_url)
    yield found
    found.close()


ROWS = [row for row in OPERATIONS if row.name not in ("removeSigningKey", "rotateSigningKey", "deleteTenant")]
ASIDE = [b"x-tenant-id", b"idempotency-key", b"if-none-match", b"last-event-id", b"x-request-id", b"content-length"]


@pytest.mark.slow
@fuzz
@given(st.sampled_from(ROWS), st.data())
def test_no_request_is_answered_with_500(inside: Inside, row: Operation, data: st.DataObject) -> None:
    good = [credential for credential in inside.world.credentials if not credential.refused]
    sent = data.draw(st.sampled_from(good)).sent
    headers = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
    headers += [(b"host", b"api"), (b"content-type", b"application/json")]
    if data.draw(st.booleans()):
        headers.append((data.draw(st.sampled_from(ASIDE)), data.draw(st.binary(max_size=50))))
    path = row.path
    for name in ("session_id", "user_id", "tenant_id", "key_id"):
        path = path.replace(f"{{{name}}}", data.draw(TEXT | st.just(inside.world.own.id)))
    query = data.draw(
        st.binary(max_size=60) | st.sampled_from([b"", b"cursor=A", b"limit=1", b"after=-", b"status=all"])
    )
    value: Any = data.draw(VALUES)
    if row.body is not None and data.draw(st.booleans()):
        value = data.draw(st.dictionaries(st.sampled_from(row.body.__struct_encode_fields__), VALUES, max_size=4))
    body = data.draw(st.just(json.dumps(value).encode()) | st.binary(max_size=100))
    raw = path.encode("utf-8", "replace")
    scope = {"type": "http", "method": row.method, "path": path, "raw_path": raw, "query_string": query}
    status, answer = inside.ask({**scope, "headers": headers, "client": ("192.0.2.1", 1)}, body)
    assert status < 500, (status, answer, scope, headers, body)
    if status >= 400:
        assert json.loads(answer)["status"] == status
