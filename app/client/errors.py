"""Why a request is refused: one class for each reason, with a stable `code`, an HTTP `status` and a `title`."""

from __future__ import annotations

from typing import Any, ClassVar, Final


class SessionError(Exception):
    """Base of every refusal. `detail` is for humans, `code` for programs."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title


class MissingToken(SessionError):
    code, status, title = "missing_token", 401, "An access token is required"


class InvalidToken(SessionError):
    code, status, title = "invalid_token", 401, "The access token is not valid"


class TokenExpired(SessionError):
    code, status, title = "token_expired", 401, "The access token has expired"


class SessionRevoked(SessionError):
    code, status, title = "session_revoked", 401, "The session has ended"


class InsufficientRole(SessionError):
    code, status, title = "insufficient_role", 403, "The session has not the role that this needs"


class VerifierStale(SessionError):
    """The verifier does not know the latest revocations and may not, or cannot, ask."""

    code, status, title = "verifier_stale", 503, "Revocations are not known up to date"


class ServiceUnavailable(SessionError):
    """The session service had to be asked and did not answer."""

    code, status, title = "service_unavailable", 503, "The session service is not available"


class InvalidApiKey(SessionError):
    """A fault of configuration: `start` raises it, a request never meets it."""

    code, status, title = "invalid_api_key", 500, "The session service refuses the API key"


REFUSALS: Final[dict[str, type[SessionError]]] = {
    "invalid_token": InvalidToken,
    "token_expired": TokenExpired,
    "session_revoked": SessionRevoked,
    "session_expired": SessionRevoked,
    "session_not_found": SessionRevoked,
}
"""What the service's own codes are called here."""


def problem(error: SessionError) -> dict[str, Any]:
    """The body of the answer (RFC 9457, `application/problem+json`). Our own `detail` is not for strangers."""
    return {
        "type": f"urn:hellojohn:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.title,
        "code": error.code,
    }


def challenge(error: SessionError, realm: str = "sessions") -> dict[str, str]:
    """Its headers besides the type: `WWW-Authenticate` (RFC 6750 §3), `Retry-After` with a 503, and that nobody keeps
    it."""
    return {"Cache-Control": "no-store", **_challenge(error, realm)}


def _challenge(error: SessionError, realm: str) -> dict[str, str]:
    if error.status == 401 and not isinstance(error, MissingToken):
        return {"WWW-Authenticate": f'Bearer realm="{realm}", error="invalid_token", error_description="{error.title}"'}
    if error.status == 401:
        return {"WWW-Authenticate": f'Bearer realm="{realm}"'}
    if error.status == 403:
        return {"WWW-Authenticate": f'Bearer realm="{realm}", error="insufficient_scope"'}
    return {"Retry-After": "1"} if error.status == 503 else {}
