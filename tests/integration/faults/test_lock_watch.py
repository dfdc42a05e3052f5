"""The lock watch beside sessions that keep others out."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from tests.faults.lock_watch import LockWatch

HELD_S = 0.4


async def hold(url: str, statement: str) -> None:
    """Runs a statement in a transaction that stays open for a while."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(statement)
        await asyncio.sleep(HELD_S)


@pytest.mark.parametrize(
    ("statement", "mode"),
    [
        ("ALTER TABLE message ADD COLUMN x int", "AccessExclusiveLock"),
        ("CREATE INDEX x ON message (created_at)", "ShareLock"),
    ],
)
async def test_it_sees_who_keeps_writers_out_and_who_waits(
    database_url: str, statement: str, mode: str
) -> None:
    async with LockWatch(database_url).watching() as watch:
        holding = asyncio.create_task(hold(database_url, statement))
        await asyncio.sleep(HELD_S / 4)
        async with await psycopg.AsyncConnection.connect(database_url) as writer:
            await writer.execute("UPDATE message SET text = ''")
        await holding
    assert HELD_S / 2 < watch.longest_held < HELD_S * 5
    assert watch.held_by == f"{mode} on message"
    assert HELD_S / 4 < watch.longest_wait < HELD_S * 5


async def test_ordinary_writers_and_concurrent_indexes_keep_nobody_out(database_url: str) -> None:
    async with LockWatch(database_url).watching() as watch:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            await connection.execute("CREATE INDEX CONCURRENTLY x ON message (created_at)")
        await hold(database_url, "UPDATE message SET text = ''")
        before = watch.polls
        while watch.polls < before + 2:
            await asyncio.sleep(0.01)
    assert (watch.longest_held, watch.longest_wait) == (0.0, 0.0)
