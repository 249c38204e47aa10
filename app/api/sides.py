"""Two listeners, where the operator wants two: backends and end users come in on one, the operator on the other.

What is not served on a side is not there: 404, whoever asks. With one listener there are no sides.
"""

from __future__ import annotations

from typing import Final, Literal

from starlette.types import Scope

from app.api.auth import Caller, Credential
from app.errors import NotFound

Side = Literal["public", "admin"]
Sides = frozenset[Side]

PUBLIC: Final[Sides] = frozenset({"public"})
ADMIN: Final[Sides] = frozenset({"admin"})
BOTH: Final[Sides] = PUBLIC | ADMIN
OF_CREDENTIAL: Final[dict[Credential, Sides]] = {
    "key": PUBLIC,
    "user": PUBLIC,
    "optional_key": PUBLIC,
    "admin": ADMIN,
    "key_or_admin": BOTH,
    "none": BOTH,
}


def side_of(scope: Scope, admin_port: int | None) -> Side | None:
    """By which listener a request came; `None` if there is only one."""
    if admin_port is None:
        return None
    return "admin" if (scope.get("server") or ("", 0))[1] == admin_port else "public"


def check_caller(caller: Caller, side: Side | None) -> None:
    """The operator's key is good on the operator's side only, and no other is good there. Raises `NotFound`."""
    if side is not None and caller.kind != "nobody" and (caller.kind == "admin") != (side == "admin"):
        raise NotFound
