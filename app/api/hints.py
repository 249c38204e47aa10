"""What a caller whose credential is refused may have meant, by nothing but the form of what was sent.

Nothing of it is repeated and nothing looked up: a hint is the same whether the credential is a good one or was made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from app.api.auth import Credential

_WANTED: Final[dict[Credential, str]] = {
    "key": "a tenant's API key (sk_live_… or sk_test_…)",
    "user": "an end user's access token",
    "admin": "the operator's key (mk_live_…)",
    "key_or_admin": "a tenant's API key (sk_live_… or sk_test_…) or the operator's key (mk_live_…)",
}
_KINDS: Final[dict[Credential, frozenset[str]]] = {
    "key": frozenset({"an API key"}),
    "user": frozenset({"an access token"}),
    "admin": frozenset({"the operator's key"}),
    "key_or_admin": frozenset({"an API key", "the operator's key"}),
}
_BEGINNINGS: Final = {
    "sk_": "an API key",
    "mk_": "the operator's key",
    "rt_": "a refresh token, which belongs in the body of POST /v1/sessions/refresh",
    "ses_": "a session's id, which is no credential",
    "eyJ": "an access token",
}


def absent(headers: dict[bytes, bytes], credential: Credential) -> str:
    """Where `Authorization` is missing or does not begin with `Bearer`."""
    sent = headers.get(b"authorization")
    if sent is None:
        why = "X-API-Key is not read" if b"x-api-key" in headers else "A credential is required"
    elif sent[:6].lower() == b"basic ":
        why = "Basic credentials are not taken"
    else:
        why = "Authorization does not begin with Bearer"
    return f"{why}: send Authorization: Bearer with {_WANTED[credential]}"


def malformed(credential: Credential) -> str:
    """Where something else than one token follows `Bearer`."""
    return f"After Bearer and a space nothing is expected but {_WANTED[credential]}: no quotes, no second word"


def misplaced(token: str, credential: Credential) -> str | None:
    """Where a token begins like one of another kind than the call takes."""
    kind = next((kind for beginning, kind in _BEGINNINGS.items() if token.startswith(beginning)), None)
    if kind in _KINDS[credential]:
        return None
    return f"This call takes {_WANTED[credential]}; what was sent looks like {kind or 'no credential of this service'}"
