"""The address that a request comes from, as far as listed proxies say it (`X-Forwarded-For`; `Forwarded`, RFC 7239)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from starlette.types import Scope

from app.addresses import parse_address
from app.settings import Network

_ELEMENT: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*")+')
_FOR: Final = re.compile(r'(?:^|;)\s*for\s*=\s*("(?:[^"\\]|\\.)*"|[^";]*)', re.IGNORECASE)
_HIDDEN: Final = re.compile(r"_[A-Za-z0-9._-]{1,64}", re.ASCII)


def source(scope: Scope, headers: dict[bytes, bytes], proxies: Sequence[Network]) -> str:
    """What the last listed proxy says, read from the right (RFC 7239 §8.1); of IPv6 the /64, which is what one customer
    gets. Where both headers are there and name different sources, one of them may be the client's own invention: then
    it is the proxy's own address."""
    peer = str((scope.get("client") or ("",))[0])
    found = {_last_said(peer, hops, proxies) for hops in (_x_forwarded_for(headers), _forwarded(headers)) if hops}
    return _network(found.pop() if len(found) == 1 else peer)


def _x_forwarded_for(headers: dict[bytes, bytes]) -> list[str]:
    sent = headers.get(b"x-forwarded-for", b"").decode("latin-1")
    return [hop for hop in sent.split(",") if hop.strip()]


def _forwarded(headers: dict[bytes, bytes]) -> list[str]:
    """The `for` of each element (RFC 7239 §4); an element without it says nothing of its client."""
    sent = headers.get(b"forwarded", b"").decode("latin-1")
    elements = [element for element in _ELEMENT.findall(sent) if element.strip()]
    named = [_FOR.search(element.strip()) for element in elements]
    return ["unknown" if form is None else form[1].replace("\\", "") for form in named]


def _last_said(peer: str, hops: list[str], proxies: Sequence[Network]) -> str:
    """Go back from the peer as long as it is a listed proxy. One that hides its client behind a name (RFC 7239 §6.3)
    names it all the same; one that does not know it leaves its own address."""
    address, said = parse_address(peer), peer
    while hops and address is not None and any(address in network for network in proxies):
        hop = hops.pop().strip().strip('"')
        address = parse_address(hop)
        if address is not None:
            said = str(address)
        elif _HIDDEN.fullmatch(hop.partition(":")[0]):
            said = hop.partition(":")[0]
    return said


def _network(text: str) -> str:
    address = parse_address(text)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address) >> 64 << 64, 64)))
    return text if address is None else str(address)
