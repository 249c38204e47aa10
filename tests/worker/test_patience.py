"""What the worker's jobs do while the session store is away."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
from arq import Retry, create_pool
from arq.connections import RedisSettings
from redis import Redis

from app.embedded import Embedded
from app.errors import StoreUnavailable
from app.store import keyspace
from tests.servers import wait_until
from tests.service import Process, environment
from worker.main import QUEUE
from worker.patience import patient


async def without_a_store(ctx: dict[str, Any]) -> int:
    raise StoreUnavailable("no answer in time")


async def test_a_job_says_once_that_the_store_is_away(caplog: pytest.LogCaptureFixture) -> None:
    tick = patient(without_a_store)
    with caplog.at_level(logging.WARNING):
        assert [await tick({}) for _ in range(3)] == [None, None, None]
    [said] = caplog.records
    assert said.exc_info is None
    assert said.getMessage() == "1 × without_a_store stopped, the store is away: no answer in time"


async def test_a_rare_one_is_tried_again() -> None:
    with pytest.raises(Retry) as caught:
        await patient(without_a_store, rare=True)({})
    assert caught.value.defer_score == 60_000


def test_the_worker_goes_on_when_the_store_is_back(own_server: Embedded, tmp_path: Path) -> None:
    """The queue is on another server, so that arq runs all the while."""
    queue, log = Embedded(tmp_path / "queue").start(), tmp_path / "log"
    env = environment(own_server.url, ARQ_REDIS_URL=queue.url, LOG_FILE=str(log))
    process = Process("worker.main", env)
    try:
        _sweeps(own_server)
        own_server.stop(crash=True)
        wait_until(lambda: "sweep stopped, the store is away" in log.read_text(), "a word of it")
        own_server.start()
        _sweeps(own_server)
        assert process.stop() == 0
    finally:
        process.stop()
        queue.stop()
    assert "Traceback" not in log.read_text()
    assert log.read_text().count("sweep stopped, the store is away") == 1


async def test_a_tick_whose_worker_was_killed_is_taken_up(own_server: Embedded, tmp_path: Path) -> None:
    """What a killed worker leaves behind: the job in the queue, and that it was tried once."""
    log, queue = tmp_path / "log", RedisSettings(port=own_server.port)
    pool = await create_pool(queue, job_serializer=msgspec.msgpack.encode, default_queue_name=QUEUE)
    await pool.enqueue_job("cron:repair", _job_id="tonight")
    await pool.incr("arq:retry:tonight")
    await pool.aclose()
    process = Process("worker.main", environment(own_server.url, LOG_FILE=str(log), HELLOJOHN_LOG="info"))
    try:
        told = "repair has looked at everything"
        await asyncio.to_thread(wait_until, lambda: told in log.read_text(), "the repair")
    finally:
        process.stop()


def _sweeps(server: Embedded) -> None:
    with Redis(port=server.port, protocol=2) as client:
        client.delete(keyspace.WORKER)
        wait_until(lambda: bool(client.hexists(keyspace.WORKER, "swept_at")), "a sweep")
