"""Group commit: all that waits is committed at once, and what arrives meanwhile is the next batch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from service.metrics import BATCH_SIZE, COMMIT_SECONDS

Item = TypeVar("Item")


class GroupCommit(Generic[Item]):
    """Gives `commit` everything that waits, at most `limit` items, one batch after the other.

    With `gather`, each batch is what waits when that has returned, unless it is full already: for
    what nobody waits for, and of which a few are better committed together.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[None]],
        *,
        limit: int,
        gather: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._commit = commit
        self._limit = limit
        self._gather = gather
        self._waiting: deque[Item] = deque()
        self._wake = asyncio.Event()
        self._committing = 0
        """Items of the batch under way."""
        self._done = 0
        """Items of all batches before it."""
        self._batch_done = asyncio.Event()
        """Never stays set: it wakes those who wait in `settle`."""

    @property
    def waiting(self) -> int:
        """Items that are in no batch yet."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether a whole batch waits: to gather more would only make what is behind it wait longer."""
        return len(self._waiting) >= self._limit

    def add(self, item: Item) -> None:
        """Puts an item at the end; never waits."""
        if not self._waiting:
            self._wake.set()
        self._waiting.append(item)

    async def settle(self) -> None:
        """Returns when all that has come until now was committed, or has failed."""
        goal = self._done + self._committing + len(self._waiting)
        while self._done < goal:
            await self._batch_done.wait()

    async def run(self) -> None:
        """Commits until cancelled."""
        while True:
            await self._wake.wait()
            if self._gather is not None and not self.is_full:
                await self._gather()
            size = min(len(self._waiting), self._limit)
            batch = [self._waiting.popleft() for _ in range(size)]
            if not self._waiting:
                self._wake.clear()
            self._committing = size
            started = time.perf_counter()
            await self._commit(batch)
            self._committing, self._done = 0, self._done + size
            self._batch_done.set()
            self._batch_done.clear()
            # Observed when nobody waits for it any more.
            COMMIT_SECONDS.observe(time.perf_counter() - started)
            BATCH_SIZE.observe(size)
