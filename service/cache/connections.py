"""Who is connected with whom, as this process knows it, and how it finds out."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from service.cache.metrics import KNOWN, LOOKUPS
from service.cache.pairs import Pair, pair_of
from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId

_REFRESHED_FROM, _REFRESHED_UNTIL = 0.7, 0.9
"""Shares of an answer's life between which it is asked for again while it still holds: each pair at
a share of its own, so that what was learned together is not asked again together."""
_FIRST_REFRESHED_FROM = 0.2
"""The same for a first answer: after a start, all are learned together."""
_REFRESH_EVERY_S = 0.05
"""Refreshes go in rounds: twenty calls made at once cost a good third of twenty single ones. And the
message that called for one goes before it."""
_REFRESHED_AT_ONCE = 32
"""No round holds up the messages beside it for longer than so many calls take."""

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

    async def put(self, pairs: Sequence[Pair], connected: bool) -> None:
        """Keeps the answer for each that has none and was not just marked as changed."""
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
        # Oldest out first, and our own expiry: reading cachetools' timed caches costs ten times as much.
        self._answers: OrderedDict[Pair, _Answer] = OrderedDict()
        self._max_pairs = max_pairs
        self._flights: dict[Pair, _Flight] = {}
        self._due: dict[Pair, tuple[UserId, UserId]] = {}
        """To be refreshed in one of the next rounds, with who is to ask about whom."""
        self._round: dict[Pair, tuple[UserId, UserId]] = {}
        """Being refreshed now; an invalidation takes a pair out."""
        self._refreshing: asyncio.Task[None] | None = None
        self._keeps_answers = True

    def known(self, user: UserId, other: UserId) -> bool | None:
        """What this process knows without asking; None when it must ask."""
        # The body of pair_of, and no metric object: this runs once for every message.
        answer = self._answers.get((user, other) if user < other else (other, user))
        if answer is None:
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
            self._due[pair_of(user, other)] = (user, other)
            if self._refreshing is None:
                self._refreshing = asyncio.create_task(self._refresh_due(), name="connection refresh")
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
        for known in (self._answers, self._due, self._round):
            known.pop(pair, None)
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
        for known in (self._answers, self._due, self._round):
            known.clear()
        for flight in self._flights.values():
            flight.overtaken = True

    def keep_answers(self, keep: bool) -> None:
        """Whether answers stay in memory; either way, those that are there are dropped.

        Only who is told of changes may keep them: the shared layer is told by somebody always.
        """
        self._keeps_answers = keep
        self.forget_everything()

    async def aclose(self) -> None:
        """Waits for the lookups and refreshes under way, each bounded by the deadlines of the layers.

        Refreshes that have not begun are given up.
        """
        self._due.clear()
        under_way: list[asyncio.Task[bool] | asyncio.Task[None]] = [f.task for f in self._flights.values()]
        if self._refreshing is not None:
            under_way.append(self._refreshing)
        await asyncio.gather(*under_way, return_exceptions=True)

    def _start_lookup(self, user: UserId, other: UserId) -> _Flight:
        """The lookup of the pair that is under way, or a new one."""
        pair = pair_of(user, other)
        flight = self._flights.get(pair)
        if flight is None:
            flight = self._flights[pair] = _Flight()
            flight.task = asyncio.create_task(self._look_up(flight, user, other), name="connection lookup")
            flight.task.add_done_callback(_retrieve)
        return flight

    async def _look_up(self, flight: _Flight, user: UserId, other: UserId) -> bool:
        pair = pair_of(user, other)
        try:
            for _ in range(_ASKED_AT_MOST):
                flight.overtaken = False
                asked_at = self._clock()
                connected, lifetime = await self._ask(flight, user, other)
                if not flight.overtaken:
                    self._keep(pair, connected, asked_at, lifetime, _FIRST_REFRESHED_FROM)
                    return connected
        finally:
            del self._flights[pair]
        # Neither answer may be believed: a refusal would be final to the client.
        code = ErrorCode.AUTHORIZATION_UNAVAILABLE
        raise Rejected(code, "the connection is changing right now", retry_after_ms=100)

    async def _ask(self, flight: _Flight, user: UserId, other: UserId) -> tuple[bool, float]:
        """The answer of the first layer that has one, and how long it may be kept here."""
        pair = pair_of(user, other)
        if self._shared is not None and (shared := await self._shared.get(pair)) is not None:
            return shared.connected, min(shared.lifetime, self._ttl(shared.connected))
        connected = await self._ask_source(user, other)
        if self._shared is not None and not flight.overtaken:
            await self._shared.put((pair,), connected)
        return connected, self._ttl(connected)

    async def _ask_source(self, user: UserId, other: UserId) -> bool:
        try:
            connected = await self._source.are_connected(user, other)
        except Rejected:
            LOOKUPS.labels("connections_service", "unavailable").inc()
            raise
        LOOKUPS.labels("connections_service", "connected" if connected else "not_connected").inc()
        return connected

    async def _refresh_due(self) -> None:
        """Refreshes what is due, round after round, until nothing is."""
        try:
            while self._due:
                await asyncio.sleep(_REFRESH_EVERY_S)
                pairs = tuple(itertools.islice(self._due, _REFRESHED_AT_ONCE))
                self._round = {pair: self._due.pop(pair) for pair in pairs}
                await self._refresh_round()
        finally:
            self._refreshing = None

    async def _refresh_round(self) -> None:
        """Asks the source, not the shared layer, which will have forgotten the pairs soon, too."""
        asked, asked_at = tuple(self._round.items()), self._clock()
        answers = await asyncio.gather(
            *(self._ask_source(user, other) for _, (user, other) in asked), return_exceptions=True
        )
        connected: list[Pair] = []
        ended: list[Pair] = []
        for (pair, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Rejected):
                # Logged and counted by the source; the use of what is left calls for the next attempt.
                continue
            if isinstance(answer, BaseException):
                raise answer
            if self._round.pop(pair, None) is not None:
                self._keep(pair, answer, asked_at, self._ttl(answer), _REFRESHED_FROM)
                (connected if answer else ended).append(pair)
        if self._shared is not None:
            if connected:
                # First, while the answers are new: what changes meanwhile is marked for a short time only.
                await self._shared.put(connected, True)
            for pair in ended:
                # The shared answer is a positive one still, and would be believed to its end.
                await self._shared.mark_changed(pair)

    def _keep(self, pair: Pair, connected: bool, asked_at: float, lifetime: float, earliest: float) -> None:
        """Keeps an answer, to be refreshed when the share `earliest` of its life, or more, has passed."""
        if self._keeps_answers:
            share = earliest + (_REFRESHED_UNTIL - earliest) * (hash(pair) % 256) / 256
            self._answers[pair] = _Answer(connected, asked_at + lifetime * share, asked_at + lifetime)
            self._answers.move_to_end(pair)
            if len(self._answers) > self._max_pairs:
                self._answers.popitem(last=False)

    def _ttl(self, connected: bool) -> float:
        return self._positive_ttl if connected else self._negative_ttl


def _retrieve(task: asyncio.Task[bool]) -> None:
    """Takes notice of a failure whose askers were all cancelled; the layers have logged it."""
    if not task.cancelled():
        task.exception()
