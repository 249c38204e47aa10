"""`python -m tests.faults.clock <module>`: run a process of the service on a clock that a test turns.

The file named by CLOCK_FILE holds two signed 64-bit numbers: a frozen time in epoch milliseconds, or 0, and then an
offset to the real time. It is mapped, so a turn is seen by the next reading.
"""

from __future__ import annotations

import mmap
import os
import runpy
import struct
import sys
from pathlib import Path
from typing import Final

_FORM: Final = struct.Struct("<qq")


class Clock:
    """The test's end of the file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.write_bytes(_FORM.pack(0, 0))
        with file.open("r+b") as handle:
            self._map = mmap.mmap(handle.fileno(), _FORM.size)

    def freeze(self, ms: int) -> None:
        self._map[:] = _FORM.pack(ms, 0)

    def shift(self, ms: int) -> None:
        self._map[:] = _FORM.pack(0, ms)


def main() -> None:
    import app.runtime

    with Path(os.environ["CLOCK_FILE"]).open("rb") as handle:
        mapped = mmap.mmap(handle.fileno(), _FORM.size, prot=mmap.PROT_READ)
    real = app.runtime.now_ms

    def turned() -> int:
        frozen, offset = _FORM.unpack(mapped[:])
        return int(frozen) or real() + int(offset)

    app.runtime.now_ms = turned
    app.runtime.open_runtime.__wrapped__.__defaults__ = (turned, None, None)  # type: ignore[attr-defined]
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
