"""Addresses as proxies and frameworks write them."""

from __future__ import annotations

import pytest

from app.addresses import is_unknown, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:51234", "203.0.113.7"),
        (" 203.0.113.7\t", "203.0.113.7"),
        ('"203.0.113.7:51234"', "203.0.113.7"),
        ("203.0.113.7:_port", "203.0.113.7"),
        ("/203.0.113.7:51234", "203.0.113.7"),
        ("[203.0.113.7]:80", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::FFFF:203.0.113.7:51234", "203.0.113.7"),
        ("::ffff:cb00:7107", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:443", "203.0.113.7"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("2001:db8::1:443", "2001:db8::1:443"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%25eth0", "fe80::1"),
        ("[fe80::1%eth0]:443", "fe80::1"),
        ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
    ],
)
def test_an_address_is_read_without_what_surrounds_it(text: str, address: str) -> None:
    assert str(parse_address(text)) == address and not is_unknown(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "unknown",
        "Unknown",
        '"unknown"',
        "unknown:80",
        "_hidden",
        '"_hidden"',
        "_SEVKISEK:_1",
        "-",
        "null",
        "@",
        "unix:",
    ],
)
def test_a_text_can_say_that_the_address_is_unknown(text: str) -> None:
    assert is_unknown(text) and parse_address(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "203.0.113.256",
        "203.0.113",
        "203.0.113.7:",
        "203.0.113.7:x",
        "203.0.113.7%eth0",
        "203.0.113.7, 10.0.0.1",
        "203.0.113.0/24",
        "010.0.0.1",
        "[2001:db8::1",
        "2001:db8::1]:443",
        "[unknown]",
        "2001:db8:::1",
        "localhost",
        "example.org:80",
        "3405803783",
        "\u0661.0.0.1",
    ],
)
def test_anything_else_is_neither(text: str) -> None:
    assert parse_address(text) is None and not is_unknown(text)
