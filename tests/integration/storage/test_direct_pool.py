"""Several directly driven connections, of which one is used while all statements are quick."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from service.storage import direct
from service.storage.arrays import Packed
from service.storage.direct import DirectConnection, DirectPool
from tests.integration.storage.direct_statements import STATEMENTS


@pytest_asyncio.fixture
async def pool_of(database_url: str) -> AsyncIterator[Callable[[int], DirectPool]]:
    """Makes a pool of so many connections."""
    made: list[DirectConnection] = []

    def make(size: int) -> DirectPool:
        made.extend(DirectConnection(database_url, STATEMENTS, connect={}) for _ in range(size))
        return DirectPool(made)

    yield make
    for connection in made:
        connection.close()


async def test_a_pool_goes_on_beside_a_slow_statement_and_uses_one_connection_for_quick_ones(
    pool_of: Callable[[int], DirectPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(2)
    monkeypatch.setattr(direct, "_QUICK_S", 60.0)
    quick = await asyncio.gather(*(pool.execute("whoami", []) for _ in range(20)))
    assert len({process_id for ((process_id,),) in quick}) == 1
    monkeypatch.setattr(direct, "_QUICK_S", 0.005)
    sleeping = asyncio.create_task(pool.execute("sleep", [Packed(b"30")]))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        beside = await asyncio.gather(*(pool.execute("whoami", []) for _ in range(20)))
    assert not sleeping.done()
    assert len({process_id for ((process_id,),) in beside}) == 1
    sleeping.cancel()
    await asyncio.wait([sleeping])


async def test_a_pool_whose_connections_are_all_slow_goes_on_with_the_first_that_is_free(
    pool_of: Callable[[int], DirectPool],
) -> None:
    pool = pool_of(2)
    slow = asyncio.create_task(pool.execute("sleep", [Packed(b"0.3")]))
    slower = asyncio.create_task(pool.execute("sleep", [Packed(b"30")]))
    behind = [asyncio.create_task(pool.execute("whoami", [])) for _ in range(5)]
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*behind)
    assert slow.done()
    assert not slower.done()
    assert len({process_id for ((process_id,),) in answers}) == 1
    slower.cancel()
    await asyncio.wait([slower])


async def test_whoever_gives_up_its_place_in_a_pool_leaves_it_to_the_next(
    pool_of: Callable[[int], DirectPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(1)
    monkeypatch.setattr(direct, "_QUICK_S", 60.0)
    first = asyncio.create_task(pool.execute("sleep", [Packed(b"30")]))
    second = asyncio.create_task(pool.execute("sleep", [Packed(b"30")]))
    third = asyncio.create_task(pool.execute("echo", [Packed(b"third")]))
    await asyncio.sleep(0)
    second.cancel()
    first.cancel()
    async with asyncio.timeout(7):
        assert await third == [("third",)]
