"""A standby stores who is invisible, however long the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.domain.ids import UserId
from service.domain.presence import PresenceState
from service.use_cases.hide_presence import HidePresence
from service.use_cases.presence_ports import SessionReport
from tests.contract.presence.in_memory import MemoryPresence
from tests.fakes import MemoryPreferences

ALICE, BOB = UserId("alice"), UserId("bob")


class Store(MemoryPresence):
    refused = 0

    def _check(self) -> None:
        self.refused += self.is_down
        super()._check()


class World:
    """Alice and Bob are here."""

    def __init__(self) -> None:
        self.store = Store(lease=60.0, retry=5.0, wall_clock=lambda: 1_800_000_000.0)
        self.preferences = MemoryPreferences()
        self.hide = HidePresence(self.store, self.preferences, pause=0.01)

    async def change(self, user: UserId, *, invisible: bool) -> None:
        await self.preferences.change(user, read_receipts=None, invisible=invisible)
        self.hide.preferences_changed(user)

    async def are_hidden(self, *users: UserId) -> list[bool | None]:
        outlooks = await self.store.look_up(users)
        return [outlooks[user].is_hidden for user in users]

    async def until(self, *hidden: bool) -> None:
        async with asyncio.timeout(5):
            while await self.are_hidden(ALICE, BOB) != list(hidden):
                await asyncio.sleep(0.001)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.store.report(
        [SessionReport(user_id=user, session_id="s", state=PresenceState.ONLINE) for user in (ALICE, BOB)]
    )
    yield world
    await world.hide.aclose(1.0)


async def test_what_changes_is_stored(world: World) -> None:
    await world.change(ALICE, invisible=True)
    await world.change(BOB, invisible=False)
    await world.until(True, False)
    await world.change(ALICE, invisible=False)
    await world.until(False, False)


async def test_what_cannot_be_stored_is_stored_when_the_store_is_back(world: World) -> None:
    world.store.is_down = True
    await world.change(ALICE, invisible=True)
    await world.change(BOB, invisible=True)
    await world.change(BOB, invisible=False)
    async with asyncio.timeout(5):
        while world.store.refused < 5:
            await asyncio.sleep(0.001)
    world.store.is_down = False
    await world.until(True, False)


async def test_closing_stores_what_is_left(world: World) -> None:
    await world.change(ALICE, invisible=True)
    await world.hide.aclose(5.0)
    assert await world.are_hidden(ALICE) == [True]


async def test_closing_does_not_wait_for_a_store_that_stays_away(world: World) -> None:
    world.store.is_down = True
    await world.change(ALICE, invisible=True)
    await asyncio.wait_for(world.hide.aclose(0.02), 5)
    world.store.is_down = False
    assert await world.are_hidden(ALICE) == [None]
