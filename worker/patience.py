"""What a job does while the session store is away: it says so in a line, and waits for its turn."""

from __future__ import annotations

import asyncio
import logging
from functools import wraps
from typing import Any, Final

from arq import Retry
from arq.typing import WorkerCoroutine

from app.errors import StoreUnavailable
from app.log import Lasting

_AGAIN_S: Final = 60
"""arq does not look at a timed job again before (`keep_cronjob_progress`)."""
_log = logging.getLogger("worker")


def patient(job: WorkerCoroutine, *, rare: bool = False) -> WorkerCoroutine:
    """`job`, which goes on at its next tick when the store was away; a `rare` one does not wait for that.

    Raises `arq.Retry`, which a worker heeds as often as the job's `max_tries` says.
    """
    fault = Lasting()

    @wraps(job)
    async def tick(ctx: dict[str, Any]) -> Any:
        try:
            return await job(ctx)
        except StoreUnavailable as error:
            if times := fault.came(asyncio.get_running_loop().time()):
                _log.warning("%d × %s stopped, the store is away: %s", times, job.__qualname__, error)
            if rare:
                raise Retry(defer=_AGAIN_S) from None
            return None

    return tick
