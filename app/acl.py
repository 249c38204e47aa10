"""Redis users for the API, the worker and subscribers: `python -m app.acl | valkey-cli`, or `--file > users.acl`.

Each may send the commands it needs, on the keys and channels it needs. A password is made at each run: its digest is in
the line, itself on stderr only. For Redis and Valkey 6.2 and newer. Without an `aclfile` a restart forgets the users.
"""

from __future__ import annotations

import secrets
import sys
from argparse import ArgumentParser
from hashlib import sha256
from typing import Final

import msgspec

_CONNECTION: Final = (
    "auth hello ping select client|setname quit info time role cluster|slots cluster|shards asking readonly"
)
_SESSIONS: Final = (
    "get set del unlink exists hget hset hdel hgetall hmget hvals hlen hexists hincrby zadd zrem zcard zcount zrange "
    "zscore zmscore zrevrank zremrangebyrank xadd xlen xrange xrevrange pexpire pexpireat pttl publish eval evalsha"
)
_FOLLOW: Final = "subscribe psubscribe unsubscribe punsubscribe"
_READ: Final = "xrange xrevrange xread zrange hkeys"
"""The log and its indexes; of the ring of signing keys their names, which the JWKS shows to all, but no value."""
_REPAIR: Final = "scan zscan hscan type rename"
_QUEUE: Final = "multi exec watch unwatch discard psetex expire incrby zrangebyscore dbsize"


class User(msgspec.Struct, frozen=True):
    name: str
    commands: str
    keys: tuple[str, ...]
    channels: tuple[str, ...]

    def line(self, password: str) -> str:
        """The name, everything off, then what is listed (Redis: "ACL rules")."""
        digest = sha256(password.encode()).hexdigest()
        rules = [f"~{pattern}" for pattern in self.keys] + [f"&{pattern}" for pattern in self.channels]
        rules += [f"+{command}" for command in self.commands.split()]
        return " ".join([self.name, "reset", "on", f"#{digest}", *rules])


USERS: Final = (
    User("hj-api", f"{_CONNECTION} {_SESSIONS} {_FOLLOW}", ("hj:*",), ("hj:revocations:*",)),
    User("hj-worker", f"{_CONNECTION} {_SESSIONS} {_REPAIR} {_QUEUE}", ("hj:*", "arq:*"), ("hj:revocations:*",)),
    User(
        "hj-subscriber",
        f"{_CONNECTION} {_FOLLOW} {_READ}",
        ("hj:{*}:events", "hj:{*}:eventids:*", "hj:keys"),
        ("hj:revocations:*",),
    ),
)


def main() -> None:
    parser = ArgumentParser(
        prog="python -m app.acl",
        description="Print Redis users for the API, the worker and subscribers; their new passwords go to stderr.",
        epilog="The server needs an aclfile (Redis: ACL), or it forgets the users when it restarts.",
    )
    parser.add_argument("--file", action="store_true", help="print an ACL file instead of commands for valkey-cli")
    file = parser.parse_args().file
    for user in USERS:
        password = secrets.token_urlsafe(32)
        print("user" if file else "ACL SETUSER", user.line(password))
        print(f"{user.name}: {password}", file=sys.stderr)
    if not file:
        print("ACL SAVE")


if __name__ == "__main__":
    main()
