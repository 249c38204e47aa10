"""What sessions are counted by: device and country, as one small number that a tenant's index carries in its scores.

A score is creation time × `KINDS` + kind, exact in a double until 2109. So whoever ends a session knows what to count
down without a look at its record. Eight sorts of devices and 256 of countries; anything else is `other`.
"""

from __future__ import annotations

from typing import Final

KINDS: Final = 2_048
UNKNOWN: Final = "unknown"
OTHER: Final = "other"

DEVICES: Final = (UNKNOWN, "desktop", "mobile", "tablet", "tv", "wearable", "bot", OTHER)
"""Position is the code that Redis keeps: append nothing, there is no room. A `console` is counted as `other`."""

_FORMER: Final = {"watch": "wearable"}
"""Names of earlier versions, which stored sessions still have, and what they are called now."""

_ISO_3166: Final = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD
CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF
GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN
KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA
NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI
SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI
VN VU WF WS YE YT ZA ZM ZW XK
""".split()
"""ISO 3166-1 alpha-2, and the code in use for Kosovo. Position + 1 is the code that Redis keeps: append only."""

COUNTRIES: Final = (UNKNOWN, *_ISO_3166, *[OTHER] * (255 - len(_ISO_3166)))

_DEVICE: Final = {name: code for code, name in enumerate(DEVICES[:-1])}
_COUNTRY: Final = {name: code for code, name in enumerate(COUNTRIES[: len(_ISO_3166) + 1])}


def current_name(device_type: str | None) -> str | None:
    """The name of a device type as it is today: a `watch` is a `wearable`."""
    return _FORMER.get(device_type, device_type) if device_type else None


def kind_of(device_type: str | None, country: str | None) -> int:
    """0 to 2,047."""
    device = _DEVICE.get(current_name(device_type) or UNKNOWN, len(DEVICES) - 1)
    return device << 8 | _COUNTRY.get(country or UNKNOWN, 255)


def device_in(kind: int) -> str:
    return DEVICES[kind >> 8 & 7]


def country_in(kind: int) -> str:
    """An ISO 3166-1 code, `unknown` or `other`."""
    return COUNTRIES[kind & 255]


def place_of(created: int, kind: int) -> int:
    """The score in a tenant's index of a living session created at `created` (ms); an ended one has it negative."""
    return created * KINDS + kind


def last_place(created: int) -> int:
    """The highest score that a session created at `created` (ms) or before can have."""
    return created * KINDS + KINDS - 1
