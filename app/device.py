"""What kind of device a user agent names, and which country an address lies in. Unknown is `None`, never a guess."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import maxminddb
from ua_parser import parse

from app.settings import SettingError


def _any_of(forms: str) -> re.Pattern[str]:
    """Matches where one of the patterns in `forms` does, separated by blanks, for agents in small letters."""
    return re.compile("|".join(forms.split()))


_DESKTOP: Final = _any_of(
    r"""
    windows\snt windows\s9 win(?:dows)?\s?(?:95|98|me\b|3\.|2000|xp) macintosh mac_powerpc mac\sos\sx x11 wayland
    cros\b linux\s(?:x86|i[3-6]86|amd64) (?:free|open|net)bsd sunos amiga morphos aros haiku beos os/2 risc\sos irix
    hp-ux webexplorer \be?links\b lynx w3m
    """
)
_SYSTEMS: Final = frozenset({"Windows", "Mac OS X", "Linux", "Ubuntu", "Fedora", "Debian", "Chrome OS", "FreeBSD"})
_BOT: Final = _any_of(
    r"""
    (?<!cu)bots?\b crawl spider slurp scrap facebookexternalhit web\s?preview transcoder monitor(?:ing|/) uptime
    headlesschrome lighthouse archiver validator feedfetcher pinterest/0 netcraft zgrab appengine-google
    \+\s?https?:// https?://(?!www\.ucweb)
    \b(?:(?:image|media)\s?proxy|mediaproxy|embed|opengraph|analyzer|feedburner|gofeed|wappalyzer)\b
    google-(?!tv)\w+ adsbot mediapartners
    """
)
_CONSOLE: Final = _any_of(
    r"""
    playstation \bps[2-5]\b nintendo \bnitro\b \bxbox(?!;\sxblwp) \bwii dreamcast planetweb \bsega(?:\s|/|saturn)
    dreampassport dreamkey steam\s?deck steam\sgamepad ouya shield\sbuild \bshield\) shield\sportable
    archos\sgamepad gamepad retroid anbernic \brg(?:cube|\d{3}) ayn\sodin \bodin2\b gr0006 razer\sedge gameboy \bgpd
    gp2x
    """
)
_WEARABLE: Final = _any_of(
    r"""
    watch(?!free|tower|dog|er) oculus \bquest\b \bvr\s(?:safari|chrome) mobile\svr \bpico\s?(?:neo|\d|browser)
    picobrowser hololens glass\s\d vision\s?pro wear\s?os gear\s(?:live|s\d|fit) \bsm-r\d{3} moto\s360 \bow\d\dw\d
    wolvic vive\sfocus
    """
)
_TV: Final = _any_of(
    r"""
    (?<![a-z])(?:smart|google|android|apple|web|net|hbb|d|sonyd|i|inet|mi|fire|opera|philips|q|u)?[\s_-]?tv(?:\b|_|browser|store|os)
    smart-?tv inettv appletv hbbtv googletv dtvnet smarthub ce-html viera aquos\s?browser aquos-as bravia netcast
    webos\.tv web0s \bmaple\b espial crkey chromecast roku \baft[a-z0-9]{1,9}\b mi\s?box mitv vidaa vizio \bstb\b
    set-?top boxee kodi.*(?:linux|android) xbmc adt-\d nexus\splayer nsz-g freebox ciscobrowser antgalio lg\sbrowser
    mbxt tivo shield\sandroid netrange dlnadoc magicbox linkbox \b(?:x96|a95x|t95|h96|tx[3-9]|mxq|x88|hk1)
    box(?:\b|d\d|[-_]) opentv sonyce hybridcast ;lge\s; kreatv ekioh/ zetakey vms1\d led\d\d ld-\d\d shell\s\w
    \b(?!bntv|btv|stv|hitv|myt)[a-z]{1,4}tv[\s_-]?\d{2}[a-z] \dktv smartertv \b[48]k\b
    \b(?:mk80\d|km\d|m8s|yndx-000|sei\d{3}|tvs-|swtv)
    ;\s(?:\w+-)?(?:24|32|39|4[0239]|50|55|58|6[05]|7[05]|8[25])(?:[a-z]{1,4}\d|hdr|led|qled|uhd|fhd|[a-z]{2,}) loewe
    technisat vestel metz grundig sharp-tv bdp\b blu-?ray
    """
)
_TABLET: Final = _any_of(
    r"""
    ipad tablet playbook kindle kobo nook \bbn(?:tv|rv)\d pocketbook touchpad sm-[tpx]\d{3} gt-p\d gt-n[58]\d{3}
    lenovo\s?(?:tb|yt|pb|a\d{4}-) \btb-?[x\d]\d{2,} \btb\d{3} mediapad matepad nexus\s(?:7|9|10)\b pixel\sc\b
    \bkf[a-z]{2,6}\b iconia transformer xoom \bsgp\d (?:tab|(?<!cool)(?<!key)pad)(?![a-z]) /apad lepad
    \b[a-z0-9]{3,5}-w\d\d nokia\st\d\d lenovo\sb\d{4} \d{5}rp
    \b(?:bah|ags|btv|jdn|scm|mrx|mrr|dby|kob|wgr|bzt|cmr|sht|agr|cpn|got|btk|bg2)\d?k?-\w t1-\d{3} \bme\d{3}[a-z]?\b
    \bb1-\d{3} \ba[13]-\d{3} \bp0[0-2]\w\b at\d{3}\b ebrd\d archos\s(?:[6-9]\d|1\d\d) archos5 \bmid\d
    \b(?:pmt|rct|tpc)\d{4} rmp2\d opd\d 2[12]\d{5}c[a-z]?\b \bvk\d{3} lg-v\d{3} \bvs?\d00k \bs6000 xiaomi\spad
    wifi-?only
    """
)
_PHONE: Final = _any_of(
    r"""
    iphone ipod windows\sphone iemobile windows\sce ce;\sppc lumia blackberry bb10 symb(?:ian|os) series\s?[3-9]0
    s60 midp j2me cldc kaios opera\sm(?:ini|obi) nokia meego maemo bada palm hpwos webos/[12] ucweb
    up\.(?:browser|link) docomo j-phone softbank vodafone kddi sonyericsson samsung- sec-sgh sch- sgh- sph- \blg[-/]
    lge- mot- motorola htc alcatel zte pantech sagem sharp- sanyo siemens sie- philips\w*/ panasonic- haier huawei
    netfront/[34] obigo teleca mqqbrowser uc\s?browser brew dolfin jasmine mobile phone smartphone pda\b avantgo
    blazer whatsapp wap[-\s]browser \bmaui\b jig\sbrowser foma \bmre/ palmos sailfish ubuntu\stouch jolla
    """
)
_PHONE_MODEL: Final = _any_of(
    r"""
    sm-[acefgjmnsz]\d sc-\d\d[a-z] gt-[isnbc]\d pixel nexus\s(?:one|s|[456])\b galaxy\snexus moto \bxt\d{3,4} redmi
    \bmi[\s_-](?:\d|note|max|mix|a\d) poco \bm\d{4}[a-z]\d 2\d{7,} oneplus rmx\d cph\d oppo vivo \bv\d{4}a huawei
    honor \b[a-z]{3}-(?:al|l|tl|lx|an|nx?|ul|cl)\d\d nokia lg-[adefghklmpsu] lm- htc sonyericsson xperia
    \b[c-h]\d{4}\b asus_[xzai] tecno infinix itel device/
    """
)


_IN_ORDER: Final = (("console", _CONSOLE), ("wearable", _WEARABLE), ("tv", _TV), ("tablet", _TABLET))


@lru_cache(10_000)
def device_type(user_agent: str | None) -> str | None:
    """`bot`, `console`, `wearable`, `tv`, `tablet`, `mobile` (a phone) or `desktop`; `None` when unsure."""
    if not user_agent:
        return None
    agent, seen = user_agent.lower(), parse(user_agent)
    if _BOT.search(agent) or (seen.device and seen.device.family == "Spider"):
        return "bot"
    for kind, forms in _IN_ORDER:
        if forms.search(agent):
            return kind
    system = seen.os.family if seen.os else ""
    if system == "Tizen" and "mobile" not in agent:
        return "tv"
    if system == "Android":
        return _handheld(agent)
    if system == "iOS" or _PHONE.search(agent):
        return "mobile"
    return "desktop" if system in _SYSTEMS or _DESKTOP.search(agent) else None


def _handheld(agent: str) -> str:
    """Phone or tablet, of Android. The browsers of phones say `Mobile`; apps, which do not, run on phones mostly."""
    if "mobile" in agent or "mozilla/5.0" not in agent or _PHONE_MODEL.search(agent):
        return "mobile"
    return "tablet"


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
