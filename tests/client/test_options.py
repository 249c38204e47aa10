"""Options in Python alone: proxies of the environment, and what is said of an address."""

from __future__ import annotations

from typing import Any

import pytest

from app.client.options import Settings
from app.client.service import _proxy_for
from app.client.verifier import Verifier

GOOD: dict[str, Any] = {"url": "http://10.1.2.3:8000", "tenant_id": "tnt_1", "api_key": "sk_test_x"}


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    "variables",
    [
        {"ALL_PROXY": "socks5://127.0.0.1:1080"},
        {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "10.0.0.0/8,::1,[fd00::1],fe80::/10,*.example.com"},
        {"HTTP_PROXY": "nonsense://x:y", "NO_PROXY": "::/0"},
        {"HTTP_PROXY": "proxy.example:3128", "NO_PROXY": "[::1]:8000,,"},
    ],
)
def test_no_proxy_variable_makes_the_constructor_fail(env: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        env.setenv(name, value)
    for url in ("http://10.1.2.3:8000", "https://sessions.example", "http://[::1]:8000"):
        Verifier(**{**GOOD, "url": url})


@pytest.mark.parametrize(
    ("url", "no_proxy", "proxy"),
    [
        ("http://sessions.example", "", "http://proxy:3128"),
        ("http://sessions.example", "other.example", "http://proxy:3128"),
        ("http://sessions.example", "sessions.example", None),
        ("http://a.sessions.example:8000", ".sessions.example", None),
        ("http://10.1.2.3:8000", "10.0.0.0/8", None),
        ("http://10.1.2.3:8000", "192.168.0.0/16", "http://proxy:3128"),
        ("http://[fd00::5]:8000", "fd00::/8", None),
        ("http://[::1]:8000", "[::1]", None),
        ("http://sessions.example", "*", None),
        ("https://sessions.example", "", None),
    ],
)
def test_the_proxy_is_the_one_that_the_environment_names(
    env: pytest.MonkeyPatch, url: str, no_proxy: str, proxy: str | None
) -> None:
    env.setenv("HTTP_PROXY", "proxy:3128")
    env.setenv("NO_PROXY", no_proxy)
    assert _proxy_for(url) == proxy


@pytest.mark.parametrize(
    "url",
    ["redis://:Zq7Kx9Lm/Tr4Wp2Vb@host:6379/0", "redis+cluster://:Zq7Kx9Lm/Tr4Wp2Vb@a:1,b:2", "http://:Tr4Wp2Vb@x"],
)
def test_a_wrong_redis_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="redis_url") as refused:
        Settings(**GOOD, redis_url=url)
    assert "Zq7Kx9Lm" not in repr(refused.value) and "Tr4Wp2Vb" not in repr(refused.value)


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://:p@h:1/0", "redis+cluster://a:1,b:2", "redis+cluster://:p@a:1,b:2,c:3"]
)
def test_good_redis_addresses_are_taken(url: str) -> None:
    assert Settings(**GOOD, redis_url=f" {url}\n").redis_url == url


def test_what_is_empty_is_unset_and_zero_reports_never() -> None:
    settings = Settings(**{**GOOD, "url": " http://x/ "}, issuer=" ", redis_url="", report_every=0)
    assert (settings.url, settings.issuer, settings.redis_url) == ("http://x", "http://x", None)
    assert settings.report_every is None
