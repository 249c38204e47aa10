"""The scripts, read once: `prelude.lua` in front of each verb's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from app.store.wire import Script

_FOLDER: Final = Path(__file__).parent
_FLAGS: Final = "-- flags: allow-oom\n"
_VERBS: Final = (
    "create", "rotate", "revoke", "revoke_user", "evict", "touch", "update", "cut_off", "uncut", "sweep", "collect",
    "recount", "mend", "park", "exchange", "deployment",
)  # fmt: skip


def _script(verb: str) -> Script:
    """The flags line, which asks a server of version 7 or newer to run the script when memory is full, stays first."""
    own = (_FOLDER / f"{verb}.lua").read_text()
    flags = _FLAGS if own.startswith(_FLAGS) else ""
    return Script.of(verb, flags + (_FOLDER / "prelude.lua").read_text() + own)


SCRIPTS: Final = {verb: _script(verb) for verb in _VERBS}
