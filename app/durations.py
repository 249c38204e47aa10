"""Durations as people write them: `30s`, `15m`, `1h`, `30d`, or whole seconds."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_FORM: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])|0s", re.ASCII)


def seconds(text: object) -> int | None:
    """Seconds, or `None` if it is no duration."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text if 0 <= text <= 10**9 else None
    form = _FORM.fullmatch(text) if isinstance(text, str) else None
    if form is None:
        return None
    return 0 if form[1] is None else int(form[1]) * _UNITS[form[2]]


def text(duration_s: int) -> str:
    """The shortest exact form: 86400 is `1d`, 90 is `90s`."""
    for unit in "dhm":
        if duration_s and duration_s % _UNITS[unit] == 0:
            return f"{duration_s // _UNITS[unit]}{unit}"
    return f"{duration_s}s"


def within(bounds: tuple[int, int]) -> str:
    """What a duration must be to lie within bounds in seconds, both included, in words."""
    return f'a duration like "15m" or whole seconds, {text(bounds[0])} to {text(bounds[1])}'
