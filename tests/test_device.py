"""Device and country: known where it is clear, `None` where it is not."""

from __future__ import annotations

from collections import Counter
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
        (
            "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0",
            "mobile",
        ),
        ("Dalvik/2.1.0 (Linux; U; Android 13; Pixel 7 Build/TQ3A.230805.001)", "mobile"),
        (
            "Mozilla/5.0 (Linux; Android 12; SM-T870) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36",
            "tablet",
        ),
        ("Mozilla/5.0 (Linux; Android 9; AFTMM Build/PS7633) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/98.0", "tv"),
        ("Mozilla/5.0 (Linux; Android 11; BRAVIA 4K VH2) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/98.0", "tv"),
        ("Mozilla/5.0 (Linux; Android 12; Chromecast) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/98.0", "tv"),
        ("Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/94.0 Safari/537.36", "tv"),
        ("Roku/DVP-12.0 (12.0.0.4182-88)", "tv"),
        ("Mozilla/5.0 (PlayStation 5 3.11) AppleWebKit/605.1.15 (KHTML, like Gecko)", "console"),
        ("Mozilla/5.0 (Nintendo Switch; WifiWebAuthApplet) AppleWebKit/609.4 (KHTML, like Gecko)", "console"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox Series X) AppleWebKit/537.36 Edge/20.02", "console"),
        ("Mozilla/5.0 (X11; Linux x86_64; Quest 3) AppleWebKit/537.36 OculusBrowser/31.4 Chrome/120.0 VR", "wearable"),
        ("Mozilla/5.0 (Linux; Android 10; Quest 2) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/98.0", "wearable"),
        ("atc/1.0 watchOS/7.3.3 model/Watch4,2 hwp/t8006 build/18S830 (6; dt:191)", "wearable"),
        ("curl/8.5.0", None),
        ("something else", None),
        ("", None),
        (None, None),
    ],
)
def test_a_user_agent_names_a_kind_of_device_or_none(user_agent: str | None, kind: str | None) -> None:
    assert device_type(user_agent) == kind


def test_most_agents_of_a_public_list_are_told_right() -> None:
    """The list (`user_agents.tsv`) has old and rare agents more than the traffic of today."""
    lines = (Path(__file__).parent / "user_agents.tsv").read_text().splitlines()
    agents = [line.split("\t", 1) for line in lines if not line.startswith("#")]
    told = Counter((kind, device_type(agent)) for kind, agent in agents)
    right = sum(many for (kind, said), many in told.items() if kind == said)
    unsure = sum(many for (_, said), many in told.items() if said is None)
    assert len(agents) > 1_000
    assert right / len(agents) > 0.92 and (len(agents) - right - unsure) / len(agents) < 0.05, told
    for kind in ("desktop", "mobile", "tablet", "tv", "console", "wearable", "bot"):
        assert told[kind, kind] / sum(many for (label, _), many in told.items() if label == kind) > 0.85, (kind, told)


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
