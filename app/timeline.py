"""A session's life, told in order: what happened, by whom, and where it ended the rule that says why."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from app import durations
from app.model import SECOND, Rules
from app.store.base import History

What = Literal["created", "refreshed", "active", "claims_changed", "ended"]
Rule = dict[str, str | int]


class Moment(msgspec.Struct, frozen=True):
    """`at` in ms; `by`: `admin`, `key:<id>`, `user`, `worker`, or `None` where nobody is known to have done it."""

    at: int
    what: What
    by: str | None
    detail: dict[str, Any]


def told(history: History, rules: Rules) -> list[Moment]:
    """Oldest first. Of what happens often (refreshes, activity, changes of claims) the last time is told."""
    session = history.session
    found = [Moment(session.created_at, "created", None, _device(history))]
    if history.refreshed_at is not None:
        found.append(Moment(history.refreshed_at, "refreshed", "user", {"count": session.generation}))
    if session.last_active_at > max(session.created_at, history.refreshed_at or 0):
        found.append(Moment(session.last_active_at, "active", None, {}))
    if history.changed_at is not None:
        found.append(Moment(history.changed_at, "claims_changed", history.changed_by or None, {}))
    found.sort(key=lambda moment: moment.at)
    if session.ended_at is not None:
        detail = {"reason": session.end_reason, "rule": _rule(history, rules)}
        found.append(Moment(session.ended_at, "ended", _by(history), detail))
    return found


def _device(history: History) -> dict[str, str | None]:
    session = history.session
    return {
        "device_type": session.device_type,
        "user_agent": session.user_agent,
        "ip_address": session.ip_address,
        "country": session.country,
    }


def _by(history: History) -> str | None:
    if history.session.end_reason in ("expired", "idle_timeout"):
        return "worker"
    return history.ended_by or None


def _rule(history: History, rules: Rules) -> Rule | None:
    """The setting that ended it, as it was then; `None` if somebody did. Times tell which it was: a session times out
    to the millisecond after its last activity, or at a change of policy if it had timed out under the earlier one."""
    session = history.session
    ended_at = session.ended_at or 0
    match session.end_reason:
        case "expired":
            return {"session_duration": _text(session.expires_at - session.created_at)}
        case "idle_timeout" if ended_at == rules.idle_cut_at:
            return {"idle_timeout": _text(rules.idle_cut_at - rules.idle_cut)}
        case "idle_timeout":
            return {"idle_timeout": _text(ended_at - session.last_active_at)}
        case "evicted" if history.limit is not None:
            return {"max_sessions_per_user": history.limit}
        case _:
            return None


def _text(duration: int) -> str:
    return durations.text(max(1, round(duration / SECOND)))
