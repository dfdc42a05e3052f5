"""Which links the Python client gives to who publishes, and how it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from messaging_client import Backoff, MessagingClientOptions, Status, StatusChange
from messaging_client import connection as connection_module
from messaging_client.connection import Connection
from messaging_client.errors import LinkLost
from messaging_client.link import Delivery, Link


class _EndsBehindItsSubscription(Link):
    """Is lost before whoever subscribed gets to know that it worked."""

    def __init__(self) -> None:
        self.session_id = "session"
        self.lost = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()

    async def subscribe(self, topic_filter: str) -> None:
        self._ended.set()
        await self.lost

    async def deliveries(self) -> AsyncIterator[Delivery]:
        await self._ended.wait()
        for nothing in list[Delivery]():
            yield nothing

    async def close(self) -> None:
        self._ended.set()


def _options(**changes: Any) -> MessagingClientOptions:
    async def token() -> str:
        return "token"

    return MessagingClientOptions(
        host="127.0.0.1", port=1, user_id="alice", device_id="phone", token=token, **changes
    )


async def test_a_link_that_ended_behind_its_subscription_is_given_to_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def open_link(options: MessagingClientOptions, token: str) -> Link:
        return _EndsBehindItsSubscription()

    monkeypatch.setattr(connection_module, "open_link", open_link)
    told: asyncio.Queue[StatusChange] = asyncio.Queue()
    options = _options(reconnect=Backoff(initial=60, maximum=60), on_status=told.put_nowait)
    given: list[Link] = []
    connection = Connection(options, lambda delivery: None, given.append)
    running = asyncio.create_task(connection.run())
    try:
        async with asyncio.timeout(5):
            assert await told.get() == StatusChange(status=Status.RECONNECTING, reason="the connection ended")
        assert connection.current is None
        assert given == []
    finally:
        running.cancel()
        await asyncio.wait({running})


def _without_pause(attempts: asyncio.Queue[int]) -> Backoff:
    """Tells which attempts it was asked for."""

    class Told(Backoff):
        def delay(self, attempt: int, jitter: Callable[[], float], *, at_least: float = 0.0) -> float:
            attempts.put_nowait(attempt)
            return at_least

    return Told(initial=1, maximum=1)


async def test_pauses_grow_where_every_attempt_fails_after_a_long_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def open_link(options: MessagingClientOptions, token: str) -> Link:
        raise LinkLost("no answer")

    monkeypatch.setattr(connection_module, "open_link", open_link)
    # Any time at all is a long one.
    monkeypatch.setattr(connection_module, "_STABLE_SECONDS", 0.0)
    attempts: asyncio.Queue[int] = asyncio.Queue()
    options = _options(reconnect=_without_pause(attempts))
    connection = Connection(options, lambda delivery: None, lambda link: None)
    running = asyncio.create_task(connection.run())
    try:
        async with asyncio.timeout(5):
            assert [await attempts.get() for _ in range(4)] == [0, 1, 2, 3]
    finally:
        running.cancel()
        await asyncio.wait({running})
