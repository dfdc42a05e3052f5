"""The pool of connections, when the server ends them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId
from service.storage.database import Database, translated_errors
from service.storage.reads import PostgresConversationReader

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


async def test_lost_connections_cost_nobody_an_error(database: Database, database_url: str) -> None:
    await fill(database)
    assert await asyncio.to_thread(end_all, database_url) == _SIZE
    await asyncio.gather(*(database.ping() for _ in range(4 * _SIZE)))
    await fill(database)


async def test_slow_lists_leave_connections_to_the_others(database: Database, database_url: str) -> None:
    reader = PostgresConversationReader(database)
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE message")
        lists = [
            asyncio.create_task(reader.summaries(UserId("alice"), limit=10, before=None))
            for _ in range(2 * _SIZE)
        ]
        async with asyncio.timeout(10):
            while _waiting_for_a_lock(database_url) < _SIZE // 2:
                await asyncio.sleep(0.01)
        await asyncio.gather(*(database.ping() for _ in range(4 * _SIZE)))
        assert _waiting_for_a_lock(database_url) == _SIZE // 2
    assert all(not page for page in await asyncio.gather(*lists))


def _waiting_for_a_lock(database_url: str) -> int:
    with psycopg.connect(database_url) as looker:
        found = looker.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
            " WHERE NOT granted AND datname = current_database()"
        ).fetchone()
    assert found is not None
    return int(found[0])


async def test_a_connection_that_is_lost_at_work_is_a_typed_error_and_not_given_again(
    database: Database, database_url: str
) -> None:
    async def sleep() -> None:
        with translated_errors("sleep"):
            async with database.connection() as connection:
                await connection.execute("SELECT pg_sleep(30)")

    sleeping = asyncio.create_task(sleep())
    while not sleeping.done():
        await asyncio.to_thread(end_all, database_url)
    with pytest.raises(Rejected, match="STORAGE_UNAVAILABLE"):
        await sleeping
    for _ in range(2 * _SIZE):
        await database.ping()


@pytest.mark.parametrize("caller_is_gone", [False, True])
async def test_a_server_that_has_stopped_holds_no_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch, *, caller_is_gone: bool
) -> None:
    monkeypatch.setattr("service.storage.database._LONGEST_USE_S", 0.5)
    stopped: list[int] = []

    async def ask() -> None:
        with translated_errors("ask"):
            async with database.connection() as connection:
                stopped.append(connection.info.backend_pid)
                os.kill(stopped[0], signal.SIGSTOP)
                await connection.execute("SELECT 1")

    asking = asyncio.create_task(ask())
    try:
        if caller_is_gone:
            while not stopped:
                await asyncio.sleep(0.01)
            asking.cancel()
        async with asyncio.timeout(4):
            with pytest.raises(asyncio.CancelledError if caller_is_gone else Rejected):
                await asking
            for _ in range(2 * _SIZE):
                await database.ping()
    finally:
        os.kill(stopped[0], signal.SIGCONT)


async def test_a_server_that_only_reads_is_a_typed_error_and_its_connection_not_given_again(
    database_url: str,
) -> None:
    database = Database(database_url, size=1)

    async def create(*, is_read_only: bool) -> None:
        with translated_errors("create"):
            async with database.connection() as connection:
                if is_read_only:
                    await connection.execute("SET default_transaction_read_only = on")
                await connection.execute("CREATE TABLE anything ()")

    await database.open()
    try:
        with pytest.raises(Rejected) as refused:
            await create(is_read_only=True)
        assert refused.value.rejection.code is ErrorCode.STORAGE_UNAVAILABLE
        await create(is_read_only=False)
    finally:
        await database.close()
