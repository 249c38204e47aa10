"""What a handler gets and may give: one request, checked, and an answer that is more than a JSON struct."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from app.api.auth import Caller, Holder
from app.api.body import Bodies
from app.api.failures import Failures
from app.api.sides import Side
from app.audit import OPERATOR, Action, Entry
from app.errors import ConfirmationRequired, InsufficientScope, StoreUnavailable, ValidationError
from app.model import Session, Tenant

if TYPE_CHECKING:
    from app.api.metrics import Metrics
    from app.api.oidc import Provider
    from app.api.operation import Operation
    from app.api.visit import Visit
    from app.runtime import Runtime

Header = tuple[bytes, bytes]

CONTEXT: Final = "hellojohn"
"""Where the door leaves the `Context` in an ASGI scope."""


class Site(msgspec.Struct):
    """What lives as long as the process. `runtime` is missing before start-up and after shutdown;
    `closing` once the process has been asked to end; `admin_port`: of the operator's own listener, if there is one.
    `provider`: of OIDC, if there is one. `origins`: whose pages may call for their end users."""

    metrics: Metrics
    document: bytes
    page: bytes
    runtime: Runtime | None = None
    closing: bool = False
    admin_port: int | None = None
    bodies: Bodies = msgspec.field(default_factory=Bodies)
    failures: Failures = Failures()
    provider: Provider | None = None
    origins: frozenset[bytes] = frozenset()

    def running(self) -> Runtime:
        """Raises `StoreUnavailable` while nothing is open."""
        if self.runtime is None:
            raise StoreUnavailable
        return self.runtime


class Context(msgspec.Struct):
    """What the door knows about one request; the operation adds which one it is and whose. `status`: of the answer,
    once it has begun to leave. `side`: the listener that it came by, if there are two. `visit`: with a request that
    came by the dashboard's door. `shared`: headers that the answer gets beside its own: for pages of other origins,
    and on the caller's quota. `vouched`: a good key, or a good dashboard session, came with the request."""

    site: Site
    now: int
    request_id: str
    side: Side | None = None
    headers: dict[bytes, bytes] = {}
    operation: Operation | None = None
    tenant_id: str | None = None
    key_id: str | None = None
    status: int = 0
    visit: Visit | None = None
    shared: tuple[Header, ...] = ()
    vouched: bool = False

    @property
    def holder(self) -> Holder | None:
        return None if self.visit is None else self.visit.holder


class Call(msgspec.Struct):
    """One request as a handler sees it: who, when, and what."""

    context: Context
    caller: Caller
    path: dict[str, str]
    query: Any = None
    body: Any = None

    @property
    def now(self) -> int:
        return self.context.now

    @property
    def runtime(self) -> Runtime:
        return self.context.site.running()

    @property
    def by_operator(self) -> bool:
        """A person asks, and not a tenant's backend."""
        return self.caller.kind == "admin" or self.context.visit is not None

    @property
    def tenant(self) -> Tenant:
        """The tenant this call is about. The operator names one with X-Tenant-ID."""
        if self.caller.tenant is None:
            raise ValidationError("X-Tenant-ID must name a tenant", field="X-Tenant-ID")
        return self.caller.tenant

    @property
    def by(self) -> str:
        """Who calls, as a session's history tells it; which operator is for the audit log alone."""
        return self.caller.kind if self.caller.key is None else f"key:{self.caller.key.id}"

    async def audit(
        self, action: Action, target: str, tenant_id: str | None = None, before: Any = None, after: Any = None
    ) -> None:
        """Put a change on record, in the tenant's log or the operator's. `before` and `after`: structs or dicts. Made
        before the answer, so that a change that was acknowledged is on record."""
        entry = Entry(
            at=self.now,
            actor=self.caller.actor,
            action=action,
            target=target,
            request_id=self.context.request_id,
            before=None if before is None else msgspec.to_builtins(before),
            after=None if after is None else msgspec.to_builtins(after),
        )
        await self.runtime.audit.record(tenant_id or OPERATOR, entry)

    def confirm(self, name: str) -> None:
        """What ends a tenant's sessions all at once has to be confirmed in the dashboard. Raises `ConfirmationRequired`
        unless `X-Confirm` has this name, in UTF-8 and percent-encoded."""
        said = unquote_to_bytes(self.context.headers.get(b"x-confirm", b""))
        if self.context.visit is not None and said != name.encode():
            raise ConfirmationRequired

    def reply(self, answer: msgspec.Struct, status: int, *headers: Header) -> Reply:
        """An answer with headers of its own."""
        return Reply(msgspec.json.encode(answer), status=status, headers=headers)

    @property
    def session(self) -> Session:
        """The end user's own session."""
        if self.caller.session is None:
            raise InsufficientScope
        return self.caller.session


class Stream(msgspec.Struct, frozen=True):
    """An answer without an end: server-sent events, until the client or the server goes."""

    chunks: AsyncGenerator[bytes, None]


class Reply(msgspec.Struct, frozen=True):
    """An answer that says more than a JSON struct does."""

    body: bytes = b""
    content_type: bytes = b"application/json"
    status: int = 200
    headers: tuple[Header, ...] = ()
