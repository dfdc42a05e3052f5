"""Group commit: all that waits is committed at once, and what arrives meanwhile is the next batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from service.metrics import BATCH_SIZE, COMMIT_SECONDS

Item = TypeVar("Item")


class GroupCommit(Generic[Item]):
    """Gives `commit` everything that waits, at most `limit` items, one batch after the other.

    With `gather_s`, that many seconds pass before each batch: for what nobody
    waits for, and of which a few are better committed together.
    """

    def __init__(
        self, commit: Callable[[Sequence[Item]], Awaitable[None]], *, limit: int, gather_s: float = 0.0
    ) -> None:
        self._commit = commit
        self._limit = limit
        self._gather_s = gather_s
        self._waiting: deque[Item] = deque()
        self._wake = asyncio.Event()

    def add(self, item: Item) -> None:
        """Puts an item at the end; never waits."""
        self._waiting.append(item)
        self._wake.set()

    async def run(self) -> None:
        """Commits until cancelled."""
        while True:
            await self._wake.wait()
            if self._gather_s:
                await asyncio.sleep(self._gather_s)
            size = min(len(self._waiting), self._limit)
            batch = [self._waiting.popleft() for _ in range(size)]
            if not self._waiting:
                self._wake.clear()
            BATCH_SIZE.observe(size)
            with COMMIT_SECONDS.time():
                await self._commit(batch)
