"""A cluster that changes under load: slots that move, a primary that dies."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from app.embedded import Embedded
from app.store import keyspace
from tests.faults.crowd import Crowd, violations
from tests.faults.scene import FULL, SEED, Scene, report
from tests.faults.test_crowd import settled_ends
from tests.servers import Cluster, command

SECONDS = 20.0 if FULL else 4.0


def _move(cluster: Cluster, slot: int, chance: random.Random) -> int:
    """Move one slot with its keys to another primary while it is in use (Redis Cluster: "Live reconfiguration")."""
    ids = {node.port: command(node, "CLUSTER", "MYID") for node in cluster.nodes}
    source = next(node for node in cluster.nodes if _serves(node, slot))
    target = chance.choice([node for node in cluster.nodes if node is not source])
    command(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
    command(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
    moved = 0
    while keys := command(source, "CLUSTER", "GETKEYSINSLOT", slot, 2):
        for key in keys:
            command(source, "MIGRATE", "127.0.0.1", target.port, key, 0, 2_000)
            moved += 1
    for node in (target, source, *cluster.nodes):
        command(node, "CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])
    return moved


def _serves(node: Embedded, slot: int) -> bool:
    own = command(node, "CLUSTER", "NODES")[f"127.0.0.1:{node.port}"]
    return any(int(span[0]) <= slot <= int(span[-1]) for span in own["slots"])


@pytest.mark.slow
async def test_slots_that_move_under_load_break_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        async with Scene(tmp_path, url=cluster.url) as scene:
            crowd = Crowd(scene.urls, scene.backend.key, SEED, users=6)
            chance, moves, keys = random.Random(SEED), 0, 0

            async def act() -> None:
                nonlocal moves, keys
                until = time.monotonic() + SECONDS
                while time.monotonic() < until:
                    sids = list(crowd.told.devices)
                    if sids:
                        slot = await _slot_of(scene, chance.choice(sids))
                        keys += await asyncio.to_thread(_move, cluster, slot, chance)
                        moves += 1
                    await asyncio.sleep(0.1)

            await crowd.run(act)
            broken = violations(crowd.told, await settled_ends(scene))
            report(
                capsys,
                f"slots moved: seed {SEED}, {moves} with {keys} keys, {crowd.told.counts()}; {len(broken)} violations",
            )
            assert broken == []
            assert keys > 0


async def _slot_of(scene: Scene, sid: str) -> int:
    from app.model import shard_in

    key = keyspace.session(shard_in(sid), sid)
    return int(await scene.wire.call(key, "CLUSTER", "KEYSLOT", key))


@pytest.mark.long
async def test_a_primary_that_dies_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Replication is asynchronous, so acknowledged writes may be lost; the number is told. Nobody is signed out."""
    with Cluster(tmp_path / "cluster", replicas=1) as cluster:
        async with Scene(tmp_path, url=cluster.url) as scene:
            crowd = Crowd(scene.urls, scene.backend.key, SEED)
            took = 0.0

            async def act() -> None:
                nonlocal took
                await asyncio.sleep(1)
                cluster.nodes[1].stop(crash=True)
                began = time.monotonic()
                await asyncio.to_thread(_until_taken_over, cluster)
                took = time.monotonic() - began
                await asyncio.sleep(1)

            await crowd.run(act)
            broken = violations(crowd.told, await settled_ends(scene))
            report(
                capsys,
                f"primary killed: seed {SEED}, replaced after {took:.1f} s (node timeout 2 s), "
                f"{crowd.told.counts()}; well after {crowd.healed_after:.2f} s; {len(broken)} traces of lost writes",
            )
            assert crowd.healed_after < 2.5
            assert not [line for line in broken if "thief" in line or "another" in line or "two successors" in line]
            assert len(broken) < len(crowd.told.acts) / 20


def _until_taken_over(cluster: Cluster) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if command(cluster.nodes[4], "ROLE")[0] in (b"master", "master"):
            return
        time.sleep(0.02)
    raise AssertionError("no replica took over")
