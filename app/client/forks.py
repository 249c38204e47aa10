"""Resets client objects in a forked child: what the parent knew grows old there, and its threads do not run."""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet


class Forkable(Protocol):
    def after_fork(self) -> None:
        """Forget what only the parent may use. Runs in the child, before anything else."""


_objects: Final[WeakSet[Forkable]] = WeakSet()


def reset_in_child(one: Forkable) -> None:
    """Call `one.after_fork()` in every child that this process forks, for as long as `one` lives."""
    _objects.add(one)


def _after_fork() -> None:
    for one in list(_objects):
        one.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
