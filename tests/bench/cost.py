"""What one operation costs, one after the other and nothing beside: round trips, commands that Redis ran (those inside
scripts included), bytes to and from it, and CPU time of this process and of Redis. Stores are compared in alternating
rounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from time import process_time

import msgspec
from redis import Redis

from app.embedded import Embedded
from app.model import Tenant
from app.runtime import now_ms
from app.sessions import Issued
from tests.bench.environment import quick
from tests.bench.load import cpu_seconds, redis_pid
from tests.bench.stock import Stock, sign_in

ROUNDS, OPERATIONS = (2, 100) if quick() else (5, 400)
NEEDED = ROUNDS * OPERATIONS
"""How many sessions each store must have to work on."""
NAMES = ("create", "verify", "refresh", "page", "revoke")
_COUNTERS = ("total_reads_processed", "total_commands_processed", "total_net_input_bytes", "total_net_output_bytes")


class Cost(msgspec.Struct, frozen=True):
    """Of one operation; CPU in microseconds."""

    trips: float
    commands: float
    sent: float
    received: float
    cpu: float
    redis: float


class Place(msgspec.Struct, frozen=True):
    """A store on its servers, and sessions in it to work on. `made`: NEEDED or more."""

    name: str
    stock: Stock
    servers: Sequence[Embedded]
    tenant: Tenant
    made: Sequence[Issued]

    def now(self) -> tuple[list[int], float, float]:
        """What Redis has counted, and the CPU seconds of this process and of Redis, so far."""
        counted = [_counters(server) for server in self.servers]
        redis = sum(cpu_seconds(redis_pid(server)) for server in self.servers)
        return [sum(values) for values in zip(*counted, strict=True)], process_time(), redis


Costs = Mapping[str, Mapping[str, Sequence[Cost]]]
"""By store and by operation, what each round saw."""


def _counters(server: Embedded) -> list[int]:
    with Redis(port=server.port) as client:
        stats = client.info("stats")
    return [stats[name] for name in _COUNTERS]


def acts(place: Place) -> Mapping[str, Callable[[Issued, int], Awaitable[object]]]:
    """The operations, each on one session; a create is another sign-in of that session's user."""
    use, tenant = place.stock.runtime.sessions, place.tenant

    def create(one: Issued, number: int) -> Awaitable[object]:
        new = msgspec.structs.replace(sign_in(number, 1), user_id=one.session.user_id)
        return use.create(tenant, new, now_ms())

    return {
        "create": create,
        "verify": lambda one, _: use.verify(tenant, now_ms(), token=one.access_token),
        "refresh": lambda one, _: use.refresh(one.refresh_token or "", now_ms()),
        "page": lambda one, _: use.page(tenant, now_ms(), user_id=one.session.user_id),
        "revoke": lambda one, _: use.revoke(tenant, one.session.id, "revoked", now_ms()),
    }


async def _cost(place: Place, name: str, some: Sequence[Issued]) -> Cost:
    """The mean over `some`. Asking for the counters is less than one operation in a hundred."""
    act = acts(place)[name]
    counted, mine, redis = place.now()
    for number, one in enumerate(some):
        await act(one, number)
    busy = process_time()
    after, _, redis_after = place.now()
    spent = [(later - then) / len(some) for then, later in zip(counted, after, strict=True)]
    each = 1e6 / len(some)
    return Cost(spent[0], spent[1], spent[2], spent[3], (busy - mine) * each, (redis_after - redis) * each)


async def compare(places: Sequence[Place]) -> Costs:
    """Every operation in every store, store after store, round after round."""
    seen: dict[str, dict[str, list[Cost]]] = {place.name: defaultdict(list) for place in places}
    for place in places:
        for one in place.made[:NEEDED]:  # the first one pays for the signature
            await acts(place)["verify"](one, 0)
    for first, last in pairwise(range(0, NEEDED + 1, OPERATIONS)):
        for name in NAMES:
            for place in places:
                seen[place.name][name].append(await _cost(place, name, place.made[first:last]))
    return seen


def ratio(seen: Costs, name: str, store: str, to: str) -> float:
    """CPU time of an operation, Redis included, in one store against another: the median of the rounds' own."""
    pairs = zip(seen[store][name], seen[to][name], strict=True)
    return median((one.cpu + one.redis) / (other.cpu + other.redis) for one, other in pairs)


def table(seen: Costs) -> Iterator[str]:
    """Medians, and the ratio to the first store."""
    first, *_ = seen
    titles = ("operation", "store", "round trips", "commands", "bytes to", "bytes from", "CPU µs", "Redis CPU µs")
    yield f"| {' | '.join(titles)} | CPU of both × {first} |"
    yield "|---" * (len(titles) + 1) + "|"
    for name in NAMES:
        for store, costs in seen.items():
            row = [median(values) for values in zip(*map(msgspec.structs.astuple, costs[name]), strict=True)]
            trips, commands, sent, received, cpu, redis = row
            said = f"{trips:.1f} | {commands:.1f} | {sent:,.0f} | {received:,.0f} | {cpu:.0f} | {redis:.0f}"
            yield f"| {name} | {store} | {said} | {ratio(seen, name, store, first):.2f} |"
