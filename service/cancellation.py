"""Cancellations that a library has dropped."""

from __future__ import annotations

import asyncio


def notice_cancellation() -> None:
    """Raises `CancelledError` if the running task was cancelled and has not been told.

    `asyncio.wait_for` of Python 3.11, in which redis and psycopg wait for their sockets, drops a cancellation
    that comes in the very moment in which the wait ends. A loop that lives on by it would keep its whole
    task group from ending.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
