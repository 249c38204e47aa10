"""What a change of policy means for tokens that are out, and for those that other processes make meanwhile."""

from __future__ import annotations

from itertools import pairwise

import pytest

from app.model import DAY, HOUR, PROPAGATION_MS, SECOND, SKEW_MS, Policy, Tenant

NOW = 1_800_000_000_000
CHANGES = [
    [HOUR, DAY],
    [DAY, HOUR],
    [HOUR, DAY, HOUR],
    [HOUR, 2 * HOUR, DAY],
    [DAY, 60 * SECOND, HOUR],
]


def tenant(ttl: int) -> Tenant:
    return Tenant(id="tnt_1", name="Acme", created_at=NOW, policy=Policy(access_token_ttl_s=ttl // SECOND))


@pytest.mark.parametrize("ttls", CHANGES)
@pytest.mark.parametrize("pace", [100, PROPAGATION_MS, HOUR])
def test_whoever_ends_a_session_names_a_time_when_no_token_of_it_is_good(ttls: list[int], pace: int) -> None:
    """Each step, one process makes a token and ends nothing; another, which has not heard of the last change yet, ends
    the session. So long a process remembers at most half of `PROPAGATION_MS`."""
    times = [tenant(ttls[0])]
    for number, ttl in enumerate(ttls[1:], 1):
        times.append(times[-1].with_policy(Policy(access_token_ttl_s=ttl // SECOND), NOW + number * pace))
    for number, (old, new) in enumerate(pairwise(times), 1):
        for later in (0, PROPAGATION_MS // 2 - 1):
            at = NOW + number * pace + later
            assert at + new.rules.minted_ttl(at) <= old.rules.not_after(at) * SECOND
    last = times[-1].rules
    for later in (0, PROPAGATION_MS // 2, PROPAGATION_MS, HOUR, DAY):
        at = NOW + (len(ttls) - 1) * pace + later
        assert at + last.minted_ttl(at) + SKEW_MS <= last.not_after(at) * SECOND
    assert last.minted_ttl(NOW + len(ttls) * pace + PROPAGATION_MS) == ttls[-1]
