"""What a change of policy would do to the sessions that live, before anyone makes it."""

from __future__ import annotations

from math import ceil, sqrt
from typing import Any, Final

import msgspec

from app.model import Tenant, natural_end
from app.store.base import Sample, SessionStore
from app.tenants import merged

EXACT_UP_TO: Final = 5_000
"""With more sessions than this, so many of them are looked at, drawn at random."""
_Z95: Final = 1.96
_NONE_SEEN: Final = 3
"""What is met never in n draws is rarer than 3/n with 95 % confidence ("rule of three")."""


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """How many of `active` sessions would end, and of what. `margin`: the true `total` is no further off with 95 %
    confidence; 0 if every session was looked at."""

    active: int
    evaluated: int
    exact: bool
    total: int
    margin: int
    idle_timeout: int
    evicted: int


async def preview(store: SessionStore, tenant: Tenant, changes: dict[str, Any], now: int) -> Preview:
    """Raises `ValidationError` where the change itself would, and changes nothing."""
    before, after = tenant.rules, tenant.with_policy(merged(tenant.policy, changes), now).rules
    sample = await store.sample(tenant.id, EXACT_UP_TO)
    idle = evicted = 0
    for one in sample.seen:
        if natural_end(one.session, before, one.cutoff, now) is not None:
            continue  # over already, though nobody has recorded it
        if natural_end(one.session, after, one.cutoff, now) is not None:
            idle += 1
        elif one.above >= after.limit:
            evicted += 1
    return _scaled(sample, idle, evicted)


def _scaled(sample: Sample, idle: int, evicted: int) -> Preview:
    """From the sample to the whole: a proportion of a simple random sample, drawn without replacement."""
    drawn, ending = len(sample.seen), idle + evicted
    exact = sample.active <= EXACT_UP_TO
    factor = 1.0 if exact else sample.active / max(1, drawn)
    return Preview(
        active=sample.active,
        evaluated=drawn,
        exact=exact,
        total=round(idle * factor) + round(evicted * factor),
        margin=0 if exact else _margin(ending, drawn, sample.active),
        idle_timeout=round(idle * factor),
        evicted=round(evicted * factor),
    )


def _margin(ending: int, drawn: int, active: int) -> int:
    """Half the 95 % interval around a proportion of a simple random sample (Cochran, "Sampling Techniques", §3.6)."""
    share = ending / max(1, drawn)
    if share in (0.0, 1.0):
        return ceil(active * _NONE_SEEN / max(1, drawn))
    return ceil(active * _Z95 * sqrt(share * (1 - share) / drawn * (1 - drawn / active)))
