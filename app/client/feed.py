"""What both ways to follow revocations have in common: whom they tell, and how they come back after a fault."""

from __future__ import annotations

import random
from typing import Final, Protocol

from .errors import SessionError
from .events import Event

_FIRST_S: Final = 0.1
_LONGEST_S: Final = 5.0


class Listener(Protocol):
    """Events may come twice and out of order across sessions; none is left out before a `confirm`."""

    def take(self, event: Event) -> None:
        """Raises `ValueError` for an event that is not of the contract."""

    def confirm(self, as_of: float) -> None:
        """Everything that happened up to `as_of`, on `freshness.clock`, has been given."""

    def listed(self, kids: frozenset[str], as_of: float) -> None:
        """At some moment that is not before `as_of`, on `freshness.clock`, these were all keys of the service."""

    def doubt(self) -> None:
        """What follows is a snapshot; until the next `confirm` there may be holes."""

    def refused(self, error: SessionError) -> None:
        """Trying again will not help until someone changes the configuration."""


class Source(Protocol):
    async def follow(self) -> None:
        """Tell the listener everything, for ever, whatever faults there are."""

    def reload(self) -> None:
        """Begin again with a snapshot."""


class Backoff:
    """Waits that grow from 0.1 to 5 s, with jitter so that not all come back at once."""

    def __init__(self) -> None:
        self._tries = 0

    def reset(self) -> None:
        self._tries = 0

    def next(self) -> float:
        longest = min(_LONGEST_S, _FIRST_S * 2 ** min(self._tries, 10))
        self._tries += 1
        return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, guards nothing
