"""The dashboard's door: its files, its own sign-in, and the whole API once more for whoever is signed in.

`/dashboard/api/v1/x` is `/v1/x` called with the credential that the cookie stands for: the same row, the same checks,
the same handler. The public API never looks at a cookie, and this door at no other credential.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

import app
from app.api import csrf, signin
from app.api.answer import respond
from app.api.auth import Caller
from app.api.call import CONTEXT, Context, Reply
from app.api.files import Files
from app.api.operation import WrongMethod, resources
from app.api.sides import check_caller
from app.api.visit import Visit
from app.errors import NotFound

PREFIX: Final = "/dashboard"
_API: Final = f"{PREFIX}/api"
_OIDC: Final = f"{PREFIX}/oidc"
CALLBACK: Final = f"{_OIDC}/callback"
_ASSETS: Final = f"{PREFIX}/assets/"
_FOLDER: Final = Path(app.__path__[0]) / "dashboard"


def is_below(path: str) -> bool:
    """Whether a path is this door's."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


class Dashboard:
    """`api`: the routes of the public API."""

    def __init__(self, api: ASGIApp) -> None:
        self._api = api
        self._own = {resource.path: resource for resource in resources(signin.OPERATIONS)}
        self._files = Files(_FOLDER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises `Problem`."""
        path, context = scope["path"], scope[CONTEXT]
        if path.startswith(f"{_API}/"):
            csrf.check(scope["method"], context.headers, _url(context))
        if own := self._own.get(path):
            await own(scope, receive, send)
        elif path.startswith(f"{_API}/v1/"):
            context.visit = Visit(context.headers, context.site.running, context.now)
            await self._api({**scope, "path": path.removeprefix(_API)}, receive, send)
        else:
            if path == _API or path.startswith(f"{_API}/"):
                raise NotFound
            if scope["method"] not in csrf.SAFE:
                raise WrongMethod("GET, HEAD")
            await respond(send, context, await self._reply(path, scope, context))

    async def _reply(self, path: str, scope: Scope, context: Context) -> Reply:
        provider = context.site.provider
        if path in (_OIDC, CALLBACK):
            check_caller(Caller("admin"), context.side)
            if provider is None:
                raise NotFound
            return await (provider.start if path == _OIDC else provider.finish)(scope, context)
        name = path.removeprefix(_ASSETS)
        return self._files.shell() if name == path else self._files.asset(name, context.headers)


def _url(context: Context) -> str:
    """By which address a browser has come, as far as the settings say: tenants come to the issuer's."""
    settings = context.site.running().settings
    return settings.issuer if context.side == "public" else settings.operators_url
