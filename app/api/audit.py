"""The audit log, to be read by whom it concerns."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta

from app.api.call import Call
from app.api.limits import rfc3339
from app.api.operation import Operation
from app.api.schema import Cursor, Limit, Request
from app.api.views import Answer, Pagination
from app.audit import OPERATOR, Entry
from app.errors import TenantNotFound

Word = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$(?!\n)", description="1-64 letters, digits, dots, hyphens and underscores"),
]
Actor = Annotated[str, Meta(pattern=r"^[!-~]{1,260}$(?!\n)", description="1-260 visible ASCII characters")]


class AuditQuery(Request):
    limit: Limit = 20
    cursor: Cursor | None = None
    action: Word | None = None
    actor: Actor | None = None


class AuditEntryView(Answer):
    """`actor`: `admin`, the id of an API key, or `oidc:` and the subject of an operator at the OIDC provider."""

    id: str
    at: str
    actor: str
    action: str
    target: str
    request_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @classmethod
    def of(cls, entry_id: str, entry: Entry) -> AuditEntryView:
        return cls(
            id=entry_id,
            at=rfc3339(entry.at),
            actor=entry.actor,
            action=entry.action,
            target=entry.target,
            request_id=entry.request_id,
            before=entry.before,
            after=entry.after,
        )


class AuditPage(Answer):
    """Newest first. `intact` false: somebody has changed or removed entries of this page."""

    data: list[AuditEntryView]
    intact: bool
    pagination: Pagination


async def page(call: Call) -> AuditPage:
    """The operator's own log unless X-Tenant-ID names a tenant."""
    query: AuditQuery = call.query
    name = OPERATOR if call.caller.tenant is None else call.caller.tenant.id
    found = await call.runtime.audit.page(name, query.limit, query.cursor, query.action, query.actor)
    return AuditPage(
        data=[AuditEntryView.of(*row) for row in found.entries],
        intact=found.intact,
        pagination=Pagination(limit=query.limit, has_more=found.more, next_cursor=found.next_cursor),
    )


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/admin/audit",
        name="listAudit",
        summary="Who changed what: policies, keys, tenants, whole tenants signed out",
        handler=page,
        credential="key_or_admin",
        scope="audit:read",
        query=AuditQuery,
        answer=AuditPage,
        errors=(TenantNotFound,),
    ),
)
