"""The time of a refusal does not tell whether there is such an API key (KEY-03), by a test that would notice.

A thousand refusals of each kind come mixed over one connection, so that whatever else the machine does falls on all
alike. Two kinds are told apart by Mann and Whitney's test, which asks nothing of the distribution. One round in a
hundred errs by chance: only a difference that is there in every round, and always the same way, counts.
"""

from __future__ import annotations

import random
import secrets
import socket
import time
from collections.abc import Iterator
from itertools import groupby
from math import erfc, sqrt

import pytest

from app.apikeys import checksum
from app.model import base32
from tests.service import Api

EACH, ROUNDS, SIGNIFICANT = 1_500, 4, 0.01


@pytest.fixture
def api(valkey_url: str) -> Iterator[Api]:
    process = Api(valkey_url, HELLOJOHN_FAILURES_PER_MINUTE="0")
    yield process
    process.stop()


def guess(key_id: str) -> str:
    text = f"sk_live_{key_id}_{base32(secrets.randbits(200), 40)}"
    return text + checksum(text)


def mistyped(key_id: str) -> str:
    text = guess(key_id)
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def refusals(api: Api, texts: dict[str, list[str]]) -> dict[str, list[int]]:
    """Nanoseconds from question to answer, in an order of chance."""
    asked = [(kind, text) for kind, some in texts.items() for text in some]
    random.shuffle(asked)
    took: dict[str, list[int]] = {kind: [] for kind in texts}
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for kind, text in asked:
            question = f"GET /v1/sessions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {text}\r\n\r\n".encode()
            began = time.perf_counter_ns()
            line.sendall(question)
            answer = line.recv(65_536)
            took[kind].append(time.perf_counter_ns() - began)
            assert answer.startswith(b"HTTP/1.1 401") and answer.endswith(b"}"), answer
    return took


def score(one: list[int], other: list[int]) -> float:
    """Mann and Whitney's U as a standard score; positive if `one` is slower."""
    ranked, rank_sum, rank = sorted([(value, True) for value in one] + [(value, False) for value in other]), 0.0, 0
    for _, tied in groupby(ranked, key=lambda pair: pair[0]):
        marks = [mine for _, mine in tied]
        rank_sum += sum(marks) * (rank + (len(marks) + 1) / 2)
        rank += len(marks)
    n, m = len(one), len(other)
    return (rank_sum - n * (n + 1) / 2 - n * m / 2) / sqrt(n * m * (n + m + 1) / 12)


def significant(z: float) -> bool:
    return erfc(abs(z) / sqrt(2)) < SIGNIFICANT


def test_the_statistic_knows_a_difference_from_none() -> None:
    chance = random.Random(7)
    noise = [[round(chance.lognormvariate(12, 0.3)) for _ in range(EACH)] for _ in range(2)]
    assert not significant(score(*noise))
    assert significant(score([value + 20_000 for value in noise[0]], noise[1]))
    assert score([1, 1, 1], [1, 1, 1]) == 0
    assert score([3, 4], [1, 2]) > 0 > score([1, 2], [3, 4])


@pytest.mark.slow
def test_an_unknown_key_is_refused_in_the_time_of_one_with_a_wrong_secret(api: Api) -> None:
    """The mistyped key, which is refused without any work, shows that this test can see a difference of that size."""
    known, unknown = api.tenant().key[8:24], base32(secrets.randbits(80), 16)
    scores, controls, alike = list[float](), list[float](), False
    for _ in range(ROUNDS):
        texts = {"wrong": [guess(known) for _ in range(EACH)], "unknown": [guess(unknown) for _ in range(EACH)]}
        took = refusals(api, {**texts, "mistyped": [mistyped(known) for _ in range(EACH)]})
        scores.append(score(took["wrong"], took["unknown"]))
        controls.append(score(took["wrong"], took["mistyped"]))
        alike = not all(map(significant, scores)) or min(scores) < 0 < max(scores)
        if alike and significant(controls[-1]):
            break
    assert alike, f"unknown and wrong keys can be told apart by time: {scores}"
    assert any(significant(control) and control > 0 for control in controls), controls
