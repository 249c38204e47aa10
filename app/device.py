"""What kind of device a user agent names, and which country an address lies in. Unknown is `None`, never a guess."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import maxminddb
from ua_parser import parse

from app.settings import SettingError

_DESKTOP: Final = frozenset({"Windows", "Mac OS X", "Linux", "Ubuntu", "Fedora", "Debian", "Chrome OS", "FreeBSD"})
_TV: Final = ("Tizen", "tvOS", "webOS", "ATV OS X")


@lru_cache(10_000)
def device_type(user_agent: str | None) -> str | None:
    """`mobile`, `tablet`, `desktop`, `tv`, `watch` or `bot`, from the system and device that ua-parser sees."""
    if not user_agent:
        return None
    seen = parse(user_agent)
    system = seen.os.family if seen.os else ""
    device = seen.device.family if seen.device else ""
    if device == "Spider":
        return "bot"
    if system in _TV or "TV" in device:
        return "tv"
    if system == "watchOS":
        return "watch"
    if device == "iPad":
        return "tablet"
    if system == "iOS" or device in ("iPhone", "iPod"):
        return "mobile"
    if system == "Android":
        return "mobile" if "Mobile" in user_agent else "tablet"
    return "desktop" if system in _DESKTOP else None


class Locator:
    """Countries from a MaxMind-format database file; without a file every country is unknown."""

    def __init__(self, path: str | None) -> None:
        """Raises `SettingError` for a file of another kind."""
        try:
            self._reader = None if path is None else maxminddb.open_database(path)
        except (maxminddb.InvalidDatabaseError, OSError):
            raise SettingError("HELLOJOHN_GEOIP_FILE is no MaxMind-format database") from None

    def country(self, address: str | None) -> str | None:
        """The ISO 3166-1 code of an address, for example `DE`."""
        if self._reader is None or address is None:
            return None
        try:
            record = self._reader.get(address)
        except ValueError:
            return None
        country = record.get("country") if isinstance(record, dict) else None
        code = country.get("iso_code") if isinstance(country, dict) else None
        return code if isinstance(code, str) else None

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
