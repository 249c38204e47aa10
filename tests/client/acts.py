"""What a backend does with a verifier, for tests: options, waiting, refusals by their code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from app.client.blocking import Options
from app.client.errors import SessionError
from app.client.memory import Claims
from app.client.verifier import Verifier
from tests.service import Api, Backend

ISSUER: Final = "https://sessions.example"


class Site:
    """A service, a tenant's backend, and how its verifiers follow: over HTTP, or in Redis."""

    def __init__(self, api: Api, redis_url: str | None, url: str | None = None) -> None:
        self.api = api
        self.url = url or api.url
        self.redis_url = redis_url
        self.backend: Backend = api.tenant()

    def options(self, **more: Any) -> Options:
        own: Options = {
            "url": self.url,
            "tenant_id": self.backend.tenant_id,
            "api_key": self.backend.key,
            "issuer": ISSUER,
            "redis_url": self.redis_url,
        }
        return cast(Options, {**own, **more})

    @asynccontextmanager
    async def verifier(self, **more: Any) -> AsyncIterator[Verifier]:
        async with Verifier(**self.options(**more)) as verifier:
            yield verifier

    async def create(self, user_id: str = "usr_1", **details: Any) -> dict[str, Any]:
        return await asyncio.to_thread(self.backend.create, user_id, **details)

    async def call(self, method: str, path: str, **more: Any) -> Any:
        """What the service answers; anything but success fails the test."""
        answer = await asyncio.to_thread(self.backend.call, method, path, **more)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def revoke(self, created: dict[str, Any]) -> None:
        await self.call("DELETE", f"/v1/sessions/{created['session']['id']}")


async def code(verifier: Verifier, token: str) -> str:
    """`ok`, or the code of the refusal."""
    try:
        claims = await verifier.verify(token)
    except SessionError as error:
        return error.code
    assert isinstance(claims, Claims)
    return "ok"


async def verdicts(verifier: Verifier, sessions: list[dict[str, Any]]) -> set[str]:
    """The different verdicts on the sessions' tokens; the loop goes on meanwhile."""
    found = set()
    for number, session in enumerate(sessions):
        found.add(await code(verifier, session["access_token"]))
        if number % 4 == 0:
            await asyncio.sleep(0)
    return found


async def until(verifier: Verifier, token: str, wanted: str, seconds: float = 10.0) -> float:
    """Wait until the token's verdict is `wanted`; how many seconds that took."""
    began = time.monotonic()
    while (verdict := await code(verifier, token)) != wanted:
        assert time.monotonic() < began + seconds, f"still {verdict} rather than {wanted}"
        await asyncio.sleep(0.002)
    return time.monotonic() - began


async def until_claim(verifier: Verifier, token: str, name: str, wanted: object, seconds: float = 10.0) -> Claims:
    """Wait until a claim is `wanted`; all claims then."""
    began = time.monotonic()
    while (claims := await verifier.verify(token)).get(name) != wanted:
        assert time.monotonic() < began + seconds, f"{name} is still {claims.get(name)}"
        await asyncio.sleep(0.002)
    return claims


async def until_fresh(verifier: Verifier, seconds: float = 30.0) -> None:
    began = time.monotonic()
    while verifier.stale:
        assert time.monotonic() < began + seconds, "still stale"
        await asyncio.sleep(0.01)


async def until_stale(verifier: Verifier, seconds: float = 30.0) -> None:
    began = time.monotonic()
    while not verifier.stale:
        assert time.monotonic() < began + seconds, "not stale"
        await asyncio.sleep(0.01)
