"""The denylist: exact at any size, small, and never silently short of an entry."""

from __future__ import annotations

import random

import pytest

from app.client.denylist import Denylist
from app.client.shards import session_number
from app.model import new_session_id

NOW = 1_800_000_000
LATER = NOW + 3_600


def sessions(count: int, seed: int = 1) -> list[int]:
    """Ids as they are made: a time, a shard, 70 bits of chance."""
    chance = random.Random(seed)
    return [(NOW * 1_000 + number) << 80 | chance.getrandbits(80) for number in range(count)]


def test_it_knows_exactly_what_it_was_told() -> None:
    told, others = sessions(20_000), sessions(20_000, seed=2)
    denylist = Denylist(100_000)
    assert all(denylist.add(session, LATER, NOW) for session in told)
    assert len(denylist) == 20_000
    assert all(session in denylist for session in told)
    assert not any(session in denylist for session in others)


def test_ids_that_differ_in_one_bit_are_told_apart() -> None:
    number = session_number(new_session_id("tnt_1", "usr_1", NOW * 1_000))
    denylist = Denylist(1_000)
    denylist.add(number, LATER, NOW)
    assert [number ^ (1 << bit) in denylist for bit in range(125)] == [False] * 125
    assert number in denylist


def test_an_entry_goes_at_its_time_and_no_sooner() -> None:
    chance, told = random.Random(3), sessions(5_000)
    until = {session: NOW + chance.randrange(1, 1_000) for session in told}
    denylist = Denylist(100_000)
    for session, not_after in until.items():
        denylist.add(session, not_after, NOW)
    for now in range(NOW, NOW + 1_001, 50):
        for _ in range(64):
            denylist.sweep(now)
        assert all(session in denylist for session, not_after in until.items() if not_after > now)
    assert len(denylist) == 0


def test_what_is_told_twice_is_kept_once_and_until_the_later_time() -> None:
    (session,) = sessions(1)
    denylist = Denylist(10)
    for not_after in (NOW + 10, NOW + 30, NOW + 20):
        assert denylist.add(session, not_after, NOW)
    for _ in range(64):
        denylist.sweep(NOW + 29)
    assert len(denylist) == 1 and session in denylist


def test_what_has_passed_its_time_takes_no_room() -> None:
    denylist = Denylist(0)
    assert denylist.add(sessions(1)[0], NOW, NOW)
    assert len(denylist) == 0


def test_when_it_is_full_it_says_so_and_forgets_nothing() -> None:
    told = sessions(11)
    denylist = Denylist(10)
    assert [denylist.add(session, LATER, NOW) for session in told] == [True] * 10 + [False]
    assert all(session in denylist for session in told[:10])
    assert denylist.add(told[0], LATER + 1, NOW)


@pytest.mark.slow
def test_a_million_entries_take_less_than_a_hundred_bytes_each_at_every_size() -> None:
    denylist, most = Denylist(1_000_000), 0.0
    for number, session in enumerate(sessions(1_000_000), 1):
        denylist.add(session, LATER, NOW)
        if number % 50_000 == 0:
            most = max(most, denylist.nbytes / number)
    assert len(denylist) == 1_000_000 and most < 50
