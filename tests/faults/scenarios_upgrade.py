"""New versions, new schemas, and a backup that is needed: nobody has to stop for them."""

from __future__ import annotations

import asyncio
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import psycopg

from devstack.ports import free_port
from devstack.python_server import PythonServer
from tests.faults import previous_version
from tests.faults.arena import Arena
from tests.faults.disks import run
from tests.faults.lock_watch import LockWatch
from tests.faults.scenario import Scenario
from tests.faults.servers import ServiceInstance

_LONGEST_LOCK_S = 2.0
_GETS_THROUGH_S = 20.0
_NEXT_SCHEMA = Path(__file__).parent / "next_schema"

_FILL = """
INSERT INTO message (id, conversation_id, seq, sender_id, client_message_id, body_hash, text, created_at)
SELECT gen_random_uuid(), md5('bulk' || n / 1000)::uuid, n %% 1000 + 1, 'bulk', gen_random_uuid(),
       '\\x00', repeat('x', 100), now() - n * interval '1 second'
FROM generate_series(%s::int, %s::int) AS n
"""
_FILLED_AT_ONCE = 50_000


async def two_versions(arena: Arena) -> None:
    """Old, both, old on the new schema, both, new: a rolling upgrade, one taken back, and another."""
    old, new = arena.service, _successor(arena)
    before = await asyncio.to_thread(_migrations, arena.servers.database_url)
    async with LockWatch(arena.servers.database_url).watching() as watch:
        # It migrates first, while the old one goes on.
        await arena.start(new.process)
        await arena.pause(_seconds(arena))
    _judge_locks(arena, watch)
    after = await asyncio.to_thread(_migrations, arena.servers.database_url)
    if after != before + 1:
        raise RuntimeError(f"{before} migrations before and {after} after are no adjacent versions")
    await arena.terminate(new.process)
    await _everybody_gets_through(arena, "with the old version on the new schema")
    await arena.start(new.process)
    await arena.terminate(old.process)
    await _everybody_gets_through(arena, "with the new version")
    old.process.program = replace(new.process.program, port=old.http_port, settings=_without_history(old))
    await arena.start(old.process)
    await arena.terminate(new.process)


async def next_migration(arena: Arena) -> None:
    """A larger table is migrated while everybody writes to it; the service of before it goes on with it."""
    rows = 200_000 if arena.short else 2_000_000
    await asyncio.to_thread(_fill, arena.servers.database_url, rows)
    arena.measure("rows before the migration", rows)
    folder = _schema_with_next(arena.folder)
    async with LockWatch(arena.servers.database_url).watching() as watch:
        arena.ledger.fault("migration")
        await asyncio.to_thread(_migrate, arena.servers.database_url, folder)
        arena.ledger.fault("migrated")
        await arena.pause(1.0)
    _judge_locks(arena, watch)
    await _everybody_gets_through(arena, "after the migration")


def _successor(arena: Arena) -> ServiceInstance:
    """A process of this version beside the one that runs; it does not run yet."""
    before = arena.service
    grpc_port, http_port = free_port(), free_port()
    settings = _without_history(before) | {
        "MESSAGING_GRPC_PORT": str(grpc_port),
        "MESSAGING_HTTP_PORT": str(http_port),
    }
    program = replace(before.process.program, port=http_port, settings=settings)
    process = PythonServer(program, arena.folder / "logs" / "service-new.log")
    return ServiceInstance(process=process, grpc_port=grpc_port, http_port=http_port)


def _without_history(instance: ServiceInstance) -> dict[str, str]:
    settings = instance.process.program.settings
    return {name: value for name, value in settings.items() if name not in previous_version.SETTINGS}


def _judge_locks(arena: Arena, watch: LockWatch) -> None:
    arena.measure("ms that a migration kept writers out", round(watch.longest_held * 1_000))
    if max(watch.longest_held, watch.longest_wait) > _LONGEST_LOCK_S:
        arena.violate(
            "I7",
            f"a migration held {watch.held_by} for {watch.longest_held:.1f} s,"
            f" and somebody waited {watch.longest_wait:.1f} s",
        )


async def _everybody_gets_through(arena: Arena, when: str) -> None:
    began = arena.ledger.now()
    await arena.until(
        lambda: not arena.load.not_recovered(began), _GETS_THROUGH_S, f"everybody gets through {when}"
    )


def _seconds(arena: Arena) -> float:
    return 3.0 if arena.short else 15.0


def _migrations(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM _yoyo_migration").fetchone()
    assert row is not None
    return int(row[0])


def _fill(url: str, rows: int) -> None:
    """Messages of a conversation that nobody takes part in, a portion a transaction."""
    with psycopg.connect(url, autocommit=True) as connection:
        for first in range(0, rows, _FILLED_AT_ONCE):
            connection.execute(_FILL, (first, min(first + _FILLED_AT_ONCE, rows) - 1))


def _schema_with_next(folder: Path) -> Path:
    """The schema's migrations, and behind them those that may be next."""
    target = folder / "schema"
    shutil.copytree(previous_version.SCHEMA, target)
    before = sorted(target.glob("*.sql"))[-1].stem
    for source in sorted(_NEXT_SCHEMA.glob("*.sql")):
        name = f"{int(before[:4]) + 1:04}.{source.stem}"
        (target / f"{name}.sql").write_text(f"-- depends: {before}\n{source.read_text()}")
        before = name
    return target


def _migrate(url: str, folder: Path) -> None:
    """With the library of the service's own migrations."""
    scheme_of_psycopg_3 = "postgresql+psycopg://" + url.partition("://")[2]
    yoyo = (sys.executable, "-m", "yoyo", "apply", "--no-config-file", "--batch")
    run(*yoyo, "--database", scheme_of_psycopg_3, str(folder))


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="two-versions",
        run=two_versions,
        fault="two adjacent versions and schemas together, upgrade under load, and back",
        settings=previous_version.SETTINGS,
        needs="previous-version",
        alone=True,
    ),
    Scenario(
        name="migration-of-live-table",
        run=next_migration,
        fault="a large table migrated under load",
        alone=True,
    ),
)
