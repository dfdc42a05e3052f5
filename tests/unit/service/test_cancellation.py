"""A cancellation that comes when a wait has just ended, as a socket's may at any time."""

from __future__ import annotations

import asyncio

import pytest

from service.cancellation import notice_cancellation


async def test_a_cancellation_in_the_moment_in_which_a_wait_ends_is_not_lost() -> None:
    ready = asyncio.Event()
    lived_on = False

    async def wait() -> None:
        nonlocal lived_on
        await asyncio.wait_for(ready.wait(), 60)
        notice_cancellation()
        lived_on = True

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ready.set()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lived_on


async def test_who_was_not_cancelled_goes_on() -> None:
    notice_cancellation()


async def test_a_timeout_of_ones_own_stays_a_timeout() -> None:
    async def work() -> None:
        async with asyncio.timeout(0) as limit:
            while not limit.expired():
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:  # As a library does that drops it.
                    notice_cancellation()

    with pytest.raises(TimeoutError):
        await work()
