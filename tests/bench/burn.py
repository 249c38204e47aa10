"""Processes that keep cores busy, for controls: what it costs that others work on the same machine, and what it costs
that a core goes to sleep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from app.embedded import dies_with_parent

_BURN: Final = "while True: pass"


@contextmanager
def burning(cores: Sequence[int], idly: bool = False) -> Iterator[None]:
    """One on each of `cores` that never rests; `idly`: only while nobody else wants that core (SCHED_IDLE, sched(7)),
    so that all it does is to keep a virtual core from being handed back to the host."""
    dies = dies_with_parent(signal.SIGKILL)
    children = [subprocess.Popen([sys.executable, "-c", _BURN], preexec_fn=dies) for _ in cores]
    try:
        for child, core in zip(children, cores, strict=True):
            os.sched_setaffinity(child.pid, {core})
            if idly:
                os.sched_setscheduler(child.pid, os.SCHED_IDLE, os.sched_param(0))
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()
