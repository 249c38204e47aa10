"""What callers really send, over HTTP against an API that runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.service import Api, Backend


@pytest.fixture(scope="module")
def api(valkey_url: str) -> Iterator[Api]:
    process = Api(valkey_url)
    yield process
    process.stop()


@pytest.fixture(scope="module")
def acme(api: Api) -> Backend:
    return api.tenant()


@pytest.mark.parametrize(
    ("field", "sent", "kept"),
    [
        ("ip_address", "203.0.113.7:51234", "203.0.113.7"),
        ("ip_address", "[2001:db8::1]:443", "2001:db8::1"),
        ("ip_address", "fe80::1%eth0", "fe80::1"),
        ("ip_address", " ::ffff:203.0.113.7 ", "203.0.113.7"),
        ("ip_address", "unknown", None),
        ("ip_address", '"_hidden"', None),
        ("ip_address", "", None),
        ("ip_address", "  ", None),
        ("country", "de", "DE"),
        ("country", " De ", "DE"),
        ("country", "T1", None),
        ("country", "XX", None),
        ("country", "xx", None),
        ("country", "ZZ", None),
        ("country", "", None),
        ("country", "unknown", None),
        ("device_type", "", None),
        ("device_type", "unknown", None),
        ("device_type", " tv ", "tv"),
        ("user_agent", "", None),
        ("user_agent", "  ", None),
    ],
)
def test_a_value_is_normalised_or_null(acme: Backend, field: str, sent: str, kept: str | None) -> None:
    made = acme.create(**{field: sent})["session"]
    read: dict[str, Any] = acme.call("GET", f"/v1/sessions/{made['id']}").json()
    assert (made[field], read[field]) == (kept, kept)


@pytest.mark.parametrize(
    ("field", "sent", "said"),
    [
        ("ip_address", "203.0.113.256", "ip_address must be one IPv4 or IPv6 address"),
        ("ip_address", "203.0.113.7, 10.0.0.1", "ip_address must be one IPv4 or IPv6 address"),
        ("country", "DEU", "country must be two letters"),
        ("country", "D1", "country must be two letters"),
        ("country", "ß", "country must be two letters"),
    ],
)
def test_a_value_that_is_neither_is_refused_in_words(acme: Backend, field: str, sent: str, said: str) -> None:
    answer = acme.call("POST", "/v1/sessions", json={"user_id": "usr_1", field: sent})
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert answer.json()["detail"].startswith(said)
