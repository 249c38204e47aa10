"""The life of one session, for whoever asks why a user was signed out."""

from __future__ import annotations

from typing import Any, Final

from app.api.call import Call
from app.api.limits import rfc3339_ms
from app.api.operation import Operation
from app.api.sessions import session_id
from app.api.views import Answer
from app.errors import SessionNotFound
from app.timeline import Moment, What, told


class MomentView(Answer):
    """`by`: `admin`, `key:<id>`, `user`, `worker`, or null. `detail` says more: of a creation the device, of an end its
    `reason` and the `rule` it came under, of refreshes how many there were (`at` is the last)."""

    at: str
    what: What
    by: str | None
    detail: dict[str, Any]

    @classmethod
    def of(cls, moment: Moment) -> MomentView:
        return cls(at=rfc3339_ms(moment.at), what=moment.what, by=moment.by, detail=moment.detail)


class TimelineView(Answer):
    """Oldest first."""

    data: list[MomentView]


async def timeline(call: Call) -> TimelineView:
    history = await call.runtime.sessions.history(call.tenant, session_id(call), call.now)
    return TimelineView(data=[MomentView.of(moment) for moment in told(history, call.tenant.rules)])


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/sessions/{session_id}/timeline",
        name="getTimeline",
        summary="A session's life: created, refreshed, changed, ended by whom and under which rule",
        handler=timeline,
        credential="key_or_admin",
        scope="sessions:read",
        answer=TimelineView,
        errors=(SessionNotFound,),
    ),
)
