"""Signing in through the operator's own OpenID provider: the code flow with PKCE, state and nonce, by authlib.

Nothing is kept here of a sign-in under way: what has to be known again at its end is in a cookie, with a MAC. The
provider is trusted to say who somebody is; who may come in says `HELLOJOHN_OIDC_ALLOWED`.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Final

import httpx2
import msgspec
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth
from joserfc.errors import JoseError
from starlette.requests import Request
from starlette.types import Scope

from app.api import signin
from app.api.auth import NOBODY
from app.api.call import Call, Context, Header, Reply
from app.api.dashboard import CALLBACK
from app.api.visit import Visit, token
from app.errors import MissingToken, ValidationError
from app.model import MINUTE, SECOND
from app.operators import LIFE_MS, Identity, name_of
from app.settings import Oidc

_COOKIE: Final = "__Host-hellojohn-oidc"
_WITHIN_MS: Final = 10 * MINUTE
_HOME: Final = "/dashboard"
_TIMEOUT_S: Final = 10
_NAME: Final = "provider"
_NEXT: Final = re.compile(
    r"/dashboard(/(?!api/|oidc|\.|%2[eE])[A-Za-z0-9_.~%-]+)*/?(\?[A-Za-z0-9_.~%&=+*-]*)?", re.ASCII
)
_ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
_FAILURES: Final = (AuthlibBaseError, JoseError, httpx2.HTTPError, ValueError, KeyError, RuntimeError)
"""What the provider or whoever calls back in its name can make authlib raise."""
_log = logging.getLogger("app.oidc")


class _Underway(msgspec.Struct, frozen=True):
    """A sign-in that has begun: what authlib would keep in a session, when, where to go in the end, and the name of the
    session that ends with it, whose own cookie does not come along with a navigation from elsewhere."""

    session: dict[str, Any]
    at: int
    following: str
    old: str | None


class Provider:
    """`url`: the address of this service that the provider sends people back to."""

    def __init__(self, settings: Oidc, url: str) -> None:
        self._settings = settings
        self._redirect = url + CALLBACK
        self._client = OAuth().register(
            _NAME,
            client_id=settings.client_id,
            client_secret=settings.client_secret,
            server_metadata_url=settings.issuer.rstrip("/") + "/.well-known/openid-configuration",
            client_kwargs={"scope": settings.scope, "code_challenge_method": "S256", "timeout": _TIMEOUT_S},
        )

    async def start(self, scope: Scope, context: Context) -> Reply:
        """To the provider. Somebody who is signed in already wants a fresh sign-in, and is asked for it there."""
        session: dict[str, Any] = {}
        request = Request({**scope, "session": session})
        asked: dict[str, str] = {"max_age": str(LIFE_MS // SECOND)}
        if await _is_signed_in(context):
            asked = {"max_age": "0", "prompt": "login"}
        try:
            await self._check_metadata()
            response = await self._client.authorize_redirect(request, self._redirect, **asked)
        except _FAILURES as error:
            return _failed(error)
        for kept in session.values():
            kept["data"].pop("url")
        following = _following(request.query_params.get("next", ""))
        underway = _Underway(session, context.now, following, name_of(token(context.headers)))
        sealed = context.site.running().cursors.seal(msgspec.json.encode(underway).decode(), _COOKIE)
        return Reply(status=302, headers=((b"location", response.headers["location"].encode()), _cookie(sealed, 600)))

    async def finish(self, scope: Scope, context: Context) -> Reply:
        """From the provider, with a code: a session for whoever is on the list, and back to the page. Never a refusal
        that tells more than that."""
        underway = _opened(context)
        if underway is None:
            return _back("failed")
        try:
            identity, proven_at = await self._identity(Request({**scope, "session": underway.session}), context.now)
        except _FAILURES as error:
            return _failed(error)
        if not context.site.running().operators.admits(identity):
            return _back("refused")
        begun = await signin.begin(Call(context, NOBODY, {}), identity, proven_at, underway.old)
        cookies = [header for header in begun.headers if header[0] == b"set-cookie"]
        return _redirect(underway.following, *cookies)

    async def _identity(self, request: Request, now: int) -> tuple[Identity, int]:
        """Who it is, and when they last proved it to the provider (epoch ms; 0: it does not say, OIDC Core §2)."""
        await self._check_metadata()
        terms = {"iss": self._settings.issuer, "aud": self._settings.client_id}
        granted = await self._client.authorize_access_token(
            request, claims_options={name: {"essential": True, "value": value} for name, value in terms.items()}
        )
        claims = dict(granted["userinfo"])
        if "userinfo_endpoint" in self._client.server_metadata:
            more = dict(await self._client.userinfo(token=granted))
            if more.get("sub") != claims["sub"]:
                raise ValueError("userinfo is about somebody else (OIDC Core §5.3.2)")
            claims = more | claims
        return identity_of(claims), min(now, int(claims.get("auth_time", 0)) * SECOND)

    async def _check_metadata(self) -> None:
        """Read once. Raises `ValueError` where it is another issuer's (OIDC Discovery §4.3)."""
        found = await self._client.load_server_metadata()
        if found.get("issuer") != self._settings.issuer:
            raise ValueError("the provider says it is another issuer")
        offered = found.get("id_token_signing_alg_values_supported", ["RS256"])
        found["id_token_signing_alg_values_supported"] = [name for name in offered if name in _ALGORITHMS]


def identity_of(claims: dict[str, Any]) -> Identity:
    """Of an address only if the provider has verified it. Raises `ValueError` for a subject that is none (OIDC Core §2:
    at most 255 ASCII characters)."""
    subject, email, groups = claims.get("sub"), claims.get("email"), claims.get("groups", [])
    if not isinstance(subject, str) or not re.fullmatch(r"[!-~]{1,255}", subject):
        raise ValueError("no subject")
    known = [email.lower()] if isinstance(email, str) and claims.get("email_verified") is True else []
    named = [f"group:{group}" for group in groups if isinstance(group, str)] if isinstance(groups, list) else []
    return Identity(credential="oidc", id=subject, name=(known or [subject])[0], grants=(*known, *named))


async def _is_signed_in(context: Context) -> bool:
    try:
        await Visit(context.headers, context.site.running, context.now).operator()
    except MissingToken:
        return False
    return True


def _following(path: str) -> str:
    """A view of ours, whatever was asked for: nobody is sent elsewhere from here (CWE-601)."""
    return path if _NEXT.fullmatch(path) else _HOME


def _opened(context: Context) -> _Underway | None:
    sent = re.search(rb"(?:^|;)[ \t]*" + _COOKIE.encode() + rb"=([A-Za-z0-9_-]+)", context.headers.get(b"cookie", b""))
    if sent is None:
        return None
    try:
        text = context.site.running().cursors.open(sent[1].decode(), _COOKIE)
    except ValidationError:
        return None
    found = msgspec.json.decode(text, type=_Underway)
    return found if 0 <= context.now - found.at < _WITHIN_MS else None


def _cookie(value: str, seconds: int) -> Header:
    """Lax: it has to come back with a navigation that begins at the provider."""
    return b"set-cookie", f"{_COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}".encode()


def _failed(error: BaseException) -> Reply:
    """Its name and, of what the provider answered, the code; not the text, which could quote what was sent."""
    code = getattr(error, "error", None)
    shown = f" ({code})" if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code) else ""
    _log.warning("a sign-in through the OpenID provider failed: %s%s", type(error).__qualname__, shown)
    return _back("failed")


def _back(how: str) -> Reply:
    return _redirect(f"{_HOME}?oidc={how}")


def _redirect(path: str, *headers: Header) -> Reply:
    return Reply(status=303, headers=((b"location", path.encode()), _cookie("", 0), *headers))
