"""The verification routine against forged, damaged and misdirected tokens."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import OKPKey

from app.client.claims import ALGORITHM, REGISTRY, InvalidAccessToken, verify

KEY = OKPKey.generate_key("Ed25519", auto_kid=True)
OTHER = OKPKey.generate_key("Ed25519", auto_kid=True)
KEYS = {str(KEY.kid): KEY}
ISSUER, TENANT, NOW = "https://sessions.example", "tnt_1", 1_800_000_000
HEADER = {"alg": "EdDSA", "typ": "at+jwt", "kid": str(KEY.kid)}
CLAIMS: dict[str, Any] = {
    "iss": ISSUER, "aud": TENANT, "sub": "usr_1", "exp": NOW + 60, "iat": NOW, "jti": "j",
    "session_id": "ses_1", "tenant_id": TENANT,
}  # fmt: skip


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def signed(header: bytes, payload: bytes) -> str:
    """Any bytes with a genuine signature: only what stands before and after the signature check can refuse them."""
    text = f"{b64(header)}.{b64(payload)}"
    return f"{text}.{b64(KEY.private_key.sign(text.encode()))}"  # type: ignore[union-attr]


def token(header: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not ...}
    return signed(json.dumps(header or HEADER).encode(), json.dumps(claims).encode())


def read(text: str, audience: str | None = TENANT, now: int = NOW) -> dict[str, Any]:
    return verify(text, KEYS, ISSUER, audience, now)


def code(text: str, audience: str | None = TENANT, now: int = NOW) -> str:
    with pytest.raises(InvalidAccessToken) as refused:
        read(text, audience, now)
    return refused.value.code


def test_a_good_token_is_read_and_so_it_is_by_pyjwt() -> None:
    text = jwt.encode(dict(HEADER), CLAIMS, KEY, algorithms=[ALGORITHM], registry=REGISTRY)
    assert read(text) == CLAIMS == read(text, None)
    public = KEY.public_key
    options: Any = {"verify_exp": False, "verify_iat": False}
    assert pyjwt.decode(text, public, algorithms=["EdDSA"], audience=TENANT, options=options) == CLAIMS  # type: ignore[arg-type]


def test_expiry_has_no_leeway() -> None:
    assert read(token(), now=NOW + 59)
    assert code(token(), now=NOW + 60) == "token_expired"


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_clock_may_be_so_far_behind_as_the_caller_says(claim: str) -> None:
    changes: Any = {claim: NOW + 60}
    text = token(exp=NOW + 600, **changes)
    assert verify(text, KEYS, ISSUER, TENANT, NOW, 60)
    for now, skew_s in ((NOW - 1, 60), (NOW, 59), (NOW, 5)):
        with pytest.raises(InvalidAccessToken):
            verify(text, KEYS, ISSUER, TENANT, now, skew_s)
    assert code(text) == "invalid_token"


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "exp", "iat", "jti", "session_id", "tenant_id"])
@pytest.mark.parametrize("value", [..., None, [], {}, True, 1.5, ""])
def test_each_claim_must_be_there_and_of_its_type(claim: str, value: object) -> None:
    changes: Any = {claim: value}
    assert code(token(**changes)) == "invalid_token"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://sessions.example/"},
        {"aud": [TENANT]},
        {"aud": "tnt_2"},
        {"tenant_id": "tnt_2"},
        {"aud": "tnt_2", "tenant_id": "tnt_2"},
        {"iat": NOW + 6},
        {"nbf": NOW + 6},
        {"exp": float(NOW + 60)},
        {"exp": str(NOW + 60)},
    ],
)
def test_a_token_for_someone_or_sometime_else_is_refused(changes: dict[str, Any]) -> None:
    assert code(token(**changes)) == "invalid_token"


@pytest.mark.parametrize(
    "header",
    [
        {**HEADER, "alg": "none"},
        {**HEADER, "alg": "Ed25519"},
        {**HEADER, "alg": "eddsa"},
        {**HEADER, "alg": "HS256"},
        {**HEADER, "typ": "JWT"},
        {**HEADER, "typ": "logout+jwt"},
        {**HEADER, "crit": ["exp"]},
        {**HEADER, "b64": False},
        {**HEADER, "jku": "https://evil.example/jwks"},
        {**HEADER, "jwk": KEY.as_dict(private=False)},
        {**HEADER, "kid": str(OTHER.kid)},
        {**HEADER, "kid": "../../etc/passwd"},
        {**HEADER, "kid": 1},
        {"alg": "EdDSA", "typ": "at+jwt"},
        {"alg": "EdDSA", "kid": str(KEY.kid)},
    ],
)
def test_any_other_header_is_refused_even_with_a_genuine_signature(header: dict[str, Any]) -> None:
    assert code(token(header)) == "invalid_token"


def test_the_public_key_is_no_hmac_secret() -> None:
    raw = KEY.public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    text = f"{b64(json.dumps({**HEADER, 'alg': 'HS256'}).encode())}.{b64(json.dumps(CLAIMS).encode())}"
    assert code(f"{text}.{b64(hmac.digest(raw, text.encode(), 'sha512'))}") == "invalid_token"


def test_another_key_of_the_same_name_is_refused() -> None:
    text = jwt.encode(dict(HEADER), CLAIMS, OTHER, algorithms=[ALGORITHM], registry=REGISTRY)
    assert code(text) == "invalid_token"


@pytest.mark.parametrize(
    "payload",
    [
        b"[]",
        b'"text"',
        b"null",
        b"\xff\xfe",
        b"{",
        json.dumps(CLAIMS).encode()[:-1] + b', "exp": 9999999999}',
        json.dumps(CLAIMS).encode()[:-1] + b', "x": NaN}',
        json.dumps(CLAIMS).encode()[:-1] + b', "x": ' + b"[" * 20 + b"]" * 20 + b"}",
        json.dumps(CLAIMS).encode()[:-1] + b', "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
def test_a_payload_that_is_no_strict_object_is_refused(payload: bytes) -> None:
    assert code(signed(json.dumps(HEADER).encode(), payload)) == "invalid_token"


def test_a_doubled_header_member_is_refused() -> None:
    header = json.dumps(HEADER)[:-1] + ', "alg": "EdDSA"}'
    assert code(signed(header.encode(), json.dumps(CLAIMS).encode())) == "invalid_token"


@pytest.mark.parametrize("change", ["{}=", "{}==", "{}\n", " {}", "{}.", "{}.x", ".{}", "", "a.b.c", "{}\0"])
def test_only_the_compact_form_is_read(change: str) -> None:
    assert code(change.format(token())) == "invalid_token"


def test_every_changed_character_is_noticed() -> None:
    good = token()
    for place, letter in enumerate(good):
        if letter != ".":
            other = "A" if letter != "A" else "B"
            assert code(good[:place] + other + good[place + 1 :]) == "invalid_token"


def test_a_second_spelling_of_the_same_bytes_is_refused() -> None:
    good = token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = good[:-1] + alphabet[alphabet.index(good[-1]) ^ 1]
    assert base64.urlsafe_b64decode(twin.split(".")[2] + "==") == base64.urlsafe_b64decode(good.split(".")[2] + "==")
    assert code(twin) == "invalid_token"


def test_a_huge_token_costs_nothing() -> None:
    began = time.perf_counter()
    assert code("a" * 10_000_000) == "invalid_token"
    assert time.perf_counter() - began < 0.1
