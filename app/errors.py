"""What can go wrong, as classes: a stable `code`, an HTTP `status`, a `title` (RFC 9457 §3.1).

`status` is a number for the door; nothing below the door reads it.
"""

from __future__ import annotations

from typing import ClassVar


class Problem(Exception):
    """Base of every refusal. `detail` is for humans and never holds a secret or internals."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str | None = None, *, field: str | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.field = field


class ValidationError(Problem):
    code, status, title = "validation_error", 422, "The request is not valid"


class MalformedRequest(Problem):
    code, status, title = "malformed_request", 400, "The request cannot be read"


class MissingToken(Problem):
    code, status, title = "missing_token", 401, "A credential is required"


class InvalidToken(Problem):
    code, status, title = "invalid_token", 401, "The access token is not valid"


class TokenExpired(Problem):
    code, status, title = "token_expired", 401, "The access token has expired"


class InvalidApiKey(Problem):
    code, status, title = "invalid_api_key", 401, "The API key is not valid"


class TenantMismatch(Problem):
    code, status, title = "tenant_mismatch", 403, "X-Tenant-ID is not the tenant of this key"


class InsufficientScope(Problem):
    """`scope`: what an API key would need for it; `None` where no API key would do."""

    code, status, title = "insufficient_scope", 403, "This credential may not do that"

    def __init__(self, scope: str | None = None) -> None:
        super().__init__()
        self.scope = scope


class CsrfRefused(Problem):
    code, status, title = "csrf_refused", 403, "The dashboard takes changes from its own pages only"


class FreshSignInRequired(Problem):
    code, status, title = "fresh_sign_in_required", 403, "This needs a sign-in within the last ten minutes"


class ConfirmationRequired(Problem):
    code, status, title = "confirmation_required", 428, "This has to be confirmed by the name of the tenant"


class SessionNotFound(Problem):
    code, status, title = "session_not_found", 404, "No such session"


class SessionRevoked(Problem):
    code, status, title = "session_revoked", 401, "The session was revoked"


class SessionExpired(Problem):
    code, status, title = "session_expired", 401, "The session has expired"


class SessionEnded(Problem):
    code, status, title = "session_ended", 409, "The session has ended"


class RefreshTokenInvalid(Problem):
    code, status, title = "refresh_token_invalid", 401, "The refresh token is not valid"


class RefreshTokenReused(Problem):
    code, status, title = "refresh_token_reused", 401, "The refresh token was used before"


class SessionLimitReached(Problem):
    code, status, title = "session_limit_reached", 409, "The user has too many sessions"


class IdempotencyKeyReused(Problem):
    code, status, title = "idempotency_key_reused", 422, "The Idempotency-Key belongs to another request"


class TenantNotFound(Problem):
    code, status, title = "tenant_not_found", 404, "No such tenant"


class ApiKeyNotFound(Problem):
    code, status, title = "api_key_not_found", 404, "No such API key"


class SigningKeyNotFound(Problem):
    code, status, title = "signing_key_not_found", 404, "No such signing key"


class Conflict(Problem):
    code, status, title = "conflict", 409, "Someone else changed this at the same time"


class PreconditionFailed(Problem):
    code, status, title = "precondition_failed", 412, "If-Match names another version than there is"


class NotFound(Problem):
    code, status, title = "not_found", 404, "No such path"


class MethodNotAllowed(Problem):
    code, status, title = "method_not_allowed", 405, "This path does not know that method"


class CursorExpired(Problem):
    """There may be a gap between the cursor and what is kept: begin anew and take everyone's state afresh."""

    code, status, title = "cursor_expired", 410, "Events since this cursor are no longer kept"


class CursorLost(Problem):
    """The store has lost writes (a failover, a power loss): begin anew with a snapshot, and keep what is known."""

    code, status, title = "cursor_lost", 410, "The log has lost events that this cursor had seen"


class RequestTimeout(Problem):
    code, status, title = "request_timeout", 408, "The request did not arrive in time"


class TooManyFailures(Problem):
    """`retry_after`: seconds."""

    code, status, title = "too_many_failures", 429, "Too many requests with a bad credential"

    def __init__(self, retry_after: int = 1) -> None:
        super().__init__()
        self.retry_after = retry_after


class RateLimited(Problem):
    """`retry_after`: seconds."""

    code, status, title = "rate_limited", 429, "This API key has used up its calls of this minute"

    def __init__(self, retry_after: int = 1) -> None:
        super().__init__()
        self.retry_after = retry_after


class BodyTooLarge(Problem):
    code, status, title = "body_too_large", 413, "The request body is too large"


class UriTooLong(Problem):
    code, status, title = "uri_too_long", 414, "The request target is too long"


class UnsupportedMediaType(Problem):
    code, status, title = "unsupported_media_type", 415, "The body must be application/json"


class HeadersTooLarge(Problem):
    code, status, title = "headers_too_large", 431, "The request has too many or too large headers"


class StoreUnavailable(Problem):
    """Redis did not answer, or refused. The outcome of a write is unknown; every verb is safe to repeat."""

    code, status, title = "store_unavailable", 503, "The session store is not available"
