"""The verifier for code that does not await: it follows on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import TimeoutError as TookTooLong
from typing import Final, Self, Unpack

from .errors import ServiceUnavailable
from .forks import reset_in_child
from .memory import Claims
from .options import Options as Options
from .options import Settings
from .verifier import Verifier

_TIMEOUT_S: Final = 10.0


class BlockingVerifier:
    """`with BlockingVerifier(url=…, tenant_id=…, api_key=…) as verifier: claims = verifier.verify(token)`, from any
    thread. Without `with` it starts at the first use. A process that forked gets a thread of its own."""

    def __init__(self, **options: Unpack[Options]) -> None:
        Settings(**options)  # refuses a wrong option here rather than at the first use
        self._options = options
        self._lock = threading.Lock()
        self._running: _Running | None = None
        reset_in_child(self)

    def after_fork(self) -> None:
        """The parent's thread does not run in a child, and another thread may have held the lock."""
        self._running, self._lock = None, threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Raises `InvalidApiKey`."""
        self._current()

    def close(self) -> None:
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.close()

    def verify(self, token: str) -> Claims:
        """As `Verifier.verify`."""
        running = self._running
        if running is not None and (claims := running.verifier.recall(token)) is not None:
            return claims
        return self._current().verify(token)

    @property
    def lag(self) -> float:
        return self._current().verifier.lag

    @property
    def ready(self) -> bool:
        return self._current().verifier.ready

    @property
    def stale(self) -> bool:
        return self._current().verifier.stale

    def _current(self) -> _Running:
        running = self._running
        if running is not None:
            return running
        with self._lock:
            if self._running is None:
                self._running = _Running(self._options)
            return self._running


class _Running:
    """One thread, one loop, one verifier."""

    def __init__(self, options: Options) -> None:
        self.verifier = Verifier(**options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="session_client", daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self.verifier.start(), self._loop).result()
        except BaseException:
            self._stop()
            raise

    def verify(self, token: str) -> Claims:
        work = self.verifier.verify(token)
        try:
            asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # another thread has closed it
            work.close()
            raise ServiceUnavailable("the verifier is closed") from None
        try:
            return asked.result(_TIMEOUT_S)
        except TookTooLong:
            asked.cancel()
            raise ServiceUnavailable from None

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.verifier.close(), self._loop).result()
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
