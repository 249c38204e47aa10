"""Verify HelloJohn sessions where they are used. A name is imported at its first use, with only what it needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .asgi import SessionMiddleware as SessionMiddleware
    from .blocking import BlockingVerifier as BlockingVerifier
    from .depends import Refused as Refused
    from .depends import problem_response as problem_response
    from .depends import require_session as require_session
    from .errors import InsufficientRole as InsufficientRole
    from .errors import InvalidApiKey as InvalidApiKey
    from .errors import InvalidToken as InvalidToken
    from .errors import MissingToken as MissingToken
    from .errors import ServiceUnavailable as ServiceUnavailable
    from .errors import SessionError as SessionError
    from .errors import SessionRevoked as SessionRevoked
    from .errors import TokenExpired as TokenExpired
    from .errors import VerifierStale as VerifierStale
    from .events import Event as Event
    from .memory import Claims as Claims
    from .verifier import Verifier as Verifier

_HOMES: Final = {
    "asgi": ("SessionMiddleware",),
    "blocking": ("BlockingVerifier",),
    "depends": ("Refused", "problem_response", "require_session"),
    "errors": (
        "InsufficientRole",
        "InvalidApiKey",
        "InvalidToken",
        "MissingToken",
        "ServiceUnavailable",
        "SessionError",
        "SessionRevoked",
        "TokenExpired",
        "VerifierStale",
    ),
    "events": ("Event",),
    "memory": ("Claims",),
    "verifier": ("Verifier",),
}
_HOME: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
