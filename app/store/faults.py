"""Why a server of this process is unavailable: named in the log, and counted for the metric, never in a response."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from errno import ECONNREFUSED
from time import monotonic
from typing import Final

import msgspec
from redis.exceptions import AuthenticationError, InvalidResponse, NoPermissionError, ReadOnlyError

CAUSES: Final = {
    "wrong_password": "the user name or the password is wrong",
    "no_password": "the server asks for a password and the address has none",
    "no_permission": "the server does not let this user use a command, key or channel (ACL)",
    "no_database": "the server has no database of this number",
    "tls_required": "the server closed the connection before its first reply; if it speaks TLS use rediss://",
    "tls_unsupported": "this port does not speak TLS; use redis:// or the server's TLS port",
    "certificate": "the server's certificate is not trusted or names another host, or it asks for a client certificate",
    "unknown_host": "the host name cannot be resolved",
    "closed_port": "no server listens on this port or socket",
    "unreachable": "the network or the server refuses the connection",
    "no_answer": "the server does not answer in time",
    "connection_lost": "the server closed the connection",
    "loading": "the server is loading its data",
    "busy": "the server is running a long script",
    "replica": "the server is a replica",
    "full": "the server's memory is full (maxmemory)",
    "read_only": "the server refuses writes: it cannot save or has too few replicas",
    "cluster_down": "the cluster is down",
    "no_slot_map": "no node of the cluster gives a complete slot map; is it a cluster?",
    "other": "the server cannot be used",
}
"""The fixed list of causes, each with its text for the log."""
_REPLIES: Final = {
    "NOAUTH": "no_password",
    "WRONGPASS": "wrong_password",
    "NOPERM": "no_permission",
    "LOADING": "loading",
    "BUSY": "busy",
    "READONLY": "replica",
    "MASTERDOWN": "replica",
    "OOM": "full",
    "MISCONF": "read_only",
    "NOREPLICAS": "read_only",
    "CLUSTERDOWN": "cluster_down",
}
_KINDS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (NoPermissionError, "no_permission"),
    (ReadOnlyError, "replica"),
    (ssl.SSLCertVerificationError, "certificate"),
    (socket.gaierror, "unknown_host"),
    (ConnectionRefusedError, "closed_port"),
    (FileNotFoundError, "closed_port"),
    (TimeoutError, "no_answer"),
    (InvalidResponse, "tls_required"),
)
_WORDS: Final = (
    ("without any password configured", "wrong_password"),
    ("no password is set", "wrong_password"),
    ("Authentication required", "no_password"),
    (f"[Errno {ECONNREFUSED}]", "closed_port"),
    ("DB index", "no_database"),
    ("Invalid Database", "no_database"),
    ("database is out of range", "no_database"),
    ("CERTIFICATE_REQUIRED", "certificate"),
    ("ALERT", "certificate"),
    ("WRONG_VERSION_NUMBER", "tls_unsupported"),
    ("RECORD_LAYER_FAILURE", "tls_unsupported"),
    ("is loading the dataset", "loading"),
    ("has become a replica", "replica"),
    ("Timeout", "no_answer"),
    ("Protocol Error", "tls_required"),
    ("Connection closed by server", "connection_lost"),
    ("Connection reset", "connection_lost"),
    ("EOF", "connection_lost"),
)
_REPEAT_S: Final = 60.0
_REPLY_LASTS_S: Final = 5.0
_FORGET_S: Final = 60.0
_log = logging.getLogger("app.store")


class _Fault(msgspec.Struct):
    cause: str
    began: float
    seen: float
    lasts: float
    logged: bool = False


class StoreFaults:
    """The faults of every server that this process uses, by place. Each is logged when it begins, once a minute while
    it lasts, and when it ends."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._faults: dict[str, _Fault] = {}
        self._logged: dict[tuple[str, str], float] = {}
        self.counts = dict.fromkeys(CAUSES, 0)

    def saw(self, place: str, cause: str, *, in_reply: bool = False) -> None:
        """`in_reply`: the connection works, so the fault lasts until it has not been seen for five seconds."""
        now, fault = self._clock(), self._faults.get(place)
        if fault is None or fault.cause != cause:
            began = now if fault is None else fault.began
            logged = fault is not None and fault.logged
            fault = self._faults[place] = _Fault(cause, began, now, 0.0, logged)
            self.counts[cause] += 1
        fault.seen, fault.lasts = now, _REPLY_LASTS_S if in_reply else 0.0
        if now >= self._logged.get((place, cause), float("-inf")) + _REPEAT_S:
            self._logged[place, cause], fault.logged = now, True
            _log.warning("%s is unavailable, for %.0f s: %s: %s", place, now - fault.began, cause, CAUSES[cause])

    def worked(self, place: str) -> None:
        """The server at `place` answered."""
        fault, now = self._faults.get(place), self._clock()
        if fault is None or now < fault.seen + fault.lasts:
            return
        del self._faults[place]
        if fault.logged:
            _log.warning("%s is available again after %.0f s: %s", place, now - fault.began, fault.cause)

    def degraded(self, place: str, text: str) -> None:
        """The server at `place` is used without something; logged once a minute at most."""
        now = self._clock()
        if now >= self._logged.get((place, text), float("-inf")) + _REPEAT_S:
            self._logged[place, text] = now
            _log.warning("%s is used with less: %s", place, text)

    def current(self) -> frozenset[str]:
        """The causes of faults that last. One that was not seen for a minute is of a server no longer in use."""
        since = self._clock() - _FORGET_S
        self._faults = {place: fault for place, fault in self._faults.items() if fault.seen > since}
        return frozenset(fault.cause for fault in self._faults.values())


FAULTS: Final = StoreFaults()
"""Of this process."""


def cause_of(error: BaseException) -> str:
    """The cause behind an error of redis-py or of the network."""
    for link in _chain(error):
        text = str(link)
        if text.split(" ", 1)[0] in _REPLIES:
            return cause_in_reply(text)
        word = next((cause for part, cause in _WORDS if part in text), None)
        if word is not None:
            return word
        kind = next((cause for kind, cause in _KINDS if isinstance(link, kind)), None)
        if kind is not None:
            return kind
        if isinstance(link, AuthenticationError):
            return "wrong_password"
    return "unreachable" if any(isinstance(link, OSError) for link in _chain(error)) else "other"


def cause_in_reply(reply: str) -> str:
    """The cause that an error reply names."""
    return _REPLIES.get(reply.split(" ", 1)[0], "other")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, innermost first."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return iter(reversed(links))
