"""IP addresses in the forms that proxies, load balancers and frameworks write them."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

_BRACKETED: Final = re.compile(r"\[([0-9A-Fa-f:.]+)(?:%[^\]]*)?\](?::[0-9]{1,5})?", re.ASCII)
_WITH_PORT: Final = re.compile(r"([0-9.]+):[0-9]{1,5}", re.ASCII)


def parse_address(text: str) -> Address | None:
    """The address that `text` names, without port, brackets, quotes and zone id; `None` if it names none.

    `203.0.113.7:51234` and `[2001:db8::1]:443` are common in `X-Forwarded-For`, quoted forms in `Forwarded` (RFC 7239
    §6), zone ids on link-local addresses (RFC 4007 §11). An IPv4-mapped IPv6 address is the IPv4 address (RFC 4291
    §2.5.5.2).
    """
    text = text.strip().strip('"').strip()
    form = _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text)
    bare = text.partition("%")[0] if form is None else form[1]
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
