"""What a verifier knows, event by event: order, repeats, bounds."""

from __future__ import annotations

from typing import Any

import pytest

from app.client.errors import InvalidToken, SessionRevoked
from app.client.events import Event
from app.client.memory import SKEW_S, Claims, Memory
from app.model import new_session_id

TENANT, NOW = "tnt_1", 1_800_000_000
LATER = NOW + 3_600


def a_session(number: int = 0, at: int = NOW) -> str:
    return new_session_id(TENANT, f"usr_{number}", at * 1_000)


def an_event(kind: str, session: str | None, sequence: int = 0, at: int = NOW, **more: Any) -> Event:
    occurred = f"2027-01-15T08:00:{at - NOW:02d}.000Z"
    fields = {"not_after": LATER, **more}
    return Event(
        id=f"00-{at * 1_000}-{sequence}",
        type=kind,  # type: ignore[arg-type]
        tenant_id=TENANT,
        session_id=session,
        occurred_at=occurred,
        **fields,
    )


def said(session: str, iat: int = NOW - 10, **more: Any) -> dict[str, Any]:
    base = {"iss": "i", "aud": TENANT, "sub": "u", "tenant_id": TENANT, "jti": "j", "exp": LATER, "mfa_verified": False}
    return {**base, "session_id": session, "iat": iat, **more}


def a_memory(revocations: int = 100, updates: int = 100, tokens: int = 100) -> Memory:
    return Memory(revocations, updates, tokens)


def is_revoked(memory: Memory, session: str) -> bool:
    try:
        memory.admit(session, said(session))
    except SessionRevoked:
        return True
    return False


def test_an_end_is_final_whatever_comes_afterwards() -> None:
    memory, session = a_memory(), a_session()
    memory.apply(an_event("session.revoked", session), NOW)
    memory.apply(an_event("session.updated", session, 1, role="admin"), NOW)
    memory.apply(an_event("session.revoked", session), NOW)
    assert is_revoked(memory, session) and len(memory.revoked) == 1


def test_the_later_of_two_updates_holds_in_whatever_order_they_come() -> None:
    first, second = ("session.updated", 0, "member"), ("session.updated", 1, "admin")
    for order in ([first, second], [second, first], [first, second, first]):
        memory, session = a_memory(), a_session()
        for kind, sequence, role in order:
            memory.apply(an_event(kind, session, sequence, role=role), NOW)
        assert memory.admit("token", said(session, role="guest")).role == "admin"


def test_an_update_concerns_only_tokens_issued_before_it() -> None:
    """Or up to five seconds after it, by the clock of whoever issued them."""
    memory, session = a_memory(), a_session()
    memory.apply(an_event("session.updated", session, at=NOW + 5, role=None, claims={"plan": "pro"}), NOW)
    old = memory.admit("token", said(session, iat=NOW + 10, role="member", plan="free", seats=3))
    assert (old.role, old["plan"], "seats" in old) == (None, "pro", False)
    new = memory.admit("token", said(session, iat=NOW + 11, role="owner"))
    assert (new.role, "plan" in new) == ("owner", False)


def test_a_cut_off_concerns_sessions_created_up_to_it() -> None:
    memory = a_memory()
    memory.apply(an_event("tenant.revoked", None, before=NOW * 1_000), NOW)
    memory.apply(an_event("tenant.revoked", None, before=(NOW - 100) * 1_000), NOW)
    assert is_revoked(memory, a_session(at=NOW))
    assert not is_revoked(memory, a_session(at=NOW + 1))


def test_a_revocation_takes_every_cached_token_of_its_session_and_no_other() -> None:
    memory, one, other = a_memory(), a_session(1), a_session(2)
    for token, session in (("a", one), ("b", one), ("c", other)):
        memory.admit(token, said(session))
    memory.apply(an_event("session.expired", one), NOW)
    assert list(memory.hits) == ["c"]
    memory.apply(an_event("tenant.revoked", None, before=0), NOW)
    assert not memory.hits


def test_cached_tokens_are_bounded_and_the_oldest_go_first() -> None:
    memory = a_memory(tokens=3)
    for number in range(10):
        memory.admit(f"token {number}", said(a_session(number % 2)))
    assert list(memory.hits) == ["token 7", "token 8", "token 9"]
    none = a_memory(tokens=0)
    none.admit("token", said(a_session()))
    assert not none.hits


def test_more_revocations_than_there_is_room_for_are_not_forgotten_but_told() -> None:
    memory = a_memory(revocations=10)
    for number in range(10):
        memory.apply(an_event("session.revoked", a_session(number), not_after=NOW + 10), NOW)
    assert not memory.overflowed
    memory.apply(an_event("session.revoked", a_session(11)), NOW)
    assert memory.overflowed
    assert not any(memory.sweep(NOW) for _ in range(64)) and memory.overflowed
    assert any(memory.sweep(NOW + 10 + SKEW_S) for _ in range(64)) and not memory.overflowed


def test_more_updates_than_there_is_room_for_are_told_too() -> None:
    memory = a_memory(updates=2)
    for number in range(3):
        memory.apply(an_event("session.updated", a_session(number), not_after=NOW + 10), NOW)
    assert memory.overflowed
    assert memory.sweep(NOW + 10 + SKEW_S) and not memory.overflowed


def test_a_clock_that_runs_up_to_a_minute_ahead_forgets_nothing_that_still_matters() -> None:
    memory, ended, changed = a_memory(), a_session(1), a_session(2)
    memory.apply(an_event("session.revoked", ended, not_after=NOW + 1), NOW + SKEW_S)
    memory.apply(an_event("session.updated", changed, 1, role="admin", not_after=NOW + 1), NOW + SKEW_S)
    for _ in range(64):
        memory.sweep(NOW + SKEW_S)
    assert is_revoked(memory, ended)
    assert memory.admit("token", said(changed, role="guest")).role == "admin"


def test_an_event_of_an_unknown_kind_changes_nothing() -> None:
    memory, session = a_memory(), a_session()
    memory.apply(an_event("session.renamed", session), NOW)
    assert not is_revoked(memory, session)


@pytest.mark.parametrize("session", ["", "ses_1", "ses_0" + "U" * 25, "ses_0" + "a" * 25])
def test_what_is_no_session_id_of_ours_is_refused(session: str) -> None:
    with pytest.raises(InvalidToken):
        a_memory().admit("token", said(session))
    with pytest.raises(ValueError, match=r"session id|invalid literal"):
        a_memory().apply(an_event("session.revoked", session), NOW)


def test_claims_cannot_be_changed_by_who_reads_them() -> None:
    claims = a_memory().admit("token", said(a_session()))
    with pytest.raises(TypeError):
        claims["role"] = "admin"  # type: ignore[index]
    assert dict(claims) == claims


def test_claims_have_the_names_of_the_node_client_too() -> None:
    claims = Claims({"sub": "usr_1", "exp": 5, "user_id": "a claim of the backend's own"})
    assert (claims.sub, claims.user_id, claims.expires_at) == ("usr_1", "usr_1", 5)
    assert claims["user_id"] == "a claim of the backend's own"
