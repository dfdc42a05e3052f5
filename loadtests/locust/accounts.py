"""Who the users of this process are: pairs that write to each other, and their tokens."""

from __future__ import annotations

import heapq
import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import jwt

from loadtests.locust.ledger import Ledger

_TOKEN_SECONDS = 6 * 3600
_FRESH_SECONDS = 60
"""A token that is valid for less than that is replaced."""


@dataclass(slots=True, kw_only=True)
class Pair:
    """Two users who write to each other."""

    users: tuple[str, str]
    ledger: Ledger
    present: set[str] = field(default_factory=set)
    """Who of them is here to see what the other one does."""
    conversation_id: str | None = None
    """Known as soon as one of them was told of a message."""
    typing_since: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One side of a pair."""

    number: int
    pair: Pair
    user: str
    counterpart: str


class NoPlaceLeft(RuntimeError):
    """There are more users than the pairs that were given."""


class Accounts:
    """Hands out places, lowest number first, so that pairs become complete."""

    def __init__(self, new_ledger: Callable[[], Ledger], pairs: Sequence[tuple[str, str]] | None) -> None:
        self._new_ledger = new_ledger
        self._given = pairs
        # Fresh users in every process and run: their conversations begin empty.
        self._prefix = f"load-{secrets.token_hex(4)}"
        self._pairs: list[Pair] = []
        self._free: list[int] = []
        self._taken: set[int] = set()

    def take(self) -> Place:
        """The next free place; raises `NoPlaceLeft`."""
        if not self._free:
            self._add_pair()
        number = heapq.heappop(self._free)
        self._taken.add(number)
        pair = self._pairs[number // 2]
        side = number % 2
        return Place(number=number, pair=pair, user=pair.users[side], counterpart=pair.users[1 - side])

    def give_back(self, place: Place) -> None:
        """Somebody else may take the place."""
        self._taken.discard(place.number)
        heapq.heappush(self._free, place.number)

    def somebody(self) -> str | None:
        """A user whose place is taken, by chance; None while there is none."""
        if not self._taken:
            return None
        number = random.choice(tuple(self._taken))
        return self._pairs[number // 2].users[number % 2]

    def _add_pair(self) -> None:
        number = len(self._pairs)
        if self._given is None:
            users = (f"{self._prefix}-{number}a", f"{self._prefix}-{number}b")
        elif number < len(self._given):
            users = self._given[number]
        else:
            raise NoPlaceLeft(f"--pairs has {len(self._given)} pairs for this process: start fewer users")
        self._pairs.append(Pair(users=users, ledger=self._new_ledger()))
        heapq.heappush(self._free, 2 * number)
        heapq.heappush(self._free, 2 * number + 1)


def read_pairs(file: Path, *, part: int, parts: int) -> list[tuple[str, str]]:
    """Pairs of user ids, two words a line; of `parts` processes, number `part` gets its share.

    Raises `ValueError` for a line of another form, `OSError` when the file cannot be read.
    """
    pairs = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or words[0] == words[1]:
            raise ValueError(f"{file}, line {number}: two different user ids are needed")
        pairs.append((words[0], words[1]))
    return pairs[part::parts]


class Tokens:
    """A valid JWT for each user, made by `issue` and kept while it is fresh."""

    def __init__(self, issue: Callable[[str], str]) -> None:
        self._issue = issue
        self._kept: dict[str, tuple[str, float]] = {}

    def of(self, user: str) -> str:
        """The user's token; raises `httpx.HTTPError` when none can be got."""
        token, expires_at = self._kept.get(user, ("", 0.0))
        if expires_at < time.time() + _FRESH_SECONDS:
            token = self._issue(user)
            claims = jwt.decode(token, options={"verify_signature": False})
            self._kept[user] = token, float(claims.get("exp", "inf"))
        return token


def minted_with(secret: str) -> Callable[[str], str]:
    """Issues tokens as the identity provider of a development stack would (HS256)."""

    def issue(user: str) -> str:
        claims = {"sub": user, "exp": int(time.time()) + _TOKEN_SECONDS}
        return jwt.encode(claims, secret, algorithm="HS256")

    return issue


def fetched_from(url: str) -> Callable[[str], str]:
    """Gets tokens as the demo page does: `POST {"userId": ...}`, answered with `{"token": ...}`."""

    def issue(user: str) -> str:
        answer = httpx.post(url, json={"userId": user}, timeout=10)
        answer.raise_for_status()
        return str(answer.json()["token"])

    return issue
