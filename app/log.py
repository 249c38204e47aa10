"""One JSON object per line on stderr, UTC, never a secret: callers name what they log."""

from __future__ import annotations

import logging
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, NoReturn

import msgspec

_encode: Final = msgspec.json.Encoder().encode


def line(seconds: float, level: str, source: str, message: str, **facts: object) -> str:
    """What every line of every process begins with, then `facts`. `seconds` since the epoch."""
    at = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return _encode({"at": at, "level": level, "from": source, "message": message, **facts}).decode()


class JsonLines(logging.Formatter):
    """Control characters are escaped by JSON, so one event is one line."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {"error": self.formatException(record.exc_info)} if record.exc_info else {}
        return line(record.created, record.levelname.lower(), record.name, record.getMessage(), **facts)


class Lasting:
    """A fault that comes again and again: the first is told at once, then one in every `seconds`."""

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._quiet_until = float("-inf")
        self._untold = 0

    def came(self, now: float) -> int:
        """How often it has come since it was last told, this time included, if it is to be told now; else 0."""
        self._untold += 1
        if now < self._quiet_until:
            return 0
        told, self._untold, self._quiet_until = self._untold, 0, now + self._seconds
        return told


def set_up(level: str) -> None:
    """Route every logger of this process through one handler; warnings and uncaught exceptions too."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("arq.worker", "arq.jobs", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def refuse(reason: object, code: int) -> NoReturn:
    """End a process that cannot start: the reason is its last line in the log."""
    if not logging.getLogger().handlers:
        set_up("info")
    logging.getLogger("app").error("%s", reason)
    raise SystemExit(code)


def _uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        found = (kind, error or kind(), traceback)
        logging.getLogger("app").critical("uncaught exception", exc_info=found)
