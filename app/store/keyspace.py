"""Every Redis key, channel and prefix, and nothing else (DESIGN §6)."""

from __future__ import annotations

from typing import Final

from app.client.shards import SIGNING_KEYS as SIGNING_KEYS
from app.client.shards import TAGS, event_ids_key, log_key

TENANTS: Final = "hj:tenants"
PENDING: Final = "hj:pending"
REPAIRED: Final = "hj:repaired"
WORKER: Final = "hj:worker"
COUNTING: Final = "hj:counting"
DEPLOYMENT: Final = "hj:deployment"


def session(shard: int, session_id: str) -> str:
    return f"hj:{{{TAGS[shard]}}}:session:{session_id}"


def user(shard: int, tenant_id: str, user_id: str) -> str:
    return f"hj:{{{TAGS[shard]}}}:user:{tenant_id}:{user_id}"


def ended(shard: int, tenant_id: str, user_id: str) -> str:
    return f"hj:{{{TAGS[shard]}}}:ended:{tenant_id}:{user_id}"


def once(shard: int, tenant_id: str, key: str) -> str:
    return f"hj:{{{TAGS[shard]}}}:once:{tenant_id}:{key}"


def tenant_index(shard: int, tenant_id: str) -> str:
    return f"hj:{{{TAGS[shard]}}}:tenant:{tenant_id}"


def due(shard: int) -> str:
    return f"hj:{{{TAGS[shard]}}}:due"


def cutoff(shard: int) -> str:
    return f"hj:{{{TAGS[shard]}}}:cutoff"


def events(shard: int) -> str:
    return log_key(shard)


def event_ids(shard: int, tenant_id: str) -> str:
    return event_ids_key(shard, tenant_id)


def counts(shard: int) -> str:
    return f"hj:{{{TAGS[shard]}}}:counts"


def endings(shard: int) -> str:
    return f"hj:{{{TAGS[shard]}}}:endings"


def is_a(kind: str, key: bytes) -> bool:
    """Whether a key is of that kind, and a shard's. What `SCAN` finds by a pattern need not be: ids of users hold any
    sign, also those that separate."""
    parts = key.split(b":", 3)
    return len(parts) > 2 and parts[2] == kind.encode()


def parked(key: str) -> str:
    """Where the repair pass puts a key of a shard that is of the wrong type."""
    return key.replace("}:", "}:parked:", 1)


def of_user(shard: int, tenant_id: str, user_id: str) -> list[str]:
    """The keys of the scripts on a user, in their order: user ended tenant due cutoff events counts endings
    eventids."""
    own = (user(shard, tenant_id, user_id), ended(shard, tenant_id, user_id), tenant_index(shard, tenant_id))
    of_shard = (due(shard), cutoff(shard), events(shard), counts(shard), endings(shard))
    return [*own, *of_shard, event_ids(shard, tenant_id)]


def tenant(tenant_id: str) -> str:
    return f"hj:tenant:{tenant_id}"


def tenant_api_keys(tenant_id: str) -> str:
    return f"hj:apikeys:{tenant_id}"


def api_key(key_id: str) -> str:
    return f"hj:apikey:{key_id}"


def api_key_uses(tenant_id: str) -> str:
    return f"hj:apikeyuses:{tenant_id}"


def quota(name: str) -> str:
    return f"hj:quota:{name}"


def replay(name: str) -> str:
    return f"hj:replay:{name}"


def audit(name: str) -> str:
    return f"hj:audit:{name}"


def dashboard(name: str) -> str:
    return f"hj:dashboard:{name}"


def dashboard_index(credential: str) -> str:
    return f"hj:dashboards:{credential}"


def hours(name: str, day: int) -> str:
    return f"hj:stats:{name}:{day}"


def minutes(name: str, hour: int) -> str:
    return f"hj:minutes:{name}:{hour}"


def living(name: str) -> str:
    return f"hj:living:{name}"
