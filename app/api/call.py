"""What a handler gets and may give: one request, checked, and an answer that is more than a JSON struct."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from app.api.auth import Caller
from app.api.body import Bodies
from app.api.failures import Failures
from app.audit import OPERATOR, Entry
from app.errors import InsufficientScope, StoreUnavailable, ValidationError
from app.model import Session, Tenant

if TYPE_CHECKING:
    from app.api.metrics import Metrics
    from app.api.operation import Operation
    from app.runtime import Runtime

Header = tuple[bytes, bytes]

CONTEXT: Final = "hellojohn"
"""Where the door leaves the `Context` in an ASGI scope."""


class Site(msgspec.Struct):
    """What lives as long as the process. `runtime` is missing before start-up and after shutdown;
    `closing` once the process has been asked to end; `admin_port`: of the operator's own listener, if there is one."""

    metrics: Metrics
    document: bytes
    page: bytes
    runtime: Runtime | None = None
    closing: bool = False
    admin_port: int | None = None
    bodies: Bodies = msgspec.field(default_factory=Bodies)
    failures: Failures = Failures()

    def running(self) -> Runtime:
        """Raises `StoreUnavailable` while nothing is open."""
        if self.runtime is None:
            raise StoreUnavailable
        return self.runtime


class Context(msgspec.Struct):
    """What the door knows about one request; the operation adds which one it is and whose. `status`: of the answer,
    once it has begun to leave. `standing`: what the answer says of the caller's quota."""

    site: Site
    now: int
    request_id: str
    headers: dict[bytes, bytes] = {}
    operation: Operation | None = None
    tenant_id: str | None = None
    key_id: str | None = None
    status: int = 0
    standing: tuple[Header, ...] = ()


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
    def tenant(self) -> Tenant:
        """The tenant this call is about. The operator names one with X-Tenant-ID."""
        if self.caller.tenant is None:
            raise ValidationError("X-Tenant-ID must name a tenant", field="X-Tenant-ID")
        return self.caller.tenant

    async def audit(
        self, action: str, target: str, tenant_id: str | None = None, before: Any = None, after: Any = None
    ) -> None:
        """Put a change on record, in the tenant's log or the operator's. `before` and `after`: structs or dicts. Made
        before the answer, so that a change that was acknowledged is on record."""
        entry = Entry(
            at=self.now,
            actor="admin" if self.caller.key is None else self.caller.key.id,
            action=action,
            target=target,
            request_id=self.context.request_id,
            before=None if before is None else msgspec.to_builtins(before),
            after=None if after is None else msgspec.to_builtins(after),
        )
        await self.runtime.audit.record(tenant_id or OPERATOR, entry)

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
