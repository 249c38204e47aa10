"""Device and country in eleven bits, and back."""

from __future__ import annotations

import pytest

from app.census import COUNTRIES, DEVICES, KINDS, country_in, current_name, device_in, kind_of, last_place, place_of
from app.device import device_type


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_and_country_comes_back(device: str) -> None:
    for country in COUNTRIES:
        kind = kind_of(device, country)
        assert 0 <= kind < KINDS
        assert (device_in(kind), country_in(kind)) == (device, country)


def test_what_nobody_said_is_unknown_and_what_nobody_knows_is_other() -> None:
    assert (device_in(kind_of(None, None)), country_in(kind_of(None, None))) == ("unknown", "unknown")
    kind = kind_of("fridge", "ZZ")
    assert (device_in(kind), country_in(kind)) == ("other", "other")


def test_the_devices_that_a_user_agent_can_name_have_a_code() -> None:
    iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile"
    assert device_in(kind_of(device_type(iphone), "DE")) == "mobile"
    assert {"mobile", "tablet", "desktop", "tv", "wearable", "bot"} < set(DEVICES)


def test_a_watch_of_an_earlier_version_is_a_wearable_and_a_console_is_counted_as_other() -> None:
    assert current_name("watch") == "wearable" and current_name(None) is None and current_name("fridge") == "fridge"
    assert kind_of("watch", "DE") == kind_of("wearable", "DE") == 5 << 8 | kind_of(None, "DE"), "the code of old"
    assert device_in(kind_of("console", "DE")) == "other"


def test_a_place_is_exact_in_a_double_and_orders_by_time() -> None:
    in_2100 = 4_102_444_800_000
    place = place_of(in_2100, KINDS - 1)
    assert int(float(place)) == place == last_place(in_2100) < place_of(in_2100 + 1, 0)
