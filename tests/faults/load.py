"""Pairs of users who write to each other all the time, and some who may not."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import jwt

from tests.faults.clients import User
from tests.faults.ledger import Canary, Ledger, Quiet, Refused, Relation
from tests.faults.platform_client import PlatformClient
from tests.faults.profile import Profile, Reading

_TICK_S = 0.02
_POLL_S = 0.05
_READINGS = (Reading.ALL, Reading.SOME, Reading.ALL, Reading.NONE)
STRANGERS_PER_SECOND = 1.0


class Tokens:
    """Mints HS256 tokens as the identity provider would."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def mint(self, user_id: str, *, role: str | None = None, seconds: float = 6 * 3600) -> str:
        """A JWT that broker and service accept."""
        now = time.time()
        claims: dict[str, object] = {"sub": user_id, "iat": int(now), "exp": int(now + seconds)}
        if role is not None:
            claims["role"] = role
        return jwt.encode(claims, self._secret, algorithm="HS256")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two users who only know each other."""

    first: User
    second: User
    connected: bool
    """Whether they may write to each other when the load starts."""

    @property
    def users(self) -> tuple[User, User]:
        """Both."""
        return self.first, self.second

    @property
    def names(self) -> tuple[str, str]:
        """Their user ids."""
        return self.first.name, self.second.name


@dataclass(frozen=True, slots=True)
class Ports:
    """Where users find the broker; asked before every connection."""

    websocket: Callable[[], int]
    mqtt: Callable[[], int]


class Load:
    """All users of an arena. `run` is its whole life; who writes is decided meanwhile."""

    def __init__(self, ledger: Ledger, tokens: Tokens, chance: random.Random, ports: Ports) -> None:
        self.tokens = tokens
        self.pairs: list[Pair] = []
        self.platform = PlatformClient(ledger, tokens, chance, ports.mqtt)
        self._ledger = ledger
        self._chance = chance
        self._ports = ports
        self._users: list[User] = []
        self._tasks: asyncio.TaskGroup | None = None
        self._runs = asyncio.Event()

    def new_pair(self, name: str, *, per_second: float, connected: bool = True) -> Pair:
        """Two users `{name}-a` and `{name}-b` with a canary word; they act once they are in `add`.

        Every fourth pair comes by TCP instead of WebSocket, every third keeps its session.
        """
        number = len(self.pairs)
        canary = f"canary{self._chance.getrandbits(64):016x}"
        names = (f"{name}-a", f"{name}-b")
        self._ledger.record(Canary(word=canary, users=names))
        users = [
            self.new_user(
                Profile(
                    user_id=user,
                    peer_id=peer,
                    canary=canary,
                    per_second=per_second,
                    reading=_READINGS[(number + (user > peer)) % len(_READINGS)],
                    websocket=number % 4 != 3,
                    keeps_session=number % 3 == 2,
                )
            )
            for user, peer in (names, names[::-1])
        ]
        pair = Pair(users[0], users[1], connected)
        self.pairs.append(pair)
        self._ledger.record(
            Relation(at=self._ledger.now(), wall=time.time(), users=names, connected=connected)
        )
        return pair

    def new_user(self, profile: Profile) -> User:
        """A user that is not connected yet."""
        port = self._ports.websocket if profile.websocket else self._ports.mqtt
        return User(profile, self._ledger, self.tokens, self._chance, port)

    def add(self, user: User) -> None:
        """It connects, and does what its profile says until the end."""
        assert self._tasks is not None, "the load does not run"
        self._users.append(user)
        self._tasks.create_task(user.run(), name=user.name)

    async def run(self) -> None:
        """Keeps everybody going until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self.platform.run(), name="platform")
            self._runs.set()
            while True:
                await asyncio.sleep(_TICK_S)
                now = self._ledger.now()
                for user in self._users:
                    user.tick(now)

    async def start(self, *, patience_s: float = 30.0) -> None:
        """Connects all pairs and lets them write; returns when every connected one has heard of the other."""
        await self._runs.wait()
        for user in self._users_of(self.pairs):
            self.add(user)
            user.writing = True
        began = self._ledger.now()
        await self._until(lambda: not self.not_recovered(began), patience_s, "the load does not get going")

    def not_recovered(self, since: float) -> Sequence[str]:
        """Users of connected pairs who since then had no message acknowledged, or got none of the peer's."""
        return [
            user.name
            for user in self._active()
            if user.hearing.answered_at <= since or user.hearing.received_at <= since
        ]

    def longest_silence(self) -> float:
        """The longest time that any active user waited between two acknowledgements, in seconds."""
        return max((user.hearing.longest_silence for user in self._active()), default=0.0)

    def forget_silence(self) -> None:
        """From now on only what comes counts as silence."""
        for user in self._users:
            user.hearing.longest_silence = 0.0

    def acknowledged(self) -> int:
        """Messages acknowledged so far."""
        return sum(user.hearing.answered for user in self._users)

    def refusals(self, *, since: float) -> Counter[str]:
        """Codes that users of connected pairs were answered with since then."""
        names = {user.name for pair in self.pairs if pair.connected for user in pair.users}
        return Counter(
            each.code for each in self._ledger.of(Refused) if each.at > since and each.user in names
        )

    def stop_writing(self) -> None:
        """Nobody writes a new message; what is outstanding is still resent."""
        for user in self._users:
            user.writing = False

    async def quiet(self, seconds: float) -> Sequence[str]:
        """Waits until everybody is settled; returns who is not in time."""
        with suppress(TimeoutError):
            await self._until(lambda: all(user.is_settled for user in self._users), seconds, "")
        for user in self._users:
            if user.is_settled:
                self._ledger.record(Quiet(at=self._ledger.now(), user=user.name))
        return [user.name for user in self._users if not user.is_settled]

    async def read_everything(self) -> None:
        """Every user who has a conversation reads it once more, for the ledger."""
        turns = asyncio.Semaphore(8)

        async def read(user: User) -> None:
            async with turns:
                await user.read_everything()

        async with asyncio.TaskGroup() as tasks:
            for user in self.with_conversation():
                tasks.create_task(read(user))

    def with_conversation(self) -> Iterator[User]:
        """Users whose conversation exists, as far as they know."""
        return (user for user in self._users if user.hearing.view.conversation_id)

    def raise_failures(self) -> None:
        """Raises what a client choked on: a defect of the client or an event that is no JSON object."""
        for user in self._users:
            if user.failure is not None:
                raise RuntimeError(f"{user.name} choked") from user.failure

    def _active(self) -> Iterator[User]:
        """Who may write, and does."""
        return (user for pair in self.pairs if pair.connected for user in pair.users if user.writing)

    @staticmethod
    def _users_of(pairs: Sequence[Pair]) -> Iterator[User]:
        return (user for pair in pairs for user in pair.users)

    async def _until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self.raise_failures()
            if time.monotonic() > deadline:
                raise TimeoutError(what)
            await asyncio.sleep(_POLL_S)
