"""Who is connected with whom, as this process knows it, and how it finds out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cachetools import FIFOCache

from service.cache.metrics import KNOWN, LOOKUPS
from service.cache.pairs import Pair, pair_of
from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId

_REFRESHED_FROM, _REFRESHED_UNTIL = 0.7, 0.9
"""Shares of an answer's life between which it is asked for again while it still holds: each pair at
a share of its own, so that what was learned together is not asked again together."""
_FIRST_REFRESHED_FROM = 0.2
"""The same for a first answer: after a start, all are learned together."""
_REFRESH_AFTER_S = 0.002
"""A refresh lets the message that called for it go first."""

_ASKED_AT_MOST = 2
"""How often one lookup asks: once more when an invalidation overtook the first answer."""


class ConnectionSource(Protocol):
    """Who has the truth about connections."""

    async def are_connected(self, user: UserId, other: UserId) -> bool:
        """Asks on behalf of `user`; raises `Rejected(AUTHORIZATION_UNAVAILABLE)` when it cannot say."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedAnswer:
    """An answer of the shared layer; it must be forgotten after `lifetime` seconds."""

    connected: bool
    lifetime: float


class SharedConnections(Protocol):
    """The layer that instances share. None of its methods fails: in trouble it knows nothing."""

    async def get(self, pair: Pair) -> SharedAnswer | None:
        """What is known of the pair; never from before a `mark_changed` called earlier."""
        ...

    async def put(self, pair: Pair, connected: bool) -> None:
        """Keeps an answer, unless the pair has one or was just marked as changed."""
        ...

    async def mark_changed(self, pair: Pair) -> None:
        """Drops the pair, and for a short time what lookups begun earlier try to put."""
        ...


@dataclass(slots=True)
class _Answer:
    """What is known of a pair; times by the cache's clock."""

    connected: bool
    refresh_at: float
    until: float


@dataclass(slots=True)
class _Flight:
    """A lookup under way that all askers of its pair share."""

    is_refresh: bool
    overtaken: bool = False
    """An invalidation came after it last began to ask: its answer may be from before."""
    task: asyncio.Task[bool] = field(init=False)


class CachedConnections:
    """`ConnectionDirectory` of answers in memory, over a shared layer, over a source.

    Answers stay for `positive_ttl` or `negative_ttl` seconds, counted from
    when they were asked for, never longer than in the shared layer, and at
    most `max_pairs` of them (the oldest go first). A positive one that is used
    late in its life is asked for again beside its use: who writes on and on
    never waits. Without an answer in any layer it raises what the source
    raised: it never guesses.
    """

    def __init__(
        self,
        source: ConnectionSource,
        shared: SharedConnections | None = None,
        *,
        positive_ttl: float = 5.0,
        negative_ttl: float = 2.0,
        max_pairs: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._shared = shared
        self._positive_ttl = positive_ttl
        self._negative_ttl = negative_ttl
        self._clock = clock
        # FIFO and our own expiry: reading cachetools' timed caches costs ten times as much.
        self._answers: FIFOCache[Pair, _Answer] = FIFOCache(max_pairs)
        self._flights: dict[Pair, _Flight] = {}
        self._keeps_answers = True

    def known(self, user: UserId, other: UserId) -> bool | None:
        """What this process knows without asking; None when it must ask."""
        # The body of pair_of, and no metric object: this runs once for every message.
        try:
            answer = self._answers[(user, other) if user < other else (other, user)]
        except KeyError:
            return None
        now = self._clock()
        if answer.until <= now:
            return None
        if not answer.connected:
            KNOWN.not_connected += 1
            return False
        KNOWN.connected += 1
        if answer.refresh_at <= now:
            # A failed refresh is tried again when half of what is left has passed.
            answer.refresh_at = now + (answer.until - now) / 2
            self._start_lookup(user, other, is_refresh=True)
        return True

    async def are_connected(self, user: UserId, other: UserId) -> bool:
        """The same, asked of the shared layer and then of the source on behalf of `user`.

        Askers of one pair share a lookup, made on behalf of the first of them;
        cancelling one leaves the lookup to the others. Raises
        `Rejected(AUTHORIZATION_UNAVAILABLE)` when nobody can say.
        """
        answer = self.known(user, other)
        if answer is not None:
            return answer
        return await asyncio.shield(self._start_lookup(user, other).task)

    def drop(self, user: UserId, other: UserId) -> None:
        """Drops the pair here, at once."""
        pair = pair_of(user, other)
        self._answers.pop(pair, None)
        flight = self._flights.get(pair)
        if flight is not None:
            flight.overtaken = True

    async def forget(self, user: UserId, other: UserId) -> None:
        """Drops the pair here at once and in the shared layer before this returns."""
        pair = pair_of(user, other)
        self.drop(user, other)
        # No await before this: mark_changed blinds the shared layer from its first line on.
        if self._shared is not None:
            await self._shared.mark_changed(pair)

    def forget_everything(self) -> None:
        """Drops all answers in memory; those of the shared layer end with their TTL there."""
        self._answers.clear()
        for flight in self._flights.values():
            flight.overtaken = True

    def keep_answers(self, keep: bool) -> None:
        """Whether answers stay in memory; either way, those that are there are dropped.

        Only who is told of changes may keep them: the shared layer is told by somebody always.
        """
        self._keeps_answers = keep
        self.forget_everything()

    async def aclose(self) -> None:
        """Waits for the lookups under way, each bounded by the deadlines of the layers."""
        await asyncio.gather(*(flight.task for flight in self._flights.values()), return_exceptions=True)

    def _start_lookup(self, user: UserId, other: UserId, *, is_refresh: bool = False) -> _Flight:
        """The lookup of the pair that is under way, or a new one."""
        pair = pair_of(user, other)
        flight = self._flights.get(pair)
        if flight is None:
            flight = self._flights[pair] = _Flight(is_refresh)
            flight.task = asyncio.create_task(self._look_up(flight, user, other), name="connection lookup")
            flight.task.add_done_callback(_retrieve)
        return flight

    async def _look_up(self, flight: _Flight, user: UserId, other: UserId) -> bool:
        pair = pair_of(user, other)
        try:
            if flight.is_refresh:
                await asyncio.sleep(_REFRESH_AFTER_S)
            for _ in range(_ASKED_AT_MOST):
                flight.overtaken = False
                asked_at = self._clock()
                connected, lifetime = await self._ask(flight, user, other)
                if not flight.overtaken:
                    self._keep(pair, connected, asked_at, lifetime, is_first=not flight.is_refresh)
                    return connected
        finally:
            del self._flights[pair]
        if connected:
            code = ErrorCode.AUTHORIZATION_UNAVAILABLE
            raise Rejected(code, "the connection is changing right now", retry_after_ms=100)
        return False

    def _keep(self, pair: Pair, connected: bool, asked_at: float, lifetime: float, *, is_first: bool) -> None:
        if self._keeps_answers:
            earliest = _FIRST_REFRESHED_FROM if is_first else _REFRESHED_FROM
            share = earliest + (_REFRESHED_UNTIL - earliest) * (hash(pair) % 256) / 256
            self._answers[pair] = _Answer(connected, asked_at + lifetime * share, asked_at + lifetime)

    async def _ask(self, flight: _Flight, user: UserId, other: UserId) -> tuple[bool, float]:
        """The answer of the first layer that has one, and how long it may be kept here."""
        pair = pair_of(user, other)
        # A refresh is for what the shared layer will have forgotten soon, too.
        if (
            self._shared is not None
            and not flight.is_refresh
            and (shared := await self._shared.get(pair)) is not None
        ):
            return shared.connected, min(shared.lifetime, self._ttl(shared.connected))
        try:
            connected = await self._source.are_connected(user, other)
        except Rejected:
            LOOKUPS.labels("connections_service", "unavailable").inc()
            raise
        LOOKUPS.labels("connections_service", "connected" if connected else "not_connected").inc()
        if self._shared is not None and not flight.overtaken:
            if flight.is_refresh and not connected:
                # The shared answer is a positive one still, and would be believed to its end.
                await self._shared.mark_changed(pair)
            else:
                await self._shared.put(pair, connected)
        return connected, self._ttl(connected)

    def _ttl(self, connected: bool) -> float:
        return self._positive_ttl if connected else self._negative_ttl


def _retrieve(task: asyncio.Task[bool]) -> None:
    """Takes notice of a failure whose askers were all cancelled; the layers have logged it."""
    if not task.cancelled():
        task.exception()
