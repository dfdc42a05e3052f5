"""A limit for each user that all instances keep together: quiet users cost nothing, busy ones a question."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from limits import parse

from service.cache.rate_counts import RateCounts
from service.domain.errors import ErrorCode, Rejection
from service.domain.ids import UserId

_QUIET_SHARE = 0.5
"""Of the limit: below it this process decides by itself, from it on every command is asked for."""
_REPORTED_SHARE = 1 / 16
"""Of the limit: so many quiet commands are told to the other instances at once, in the background."""


# Not frozen: it is counted in.
@dataclass(slots=True, eq=False)
class _Window:
    """What one user did since its window began."""

    number: str
    """Tells it from the user's earlier windows."""
    ends_at: float
    quiet_until: int
    """Up to this count nobody is asked."""
    report_at: int
    counted: int = 0
    told_here: int = 0
    """Of `counted`, what is in this process's count in the library."""
    told_everywhere: int = 0
    """Of `counted`, what is in Redis."""
    is_spent: bool = False
    """Everything until the end is refused."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One question at a time: on several connections a later one could be counted before an earlier one."""

    @property
    def untold_here(self) -> int:
        return self.counted - self.told_here

    @property
    def untold_everywhere(self) -> int:
        return self.counted - self.told_everywhere


class UserRateLimit:
    """The `RateLimit` port. `limit` is in the notation of `limits`, as `2000 per 10 seconds`.

    Below half of the limit a plain count decides: the library's own takes 5 us and makes a
    task, this one takes 0.2 us. From there on each command is added to the library's counts
    in Redis and in memory, together with what was counted and not told yet, and the higher
    of the two decides: memory alone when Redis does not answer.

    Raises `ValueError` for a limit that cannot be read.
    """

    def __init__(
        self, name: str, limit: str, counts: RateCounts, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._limit = parse(limit)
        self._counts = counts
        self._clock = clock
        self._length = float(self._limit.get_expiry())
        self._quiet = int(self._limit.amount * _QUIET_SHARE)
        self._step = max(1, int(self._limit.amount * _REPORTED_SHARE))
        self._windows: dict[UserId, _Window] = {}
        self._sweep_at = 0.0
        self._numbers = itertools.count()
        self._reports: set[asyncio.Task[None]] = set()

    def passes(self, user: UserId) -> bool:
        """See `RateLimit.passes`."""
        window = self._windows.get(user)
        if window is None or window.ends_at <= self._clock():
            window = self._begin(user)
        if window.counted >= window.quiet_until:
            return False
        window.counted += 1
        if window.counted >= window.report_at:
            window.report_at = window.counted + self._step
            task = asyncio.create_task(self._report(user, window), name="rate-report")
            self._reports.add(task)
            task.add_done_callback(self._reports.discard)
        return True

    def refusal(self, user: UserId) -> Rejection | None:
        """See `RateLimit.refusal`."""
        window = self._windows.get(user)
        if window is None or not window.is_spent:
            return None
        remaining = window.ends_at - self._clock()
        if remaining <= 0:
            return None
        return Rejection(
            ErrorCode.RATE_LIMITED,
            f"more than {self._limit.amount} in {self._limit.get_expiry()} s",
            max(1, math.ceil(remaining * 1_000)),
        )

    async def decide(self, user: UserId) -> Rejection | None:
        """See `RateLimit.decide`."""
        window = self._windows.get(user)
        if window is None or window.ends_at <= self._clock():
            window = self._begin(user)
        async with window.turn:
            return self.refusal(user) or await self._count_one(user, window)

    async def _count_one(self, user: UserId, window: _Window) -> Rejection | None:
        window.counted += 1
        count = window.untold_here
        here = await self._counts.add_here(self._limit, self._name, user, window.number, count=count)
        window.told_here += count
        everywhere = await self._tell(user, window)
        if max(here, everywhere or 0) <= self._limit.amount:
            return None
        is_over_everywhere = everywhere is not None and everywhere > self._limit.amount
        await self._spend(user, window, is_over_everywhere=is_over_everywhere)
        return self.refusal(user)

    async def _tell(self, user: UserId, window: _Window) -> int | None:
        """Adds to the count in Redis what is not in it yet; None when that failed, and it is told later."""
        count = window.untold_everywhere
        total = await self._counts.add_everywhere(self._limit, self._name, user, count=count)
        if total is not None:
            window.told_everywhere += count
        return total

    async def _report(self, user: UserId, window: _Window) -> None:
        """Tells what passed, and learns how much of the quiet half the other instances have used."""
        async with window.turn:
            counted = window.counted
            total = await self._tell(user, window)
        if total is not None and not window.is_spent:
            window.quiet_until = min(self._quiet, counted + self._quiet - total)

    async def _spend(self, user: UserId, window: _Window, *, is_over_everywhere: bool) -> None:
        """Refuses the user until the end of the window that it has used up."""
        remaining = None
        if is_over_everywhere:
            remaining = await self._counts.remaining_everywhere(self._limit, self._name, user)
        if remaining is not None:
            window.ends_at = self._clock() + remaining
        window.quiet_until = 0
        window.is_spent = True

    def _begin(self, user: UserId) -> _Window:
        now = self._clock()
        if now >= self._sweep_at:
            self._sweep_at = now + self._length
            self._windows = {user: window for user, window in self._windows.items() if window.ends_at > now}
        window = self._windows[user] = _Window(
            number=str(next(self._numbers)),
            ends_at=now + self._length,
            quiet_until=self._quiet,
            report_at=self._step,
        )
        return window
