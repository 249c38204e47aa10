"""The checker of histories can fail: each lie told to it is named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.crowd import LIMIT, Act, Device, Told, violations

ENDED = [("ses_1", "revoked")]


def act(what: str, begun: float, status: int, about: str | None, answer: Any = None) -> Act:
    return Act(what, begun, begun + 0.5, status, about, answer)


def verdict(sid: str, valid: bool) -> dict[str, Any]:
    return {"valid": valid, "session": {"id": sid} if valid else None}


def refreshed(sid: str, presented: str, successor: str) -> dict[str, Any]:
    return {"session": {"id": sid}, "presented": presented, "refresh_token": successor}


def honest() -> Told:
    """A session that is created, verified, refreshed by two tabs, listed and revoked."""
    told = Told(devices={"ses_1": Device("ses_1", "ann", "t1", "a1")}, followed=[*ENDED])
    told.acts = [
        act("create", 0, 201, "ses_1", {"evicted": []}),
        act("verify", 1, 200, "ses_1", verdict("ses_1", True)),
        act("refresh", 2, 200, "ses_1", refreshed("ses_1", "t0", "t1")),
        act("refresh", 2, 200, "ses_1", refreshed("ses_1", "t0", "t1")),
        act("list", 3, 200, "ann", {"data": [{"id": "ses_1", "user_id": "ann"}]}),
        act("revoke", 4, 204, "ses_1"),
        act("verify", 5, 200, "ses_1", verdict("ses_1", False)),
        act("refresh", 6, 401, "ses_1"),
    ]
    return told


LIES: dict[str, tuple[list[Act], list[tuple[str, str]], list[tuple[str, str]]]] = {
    # what is found: acts added to the honest ones, the end events, what a follower saw
    "alive after its end": ([act("verify", 9, 200, "ses_1", verdict("ses_1", True))], ENDED, ENDED),
    "alive after its end ": ([act("refresh", 9, 200, "ses_1", refreshed("ses_1", "t1", "t2"))], ENDED, ENDED),
    "listed after its end": ([act("list", 9, 200, "ann", {"data": [{"id": "ses_1", "user_id": "ann"}]})], ENDED, ENDED),
    "sessions alive": (
        [act("list", 9, 200, "ann", {"data": [{"id": f"ses_{n}", "user_id": "ann"} for n in range(2, LIMIT + 3)]})],
        ENDED,
        ENDED,
    ),
    "another session's answer": ([act("verify", 1, 200, "ses_1", verdict("ses_2", True))], ENDED, ENDED),
    "another user's list": ([act("list", 1, 200, "ann", {"data": [{"id": "ses_2", "user_id": "bob"}]})], ENDED, ENDED),
    "two successors": ([act("refresh", 2, 200, "ses_1", refreshed("ses_1", "t0", "other"))], ENDED, ENDED),
    "unexpected answer": ([act("verify", 1, 500, "ses_1")], ENDED, ENDED),
    "is over without an event": ([], [], []),
    "has 2 end events": ([], ENDED * 2, ENDED),
    "taken for a thief": ([], [("ses_1", "refresh_token_reused")], [("ses_1", "refresh_token_reused")]),
    "was revoked by nobody": ([], [*ENDED, ("ses_9", "revoked")], [*ENDED, ("ses_9", "revoked")]),
    "never saw": ([], ENDED, []),
    "saw ('ses_1', 'revoked') 2 times": ([], ENDED, ENDED * 2),
}


def test_an_honest_history_has_no_violation() -> None:
    assert violations(honest(), ENDED) == []


@pytest.mark.parametrize("found", LIES)
def test_a_lie_is_found(found: str) -> None:
    acts, ends, followed = LIES[found]
    told = honest()
    told.acts += acts
    told.followed = followed
    assert any(found.strip() in line for line in violations(told, ends))
