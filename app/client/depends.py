"""For Starlette and FastAPI: the claims of a request's session, as a dependency or a plain call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse

from .asgi import admitted
from .errors import SessionError, challenge, problem
from .memory import Claims
from .verifier import Verifier


class Refused(HTTPException):
    """A refusal with the right status and headers, whoever answers it; `problem_response` gives it its document."""

    def __init__(self, error: SessionError) -> None:
        super().__init__(error.status, error.detail, challenge(error))
        self.error = error


def require_session(verifier: Verifier, role: str | None = None) -> Callable[[HTTPConnection], Awaitable[Claims]]:
    """`Depends(require_session(verifier))`, or in Starlette `await require_session(verifier)(request)`.

    Whoever shows no good token is answered 401, or 503 when nobody can tell; who has another `role`, 403.
    """

    async def session(connection: HTTPConnection) -> Claims:
        try:
            return await admitted(verifier, connection.headers.getlist("authorization"), role)
        except SessionError as error:
            raise Refused(error) from error

    return session


async def problem_response(request: Request, refused: Exception) -> JSONResponse:
    """`app.add_exception_handler(Refused, problem_response)`: refusals as RFC 9457 documents with their `code`."""
    if not isinstance(refused, Refused):
        raise refused
    body, headers = problem(refused.error), dict(refused.headers or {})
    return JSONResponse(body, refused.status_code, headers, "application/problem+json")
