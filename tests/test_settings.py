"""Settings come from the environment alone, and a wrong one is refused by its name."""

from __future__ import annotations

import re
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.client.redis_address import parse_address
from app.selfcheck import NAMES, unknown
from app.settings import BARE, SettingError, Settings

ROOT = Path(__file__).parent.parent
STRONG = "G7kP2xVt9LqZ4mRw8sYb3nHc6dJf1eTa"
PRODUCTION = {
    "HELLOJOHN_ENV": "production",
    "HELLOJOHN_SECRET": STRONG,
    "HELLOJOHN_ADMIN_KEY": "mk_live_Vq3xL9sTzKfR2mWbY7cHnG4pJd8eAu6o",
    "HELLOJOHN_ISSUER": "https://sessions.example.com",
}


@pytest.fixture
def development(tmp_path: Path) -> dict[str, str]:
    return {"HELLOJOHN_DATA": str(tmp_path / "data")}


def test_development_needs_nothing(development: dict[str, str]) -> None:
    settings = Settings.from_env(development)
    assert settings.environment == "development"
    assert settings.redis_url == parse_address("redis://127.0.0.1:6379/0")
    assert settings.arq_redis_url is None
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.issuer == "http://127.0.0.1:8000"
    assert settings.retention_ms == 86_400_000


def test_development_secrets_are_made_once_and_kept_private(development: dict[str, str]) -> None:
    first, second = Settings.from_env(development), Settings.from_env(development)
    assert (first.secret, first.admin_key) == (second.secret, second.admin_key)
    assert len(first.secret) >= 32
    assert first.admin_key.startswith("mk_live_")
    for name in ("secret", "admin_key"):
        mode = (Path(development["HELLOJOHN_DATA"]) / name).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600


def test_processes_that_start_together_keep_the_same_secrets(development: dict[str, str]) -> None:
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: Settings.from_env(development).secret, range(64)))
    assert len(set(made)) == 1
    assert sorted(path.name for path in Path(development["HELLOJOHN_DATA"]).iterdir()) == ["admin_key", "secret"]


def test_every_setting_that_is_read_is_known_and_every_one_that_is_known_is_read() -> None:
    sources = [path.read_text() for folder in ("app", "worker") for path in (ROOT / folder).rglob("*.py")]
    said = {name for text in sources for name in re.findall(r"\bHELLOJOHN_[A-Z_]*[A-Z]\b", text)}
    assert said - {"HELLOJOHN_OIDC"} == NAMES


def test_a_name_that_sets_nothing_is_found_with_the_one_that_may_be_meant() -> None:
    names = {
        "HELLOJOHN_ADMINKEY": "HELLOJOHN_ADMIN_KEY",
        "HELLOJOHN_ISUER": "HELLOJOHN_ISSUER",
        "HELLOJOHN_PORT": "PORT",
        "HELLOJOHN_REDISURL": "REDIS_URL",
        "HELLOJOHN_OIDC_CLIENTID": "HELLOJOHN_OIDC_CLIENT_ID",
        "HELLOJOHN_REDIS_URL": "REDIS_URL",
        "HELLOJOHN_COLOUR": None,
    }
    others = dict.fromkeys([*NAMES, "PORT", "REDIS_URL", "hellojohn_x", "JOHN"], "value")
    assert unknown({**dict.fromkeys(names, "9000"), **others}) == names


def test_what_kubernetes_sets_for_a_service_of_this_name_is_no_mistake() -> None:
    links = {
        "HELLOJOHN_SERVICE_HOST": "10.0.0.1",
        "HELLOJOHN_SERVICE_PORT": "8000",
        "HELLOJOHN_SERVICE_PORT_HTTP": "8000",
        "HELLOJOHN_PORT": "tcp://10.0.0.1:8000",
        "HELLOJOHN_SESSIONS_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "HELLOJOHN_SESSIONS_PORT_8000_TCP_ADDR": "10.0.0.1",
        "HELLOJOHN_SESSIONS_PORT_8000_TCP_PROTO": "tcp",
    }
    assert unknown(links) == {}


def test_two_data_folders_have_different_secrets(tmp_path: Path) -> None:
    one = Settings.from_env({"HELLOJOHN_DATA": str(tmp_path / "one")})
    two = Settings.from_env({"HELLOJOHN_DATA": str(tmp_path / "two")})
    assert one.secret != two.secret
    assert one.admin_key != two.admin_key


def test_production_takes_every_secret_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_env(PRODUCTION)
    assert settings.secret == STRONG.encode()
    assert settings.issuer == "https://sessions.example.com"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["HELLOJOHN_SECRET", "HELLOJOHN_ADMIN_KEY", "HELLOJOHN_ISSUER"])
def test_production_refuses_to_start_without(name: str) -> None:
    with pytest.raises(SettingError, match=f"^{name} is required"):
        Settings.from_env({**PRODUCTION, name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HELLOJOHN_ENV", "staging"),
        ("HELLOJOHN_LOG", "loud"),
        ("HELLOJOHN_SECRET", "too short"),
        ("HELLOJOHN_ADMIN_KEY", "mk_live_short"),
        ("HELLOJOHN_ADMIN_KEY", "sk_live_" + "a" * 40),
        ("HELLOJOHN_ADMIN_KEY", "mk_live_" + "ä" * 40),
        ("HELLOJOHN_ISSUER", "sessions.example.com"),
        ("HELLOJOHN_ISSUER", "https://example.com/?tenant=1"),
        ("HELLOJOHN_DASHBOARD_URL", "admin.example.com"),
        ("HELLOJOHN_DASHBOARD_URL", "https://example.com/#top"),
        ("HELLOJOHN_GEOIP_FILE", "/nowhere/to/be.found"),
        ("HELLOJOHN_RETENTION_HOURS", "23"),
        ("REDIS_URL", "http://127.0.0.1:6379"),
        ("REDIS_URL", "127.0.0.1:6379"),
        ("REDIS_URL", "redis://127.0.0.1:6379/0?socket_timeout=1"),
        ("ARQ_REDIS_URL", "amqp://127.0.0.1"),
        ("REDIS_TIMEOUT_MS", "0"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "eight"),
        ("PORT", "８０"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"^{name} ") as caught:
        Settings.from_env({**PRODUCTION, name: value})
    if name in ("HELLOJOHN_SECRET", "HELLOJOHN_ADMIN_KEY"):
        assert value not in str(caught.value)


OIDC = {
    "HELLOJOHN_OIDC_ISSUER": "https://id.acme.example",
    "HELLOJOHN_OIDC_CLIENT_ID": "dashboard",
    "HELLOJOHN_OIDC_CLIENT_SECRET": "s",
    "HELLOJOHN_OIDC_ALLOWED": "sub-1, Jane@Acme.example ,group:Support Staff",
}


def test_an_openid_provider_is_set_whole_or_not_at_all() -> None:
    assert Settings.from_env(PRODUCTION).oidc is None
    found = Settings.from_env(PRODUCTION | OIDC).oidc
    assert found is not None
    assert found.allowed == {"sub-1", "jane@acme.example", "group:Support Staff"}
    for name in OIDC:
        with pytest.raises(SettingError, match=f"^{name} is required"):
            Settings.from_env(PRODUCTION | OIDC | {name: " , " if name.endswith("ALLOWED") else ""})


def test_an_openid_provider_speaks_tls_in_production() -> None:
    plain = OIDC | {"HELLOJOHN_OIDC_ISSUER": "http://127.0.0.1:9000"}
    with pytest.raises(SettingError, match=r"^HELLOJOHN_OIDC_ISSUER must be"):
        Settings.from_env(PRODUCTION | plain)
    assert Settings.from_env(PRODUCTION | plain | {"HELLOJOHN_ENV": "development"}).oidc is not None


def test_operators_on_a_port_of_their_own_come_back_from_the_provider_to_its_address() -> None:
    inside, url = PRODUCTION | {"ADMIN_PORT": "9000"}, {"HELLOJOHN_DASHBOARD_URL": "https://admin.example.com:9443/"}
    with pytest.raises(SettingError, match=r"^HELLOJOHN_DASHBOARD_URL is required with ADMIN_PORT"):
        Settings.from_env(inside | OIDC)
    assert Settings.from_env(inside | OIDC | url).operators_url == "https://admin.example.com:9443"
    for enough in (inside, PRODUCTION | OIDC):
        assert Settings.from_env(enough).operators_url == PRODUCTION["HELLOJOHN_ISSUER"]


@pytest.mark.parametrize("name", ["HELLOJOHN_SECRET", "HELLOJOHN_OTHER_SECRET", "HELLOJOHN_ADMIN_KEY"])
@pytest.mark.parametrize(
    "weak",
    [
        "a" * 64,
        "0123456789" * 5,
        "correct-horse-" * 4,
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "changeme-9fK2pQx7Lw4Zt8Vb3Ns6Rd1Y",
        "your-secret-9fK2pQx7Lw4Zt8Vb3Ns6Rd1Y",
        "qwertyqwertyqwertyqwertyqwertyqwerty",
    ],
)
def test_production_refuses_a_secret_that_somebody_could_guess(name: str, weak: str) -> None:
    value = f"mk_live_{weak}" if name == "HELLOJOHN_ADMIN_KEY" else weak
    with pytest.raises(SettingError, match=f"^{name} must be random") as caught:
        Settings.from_env({**PRODUCTION, name: value})
    assert value not in str(caught.value)
    assert Settings.from_env({**PRODUCTION, name: value, "HELLOJOHN_ENV": "development"})


def test_random_secrets_of_every_usual_form_are_taken() -> None:
    for _ in range(500):
        for made in (
            secrets.token_urlsafe(32),
            secrets.token_hex(32),
            secrets.token_hex(16),
            secrets.token_urlsafe(48),
        ):
            assert Settings.from_env({**PRODUCTION, "HELLOJOHN_SECRET": made}).secret == made.encode()


def test_one_secret_is_not_used_for_two_things() -> None:
    for admin_key in (f"mk_live_{STRONG}", f"mk_live_{STRONG}x"):
        with pytest.raises(SettingError, match=r"^HELLOJOHN_ADMIN_KEY must not"):
            Settings.from_env({**PRODUCTION, "HELLOJOHN_ADMIN_KEY": admin_key})
    with pytest.raises(SettingError, match=r"^HELLOJOHN_OTHER_SECRET must be another"):
        Settings.from_env({**PRODUCTION, "HELLOJOHN_OTHER_SECRET": STRONG})


@pytest.mark.parametrize("name", ["REDIS_URL", "ARQ_REDIS_URL"])
def test_a_redis_address_is_parsed_in_the_settings(name: str) -> None:
    settings = Settings.from_env({**PRODUCTION, name: " redis://user:p%40ss@[::1]:7000/3/\n"})
    found = settings.redis_url if name == "REDIS_URL" else settings.arq_redis_url
    assert found == parse_address("redis://user:p%40ss@[::1]:7000/3")
    assert "p@ss" not in repr(settings)


@pytest.mark.parametrize("name", ["REDIS_URL", "ARQ_REDIS_URL"])
def test_a_refused_redis_address_is_named_without_its_content(name: str) -> None:
    with pytest.raises(SettingError, match=f"^{name} has a login that is not percent-encoded") as caught:
        Settings.from_env({**PRODUCTION, name: "redis://:Zq7Kx9Lm/Tr4Wp2Vb@host:6379/0"})
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert not re.search("Zq7|Tr4|host", str(caught.value))


@pytest.mark.parametrize(
    ("name", "field"),
    [("HOST", "host"), ("PORT", "port"), ("HELLOJOHN_ENV", "environment"), ("HELLOJOHN_LOG", "log_level")],
)
def test_an_empty_setting_is_an_unset_one(name: str, field: str, development: dict[str, str]) -> None:
    usual = getattr(Settings.from_env(development), field)
    for empty in ("", " ", "\n"):
        assert getattr(Settings.from_env({**development, name: empty}), field) == usual


def test_whitespace_at_the_ends_is_no_part_of_a_value() -> None:
    plain = Settings.from_env(PRODUCTION | OIDC)
    spaced = Settings.from_env({name: f" {value}\r\n" for name, value in (PRODUCTION | OIDC).items()})
    for field in {*plain.__struct_fields__} - {"other_secret"}:
        assert getattr(plain, field) == getattr(spaced, field)
    assert spaced.secrets == (STRONG.encode(), f" {STRONG}\r\n".encode()), "as earlier versions took it"


@pytest.mark.parametrize("name", ["HELLOJOHN_SECRET", "HELLOJOHN_ISSUER", "HOST", "HELLOJOHN_OIDC_SCOPE", "REDIS_URL"])
def test_a_line_break_inside_a_value_is_refused_by_name(name: str) -> None:
    with pytest.raises(SettingError, match=f"^{name} must not contain line breaks"):
        Settings.from_env({**PRODUCTION, name: "https://one.example\ntwo" + "x" * 40})


def test_the_issuer_follows_the_port_in_development(development: dict[str, str]) -> None:
    assert Settings.from_env({**development, "PORT": "8123"}).issuer == "http://127.0.0.1:8123"


def test_the_issuer_has_no_slash_at_its_end() -> None:
    settings = Settings.from_env({**PRODUCTION, "HELLOJOHN_ISSUER": "https://sessions.example.com/"})
    assert settings.issuer == "https://sessions.example.com"


def test_retention_is_given_in_hours() -> None:
    assert Settings.from_env({**PRODUCTION, "HELLOJOHN_RETENTION_HOURS": "48"}).retention_ms == 172_800_000


def test_all_that_production_lacks_is_named_at_once() -> None:
    with pytest.raises(SettingError) as caught:
        Settings.from_env({"HELLOJOHN_ENV": "production"})
    names = "HELLOJOHN_SECRET, HELLOJOHN_ADMIN_KEY and HELLOJOHN_ISSUER"
    assert str(caught.value) == f"{names} are required in production"
    with pytest.raises(SettingError, match=r"^HELLOJOHN_OIDC_CLIENT_SECRET and HELLOJOHN_OIDC_ALLOWED are required"):
        Settings.from_env(PRODUCTION | dict(list(OIDC.items())[:2]))


OTHER_KEY = "mk_live_9fK2pQx7Lw4Zt8Vb3Ns6Rd1Y5cHm0GjA"


def test_two_keys_of_the_operator_overlap() -> None:
    settings = Settings.from_env({**PRODUCTION, "HELLOJOHN_OTHER_ADMIN_KEY": OTHER_KEY})
    assert settings.is_admin_key(OTHER_KEY) and settings.is_admin_key(PRODUCTION["HELLOJOHN_ADMIN_KEY"])
    assert not settings.is_admin_key(OTHER_KEY + "x") and not Settings.from_env(PRODUCTION).is_admin_key(OTHER_KEY)
    for wrong, why in (
        ("mk_live_short", "must be mk_live_"),
        (PRODUCTION["HELLOJOHN_ADMIN_KEY"], "must be another"),
        (f"mk_live_{STRONG}x", "must not be made of HELLOJOHN_SECRET"),
        ("mk_live_" + "a" * 40, "must be random"),
    ):
        with pytest.raises(SettingError, match=f"^HELLOJOHN_OTHER_ADMIN_KEY {why}"):
            Settings.from_env({**PRODUCTION, "HELLOJOHN_OTHER_ADMIN_KEY": wrong})


def test_compose_passes_every_setting_and_publishes_on_loopback() -> None:
    text = (ROOT / "compose.yaml").read_text()
    passed = set(re.findall(r"^ +([A-Z_]+): ", text, re.MULTILINE))
    assert {*NAMES, *BARE} - passed == {"HELLOJOHN_DATA", "HELLOJOHN_URL"}
    assert re.findall(r"ports: \[\"(\S+?):", text) == ["${BIND"] and "${BIND:-127.0.0.1}" in text
    assert "--requirepass ${VALKEY_PASSWORD:?" in text and "--maxmemory ${" in text


@pytest.mark.parametrize("origin", ["http://[::1]:3000", "https://[2001:db8::1]", "https://[::ffff:7f00:1]:8443"])
def test_an_ipv6_origin_is_taken_as_a_browser_writes_it(origin: str) -> None:
    assert Settings.from_env({**PRODUCTION, "HELLOJOHN_ORIGINS": origin}).origins == {origin}


@pytest.mark.parametrize(
    "origin",
    ["https://[::g]", "https://[0:0::1]", "https://[2001:DB8::1]", "https://::1", "https://[::1]:443", "https://[]"],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(SettingError, match=r"^HELLOJOHN_ORIGINS must"):
        Settings.from_env({**PRODUCTION, "HELLOJOHN_ORIGINS": origin})
