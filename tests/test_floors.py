"""Imports only go down, and each library is spoken to in one place (DESIGN: floors)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FLOORS = {
    "app.client": 7,                                                              # outside: for consumers
    "app.main": 6, "app.dev": 6, "app.embedded": 6, "app.selfcheck": 6, "worker.main": 6,  # wiring
    "app.protocol": 6, "app.acl": 6, "worker.patience": 6,
    "app.api": 5, "worker": 5,                                                    # doors
    "app.runtime": 4,                                                             # builds what is below
    "app.sessions": 3, "app.tenants": 3, "app.upkeep": 3, "app.feed": 3, "app.activity": 3,     # use cases
    "app.pace": 3, "app.apikeys": 3, "app.audit": 3, "app.recent": 3, "app.reader": 3, "app.window": 3,
    "app.cursors": 3, "app.operators": 3, "app.overview": 3, "app.preview": 3, "app.timeline": 3,
    "app.quotas": 3, "app.replays": 3,
    "app.store": 2, "app.tokens": 2, "app.genuine": 2, "app.keys": 2, "app.device": 2, "app.clock": 2,  # means
    "app.store.base": 1,                                                          # their contract
    "app": 0, "app.model": 0, "app.errors": 0, "app.settings": 0, "app.durations": 0, "app.log": 0,  # words
    "app.census": 0, "app.addresses": 0, "app.client.claims": 0, "app.client.events": 0, "app.client.shards": 0,
    "app.client.redis_address": 0, "app.credentials": 0,
}  # fmt: skip
APART = {2, 5}  # on these floors neighbours do not know each other: means, and doors
TOGETHER = {("app.tokens", "app.keys"), ("app.tokens", "app.genuine")}  # a token is signed with a key
SAYS = {
    "redis": (
        "app.store",
        "app.runtime",
        "app.client",
        "worker.main",
    ),  # the client may follow Redis, arq raises its errors
    "starlette": ("app.api", "app.main", "app.client"),  # and offers a middleware and a dependency
    "arq": ("worker.main", "worker.patience"),
    "joserfc": ("app.keys", "app.tokens", "app.client", "app.api.oidc"),
    "authlib": ("app.api",),
}
FILES = sorted([*ROOT.glob("app/**/*.py"), *ROOT.glob("worker/**/*.py")])


def test_every_file_has_a_floor() -> None:
    assert FILES
    assert [name for name in map(module_of, FILES) if place(name) == "app" != name] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_down(path: Path) -> None:
    assert [name for name in imports(path) if not may(module_of(path), name)] == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("app.model", "app.sessions"),
        ("app.store.redis", "app.tokens"),
        ("app.api.sessions", "worker.sweep"),
        ("worker.sweep", "app.api.schema"),
        ("worker.sweep", "worker.keys"),
        ("app.sessions", "app.runtime"),
        ("app.client.jwks", "app.model"),
        ("app.tokens", "app.client.jwks"),
        ("app.api.sessions", "redis.asyncio"),
        ("worker.sweep", "arq"),
    ],
)
def test_the_rules_forbid(importer: str, imported: str) -> None:
    assert not may(importer, imported)


def may(importer: str, imported: str) -> bool:
    library = imported.split(".")[0]
    if library not in ("app", "worker"):
        return library not in SAYS or any(is_below(importer, prefix) for prefix in SAYS[library])
    if is_below(importer, "app.client"):
        return is_below(imported, "app.client")
    here, there = place(importer), place(imported)
    if FLOORS[here] != FLOORS[there] or FLOORS[here] not in APART:
        return FLOORS[here] >= FLOORS[there]
    return (here == there and here != "worker") or (here, there) in TOGETHER


def place(module: str) -> str:
    """The longest entry of FLOORS that the module is or lies below."""
    return max((prefix for prefix in FLOORS if is_below(module, prefix)), key=len)


def is_below(module: str, prefix: str) -> bool:
    return f"{module}.".startswith(f"{prefix}.")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """What the file imports, wherever in the file it says so, as absolute names."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) + 1 - node.level]] if node.level else []
            base += [node.module] if node.module else []
            for alias in node.names:
                full = ".".join([*base, alias.name])
                yield full if is_module(full) else ".".join(base)


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()
