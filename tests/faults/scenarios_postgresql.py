"""Faults of PostgreSQL: the one place where messages are."""

from __future__ import annotations

import asyncio

import psycopg

from loadtests.processes import resident_bytes
from tests.faults.arena import Arena
from tests.faults.collect import read_one_page
from tests.faults.disks import LoopDisk, SmallDisk
from tests.faults.scenario import Scenario, Storage

_TERMINATE = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE application_name LIKE 'messaging%' AND pid <> pg_backend_pid()"
)
_GROWTH_BYTES = 48 * 2**20
"""What memory may vary by anyway."""


async def backends_killed(arena: Arena) -> None:
    """Every session of the service is ended, again and again."""
    url = arena.servers.database_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for _ in range(6 if arena.short else 40):
            row = await (await connection.execute(_TERMINATE)).fetchone()
            arena.note("backends killed", row[0] if row else 0)
            await arena.pause(arena.random.uniform(0.1, 1.0))


async def killed(arena: Arena) -> None:
    """`kill -9` of the postmaster; it recovers from its log."""
    for _ in range(1 if arena.short else 4):
        await arena.kill(arena.servers.postgresql)
        await arena.pause(arena.random.uniform(0.0, 1.0))
        await arena.start(arena.servers.postgresql)
        await arena.pause(arena.random.uniform(1.0, 3.0))


async def stalled(arena: Arena) -> None:
    """All its processes stand still: connections stay, answers do not come."""
    began = arena.ledger.now()
    suspended = arena.suspend(arena.servers.postgresql)
    try:
        await arena.pause(10.0 if arena.short else 60.0)
    finally:
        arena.resume(suspended)
    _was_explicit(arena, began)


async def exhausted(arena: Arena) -> None:
    """Somebody else takes every connection, just when the service has lost its own."""
    url, began = arena.servers.database_url, arena.ledger.now()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        taken: list[psycopg.AsyncConnection[tuple[object, ...]]] = []
        try:
            deadline = arena.ledger.now() + (5.0 if arena.short else 20.0)
            while arena.ledger.now() < deadline:
                await connection.execute(_TERMINATE)
                arena.note("connections taken", await _take_all(url, taken))
                await arena.pause(0.5)
        finally:
            for each in taken:
                await each.close()
    _was_explicit(arena, began)


async def _take_all(url: str, taken: list[psycopg.AsyncConnection[tuple[object, ...]]]) -> int:
    before = len(taken)
    while True:
        try:
            taken.append(await psycopg.AsyncConnection.connect(url, connect_timeout=2))
        except psycopg.OperationalError:
            return len(taken) - before


async def disk_full(arena: Arena) -> None:
    """Tables cannot grow: senders are told so, readers read, and nothing piles up in memory."""
    disk = arena.servers.disk
    assert isinstance(disk, SmallDisk)
    before, began = resident_bytes(arena.service.process.pid), arena.ledger.now()
    await asyncio.to_thread(disk.fill)
    arena.note("disks filled")
    arena.ledger.fault("disk full")
    try:
        await arena.until(lambda: _refused(arena, began), 15.0, "senders are told that the disk is full")
        for _ in range(3 if arena.short else 30):
            await arena.pause(1.0)
            user = arena.random.choice(list(arena.load.with_conversation()))
            await read_one_page(arena.load, user, arena.service.grpc_target)
            arena.note("pages read meanwhile")
        grown = resident_bytes(arena.service.process.pid) - before
        if grown > _GROWTH_BYTES:
            arena.violate("I7", f"the service grew by {grown / 2**20:.0f} MiB while the disk was full")
    finally:
        await asyncio.to_thread(disk.empty)
    _was_explicit(arena, began)


async def power_lost(arena: Arena) -> None:
    """The disk takes no more writes; what was not forced out is gone when it is mounted again."""
    disk = arena.servers.disk
    assert isinstance(disk, LoopDisk)
    for _ in range(1 if arena.short else 4):
        await asyncio.to_thread(disk.cut_power)
        arena.note("power cuts")
        arena.ledger.fault("power cut")
        await arena.pause(arena.random.uniform(0.0, 0.5))
        await arena.kill(arena.servers.postgresql)
        await asyncio.to_thread(disk.restore_power)
        await arena.start(arena.servers.postgresql)
        await arena.pause(arena.random.uniform(2.0, 4.0))


def _refused(arena: Arena, since: float) -> bool:
    return bool(arena.load.refusals(since=since).get("STORAGE_UNAVAILABLE"))


def _was_explicit(arena: Arena, began: float) -> None:
    """Senders were told to try again, also for want of room behind what waits, and nothing worse."""
    refused = arena.load.refusals(since=began)
    arena.note("told STORAGE_UNAVAILABLE", refused.get("STORAGE_UNAVAILABLE", 0))
    if not arena.combined and set(refused) - {"BUSY"} != {"STORAGE_UNAVAILABLE"}:
        arena.violate("I7", f"senders were told {dict(refused)}, not to try again for the database")


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="postgresql-backends-killed", run=backends_killed, fault="the service's sessions terminated"
    ),
    Scenario(name="postgresql-killed", run=killed, fault="postmaster `kill -9`", controls="postgresql"),
    Scenario(
        name="postgresql-stalled",
        run=stalled,
        fault="all of PostgreSQL's processes SIGSTOP",
        controls="postgresql",
    ),
    Scenario(name="postgresql-exhausted", run=exhausted, fault="every connection taken by somebody else"),
    Scenario(
        name="postgresql-disk-full",
        run=disk_full,
        fault="the tables' disk is full",
        storage=Storage.SMALL_DISK,
        needs="mount",
    ),
    Scenario(
        name="postgresql-power-lost",
        run=power_lost,
        fault="the disk's power is cut (ext4 shut down without a flush)",
        storage=Storage.LOOP_DISK,
        needs="loop",
    ),
)
