"""Who writes to whom in a load test."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest

from loadtests.locust.accounts import Accounts, NoPlaceLeft, Tokens, minted_with, read_pairs
from loadtests.locust.ledger import Ledger

_SECRET = "secret-of-the-tests-with-enough-bytes-for-hs256"


def accounts(pairs: list[tuple[str, str]] | None) -> Accounts:
    return Accounts(lambda: Ledger(lambda *_: None, resend_after=5, give_up_after=30), pairs)


def test_places_are_filled_pair_by_pair_and_given_again() -> None:
    places = accounts(None)
    first, second, third = places.take(), places.take(), places.take()
    assert first.pair is second.pair
    assert (first.user, first.counterpart) == (second.counterpart, second.user)
    assert third.pair is not first.pair
    places.give_back(second)
    assert places.take() == second
    assert accounts(None).take().user != first.user


def test_somebody_is_a_user_who_is_there() -> None:
    places = accounts([("a", "b")])
    assert places.somebody() is None
    place = places.take()
    assert places.somebody() == place.user == "a"


def test_given_pairs_are_used_and_end() -> None:
    places = accounts([("a", "b")])
    assert [places.take().user, places.take().user] == ["a", "b"]
    with pytest.raises(NoPlaceLeft):
        places.take()


def test_the_file_of_pairs_is_shared_out_among_processes(tmp_path: Path) -> None:
    file = tmp_path / "pairs"
    file.write_text("a b\n\nc d\ne  f\n")
    assert read_pairs(file, part=0, parts=1) == [("a", "b"), ("c", "d"), ("e", "f")]
    assert read_pairs(file, part=0, parts=2) == [("a", "b"), ("e", "f")]
    assert read_pairs(file, part=1, parts=2) == [("c", "d")]
    file.write_text("a b\na a\n")
    with pytest.raises(ValueError, match="line 2"):
        read_pairs(file, part=0, parts=1)


def test_a_token_is_kept_as_long_as_it_is_fresh() -> None:
    issued = []

    def issue(user: str) -> str:
        issued.append(user)
        if len(issued) == 1:
            return jwt.encode({"sub": user, "exp": 1}, _SECRET, algorithm="HS256")
        return minted_with(_SECRET)(user)

    tokens = Tokens(issue)
    assert tokens.of("a") != tokens.of("a") == tokens.of("a")
    assert jwt.decode(tokens.of("a"), _SECRET, algorithms=["HS256"])["sub"] == "a"
    assert issued == ["a", "a"]
