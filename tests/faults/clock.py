"""`python -m tests.faults.clock <module>`: run a process of the service on a clock that a test turns.

The file named by CLOCK_FILE holds three signed 64-bit numbers: a frozen time in epoch milliseconds, or 0; an offset to
the real time; and by how much the wall clock was set. The first two turn time itself, and the clock that nobody sets
with it; the third turns the wall clock alone. The file is mapped, so a turn is seen by the next reading.
"""

from __future__ import annotations

import datetime
import mmap
import os
import runpy
import struct
import sys
from pathlib import Path
from typing import Final, Self

_FORM: Final = struct.Struct("<qqq")


class Clock:
    """The test's end of the file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.write_bytes(_FORM.pack(0, 0, 0))
        with file.open("r+b") as handle:
            self._map = mmap.mmap(handle.fileno(), _FORM.size)

    def freeze(self, ms: int) -> None:
        self._map[:] = _FORM.pack(ms, 0, 0)

    def shift(self, ms: int) -> None:
        self._map[:] = _FORM.pack(0, ms, 0)

    def set_wall(self, ms: int) -> None:
        """To the real time and so much; for whoever reads it, as `date -s` would."""
        self._map[:] = _FORM.pack(0, 0, ms)


def main() -> None:
    import arq.utils
    import arq.worker

    import app.clock
    import app.runtime

    with Path(os.environ["CLOCK_FILE"]).open("rb") as handle:
        mapped = mmap.mmap(handle.fileno(), _FORM.size, prot=mmap.PROT_READ)
    real, real_uptime = app.runtime.now_ms, app.clock.uptime_ms

    def wall() -> int:
        frozen, offset, step = _FORM.unpack(mapped[:])
        return (int(frozen) or real() + int(offset)) + int(step)

    def uptime() -> int:
        frozen, offset, _ = _FORM.unpack(mapped[:])
        return real_uptime() + (int(frozen) - real() if frozen else int(offset))

    class Turned(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Self:
            return cls.fromtimestamp(wall() / 1_000, tz)

    app.runtime.now_ms, app.clock.uptime_ms = wall, uptime
    arq.utils.time = arq.worker.time = lambda: wall() / 1_000  # type: ignore[attr-defined]
    arq.worker.datetime = Turned  # type: ignore[attr-defined]
    app.runtime.open_runtime.__wrapped__.__defaults__ = (wall, None, None)  # type: ignore[attr-defined]
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
