"""What the scripts count in each shard, taken from there; the living counted anew; and some of them at random."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Final

from app.census import KINDS
from app.client.shards import SHARDS, TAGS
from app.errors import Unreadable
from app.model import Session
from app.store import keyspace
from app.store.base import Count, Recount, Sample, Seen
from app.store.record import USER_FIELDS, user_of
from app.store.scripts import SCRIPTS
from app.store.wire import Wire

_SHARD_OF: Final = {f"{{{tag}}}": shard for shard, tag in enumerate(TAGS)}
_AT_ONCE: Final = 64
_IN_ONE_ACT: Final = 5_000
_PAGE: Final = 1_000
_FIELDS: Final = ("exp", "act", *USER_FIELDS)
_log: Final = logging.getLogger(__name__)


async def collect(wire: Wire) -> list[Count]:
    """Everything that was counted since the last time. What one shard cannot give costs nobody else their counts: they
    are nowhere else any more. Raises what the shards raised if it was all of them."""
    keys = [keyspace.counts(shard) for shard in range(SHARDS)]
    taken = await asyncio.gather(*(wire.script(SCRIPTS["collect"], [key], []) for key in keys), return_exceptions=True)
    failed = [answer for answer in taken if isinstance(answer, BaseException)]
    if len(failed) == len(keys):
        raise failed[0]
    if failed:
        _log.error("%d shards did not give what they have counted (%s)", len(failed), failed[0])
    return _added([answer for answer in taken if not isinstance(answer, BaseException)])


async def recount(wire: Wire, in_one_act: int = _IN_ONE_ACT) -> Recount:
    """Each tenant's part of a shard in one act, so that what is found there is true of one moment. One that is too
    large for an act is read page by page: what begins or ends there meanwhile may be counted twice or not at all."""
    living: dict[str, Counter[int]] = defaultdict(Counter)
    taken: list[list[bytes]] = []

    async def one(key: str) -> None:
        _, tag, _, tenant_id = key.split(":", 3)
        counts = keyspace.counts(_SHARD_OF[tag])
        try:
            kinds, fields = await wire.script(SCRIPTS["recount"], [key, counts], [tenant_id, in_one_act])
        except Unreadable as error:
            _log.error("%s is not counted (%s)", key, error)
            return
        taken.append(fields)
        living[tenant_id].update(dict(zip(kinds[::2], kinds[1::2], strict=True)) if kinds else await _paged(wire, key))

    seen: set[bytes] = set()
    async for page in wire.scan("hj:{*}:tenant:*"):
        new = [key for key in page if keyspace.is_a("tenant", key) and key not in seen]
        seen.update(new)
        for first in range(0, len(new), _AT_ONCE):
            await asyncio.gather(*(one(key.decode()) for key in new[first : first + _AT_ONCE]))
    return Recount(dict(living), _added(taken))


async def _paged(wire: Wire, index: str) -> Counter[int]:
    """The living of one index by kind, a thousand at a time."""
    found, low, last = Counter[int](), 1, set[bytes]()
    while flat := await wire.call(index, "ZRANGE", index, low, "+inf", "BYSCORE", "LIMIT", 0, _PAGE, "WITHSCORES"):
        rows = [(sid, int(float(score))) for sid, score in zip(flat[::2], flat[1::2], strict=True) if sid not in last]
        if not rows:
            break
        found.update(score % KINDS for _, score in rows)
        low = rows[-1][1]
        last = {sid for sid, score in rows if score == low}
    return found


def _added(shards: list[list[bytes]]) -> list[Count]:
    sums: Counter[tuple[str, int, str, int]] = Counter()
    for flat in shards:
        for field, number in zip(flat[::2], flat[1::2], strict=True):
            try:
                tenant_id, minute, what, kind = field.decode().split(" ")
                sums[tenant_id, int(minute), what, int(kind)] += int(number)
            except ValueError:
                _log.error("of no use in the counts: %r", field)
    return [Count(*key, number) for key, number in sums.items()]


async def sample(wire: Wire, tenant_id: str, most: int) -> Sample:
    """How many there are says each shard; which of them to look at is drawn from all, so that none is likelier."""
    keys = [keyspace.tenant_index(shard, tenant_id) for shard in range(SHARDS)]
    sizes = await asyncio.gather(*(wire.call(key, "ZCOUNT", key, 1, "+inf") for key in keys))
    active = sum(sizes)
    drawn = range(active) if active <= most else sorted(random.sample(range(active), most))
    groups = [*_by_shard(drawn, sizes)]
    found: list[Seen] = []
    for first in range(0, len(groups), _AT_ONCE):
        parts = await asyncio.gather(
            *(_look(wire, tenant_id, shard, places) for shard, places in groups[first : first + _AT_ONCE])
        )
        found += [one for part in parts for one in part]
    return Sample(active, found)


def _by_shard(drawn: list[int] | range, sizes: list[int]) -> Iterator[tuple[int, list[int]]]:
    """Places in the whole, as places in each shard."""
    at = 0
    for shard, (first, last) in enumerate(pairwise([0, *accumulate(sizes)])):
        start = at
        while at < len(drawn) and drawn[at] < last:
            at += 1
        if at > start:
            yield shard, [place - first for place in drawn[start:at]]


async def _look(wire: Wire, tenant_id: str, shard: int, places: list[int]) -> list[Seen]:
    """Sessions by their places among the living of one shard; what has ended meanwhile is left out."""
    index = keyspace.tenant_index(shard, tenant_id)
    runs = [(index, place) for place in places] if len(places) < places[-1] - places[0] + 1 else []
    if runs:
        rows = await wire.batch(
            index, [("ZRANGE", key, 1, "+inf", "BYSCORE", "LIMIT", place, 1) for key, place in runs]
        )
    else:
        rows = [await wire.call(index, "ZRANGE", index, 1, "+inf", "BYSCORE", "LIMIT", places[0], len(places))]
    ids = [sid.decode() for row in rows for sid in row]
    cutoff = keyspace.cutoff(shard)
    cut, *records = await wire.batch(
        index,
        [("HGET", cutoff, tenant_id), *(("HMGET", keyspace.session(shard, sid), *_FIELDS) for sid in ids)],
    )
    sessions = [
        Session(
            id=sid,
            tenant_id=tenant_id,
            user_id=user,
            expires_at=int(expires),
            last_active_at=int(active),
        )
        for sid, (expires, active, *pieces) in zip(ids, records, strict=True)
        if expires is not None and active is not None and (user := user_of(pieces)) is not None
    ]
    ranks = await wire.batch(
        index, [("ZREVRANK", keyspace.user(shard, tenant_id, one.user_id), one.id) for one in sessions]
    )
    found = zip(sessions, ranks, strict=True)
    return [Seen(one, rank, None if cut is None else int(cut)) for one, rank in found if rank is not None]
