"""Device and country: known where it is clear, `None` where it is not."""

from __future__ import annotations

from pathlib import Path

import netaddr
import pytest
from mmdb_writer import MMDBWriter

from app.device import Locator, device_type

PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148 Safari/604.1"
WINDOWS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
)
PIXEL = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Mobile Safari/537.36"
)
TABLET = "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36"


@pytest.mark.parametrize(
    ("user_agent", "kind"),
    [
        (PHONE, "mobile"),
        (PIXEL, "mobile"),
        (TABLET, "tablet"),
        ("Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)", "tablet"),
        (WINDOWS, "desktop"),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/17.0 Safari/605.1.15",
            "desktop",
        ),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", "desktop"),
        ("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 Chrome/130.0 Safari/537.36", "desktop"),
        ("Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 (KHTML, like Gecko) TV Safari/537.36", "tv"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "bot"),
        ("curl/8.5.0", None),
        ("something else", None),
        ("", None),
        (None, None),
    ],
)
def test_a_user_agent_names_a_kind_of_device_or_none(user_agent: str | None, kind: str | None) -> None:
    assert device_type(user_agent) == kind


@pytest.fixture
def database(tmp_path: Path) -> Path:
    writer = MMDBWriter(6, "Test-Country", languages=["en"], ipv4_compatible=True)
    writer.insert_network(netaddr.IPSet(["203.0.113.0/24"]), {"country": {"iso_code": "US"}})
    writer.insert_network(netaddr.IPSet(["2001:db8::/32"]), {"country": {"iso_code": "DE"}})
    writer.insert_network(netaddr.IPSet(["198.51.100.0/24"]), {"continent": {"code": "EU"}})
    writer.to_db_file(str(tmp_path / "country.mmdb"))
    return tmp_path / "country.mmdb"


def test_an_address_lies_in_a_country_or_in_none(database: Path) -> None:
    locator = Locator(str(database))
    addresses = ["203.0.113.42", "2001:db8::1", "198.51.100.1", "192.0.2.1", "nonsense", None]
    assert [locator.country(address) for address in addresses] == ["US", "DE", None, None, None, None]
    locator.close()


def test_without_a_database_every_country_is_unknown() -> None:
    assert Locator(None).country("203.0.113.42") is None
