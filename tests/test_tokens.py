"""Refresh tokens by themselves: what a successor depends on, and on what not."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64decode

import pytest

from app.errors import RefreshTokenInvalid
from app.model import new_session_id
from app.tokens import Presented, RefreshTokens

ONE, OTHER = b"one secret of forty characters, made up", b"another secret of forty letters, made up"
TENANT, USER = "tnt_" + "A" * 26, "usr_1"
SID = new_session_id(TENANT, USER, 1_700_000_000_000)


def first(tokens: RefreshTokens) -> Presented:
    secret, _ = tokens.start()
    return tokens.parse(tokens.first(SID, TENANT, USER, secret))


def test_a_successor_is_derived_without_chance() -> None:
    tokens = RefreshTokens(ONE)
    parent = first(tokens)
    assert tokens.propose(parent) == RefreshTokens(ONE).propose(parent)
    assert tokens.propose(parent, 7) == RefreshTokens(ONE).propose(parent, 7)


def test_what_is_proposed_is_what_the_successor_presents() -> None:
    tokens = RefreshTokens(ONE)
    parent = first(tokens)
    for stored, number in [(0, 1), (1, 2), (41, 42)]:
        asked = tokens.propose(parent, stored)
        following = tokens.parse(tokens.successor(parent, asked.number, asked.branch))
        assert asked.number == following.generation == number
        assert tokens.propose(following).digest == asked.successor
        assert tokens.propose(following).number == number + 1


def test_a_store_that_is_behind_does_not_lower_the_number() -> None:
    tokens = RefreshTokens(ONE)
    parent = first(tokens)
    asked = tokens.propose(parent, 4)
    fifth = tokens.parse(tokens.successor(parent, asked.number, asked.branch))
    assert tokens.propose(fifth, 2) == tokens.propose(fifth)
    assert tokens.propose(fifth, 2).number == 6


def test_each_number_has_its_own_successor() -> None:
    tokens = RefreshTokens(ONE)
    parent = first(tokens)
    proposals = [tokens.propose(parent, stored) for stored in range(50)]
    assert len({asked.successor for asked in proposals}) == 50
    assert len({tokens.successor(parent, asked.number, asked.branch) for asked in proposals}) == 50


def test_without_the_deployment_secret_no_successor_can_be_made() -> None:
    """Who has a token, and knows how the next is derived, still has nothing to derive it with."""
    ours, theirs = RefreshTokens(ONE), RefreshTokens(OTHER)
    parent = first(ours)
    asked, guessed = ours.propose(parent), theirs.propose(parent)
    assert guessed.successor != asked.successor
    with pytest.raises(RefreshTokenInvalid):
        ours.parse(theirs.successor(parent, asked.number, asked.branch))


def test_the_branch_says_under_which_secret_a_successor_is_repeated() -> None:
    """Two processes in the middle of a change of the secret; a fresh successor may come under another than the one
    before it."""
    before, after = RefreshTokens(ONE, OTHER), RefreshTokens(OTHER, ONE)
    parent = first(before)
    for maker, repeater in ((before, after), (after, before)):
        for stored in (0, 1):
            asked = maker.propose(parent, stored)
            made = maker.successor(parent, asked.number, asked.branch)
            assert repeater.successor(parent, asked.number, asked.branch) == made
            assert repeater.propose(repeater.parse(made)).digest == asked.successor


@pytest.mark.parametrize("chance", [bytes(6), b"\xff" * 6, secrets.token_bytes(6)], ids=["low", "high", "any"])
def test_a_branch_of_an_earlier_version_is_repeated_and_followed(chance: bytes) -> None:
    tokens = RefreshTokens(ONE)
    parent = first(tokens)
    label = tokens.propose(parent).branch
    old = tokens.successor(parent, 1, chance + label)
    assert old == tokens.successor(parent, 1, chance + label) != tokens.successor(parent, 1, label)
    assert tokens.parse(old).generation == 1
    assert tokens.propose(tokens.parse(old)).number == 2
    assert tokens.propose(parent, 1).number == 2


@pytest.mark.parametrize(
    ("user", "version"),
    [
        ("u", 1),
        ("a" * 255, 1),
        ("\u00e9" * 127, 1),
        ("\u00e9" * 128, 2),
        ("\U0001f600" * 64, 2),
        ("\U0001f600" * 255, 2),
    ],
)
def test_only_a_user_id_too_long_for_the_first_version_takes_the_second(user: str, version: int) -> None:
    tokens = RefreshTokens(ONE)
    sid = new_session_id(TENANT, user, 1_700_000_000_000)
    text = tokens.first(sid, TENANT, user, b"s" * 32)
    assert urlsafe_b64decode(text[3:] + "=" * (-len(text[3:]) % 4))[0] == version
    assert text == RefreshTokens(ONE).first(sid, TENANT, user, b"s" * 32)
    parent = tokens.parse(text)
    asked = tokens.propose(parent)
    following = tokens.parse(tokens.successor(parent, asked.number, asked.branch))
    assert (parent.user_id, following.user_id, following.session_id) == (user, user, sid)


def test_a_token_of_the_first_version_is_read_as_ever() -> None:
    text = (
        "rt_AQAAAAAeHghzZXNfMDFIRjdZQVQwMEpRMDAwMDAwMDAwMDAwMDB0bnRfQUFBQUFBQUFBQUFBQUFBQUFBQ"
        "UFBQUFBQUF1c2VyLTEhfnNzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3NzwsN7rJWzU4dHwYgcGjtp_A"
    )
    assert RefreshTokens(ONE).parse(text).user_id == "user-1!~"
