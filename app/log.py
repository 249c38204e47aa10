"""One JSON object per line on stderr, UTC, never a secret: callers name what they log."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

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


def set_up(level: str) -> None:
    """Route every logger of this process through one handler."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("arq.worker", "arq.jobs", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
