"""Reading of IP addresses as proxies and frameworks write them: with a port, brackets, quotes or a zone id."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

_PORT: Final = r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_BRACKETED: Final = re.compile(rf"\[([0-9A-Fa-f:.]+(?:%[^\]]*)?)\]{_PORT}")
_DOTTED: Final = re.compile(rf"([0-9A-Fa-f:]*[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+){_PORT}")
_UNKNOWN: Final = re.compile(
    rf"(?:unknown|_[a-z0-9._-]+){_PORT}|-+|\?+|@|unix:.*|null|nil|none|undefined|n/?a", re.IGNORECASE
)
"""RFC 7239 §6.2 and §6.3; what proxies and frameworks write for a Unix socket, and languages for an absent value."""


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address in `text`, without port, brackets, quotes and zone id. An IPv4-mapped IPv6 address is its IPv4
    address. `None` if there is no address in it."""
    text = _bare(text).removeprefix("/")  # Java's InetSocketAddress begins with a slash
    if found := _BRACKETED.fullmatch(text) or _DOTTED.fullmatch(text):
        text = found[1]
    address, _, zone = text.partition("%")
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, IPv4Address):
        return None if zone else parsed
    return parsed.ipv4_mapped or parsed


def is_unknown(text: str) -> bool:
    """Whether `text` says that the address is not known: empty, `unknown`, an obfuscated identifier (`_hidden`)."""
    text = _bare(text)
    return not text or _UNKNOWN.fullmatch(text) is not None


def _bare(text: str) -> str:
    """Without blanks and quotes around it."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].strip()
    return text
