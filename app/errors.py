"""What can go wrong, as classes: a stable `code`, an HTTP `status`, a `title` (RFC 9457 §3.1), and what a caller who
gets it should do, `advice`: the documentation's page of errors is made from them.

`status` is a number for the door; nothing below the door reads it.
"""

from __future__ import annotations

from typing import ClassVar


class Problem(Exception):
    """Base of every refusal. `detail` is for humans and never holds a secret or internals; where nothing else is said
    it is `usual`, or else the title. `genuine`: the credential that is refused was made by this deployment, or a good
    key vouches for it: it is no guess."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    usual: ClassVar[str | None] = None
    advice: ClassVar[str] = (
        "Repeat the call later. If that does not help, give the operator the `request_id`: the log has what went wrong."
    )

    def __init__(self, detail: str | None = None, *, field: str | None = None, genuine: bool = False) -> None:
        self.detail = detail or self.usual or self.title
        super().__init__(self.detail)
        self.field = field
        self.genuine = genuine


class ValidationError(Problem):
    code, status, title = "validation_error", 422, "The request is not valid"
    advice = (
        "Correct what `field` names as `detail` says, and send the request again. As it is, it will always be refused."
    )


class MalformedRequest(Problem):
    code, status, title = "malformed_request", 400, "The request cannot be read"
    advice = (
        "Correct the request: `detail` says what cannot be read, `field` which parameter or header, where it is one."
    )


class MissingToken(Problem):
    code, status, title = "missing_token", 401, "A credential is required"
    advice = (
        "Send the credential as `Authorization: Bearer …`. Which one, `detail` says and the list of calls; the "
        "dashboard wants a sign-in."
    )


class InvalidToken(Problem):
    code, status, title = "invalid_token", 401, "The access token is not valid"
    advice = "Get a new access token with the refresh token; where that is refused too, have the user sign in."


class TokenExpired(Problem):
    code, status, title = "token_expired", 401, "The access token has expired"
    advice = "Get a new access token with the refresh token, `POST /v1/sessions/refresh`, and repeat the call."


class InvalidApiKey(Problem):
    code, status, title = "invalid_api_key", 401, "The API key is not valid"
    advice = (
        "Check that the key is whole, of this deployment, and neither removed nor expired. Do not retry: wrong keys "
        "are counted."
    )


class TenantMismatch(Problem):
    code, status, title = "tenant_mismatch", 403, "X-Tenant-ID is not the tenant of this key"
    advice = "Leave `X-Tenant-ID` out, or send the id of the tenant that the credential belongs to."


class InsufficientScope(Problem):
    """`scope`: what an API key would need for it; `None` where no API key would do."""

    code, status, title = "insufficient_scope", 403, "This credential may not do that"
    advice = (
        "Use another credential. `scope` is the one that this API key lacks: the operator makes a key that has it. "
        "Without `scope` the call is for another kind of credential, which `detail` names."
    )

    def __init__(self, scope: str | None = None, detail: str | None = None) -> None:
        super().__init__(detail or (scope and f"This API key lacks the scope {scope}"))
        self.scope = scope


class CsrfRefused(Problem):
    code, status, title = "csrf_refused", 403, "The dashboard takes changes from its own pages only"
    advice = (
        "Programs use `/v1/…` with a key. In a browser, open the dashboard by the address that the deployment is set "
        "to."
    )


class FreshSignInRequired(Problem):
    code, status, title = "fresh_sign_in_required", 403, "This needs a sign-in within the last ten minutes"
    advice = "Sign in again and repeat the act within ten minutes."


class ConfirmationRequired(Problem):
    code, status, title = "confirmation_required", 428, "This has to be confirmed by the name of the tenant"
    advice = "Send the tenant's name in `X-Confirm`, percent-encoded."


class SessionNotFound(Problem):
    code, status, title = "session_not_found", 404, "No such session"
    advice = "Check the id, and that the session is this tenant's. What ended is forgotten after the retention."


class SessionRevoked(Problem):
    code, status, title = "session_revoked", 401, "The session was revoked"
    advice = "Have the user sign in again: this session stays ended. `detail` says why, where it is known."


class SessionExpired(Problem):
    code, status, title = "session_expired", 401, "The session has expired"
    advice = "Have the user sign in again: this session stays ended."


class SessionEnded(Problem):
    code, status, title = "session_ended", 409, "The session has ended"
    advice = "Nothing is left to change. Create a session at the next sign-in."


class RefreshTokenInvalid(Problem):
    code, status, title = "refresh_token_invalid", 401, "The refresh token is not valid"
    advice = (
        "Have the user sign in again. Check that the whole token was kept, and that it is of this deployment and "
        "tenant."
    )


class RefreshTokenReused(Problem):
    code, status, title = "refresh_token_reused", 401, "The refresh token was used before"
    advice = (
        "Have the user sign in again: an old refresh token may be a stolen one, so the session was ended. Always keep "
        "the newest."
    )


class SessionLimitReached(Problem):
    code, status, title = "session_limit_reached", 409, "The user has too many sessions"
    advice = (
        "Sign out one of the user's sessions and create again; or change `max_sessions_per_user` or `on_limit` in the "
        "policy."
    )

    def __init__(self, limit: int) -> None:
        super().__init__(f"A user may have {limit} session{'' if limit == 1 else 's'} at a time")


class IdempotencyKeyReused(Problem):
    code, status, title = "idempotency_key_reused", 422, "The Idempotency-Key belongs to another request"
    advice = "Use a new `Idempotency-Key` for a new request; for a repetition send the very same body."


class TenantNotFound(Problem):
    code, status, title = "tenant_not_found", 404, "No such tenant"
    advice = "Check the id of the tenant, in the path or in `X-Tenant-ID`. A deleted one does not come back."


class ApiKeyNotFound(Problem):
    code, status, title = "api_key_not_found", 404, "No such API key"
    advice = (
        "List the tenant's API keys and take an id from there. A key that was removed or has expired cannot be rotated."
    )


class SigningKeyNotFound(Problem):
    code, status, title = "signing_key_not_found", 404, "No such signing key"
    advice = "List the signing keys and take a `kid` from there."


class Conflict(Problem):
    code, status, title = "conflict", 409, "Someone else changed this at the same time"
    advice = "Wait a moment, read the present state and repeat. Where `detail` names a limit, make room first."


class PreconditionFailed(Problem):
    code, status, title = "precondition_failed", 412, "If-Match names another version than there is"
    advice = "Read it again, decide by what is there now, and send the new `ETag` as `If-Match`."


class NotFound(Problem):
    code, status, title = "not_found", 404, "No such path"
    advice = (
        "Compare the path with the list of calls; there is no slash at its end. With `ADMIN_PORT` set, each port "
        "serves its own calls only."
    )


class MethodNotAllowed(Problem):
    code, status, title = "method_not_allowed", 405, "This path does not know that method"
    advice = "Use one of the methods in the header `Allow`."


class CursorExpired(Problem):
    """There may be a gap between the cursor and what is kept: begin anew and take everyone's state afresh."""

    code, status, title = "cursor_expired", 410, "Events since this cursor are no longer kept"
    advice = "Begin anew with `?snapshot=true`, and take what you know of everyone afresh."


class CursorLost(Problem):
    """The store has lost writes (a failover, a power loss): begin anew with a snapshot, and keep what is known."""

    code, status, title = "cursor_lost", 410, "The log has lost events that this cursor had seen"
    advice = "Begin anew with `?snapshot=true`, and keep what you know."


class RequestTimeout(Problem):
    code, status, title = "request_timeout", 408, "The request did not arrive in time"
    advice = "Send the whole request at once, and repeat it."


class TooManyFailures(Problem):
    """`retry_after`: seconds."""

    code, status, title = "too_many_failures", 429, "Too many requests with a bad credential"
    advice = "Wait for `Retry-After` seconds, and correct the credential. A good one is never held up."

    def __init__(self, retry_after: int = 1) -> None:
        super().__init__()
        self.retry_after = retry_after


class RateLimited(Problem):
    """`retry_after`: seconds."""

    code, status, title = "rate_limited", 429, "This API key has used up its calls of this minute"
    advice = (
        "Wait for `Retry-After` seconds, and spread the calls; `RateLimit` says with each answer how many are left."
    )

    def __init__(self, retry_after: int = 1) -> None:
        super().__init__()
        self.retry_after = retry_after


class BodyTooLarge(Problem):
    code, status, title = "body_too_large", 413, "The request body is too large"
    usual = "A body may have 65536 bytes"
    advice = "Send less: a body may have 64 KiB. Batches can be split."


class UriTooLong(Problem):
    code, status, title = "uri_too_long", 414, "The request target is too long"
    usual = "Path and query together may have 4096 bytes"
    advice = "Send a shorter path and query: both together may have 4 KiB."


class UnsupportedMediaType(Problem):
    code, status, title = "unsupported_media_type", 415, "The body must be application/json"
    advice = "Send JSON in UTF-8 with `Content-Type: application/json`, and without compression."


class HeadersTooLarge(Problem):
    code, status, title = "headers_too_large", 431, "The request has too many or too large headers"
    usual = "A request may have 100 headers and 16384 bytes of them"
    advice = (
        "Send fewer or shorter headers: 100 and 16 KiB are taken. Often it is cookies of other sites on the same "
        "domain."
    )


class StoreUnavailable(Problem):
    """Redis did not answer, or refused. The outcome of a write is unknown; every verb is safe to repeat.

    `cause` is for the log (`str` of the exception) and may hold Redis's own words. Callers of the API get `detail`,
    which must not.
    """

    code, status, title = "store_unavailable", 503, "The session store is not available"
    advice = (
        "Repeat the call after `Retry-After` seconds, and then ever later. It says nothing of any token. A write may "
        "have happened, and may be repeated: a create with the same `Idempotency-Key`."
    )

    def __init__(self, cause: str | None = None, *, detail: str | None = None) -> None:
        super().__init__(detail)
        self.args = (cause or self.detail,)


class WritesRefused(StoreUnavailable):
    """Every server of the store answers, and at least one takes no writes; `detail` says why."""


class Unreadable(Exception):
    """Something in the store is not what it should be: of another type, or not to be decoded. Only damage from outside
    makes it so, and the repair pass sees to what it can."""


def catalogue() -> list[type[Problem]]:
    """All that the service can answer, by status and code."""
    return sorted([Problem, *Problem.__subclasses__()], key=lambda kind: (kind.status, kind.code))
