"""The pipeline, running, and the users whose presence is told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.unit.use_cases.pipeline_bench import Bench, running
from tests.unit.use_cases.presence_world import BOB, CAROL, ONLINE, World


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    async with running(made):
        yield made


@pytest_asyncio.fixture
async def world() -> World:
    """Bob and Carol are here."""
    world = World()
    await world.says(BOB, ONLINE)
    await world.says(CAROL, ONLINE)
    world.news()
    return world
