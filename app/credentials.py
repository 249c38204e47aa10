"""Secret and operator's keys of a deployment, from the environment: their form, their strength, and none used for two.

Development makes its own and keeps them in the data folder.
"""

from __future__ import annotations

import math
import os
import re
import secrets
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path


class SettingError(ValueError):
    """A setting is missing or wrong; the message starts with its name."""


def read_secret(env: Mapping[str, str], environment: str) -> bytes:
    value = env.get("HELLOJOHN_SECRET")
    if value:
        return _strong("HELLOJOHN_SECRET", value, value, environment).encode()
    return _kept(env, "secret", secrets.token_urlsafe(48)).encode()


def read_other_secret(env: Mapping[str, str], environment: str, secret: bytes) -> bytes | None:
    value = env.get("HELLOJOHN_OTHER_SECRET")
    if not value:
        return None
    if value.encode() == secret:
        raise SettingError("HELLOJOHN_OTHER_SECRET must be another one than HELLOJOHN_SECRET")
    return _strong("HELLOJOHN_OTHER_SECRET", value, value, environment).encode()


def _strong(name: str, value: str, random: str, environment: str) -> str:
    """`value`, whose part `random` nobody could guess. Development asks for its length only."""
    if len(random) < 32:
        raise SettingError(f"{name} must have at least 32 characters")
    if environment == "production" and _guessable(random):
        raise SettingError(f"{name} must be random: make one with `openssl rand -base64 48 | tr +/ -_`")
    return value


def _guessable(text: str) -> bool:
    """Samples, repetitions, rows of a keyboard or an alphabet: what people type when they are asked for a secret."""
    counts = Counter(text)
    bits = -sum(count * math.log2(count / len(text)) for count in counts.values())
    steps = sum(abs(ord(one) - ord(after)) <= 1 for one, after in pairwise(text))
    repeated = len({text[i : i + 4] for i in range(len(text) - 3)}) < 0.8 * (len(text) - 3)
    sample = re.search(
        r"change.?me|example|sample|placeholder|password|replace|insecure|your.?(secret|key)", text, re.I
    )
    return bits < 88 or steps > len(text) / 2 or repeated or sample is not None


def read_admin_key(env: Mapping[str, str], environment: str) -> str:
    if value := env.get("HELLOJOHN_ADMIN_KEY"):
        return _operators_key("HELLOJOHN_ADMIN_KEY", value, environment)
    return _kept(env, "admin_key", "mk_live_" + secrets.token_urlsafe(32))


def read_other_admin_key(env: Mapping[str, str], environment: str) -> str | None:
    name = "HELLOJOHN_OTHER_ADMIN_KEY"
    value = env.get(name)
    if value and value == env.get("HELLOJOHN_ADMIN_KEY"):
        raise SettingError(f"{name} must be another one than HELLOJOHN_ADMIN_KEY")
    return _operators_key(name, value, environment) if value else None


def _operators_key(name: str, value: str, environment: str) -> str:
    if not re.fullmatch(r"mk_live_[A-Za-z0-9._~+/-]{32,}", value):
        raise SettingError(f"{name} must be mk_live_ followed by at least 32 characters of a token")
    return _strong(name, value, value[8:], environment)


def keep_apart(secret: Mapping[str, bytes | None], keys: Mapping[str, str | None]) -> None:
    """No key may be made of a secret: who is given the one could work out the other."""
    for secret_name, one in secret.items():
        for name, key in keys.items():
            if one and key and (key.encode().removeprefix(b"mk_live_") in one or one in key.encode()):
                raise SettingError(f"{name} must not be made of {secret_name}")


def _kept(env: Mapping[str, str], name: str, fresh: str) -> str:
    """In development: a value made once and kept in the data folder with mode 0600."""
    folder = Path(env.get("HELLOJOHN_DATA") or ".data")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{name}.{secrets.token_hex(8)}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(fresh)
    try:
        os.link(draft, folder / name)
    except FileExistsError:
        return (folder / name).read_text().strip()
    finally:
        draft.unlink()
    return fresh
