"""Lanes: what one user asked for waits in order, and for nobody else's."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from service.domain.ids import UserId
from service.metrics import LANES

_log = structlog.get_logger(__name__)

Item = TypeVar("Item")


class Lanes(Generic[Item]):
    """Gives `work` each user's items one after the other; users do not wait for one another.

    A lane exists while something is in it: the item that is worked on and those behind it,
    `limit` at the most. What `work` raises is logged, and the next item is worked on.
    """

    def __init__(self, work: Callable[[Item], Awaitable[None]], *, limit: int) -> None:
        self._work = work
        self._limit = limit
        self._lanes: dict[UserId, deque[Item]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __contains__(self, user: UserId) -> bool:
        return user in self._lanes

    def is_full(self, user: UserId) -> bool:
        """Whether nothing more of this user's may wait."""
        lane = self._lanes.get(user)
        return lane is not None and len(lane) >= self._limit

    def add(self, user: UserId, item: Item) -> None:
        """Puts an item at the end of the user's lane; never waits."""
        lane = self._lanes.get(user)
        if lane is not None:
            lane.append(item)
            return
        self._lanes[user] = deque((item,))
        task = asyncio.create_task(self._work_off(user), name="lane")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Gives up all that waits."""
        for task in self._tasks:
            task.cancel()

    async def _work_off(self, user: UserId) -> None:
        lane = self._lanes[user]
        LANES.inc()
        try:
            while lane:
                try:
                    await self._work(lane[0])
                except Exception:
                    _log.exception("lane_item_failed", user_id=user)
                lane.popleft()
        finally:
            del self._lanes[user]
            LANES.dec()
