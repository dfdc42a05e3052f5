"""How long anybody was kept out of a table: relation locks that block writers, and waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg

_POLL_S = 0.02

# pg_locks has no moment at which a lock was granted: who polls has to remember.
_LOCKS = """
SELECT l.pid, l.virtualtransaction, c.relname, l.mode, l.granted,
       coalesce(extract(epoch FROM clock_timestamp() - l.waitstart), 0)::float8
FROM pg_locks AS l
JOIN pg_class AS c ON c.oid = l.relation
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE l.locktype = 'relation'
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND n.nspname = 'public' AND c.relkind = 'r'
  AND (
      NOT l.granted
      OR l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  )
"""


class LockWatch:
    """What was seen while `watching` ran; times are in seconds and exact to the polls' distance."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.longest_held = 0.0
        """That any one lock which blocks writers was held."""
        self.longest_wait = 0.0
        """That anybody waited for a lock on a table."""
        self.held_by = ""
        """Table and mode of the longest."""
        self.polls = 0
        self._since: dict[tuple[object, ...], float] = {}

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[LockWatch]:
        """Looks on while the block runs; raises what went wrong with that."""
        connection = await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, application_name="lock-watch"
        )
        async with connection:
            watching = asyncio.create_task(self._watch(connection), name="lock-watch")
            try:
                yield self
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching

    async def _watch(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            rows = await (await connection.execute(_LOCKS, prepare=True)).fetchall()
            self._take(rows, time.monotonic())
            await asyncio.sleep(_POLL_S)

    def _take(self, rows: list[tuple[Any, ...]], now: float) -> None:
        self.polls += 1
        held: dict[tuple[object, ...], float] = {}
        for pid, transaction, table, mode, is_granted, waited in rows:
            if not is_granted:
                self.longest_wait = max(self.longest_wait, waited)
                continue
            lock = (pid, transaction, table, mode)
            held[lock] = self._since.get(lock, now)
            if now - held[lock] > self.longest_held:
                self.longest_held, self.held_by = now - held[lock], f"{mode} on {table}"
        self._since = held
