"""Parser for the address of a Redis server or cluster: one set of rules for the service, its worker and this client.

The grammar is RFC 3986 with the schemes of redis-py. An error names the fault and never quotes the address.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import msgspec

SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix")
_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_OPTIONS: Final = ("db", *_TLS_OPTIONS)
_PORT: Final = 6379
_BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?", re.DOTALL)
_HOST: Final = re.compile(r"(\[[^\[\]]+\]|[A-Za-z0-9._-]+)(?::([0-9]+))?")
_DATABASE: Final = re.compile(r"0|[1-9][0-9]{0,8}")


class AddressError(ValueError):
    """The address is malformed. The message completes a sentence that begins with the name of the setting."""


class Secret(str):
    """Text whose `repr` is hidden, so that no traceback and no log line that shows variables spells it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Tls(msgspec.Struct, frozen=True):
    """TLS options by the names that redis-py gives them. The host name is checked unless the address says otherwise."""

    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_cert_reqs: str = "required"
    ssl_check_hostname: bool = True


class RedisAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A single server (`hosts` has one entry, or `socket` is set) or the seed nodes of a cluster."""

    hosts: tuple[tuple[str, int], ...] = ()
    socket: str | None = None
    cluster: bool = False
    database: int = 0
    username: Secret | None = None
    password: Secret | None = None
    tls: Tls | None = None

    @property
    def place(self) -> str:
        """Each `host:port`, or the path of the socket. Safe to log."""
        return self.socket or ",".join(map(host_port, self.hosts))

    def __repr__(self) -> str:
        return f"RedisAddress({self.place})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("place", self.place)]

    def at(self, host: str, port: int) -> RedisAddress:
        """The address of one node of this cluster."""
        return msgspec.structs.replace(self, hosts=((host, port),), cluster=False)

    def login(self) -> dict[str, Any]:
        """Keyword arguments for any client of redis-py."""
        return {"username": self.username, "password": self.password}

    def tls_options(self) -> dict[str, Any]:
        """Keyword arguments for redis-py's TLS connection; none without TLS."""
        return {} if self.tls is None else msgspec.structs.asdict(self.tls)

    def options(self) -> dict[str, Any]:
        """Keyword arguments for `redis.asyncio.Redis`; of a cluster, for its first host."""
        found: dict[str, Any] = {"db": self.database, **self.login(), **self.tls_options()}
        if self.socket is not None:
            return {**found, "unix_socket_path": self.socket}
        host, port = self.hosts[0]
        return {**found, "host": host, "port": port, "ssl": self.tls is not None}


def host_port(host: tuple[str, int]) -> str:
    """`host:port`, with an IPv6 address in brackets."""
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def as_address(address: RedisAddress | str) -> RedisAddress:
    return parse_address(address) if isinstance(address, str) else address


def parse_address(text: str) -> RedisAddress:
    """Raises `AddressError`. Whitespace at both ends is no part of the address."""
    text = text.strip()
    if re.search(r"[\x00-\x20\x7f]", text):
        raise AddressError("must not contain spaces, line breaks or control characters")
    found = _ADDRESS.fullmatch(text)
    scheme = found[1].lower() if found else ""
    if found is None or scheme not in SCHEMES:
        raise AddressError(f"must be a {', '.join(f'{name}://' for name in SCHEMES)} address")
    authority, path, query, fragment = found[2], found[3], found[4] or "", found[5]
    login, _, hosts = authority.rpartition("@")
    if re.search(r"[@\[\]]", login) or "@" in path + query + (fragment or ""):
        raise AddressError("has a login that is not percent-encoded: write / ? # [ ] @ as %2F %3F %23 %5B %5D %40")
    if fragment is not None:
        raise AddressError("must not have a fragment: a # in the login is written as %23")
    options = _read_options(query)
    username, password = _read_login(login)
    common: dict[str, Any] = {"username": username, "password": password, "tls": _read_tls(scheme, options)}
    if scheme == "unix":
        socket, database = _read_socket(hosts, path), _read_database("", options)
        return RedisAddress(socket=socket, database=database, **common)
    found_hosts, database = tuple(map(_read_host, hosts.split(","))), _read_database(path, options)
    cluster = scheme.endswith("+cluster")
    if len(found_hosts) > 1 and not cluster:
        raise AddressError("must name one host: only a +cluster address may list several")
    if cluster and database:
        raise AddressError("must name database 0: a cluster has no other")
    return RedisAddress(hosts=found_hosts, cluster=cluster, database=database, **common)


def _read_login(login: str) -> tuple[Secret | None, Secret | None]:
    name, colon, word = login.partition(":")
    username, password = _decoded(name), _decoded(word)
    if username is None or password is None:
        raise AddressError("has a login with a % that begins no percent-encoded UTF-8: write % as %25")
    if name and not colon:
        raise AddressError("has a user name without a password: write :password@, or user:@ if there is none")
    return (Secret(username) if username else None), (Secret(password) if username or password else None)


def _read_host(text: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    if not text or text.startswith(":"):
        raise AddressError("has an empty host name")
    if found is None:
        raise AddressError("must name each host as host, host:port or [IPv6]:port")
    digits = found[2] or str(_PORT)
    name, port = found[1], int(digits) if len(digits) < 6 else 0
    if not 1 <= port <= 65_535:
        raise AddressError("has a port that is not from 1 to 65535")
    if name.startswith("["):
        name = _decoded(name[1:-1]) or ""
        if not _is_ipv6(name):
            raise AddressError("has brackets around something that is no IPv6 address")
    return name, port


def _read_database(path: str, options: dict[str, str]) -> int:
    """The number in the path or the option `db`; a slash at the end changes nothing."""
    named = {text for text in (path.removeprefix("/").removesuffix("/"), options.get("db", "")) if text}
    if path == "//" or not all(map(_DATABASE.fullmatch, named)):
        raise AddressError("must name its database by one number: /0")
    if len(named) > 1:
        raise AddressError("names two databases")
    return int(named.pop()) if named else 0


def _read_socket(hosts: str, path: str) -> str:
    found = _decoded(path)
    if hosts or not found or found.endswith("/") or "\0" in found:
        raise AddressError("must name a socket by an absolute path: unix:///path")
    return found


def _read_options(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, text = pair.partition("=")
        value = _decoded(text)
        if name not in _OPTIONS:
            raise AddressError(f"has an option that is not one of {', '.join(_OPTIONS)}")
        if not value or name in found:
            raise AddressError(f"must give the option {name} one value")
        found[name] = value
    return found


def _read_tls(scheme: str, options: dict[str, str]) -> Tls | None:
    given = {name: value for name, value in options.items() if name in _TLS_OPTIONS}
    if not scheme.startswith("rediss"):
        if given:
            raise AddressError(f"has the option {next(iter(given))}, which only a rediss:// address may have")
        return None
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if name in given and not Path(given[name]).is_file():
            raise AddressError(f"has the option {name}, which names no file")
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise AddressError("has the option ssl_keyfile without ssl_certfile")
    required = given.pop("ssl_cert_reqs", "required").lower()
    if required not in ("none", "optional", "required"):
        raise AddressError("must give the option ssl_cert_reqs as none, optional or required")
    checked = _BOOLEANS.get(given.pop("ssl_check_hostname", str(required != "none")).lower())
    if checked is None or (checked and required == "none"):
        raise AddressError("must give ssl_check_hostname as true or false, and as false with ssl_cert_reqs=none")
    return Tls(**given, ssl_cert_reqs=required, ssl_check_hostname=checked)


def _decoded(text: str) -> str | None:
    """Percent-decoded, or `None` for what is not percent-encoded UTF-8. No exception here carries the text."""
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        return None
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return None


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
