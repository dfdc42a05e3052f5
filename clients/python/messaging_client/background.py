"""Tasks that run beside the application's, and none of which outlives the client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

_LOGGER = logging.getLogger("messaging_client")

_Result = TypeVar("_Result")


class Background:
    """Starts tasks and ends all of them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def start(self, work: Coroutine[Any, Any, _Result], name: str) -> asyncio.Task[_Result] | None:
        """Runs the work in a task, unless the client is being closed."""
        if self._closed:
            work.close()
            return None
        task = asyncio.create_task(work, name=f"messaging-client {name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Cancels what runs and waits for its end."""
        self._closed = True
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _LOGGER.error("%s failed", task.get_name(), exc_info=task.exception())
