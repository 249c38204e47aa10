"""A session as fields of a Redis hash, and back.

A hash stays in the compact listpack encoding while each value has at most 64 bytes, so longer texts are cut into
numbered fields (`ua`, `ua1`, `ua2` …). That alone decides between about 600 and 1,700 bytes per session.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, Final

import msgspec

from app.census import current_name
from app.model import REASONS, SECOND, EndReason, Rules, Session, natural_end
from app.store.base import History

_PIECE: Final = 64
_MAX_PIECES: Final = 64

Field = str | bytes | int

_json_encode = msgspec.json.Encoder(order="deterministic").encode
_json_decode = msgspec.json.Decoder(dict[str, Any]).decode


def fields_of(session: Session, digest: bytes) -> list[Field]:
    """The flat `field value …` list of a new session whose first refresh token has `digest`."""
    flat: list[Field] = ["exp", session.expires_at, "act", session.last_active_at, "gen", 0, "cur", digest]
    for name, text in (
        ("tenant", session.tenant_id),
        ("user", session.user_id),
        ("ua", session.user_agent),
        ("ip", session.ip_address),
        ("cc", session.country),
        ("dev", session.device_type),
        ("org", session.org_id),
        ("role", session.role),
    ):
        if text is not None:
            flat += pieces(name, text.encode())
    if session.mfa_verified is not None:
        flat += ["mfa", int(session.mfa_verified)]
    if session.claims is not None:
        flat += pieces("claims", _json_encode(session.claims))
    if session.metadata is not None:
        flat += pieces("meta", _json_encode(session.metadata))
    return flat


def changed_fields(changes: dict[str, Any]) -> Iterator[tuple[str, bytes | None]]:
    """Field and value of each changeable attribute; `None` clears."""
    for attribute, value in changes.items():
        name = {"org_id": "org", "mfa_verified": "mfa", "metadata": "meta"}.get(attribute, attribute)
        if value is None:
            yield name, None
        elif isinstance(value, bool):
            yield name, b"1" if value else b"0"
        elif isinstance(value, dict):
            yield name, _json_encode(value)
        else:
            yield name, value.encode()


def pieces(name: str, value: bytes) -> list[Field]:
    """`value` cut into fields of at most 64 bytes."""
    if len(value) <= _PIECE:
        return [name, value]
    flat: list[Field] = [name, value[:_PIECE]]
    for number, start in enumerate(range(_PIECE, len(value), _PIECE), 1):
        flat += [f"{name}{number}", value[start : start + _PIECE]]
    return flat


def names_of(name: str) -> list[str]:
    """Every field name that a long value may have used."""
    return [name, *(f"{name}{number}" for number in range(1, _MAX_PIECES))]


USER_FIELDS: Final = tuple(names_of("user")[:16])
"""The fields of a user id: 255 characters are at most 1,020 bytes of UTF-8."""


def user_of(pieces: Sequence[bytes | None]) -> str | None:
    """The user id from the values of `USER_FIELDS`; `None` if there is none that we could have written."""
    try:
        return b"".join(takewhile(lambda piece: piece is not None, pieces)).decode() or None  # type: ignore[arg-type]
    except UnicodeDecodeError:
        return None


def session_of(
    session_id: str, flat: list[bytes], active: bytes | float | None, ended: bytes | float | None
) -> Session:
    """The session from its hash, its score in the user's set and its score among the ended (either may be absent).

    Without either it is over, and its tombstone has made room for later ones. Raises `KeyError` if the hash is not a
    session's.
    """
    pairs = iter(flat)
    fields = dict(zip(pairs, pairs, strict=True))
    claims, metadata, mfa = joined(fields, b"claims"), joined(fields, b"meta"), fields.get(b"mfa")
    ended_at, end_reason = _end_of(active, ended)
    return Session(
        id=session_id,
        tenant_id=joined(fields, b"tenant") or "",
        user_id=joined(fields, b"user") or "",
        expires_at=int(fields[b"exp"]) // SECOND * SECOND,
        last_active_at=int(fields[b"act"]) if active in (None, b"") else int(float(active)),
        user_agent=joined(fields, b"ua"),
        ip_address=joined(fields, b"ip"),
        country=joined(fields, b"cc"),
        device_type=current_name(joined(fields, b"dev")),
        org_id=joined(fields, b"org"),
        role=joined(fields, b"role"),
        mfa_verified=None if mfa is None else mfa == b"1",
        claims=None if claims is None else _json_decode(claims),
        metadata=None if metadata is None else _json_decode(metadata),
        generation=int(fields[b"gen"]),
        ended_at=ended_at,
        end_reason=end_reason,
    )


def _end_of(active: bytes | float | None, ended: bytes | float | None) -> tuple[int | None, EndReason | None]:
    """When and why a session ended, from its score in the user's set and its score among the ended."""
    if active not in (None, b""):
        return None, None
    if ended in (None, b""):
        return None, "unknown"
    at, code = divmod(int(float(ended)), 16)
    return at, REASONS[code]


def history_of(
    session: Session, rotated: bytes | None, changed: bytes | None, mark: bytes | None, cut_by: bytes | None
) -> History:
    """From the fields `rot` and `chg` of its hash, what was marked at its end, and who cut its tenant off: of an end by
    a cut-off that nobody has recorded yet, that is the mark."""
    if mark is None and session.end_reason == "tenant_revoked":
        mark = cut_by
    at, _, who = (changed or b"").decode().partition(" ")
    by, _, limit = (mark or b"").decode().partition(" ")
    return History(
        session=session,
        refreshed_at=None if rotated is None else int(rotated),
        changed_at=int(at) if at else None,
        changed_by=who,
        ended_by=by,
        limit=int(limit) if limit else None,
    )


def joined(fields: dict[bytes, bytes], name: bytes) -> str | None:
    """A text put together again from its pieces."""
    first = fields.get(name)
    if first is None:
        return None
    if len(first) < _PIECE:
        return first.decode()
    whole, number = first, 1
    while (piece := fields.get(b"%b%d" % (name, number))) is not None:
        whole += piece
        number += 1
    return whole.decode()


def judged(
    session_id: str,
    flat: list[bytes],
    active: bytes | None,
    ended: bytes | None,
    cutoff: int | None,
    rules: Rules,
    now: int,
) -> Session | None:
    """The session as it is at `now`, or `None` if nothing is kept of it. It is alive only as a member of the user's set
    that time has not ended."""
    if not flat:
        return None
    session = session_of(session_id, flat, active, ended)
    if session.end_reason is not None:
        return session
    end = natural_end(session, rules, cutoff, now)
    return session if end is None else msgspec.structs.replace(session, ended_at=end[0], end_reason=end[1])
