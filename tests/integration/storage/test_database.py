"""The pool of connections, when the server ends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio

from service.domain.errors import Rejected
from service.storage.database import Database

_SIZE = 4


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url, size=_SIZE)
    await made.open()
    yield made
    await made.close()


async def fill(database: Database) -> None:
    """Uses all connections at once, so that all of them lie idle afterwards."""
    together = asyncio.Barrier(_SIZE)

    async def use() -> None:
        async with database.connection():
            await together.wait()

    await asyncio.gather(*(use() for _ in range(_SIZE)))


def end_all(database_url: str) -> int:
    """Ends every session but the caller's; how many there were."""
    with psycopg.connect(database_url, autocommit=True) as killer:
        ended = killer.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    return len(ended)


async def test_lost_connections_cost_one_caller_an_error_and_not_one_each(
    database: Database, database_url: str
) -> None:
    await fill(database)
    assert await asyncio.to_thread(end_all, database_url) == _SIZE
    with pytest.raises(Rejected, match="STORAGE_UNAVAILABLE"):
        await database.ping()
    # All are looked at before anybody else is given one.
    for task in asyncio.all_tasks():
        if task.get_name() == "pool-check":
            await task
    for _ in range(2 * _SIZE):
        await database.ping()
