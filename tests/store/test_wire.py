"""How the wires follow a cluster's redirections, fail and close, against servers that answer by a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import hiredis
import pytest

from app.embedded import free_port
from app.errors import StoreUnavailable
from app.store.cluster import ClusterWire
from app.store.connection import Connection
from tests.servers import until

Answer = Callable[[list[bytes]], bytes]


class Node:
    """A TCP server that speaks RESP; `answer` says what a command gets, an empty answer is silence."""

    def __init__(self) -> None:
        self.answer: Answer = lambda command: b"+OK\r\n"
        self.seen: list[list[bytes]] = []
        self.port = 0
        self.accepted = self.open = 0

    async def start(self, port: int = 0) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open += 1
        parser = hiredis.Reader()
        try:
            while data := await reader.read(65_536):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    self.seen.append(command)
                    writer.write(self._reply(command))
        except OSError:
            pass
        finally:
            self.open -= 1
            writer.close()

    def _reply(self, command: list[bytes]) -> bytes:
        match command[0]:
            case b"CLUSTER":
                return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:%d\r\n" % self.port
            case b"INFO":
                return b"$23\r\n# Server\r\nredis_version:7\r\n" if self.answer([b"INFO"]) else b""
            case b"CLIENT" | b"PING" | b"SELECT":
                return b"+OK\r\n"
        return self.answer(command)

    def commands(self) -> list[str]:
        housekeeping = (b"CLUSTER", b"INFO", b"CLIENT", b"PING")
        return [command[0].decode() for command in self.seen if command[0] not in housekeeping]


@pytest.fixture
async def nodes() -> AsyncIterator[tuple[Node, Node]]:
    pair = Node(), Node()
    servers = [await node.start() for node in pair]
    yield pair
    for server in servers:
        server.close()


@pytest.fixture
async def cluster(nodes: tuple[Node, Node]) -> AsyncIterator[ClusterWire]:
    """A wire whose map names the first node for every slot."""
    wire = ClusterWire(f"redis+cluster://127.0.0.1:{nodes[0].port}", 500)
    yield wire
    await wire.close()


def once(first: bytes, then: bytes) -> Answer:
    """`first` for the first command that is no handshake, `then` for the rest."""
    answers = [first]
    return lambda command: then if command == [b"INFO"] or not answers else answers.pop()


async def test_a_moved_slot_is_followed(nodes: tuple[Node, Node], cluster: ClusterWire) -> None:
    nodes[0].answer = once(b"-MOVED 5 127.0.0.1:%d\r\n" % nodes[1].port, b"+first\r\n")
    nodes[1].answer = lambda command: b"+second\r\n"
    assert await cluster.call("k", "GET", "k") == b"second"


async def test_a_redirection_without_a_host_means_the_host_that_was_asked(
    nodes: tuple[Node, Node], cluster: ClusterWire
) -> None:
    nodes[0].answer = once(b"-MOVED 5 :%d\r\n" % nodes[1].port, b"+first\r\n")
    nodes[1].answer = lambda command: b"+second\r\n"
    assert await cluster.call("k", "GET", "k") == b"second"


async def test_asking_goes_before_the_command_and_changes_no_map(
    nodes: tuple[Node, Node], cluster: ClusterWire
) -> None:
    nodes[0].answer = once(b"-ASK 5 127.0.0.1:%d\r\n" % nodes[1].port, b"+first\r\n")
    nodes[1].answer = lambda command: b"+second\r\n"
    assert await cluster.call("k", "GET", "k") == b"second"
    assert nodes[1].commands() == ["ASKING", "GET"]
    assert await cluster.call("k", "GET", "k") == b"first"


@pytest.mark.parametrize("refusal", [b"-TRYAGAIN moving\r\n", b"-MOVED 5 127.0.0.1:%d\r\n"])
async def test_a_taker_that_cannot_answer_yet_sends_the_caller_round_again(
    nodes: tuple[Node, Node], cluster: ClusterWire, refusal: bytes
) -> None:
    source, taker = nodes
    source.answer = once(b"-ASK 5 127.0.0.1:%d\r\n" % taker.port, b"+source\r\n")
    refused = refusal % source.port if b"%d" in refusal else refusal
    taker.answer = lambda command: b"+OK\r\n" if command[0] in (b"ASKING", b"INFO") else refused
    assert await cluster.call("k", "GET", "k") == b"source"


async def test_a_slot_that_never_settles_is_unavailable(nodes: tuple[Node, Node], cluster: ClusterWire) -> None:
    nodes[0].answer = lambda command: b"-MOVED 5 127.0.0.1:%d\r\n" % nodes[1].port
    nodes[1].answer = lambda command: b"-MOVED 5 127.0.0.1:%d\r\n" % nodes[0].port
    with pytest.raises(StoreUnavailable):
        await cluster.call("k", "GET", "k")


async def test_closing_while_connecting_refuses_those_who_wait_and_leaves_no_socket(nodes: tuple[Node, Node]) -> None:
    nodes[0].answer = lambda command: b""
    connection = Connection(f"redis://127.0.0.1:{nodes[0].port}/0", 5_000)
    waiting = [asyncio.create_task(connection.call("GET", "k")) for _ in range(3)]
    await until(lambda: bool(nodes[0].seen))
    await connection.close()
    outcomes: list[Any] = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    await until(lambda: not nodes[0].open)


async def test_a_caller_that_is_cancelled_while_connecting_does_not_cancel_the_others(
    nodes: tuple[Node, Node],
) -> None:
    connection = Connection(f"redis://127.0.0.1:{nodes[0].port}/0", 5_000)
    first, second = (asyncio.create_task(connection.call("GET", "k")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == b"OK"
    assert nodes[0].accepted == 1
    await connection.close()


async def test_a_closed_wire_opens_nothing(nodes: tuple[Node, Node], cluster: ClusterWire) -> None:
    await cluster.call("k", "GET", "k")
    accepted = nodes[0].accepted
    await cluster.close()
    for attempt in (cluster.call("k", "GET", "k"), cluster.each("PING")):
        with pytest.raises(StoreUnavailable):
            await attempt
    assert nodes[0].accepted == accepted


async def test_a_node_that_left_is_not_tried_for_ever(nodes: tuple[Node, Node]) -> None:
    """The map does not name it and it cannot be reached: what takes its address over later hears nothing."""
    address, later = free_port(), Node()
    wire = ClusterWire(f"redis+cluster://127.0.0.1:{address},127.0.0.1:{nodes[0].port}", 500)
    assert await wire.call("k", "GET", "k") == b"OK"
    server = await later.start(address)
    await asyncio.sleep(1)
    assert later.accepted == 0
    server.close()
    await wire.close()
