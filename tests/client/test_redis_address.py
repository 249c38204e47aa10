"""One table of Redis addresses for everything that parses one: settings, worker's queue, store and client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from arq.connections import RedisSettings
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from app.client.direct import RedisFeed
from app.client.redis_address import SCHEMES, AddressError, RedisAddress, parse_address
from app.settings import SettingError, Settings
from app.store.handshake import link_to
from tests.service import environment
from worker.main import queue_settings

HIDDEN = "Zq7Kx9Lm"

TAKEN: list[tuple[str, str, dict[str, Any]]] = [
    ("redis://h", "h:6379", {"database": 0, "username": None, "password": None, "tls": None}),
    ("redis://h/", "h:6379", {"database": 0}),
    ("redis://h:7000/0/", "h:7000", {"database": 0}),
    ("redis://h/12", "h:6379", {"database": 12}),
    ("redis://h?db=3", "h:6379", {"database": 3}),
    ("redis://h/3?db=3", "h:6379", {"database": 3}),
    ("  REDIS://Host_1.example:1\r\n", "Host_1.example:1", {"cluster": False}),
    ("redis://[::1]", "[::1]:6379", {"hosts": (("::1", 6379),)}),
    ("redis://u:p@[fe80::1%25eth0]:7000", "[fe80::1%eth0]:7000", {"hosts": (("fe80::1%eth0", 7000),)}),
    ("redis://:%2F%3F%23%40%3A%25@h", "h:6379", {"username": None, "password": "/?#@:%"}),
    ("redis://%C3%A4:%C3%B6@h", "h:6379", {"username": "ä", "password": "ö"}),
    ("redis://user:a:b@h", "h:6379", {"username": "user", "password": "a:b"}),
    ("redis://user:@h", "h:6379", {"username": "user", "password": ""}),
    ("redis://:@h", "h:6379", {"username": None, "password": None}),
    ("unix:///run/valkey.sock", "/run/valkey.sock", {"socket": "/run/valkey.sock", "database": 0, "hosts": ()}),
    ("unix://u:p@/run/val%20key.sock?db=2", "/run/val key.sock", {"username": "u", "database": 2}),
    ("redis+cluster://u:p@a:1,b,[::1]:3", "a:1,b:6379,[::1]:3", {"cluster": True, "username": "u"}),
    ("RedisS+Cluster://a,b/", "a:6379,b:6379", {"cluster": True}),
]
REFUSED = [
    ("", "must be a redis://"),
    (f"{HIDDEN}", "must be a redis://"),
    (f"http://{HIDDEN}", "must be a redis://"),
    (f"redis:/{HIDDEN}", "must be a redis://"),
    (f"redis://:{HIDDEN}/Tr4@h:6379/0", "login that is not percent-encoded"),
    (f"redis://:{HIDDEN}?Tr4@h:6379/0", "login that is not percent-encoded"),
    (f"redis://:{HIDDEN}#Tr4@h:6379/0", "login that is not percent-encoded"),
    (f"redis://:{HIDDEN}@Tr4@h:6379/0", "login that is not percent-encoded"),
    (f"redis://:[{HIDDEN}@h:6379/0", "login that is not percent-encoded"),
    (f"redis://u:{HIDDEN}%zz@h", "write % as %25"),
    (f"redis://u:{HIDDEN}%@h", "write % as %25"),
    (f"redis://u:{HIDDEN}%ff@h", "write % as %25"),
    (f"redis://{HIDDEN}@h", "user name without a password"),
    (f"redis://:{HIDDEN} x@h", "must not contain spaces"),
    (f"redis://:{HIDDEN}\nx@h", "must not contain spaces"),
    (f"redis://:{HIDDEN}", "must name each host|empty host"),
    (f"redis://u:{HIDDEN}", "must name each host"),
    ("redis://", "empty host"),
    ("redis:///0", "empty host"),
    ("redis://:6379", "empty host"),
    (f"redis://u:{HIDDEN}@", "empty host"),
    (f"redis://u:{HIDDEN}@:6379", "empty host"),
    ("redis+cluster://a,,b", "empty host"),
    ("redis+cluster://a,", "empty host"),
    ("redis://h:", "must name each host"),
    ("redis://h:0", "port"),
    ("redis://h:65536", "port"),
    ("redis://h:" + "9" * 5_000, "port"),
    ("redis://h:٣", "must name each host"),
    (f"redis://h:{HIDDEN}", "must name each host"),
    ("redis://::1:6379", "must name each host|empty host"),
    ("redis://[::g]", "no IPv6"),
    ("redis://[127.0.0.1]", "no IPv6"),
    ("redis://[::1", "must name each host"),
    ("redis://a,b", "must name one host"),
    ("redis://h/1/2", "one number"),
    ("redis://h//", "one number"),
    ("redis://h//1", "one number"),
    ("redis://h/-1", "one number"),
    ("redis://h/01", "one number"),
    ("redis://h/1e3", "one number"),
    (f"redis://h/{HIDDEN}", "one number"),
    ("redis://h?db=x", "one number"),
    ("redis://h/1?db=2", "two databases"),
    ("redis://h?db=1&db=1", "option db one value"),
    ("redis://h?db=", "option db one value"),
    ("redis+cluster://h/1", "must name database 0"),
    ("redis://h/0#", "fragment"),
    (f"redis://h/0#{HIDDEN}", "fragment"),
    (f"redis://h?password={HIDDEN}", "an option that is not one of"),
    ("redis://h?DB=1", "an option that is not one of"),
    ("redis://h?ssl_cert_reqs=none", "only a rediss://"),
    ("unix:///s?ssl_cert_reqs=none", "only a rediss://"),
    ("rediss://h?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs, which names no file"),
    ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
    ("rediss://h?ssl_check_hostname=maybe", "ssl_check_hostname"),
    ("rediss://h?ssl_cert_reqs=none&ssl_check_hostname=true", "ssl_check_hostname"),
    ("unix://", "absolute path"),
    ("unix:///", "absolute path"),
    ("unix://run/valkey.sock", "absolute path"),
    (f"unix://:{HIDDEN}/x@/s", "login that is not percent-encoded"),
]


@pytest.mark.parametrize(("text", "place", "fields"), TAKEN)
def test_an_address_means_the_same_to_store_queue_and_client(text: str, place: str, fields: dict[str, Any]) -> None:
    address = parse_address(text)
    assert address.place == place
    assert {name: getattr(address, name) for name in fields} == fields
    assert Settings.from_env(environment(text)).redis_url == address
    assert RedisFeed(text, "tnt_1", None, 1.0)._address == address  # type: ignore[arg-type]
    if address.cluster:
        return
    link, client = link_to(address, 1.0), Redis(**address.options())
    queue = queue_settings(Settings.from_env(environment(text)))
    used = client.connection_pool.connection_kwargs
    for found in (link.username, link.password), (used["username"], used["password"]), (queue.username, queue.password):
        assert found == (address.username, address.password)
    assert link.db == used["db"] == queue.database == address.database
    if address.socket is None:
        assert isinstance(link, Connection)
        assert (link.host, link.port) == (used["host"], used["port"]) == (queue.host, queue.port) == address.hosts[0]
    else:
        assert isinstance(link, UnixDomainSocketConnection)
        assert link.path == used["path"] == queue.unix_socket_path == address.socket


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_a_refusal_says_what_is_wrong_and_quotes_nothing(text: str, why: str) -> None:
    with pytest.raises(AddressError, match=why) as caught:
        parse_address(text)
    refusals: list[BaseException] = [caught.value]
    with pytest.raises(ValueError, match=rf"^redis_url .*({why})") as client:
        RedisFeed(text, "tnt_1", None, 1.0)  # type: ignore[arg-type]
    refusals.append(client.value)
    if text and "\n" not in text:
        with pytest.raises(SettingError, match=rf"^REDIS_URL .*({why})") as setting:
            Settings.from_env(environment(text))
        refusals.append(setting.value)
    for refusal in refusals:
        while refusal.__context__ is not None:
            refusal = refusal.__context__
            refusals.append(refusal)
    assert not [refusal for refusal in refusals if HIDDEN in repr(refusal) or "Tr4" in repr(refusal)]


def test_tls_options_reach_every_client(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).touch()
    files = f"ssl_ca_certs={tmp_path}/ca&ssl_certfile={tmp_path}/cert&ssl_keyfile={tmp_path}/key"
    for more, required, checked in (
        ("", "required", True),
        ("&ssl_cert_reqs=OPTIONAL", "optional", True),
        ("&ssl_cert_reqs=none", "none", False),
        ("&ssl_check_hostname=False", "required", False),
        ("&ssl_check_hostname=yes", "required", True),
    ):
        text = f"rediss://h/1?{files}{more}"
        address = parse_address(text)
        wanted = {
            "ssl_ca_certs": f"{tmp_path}/ca",
            "ssl_certfile": f"{tmp_path}/cert",
            "ssl_keyfile": f"{tmp_path}/key",
        }
        wanted |= {"ssl_cert_reqs": required, "ssl_check_hostname": checked}  # type: ignore[dict-item]
        assert address.tls_options() == wanted
        assert isinstance(link_to(address, 1.0), SSLConnection)
        client = Redis(**address.options())
        assert client.connection_pool.connection_class is SSLConnection
        assert wanted.items() <= client.connection_pool.connection_kwargs.items()
        queue = queue_settings(Settings.from_env(environment(text)))
        assert queue.ssl and wanted.items() <= vars(queue).items()


def test_no_form_of_an_address_shows_its_login() -> None:
    address = parse_address("rediss://someone:hidden@h")
    queue: RedisSettings = queue_settings(Settings.from_env(environment("rediss://someone:hidden@h")))
    for shown in (repr(address), str(address), repr(vars(queue)), repr(queue), repr(address.options()), address.place):
        assert "someone" not in shown and "hidden" not in shown
    link = link_to(address, 1.0)
    assert "someone" not in repr((link, link.username, link.password))


def test_each_scheme_is_taken() -> None:
    for scheme in SCHEMES:
        found: RedisAddress = parse_address(f"{scheme}:///s" if scheme == "unix" else f"{scheme}://h")
        assert (found.tls is not None) == scheme.startswith("rediss")
