"""Tokens that are almost right. Half are changed before they are signed, so that the signature holds; half after."""

from __future__ import annotations

import json
import random
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any

from joserfc.jwk import OKPKey

ISSUER, TENANT = "https://sessions.example", "tnt_00000000000000000000000000"

Change = Callable[[random.Random, str], str]


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def mutants(key: OKPKey, now: int, number: int, seed: int) -> Iterator[str]:
    """`number` tokens for `ISSUER` and `TENANT`, the same for the same seed but for key and time."""
    chance = random.Random(seed)
    for turn in range(number):
        header, payload = texts(chance, str(key.kid), now)
        if turn % 2:
            yield signed(key, header, payload)
        else:
            yield chance.choice(AFTER)(chance, signed(key, header, payload))


def texts(chance: random.Random, kid: str, now: int) -> tuple[bytes, bytes]:
    """Header and payload: as ours, in another spelling, or with something wrong in one of both."""
    header: dict[str, Any] = {"alg": "EdDSA", "typ": "at+jwt", "kid": kid}
    claims: dict[str, Any] = {
        "iss": ISSUER, "aud": TENANT, "sub": "usr_1", "exp": now + 600, "iat": now - 10, "jti": "j",
        "session_id": "ses_1", "tenant_id": TENANT, "mfa_verified": True,
    }  # fmt: skip
    for _ in range(chance.choice([0, 0, 1, 1, 2])):
        place = chance.choice([header, claims, claims, claims])
        name = chance.choice([*place, "nbf", "crit", "b64", "jwk", "x", "é"])
        if chance.random() < 0.3:
            place.pop(name, None)
        else:
            place[name] = chance.choice(VALUES)(now)
    return spelled(chance, header), spelled(chance, claims)


VALUES: tuple[Callable[[int], Any], ...] = (
    lambda now: now + 300,
    lambda now: now - 300,
    lambda now: now + 3,
    lambda now: float(now + 300),
    lambda now: now + 0.5,
    lambda now: str(now + 300),
    lambda now: 2**63,
    lambda now: -1,
    lambda now: 1e300,
    lambda now: True,
    lambda now: None,
    lambda now: "",
    lambda now: [],
    lambda now: {},
    lambda now: [TENANT],
    lambda now: TENANT,
    lambda now: [ISSUER],
    lambda now: ISSUER + "/",
    lambda now: "EdDSA",
    lambda now: "Ed25519",
    lambda now: "none",
    lambda now: "HS256",
    lambda now: "JWT",
    lambda now: ["exp"],
    lambda now: {"a": {"b": [1]}},
    lambda now: "\u2028é",
)


def spelled(chance: random.Random, members: dict[str, Any]) -> bytes:
    """JSON in one of its many spellings, a few of which are none."""
    items = [*members.items()]
    chance.shuffle(items)
    text = json.dumps(dict(items), ensure_ascii=chance.random() < 0.5)
    return chance.choice(SPELLINGS)(chance, text).encode("utf-8", "surrogatepass")


SPELLINGS: tuple[Change, ...] = (
    lambda chance, text: text,
    lambda chance, text: text,
    lambda chance, text: text,
    lambda chance, text: text.replace(": ", ":").replace(", ", ","),
    lambda chance, text: f" \n{text}\t ",
    lambda chance, text: text.replace('"sub"', '"s\\u0075b"').replace('"alg"', '"\\u0061lg"'),
    lambda chance, text: text[:-1] + ', "sub": "usr_2", "alg": "none"}',
    lambda chance, text: text[:-1] + ', "s\\u0075b": "usr_2"}',
    lambda chance, text: text[:-1] + ', "x": NaN}',
    lambda chance, text: text[:-1] + ', "x": "\\ud800"}',
    lambda chance, text: text[:-1] + ', "x": "\ud800"}',
    lambda chance, text: text[:-1] + ', "__proto__": {"exp": 1}}',
    lambda chance, text: text[:-1] + ', "x": ' + "[" * chance.choice([3, 9, 5_000]) + "}",
    lambda chance, text: text[:-1] + ', "x": ' + "[" * 9 + "]" * 9 + "}",
    lambda chance, text: text[:-1] + ",}",
    lambda chance, text: f"[{text}]",
    lambda chance, text: "\ufeff" + text,
    lambda chance, text: text + "{}",
    lambda chance, text: text + "\0",
    lambda chance, text: text[: chance.randrange(len(text))],
)


def signed(key: OKPKey, header: bytes, payload: bytes) -> str:
    text = f"{b64(header)}.{b64(payload)}"
    return f"{text}.{b64(key.private_key.sign(text.encode()))}"  # type: ignore[union-attr]


def _flip(chance: random.Random, text: str) -> str:
    place = chance.randrange(len(text))
    return text[:place] + chance.choice("AZaz09-_.+/=") + text[place + 1 :]


AFTER: tuple[Change, ...] = (
    _flip,
    _flip,
    lambda chance, text: text,
    lambda chance, text: text + chance.choice(["=", "==", "A", ".", "\n", " ", "\0", "é"]),
    lambda chance, text: chance.choice([" ", "\n", "Bearer ", ".", "\ufeff"]) + text,
    lambda chance, text: text[: chance.randrange(len(text))],
    lambda chance, text: text.rpartition(".")[0] + ".",
    lambda chance, text: text.rpartition(".")[0],
    lambda chance, text: ".".join(text.split(".")[::-1]),
    lambda chance, text: text.replace(".", "=.", 1),
    lambda chance, text: text.replace("-", "+").replace("_", "/"),
    lambda chance, text: text[:-1] + chance.choice("ABCDEFGHIJKLMNOP"),
    lambda chance, text: b64(b'{"alg":"none"}') + "." + text.split(".")[1] + ".",
    lambda chance, text: text.replace("a", "а", 1),
)
