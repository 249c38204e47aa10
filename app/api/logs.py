"""One line of JSON per event, on stderr. Names, numbers and ids only: never a secret, a query or a body."""

from __future__ import annotations

import sys
from time import time
from traceback import extract_tb
from typing import Any, Final, Literal

from app.log import line

Level = Literal["debug", "info", "warning", "error"]
_FROM_STATUS: Final[dict[Level, int]] = {"debug": 0, "info": 400, "warning": 500, "error": 500}


class Log:
    def __init__(self, level: Level = "info") -> None:
        self._from = _FROM_STATUS[level]
        self._ready = True

    def wants(self, status: int) -> bool:
        return status >= self._from

    def turns(self, status: int) -> bool:
        """For what probes ask every second, 200 or 503: wanted where it is another answer than the one before, a return
        to 200 too. At level `debug` every answer is."""
        turned, self._ready = self._ready != (status == 200), status == 200
        return self._from == 0 or (turned and self.wants(max(status, _FROM_STATUS["info"])))

    def request(self, now: int, status: int, **facts: Any) -> None:
        """An answer with `status` to a request of `now` (ms)."""
        _write(now / 1_000, "error" if status >= 500 else "info", "request", status=status, **facts)

    def failure(self, error: BaseException, request_id: str) -> None:
        """What went wrong and where; not the message, which could quote what a caller sent."""
        where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in extract_tb(error.__traceback__)]
        _write(time(), "error", "failure", error=type(error).__qualname__, request_id=request_id, where=where[-12:])


def _write(seconds: float, level: Level, message: str, **facts: Any) -> None:
    sys.stderr.write(line(seconds, level, "app.api", message, **facts) + "\n")
