"""A scripted truth about connections, asked directly or over gRPC, and an in-memory shared layer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import grpc

from devstack.connections_service import ConnectionsDirectory
from proto.connections.v1 import connections_pb2
from service.cache.connections import SharedAnswer
from service.cache.pairs import Pair
from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId

PATIENCE_SECONDS = 5.0


class Clock:
    """A monotonic clock that tests turn by hand, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """The time now."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Turns the clock."""
        self.now += seconds


class ScriptedConnections:
    """Who is connected, what was asked, and whether answers are held back or fail."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.failing = False
        self._connected: set[frozenset[str]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._changed = asyncio.Condition()

    def connect(self, user: str, other: str) -> None:
        """Makes the two connections of each other."""
        self._connected.add(frozenset((user, other)))

    def disconnect(self, user: str, other: str) -> None:
        """Ends their connection."""
        self._connected.discard(frozenset((user, other)))

    def hold(self) -> Callable[[], None]:
        """Keeps back the answers to questions asked from now on; each says what was true when asked.

        Returns what gives the answers kept back until the next `hold`.
        """
        self._open = asyncio.Event()
        return self._open.set

    def release(self) -> None:
        """Gives the answers kept back since the last `hold`, and later ones at once."""
        self._open.set()

    async def until_asked(self, times: int) -> None:
        """Returns when `times` questions have come in altogether."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(lambda: len(self.asked) >= times)

    async def answer(self, user: str, other: str) -> bool | None:
        """What is true when asked; None for a failure."""
        gate = self._open
        answer = None if self.failing else frozenset((user, other)) in self._connected
        async with self._changed:
            self.asked.append((user, other))
            self._changed.notify_all()
        await gate.wait()
        return answer


class MemorySource:
    """`ConnectionSource` on a script."""

    def __init__(self, script: ScriptedConnections) -> None:
        self._script = script

    async def are_connected(self, user: UserId, other: UserId) -> bool:
        """The script's answer."""
        answer = await self._script.answer(user, other)
        if answer is None:
            raise Rejected(ErrorCode.AUTHORIZATION_UNAVAILABLE, "scripted failure", retry_after_ms=1_000)
        return answer


class MemoryShared:
    """`SharedConnections` in memory, with the TTLs and the mark of the Redis one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[Pair, tuple[bool | None, float]] = {}

    async def get(self, pair: Pair) -> SharedAnswer | None:
        """The answer, unless there is none or a mark."""
        connected, until = self._entries.get(pair, (None, 0.0))
        if connected is None or until <= self._clock():
            return None
        return SharedAnswer(connected=connected, lifetime=until - self._clock())

    async def put(self, pairs: Sequence[Pair], connected: bool) -> None:
        """Keeps the answer where there is nothing."""
        for pair in pairs:
            if self._entries.get(pair, (None, 0.0))[1] <= self._clock():
                self._entries[pair] = connected, self._clock() + (60.0 if connected else 10.0)

    async def mark_changed(self, pair: Pair) -> None:
        """Puts a mark."""
        self._entries[pair] = None, self._clock() + 2.0


class ScriptedService(ConnectionsDirectory):
    """The development ConnectionsService, on a script."""

    def __init__(self, script: ScriptedConnections) -> None:
        super().__init__()
        self._script = script

    async def IsConnected(  # noqa: N802 - the name of the remote procedure
        self,
        request: connections_pb2.IsConnectedRequest,
        context: grpc.aio.ServicerContext[
            connections_pb2.IsConnectedRequest, connections_pb2.IsConnectedResponse
        ],
    ) -> connections_pb2.IsConnectedResponse:
        """Answers, or fails with UNAVAILABLE."""
        answer = await self._script.answer(request.user_id_a, request.user_id_b)
        if answer is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "scripted failure")
        return connections_pb2.IsConnectedResponse(are_connected=bool(answer))
