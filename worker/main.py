"""The worker: arq as the timer, the jobs as plain coroutines, and a loop around both that outlives Redis restarts.

State lives in the due index and the pending set, never in a job, so a killed worker loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from functools import partial
from typing import Any, Final

import msgspec
from arq import create_pool, cron
from arq.connections import RedisSettings
from arq.utils import poll
from arq.worker import Worker
from redis.exceptions import RedisError

from app.clock import Clock, uptime_ms
from app.log import refuse, set_up
from app.model import SECOND
from app.runtime import now_ms, open_runtime
from app.selfcheck import check, self_check, warn_of_unknown
from app.settings import SettingError, Settings
from app.store.faults import FAULTS, cause_of
from worker.keys import rotate_keys
from worker.patience import patient
from worker.policy import apply_policies
from worker.repair import repair
from worker.statistics import collect_statistics, recount
from worker.sweep import sweep

QUEUE: Final = "hj:arq"
_HEALTH: Final = f"{QUEUE}:health-check"
_EVERY_SECOND: Final = set(range(60))
_EVERY_FIVE_SECONDS: Final = set(range(2, 60, 5))
_TRIES: Final = 100
"""Of a tick that is not followed by another within seconds: its worker may be killed, or the store be away."""
_QUEUE_READ: Final = 10_000
"""The ticks of killed workers lie in front of those to come for an hour: a second's three, for each kill one or two."""
_NICE: Final = 10
"""On a machine that both share, the API comes first."""
_BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0)
_LOOK_S: Final = 1.0
_URGENT: Final = (patient(sweep), patient(apply_policies))
_log = logging.getLogger("worker")


def queue_settings(settings: Settings) -> RedisSettings:
    """Where arq keeps its ticks. Raises `SettingError` for a cluster, whose slots arq cannot follow."""
    address = settings.queue_address
    if address.cluster:
        raise SettingError("ARQ_REDIS_URL must name a single server: the worker's queue cannot live on a cluster")
    host, port = address.hosts[0] if address.hosts else ("localhost", 0)
    return RedisSettings(
        host=host,
        port=port,
        unix_socket_path=address.socket,
        database=address.database,
        ssl=address.tls is not None,
        **address.login(),
        **address.tls_options(),
    )


class QueueWorker(Worker):
    """arq's worker without the INFO and DBSIZE that it logs at its start, which a provider may forbid."""

    async def main(self) -> None:
        self._pool = await create_pool(
            self.redis_settings,
            job_deserializer=self.job_deserializer,
            job_serializer=self.job_serializer,
            default_queue_name=self.queue_name,
            expires_extra_ms=self.expires_extra_ms,
        )
        self.ctx["redis"] = self.pool
        if self.on_startup:
            await self.on_startup(self.ctx)
        async for _ in poll(self.poll_delay_s):
            await self._poll_iteration()


def build(settings: Settings, ctx: dict[str, Any]) -> Worker:
    """arq's worker: every tick of a job runs once among all workers; nothing is pickled."""

    async def reached(ctx: dict[Any, Any]) -> None:
        FAULTS.worked(_queue_place(settings))

    rarely = partial(cron, max_tries=_TRIES)
    return QueueWorker(
        functions=[],
        cron_jobs=[
            cron(patient(sweep), second=_EVERY_SECOND, timeout=30),
            cron(patient(apply_policies), second=_EVERY_SECOND, timeout=3_600),
            cron(patient(collect_statistics), second=_EVERY_FIVE_SECONDS, timeout=30),
            rarely(patient(rotate_keys, rare=True), minute=7, timeout=60, run_at_startup=True),
            rarely(patient(repair, rare=True), hour=3, minute=0, timeout=3_600),
            rarely(patient(recount, rare=True), hour=3, minute=45, timeout=3_600, run_at_startup=True),
        ],
        redis_settings=queue_settings(settings),
        queue_name=QUEUE,
        health_check_interval=10,
        health_check_key=_HEALTH,
        max_jobs=8,
        queue_read_limit=_QUEUE_READ,
        poll_delay=0.25,
        keep_result=0,
        handle_signals=False,
        on_startup=reached,
        job_serializer=msgspec.msgpack.Encoder(enc_hook=str).encode,
        job_deserializer=msgspec.msgpack.decode,
        ctx=ctx,
    )


async def run(settings: Settings, checked: bool) -> None:
    """Until SIGTERM or SIGINT: run arq; when it or Redis fails, build it anew after a pause. Not before the store has
    been `checked`. Raises `SettingError` if it is not fit."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = Clock(now_ms, uptime_ms)
    async with open_runtime(settings, clock) as runtime, clock.compared_with(runtime.registry.clock):
        ctx = {"runtime": runtime, "sweeping": asyncio.Lock(), "walking": asyncio.Lock(), "counting": asyncio.Lock()}
        failures, urgent = 0, _Urgent(ctx)
        while not stop.is_set():
            checked = checked or await check(settings)
            if not checked:
                continue
            if not failures:
                _log.info("working")
            began = loop.time()
            error = await _one_life(settings, ctx, stop)
            if error is not None:
                failures = 0 if loop.time() - began > 30 else failures + 1
                FAULTS.saw(_queue_place(settings), cause_of(error))
                urgent.tick()
                await _wait(stop.wait(), _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
        await urgent.close()


class _Urgent:
    """Runs the jobs that must not wait while the queue fails. A server whose memory is full refuses arq's ticks, though
    not what these jobs write: ends are recorded and announced all the same. A job still running is not begun again."""

    def __init__(self, ctx: dict[str, Any]) -> None:
        self._ctx = ctx
        self._running: set[asyncio.Task[Any]] = set()

    def tick(self) -> None:
        """Begin each job once."""
        for job in _URGENT:
            task = asyncio.create_task(job(self._ctx))
            self._running.add(task)
            task.add_done_callback(self._done)

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a job that ran without the queue failed", exc_info=error)


def _queue_place(settings: Settings) -> str:
    return f"the queue at {settings.queue_address.place}"


async def _one_life(settings: Settings, ctx: dict[str, Any], stop: asyncio.Event) -> BaseException | None:
    """One arq worker from birth to death; why it died, or `None` if it was asked to stop or the wall clock was set."""
    worker = build(settings, ctx)
    running = asyncio.create_task(worker.async_run())
    ending = [asyncio.create_task(stop.wait()), asyncio.create_task(_wall_clock_set())]
    try:
        await asyncio.wait({running, *ending}, return_when=asyncio.FIRST_COMPLETED)
        if running.done() and not stop.is_set():
            return running.exception() or RedisError("arq ended by itself")
        worker.allow_pick_jobs = False
        await _wait(asyncio.gather(*worker.tasks.values(), return_exceptions=True), 5)
        return None
    finally:
        tasks = [running, *ending, *worker.tasks.values()]
        for task in tasks:
            task.cancel()
        await _wait(asyncio.gather(*tasks, return_exceptions=True), 2)
        worker.tasks.clear()  # arq would wait for those that were cancelled, and be cancelled with them
        await _wait(worker.close(), 2)


async def _wall_clock_set() -> None:
    """Return once it has been: arq goes by it, and would wait until it shows the times of its next ticks again."""
    apart = now_ms() - uptime_ms()
    while True:
        await asyncio.sleep(_LOOK_S)
        if abs(now_ms() - uptime_ms() - apart) > SECOND:
            return


async def _wait(what: Any, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await what
    except (TimeoutError, RedisError, OSError):
        return


async def report(settings: Settings) -> int:
    """0 if a worker has reported within its interval."""
    try:
        pool = await create_pool(queue_settings(settings))
        alive = await pool.exists(_HEALTH)
        await pool.aclose()
    except (RedisError, OSError):
        return 1
    return 0 if alive else 1


def _end(*_: object) -> None:
    """Of a signal before `run` takes them. As process 1 there is no default action."""
    raise SystemExit(0)


def main() -> None:
    signal.signal(signal.SIGTERM, _end)
    try:
        settings = Settings.from_env(signs_tokens=False)
        set_up(settings.log_level)
        if "--check" in sys.argv[1:]:
            raise SystemExit(asyncio.run(report(settings)))
        warn_of_unknown()
        queue_settings(settings)
        os.nice(_NICE)
        asyncio.run(run(settings, self_check(settings)))
    except SettingError as error:
        refuse(error, 2)


if __name__ == "__main__":
    os.environ.setdefault("TZ", "UTC")
    main()
