"""A FastAPI app for people with a living session: `uvicorn session_client.examples.fastapi_app:app --port 9000`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from session_client import Claims, Refused, Verifier, problem_response, require_session

verifier = Verifier(
    url=os.environ["HELLOJOHN_URL"],
    tenant_id=os.environ["TENANT_ID"],
    api_key=os.environ["API_KEY"],
    issuer=os.environ.get("HELLOJOHN_ISSUER"),
)
Session = Annotated[Claims, Depends(require_session(verifier))]
Admin = Annotated[Claims, Depends(require_session(verifier, role="admin"))]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with verifier:
        yield


app = FastAPI(lifespan=lifespan)
app.add_exception_handler(Refused, problem_response)


@app.get("/me")
async def me(session: Session) -> dict[str, Any]:
    return {"user": session.user_id, "role": session.role, "plan": session.get("plan")}


@app.get("/admin")
async def admin(session: Admin) -> dict[str, Any]:
    return {"welcome": session.user_id}


@app.get("/health")
async def health() -> dict[str, Any]:
    """No session needed. `lag`: how many seconds old what is known of revocations can be."""
    return {"ready": verifier.ready, "stale": verifier.stale, "lag": verifier.lag if verifier.ready else None}
