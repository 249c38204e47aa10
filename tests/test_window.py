"""What the shared reader remembers: in order, each once, and never less than its floor says."""

from __future__ import annotations

import random

from app.client.events import Event
from app.store.log import Entry, Position
from app.window import Window


def entry(ms: int, tenant: str = "tnt_a", sequence: int = 0) -> Entry:
    event = Event(id=f"00-{ms}-{sequence}", type="session.revoked", tenant_id=tenant, occurred_at="", not_after=0)
    return Entry(Position(ms, 0, sequence), event)


def times(window: Window, after: int, tenant: str = "tnt_a") -> list[int]:
    return [found.position.ms for found in window.after(tenant, Position(after, 1_024, 0))]


def test_entries_come_in_order_each_once_and_by_tenant() -> None:
    window = Window(100)
    window.begin(10)
    assert [window.add(entry(ms)) for ms in (12, 11, 12, 14)] == [True, True, False, True]
    assert window.add(entry(13, "tnt_b"))
    assert times(window, 10) == [11, 12, 14]
    assert times(window, 11) == [12, 14]
    assert times(window, 10, "tnt_b") == [13]
    assert times(window, 10, "tnt_c") == []
    assert [e.position.ms for e in window.after("tnt_a", Position(10, 0, 0), Position(12, 1_024, 0), 5)] == [11, 12]
    assert [e.position.ms for e in window.after("tnt_a", Position(10, 0, 0), most=1)] == [11]


def test_above_its_floor_it_is_complete_whatever_it_had_to_drop() -> None:
    chance = random.Random(1)
    window, told = Window(1_000), list[int]()
    window.begin(0)
    for number in range(5_000):
        ms = number // 3 + chance.randrange(5) + 1
        if window.add(entry(ms, sequence=number)):
            told.append(ms)
        assert window.room >= 0
    assert times(window, window.floor) == sorted(ms for ms in told if ms > window.floor)
    assert 0 < window.floor < max(told)


def test_it_reaches_back() -> None:
    window = Window(100)
    window.begin(50)
    window.add(entry(60))
    window.reach_back_for("tnt_c", 10, [entry(ms, "tnt_c") for ms in (15, 30, 45)])
    window.reach_back_for("tnt_d", 45, [entry(48, "tnt_d")])
    others = [entry(30, "tnt_c"), entry(45, "tnt_c"), entry(25, "tnt_d"), entry(48, "tnt_d")]
    window.reach_back(20, [entry(30), entry(40, "tnt_b"), entry(50), *others])
    assert [window.floor_of(tenant) for tenant in ("tnt_a", "tnt_c", "tnt_d")] == [20, 10, 20]
    assert times(window, 20) == [30, 50, 60]
    assert times(window, 35, "tnt_b") == [40]
    assert times(window, 10, "tnt_c") == [15, 30, 45]
    assert times(window, 20, "tnt_d") == [25, 48]
    assert window.room == 95


def test_it_reaches_back_for_one_tenant() -> None:
    window = Window(100)
    window.begin(50)
    window.add(entry(60))
    window.add(entry(70, "tnt_b"))
    window.reach_back_for("tnt_a", 20, [entry(30), entry(50)])
    assert (window.floor_of("tnt_a"), window.floor_of("tnt_b")) == (20, 50)
    assert times(window, 20) == [30, 50, 60]
    assert times(window, 50, "tnt_b") == [70]
    assert [window.add(entry(ms)) for ms in (20, 30, 40)] == [True, False, True]
    assert times(window, 20) == [30, 40, 50, 60]


def test_what_was_reached_back_for_makes_way_and_its_floor_says_so() -> None:
    window = Window(10)
    window.begin(50)
    window.reach_back_for("tnt_a", 40, [entry(ms) for ms in range(43, 50)])
    window.reach_back_for("tnt_b", 40, [entry(ms, "tnt_b") for ms in range(43, 50)])
    assert (window.floor_of("tnt_a"), times(window, 0)) == (50, [])
    assert (window.floor_of("tnt_b"), len(times(window, 40, "tnt_b"))) == (40, 7)
    window.reach_back_for("tnt_b", 30, [entry(ms, "tnt_b") for ms in range(31, 40)])
    assert (window.floor_of("tnt_b"), times(window, 0, "tnt_b")) == (50, []), "never a hole above a floor"
    window.reach_back_for("tnt_b", 40, [entry(45, "tnt_b")])
    for ms in range(51, 62):
        window.add(entry(ms))
    assert window.floor_of("tnt_b") == window.floor > 50
    assert times(window, 0, "tnt_b") == []
    assert times(window, 0) == times(window, window.floor)
