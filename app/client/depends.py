"""For Starlette and FastAPI: the claims of a request's session, as a dependency or a plain call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, overload

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse

from .asgi import admitted
from .errors import SessionError, challenge, problem
from .memory import Claims
from .options import check_access
from .verifier import Verifier


class Refused(HTTPException):
    """A refusal with the right status and headers, whoever answers it; `problem_response` gives it its document."""

    def __init__(self, error: SessionError) -> None:
        super().__init__(error.status, error.title, challenge(error))
        self.error = error


@overload
def require_session(
    verifier: Verifier, role: str | None = None, *, required: Literal[True] = True
) -> Callable[[HTTPConnection], Awaitable[Claims]]: ...
@overload
def require_session(
    verifier: Verifier, role: str | None = None, *, required: bool
) -> Callable[[HTTPConnection], Awaitable[Claims | None]]: ...
def require_session(
    verifier: Verifier, role: str | None = None, *, required: bool = True
) -> Callable[[HTTPConnection], Awaitable[Claims | None]]:
    """`Depends(require_session(verifier))`, or in Starlette `await require_session(verifier)(request)`.

    Whoever shows no good token is answered 401, or 503 when nobody can tell; who has another `role`, 403. With
    `required=False` the claims are `None` for who shows no token.
    """
    check_access(verifier, role, required)

    async def session(connection: HTTPConnection) -> Claims | None:
        sent = connection.headers.getlist("authorization")
        if not sent and not required:
            return None
        try:
            return await admitted(verifier, sent, role)
        except SessionError as error:
            raise Refused(error) from error

    return session


async def problem_response(request: Request, refused: Exception) -> JSONResponse:
    """`app.add_exception_handler(Refused, problem_response)`: refusals as RFC 9457 documents with their `code`."""
    if not isinstance(refused, Refused):
        raise refused
    body, headers = problem(refused.error), dict(refused.headers or {})
    return JSONResponse(body, refused.status_code, headers, "application/problem+json")
