"""One JSON object per line on stderr, UTC, never a secret: callers name what they log."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

import msgspec

_encode: Final = msgspec.json.Encoder().encode


class JsonLines(logging.Formatter):
    """Control characters are escaped by JSON, so one event is one line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "from": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return _encode(line).decode()


def set_up(level: str) -> None:
    """Route every logger of this process through one handler."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("arq.worker", "arq.jobs", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
