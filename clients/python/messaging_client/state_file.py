"""What survives a restart of the application: unanswered commands and positions, in one SQLite file.

Every change is one transaction that is on the disk when the call returns.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

_SCHEMA = """
CREATE TABLE IF NOT EXISTS owner (client_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS command (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    place TEXT NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS position (conversation_id TEXT PRIMARY KEY, seq INTEGER NOT NULL);
"""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCommand:
    """A command that was not answered yet."""

    key: str
    """Its `clientMessageId` or `requestId`."""
    name: str
    place: str
    """Which lane it goes through."""
    payload: bytes


class StateFile:
    """The file of one device; held exclusively while it is open."""

    def __init__(self, path: Path, client_id: str) -> None:
        self._path = path
        self._client_id = client_id
        # One thread: calls take effect in the order in which they were made.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="messaging-client-state")
        self._database: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Raises `ValueError` when the file is another device's, `sqlite3.Error` when it cannot be used."""
        try:
            await self._call(self._open)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Waits for what was begun; does nothing the second time."""
        await asyncio.to_thread(self._thread.shutdown)
        if self._database is not None:
            self._database.close()
            self._database = None

    async def add(self, command: StoredCommand) -> None:
        """Keeps a command until `remove`; one that is there already stays as it is."""
        await self._write(
            "INSERT OR IGNORE INTO command (key, name, place, payload) VALUES (?, ?, ?, ?)",
            [(command.key, command.name, command.place, command.payload)],
        )

    async def remove(self, key: str) -> None:
        """The command was answered."""
        await self._write("DELETE FROM command WHERE key = ?", [(key,)])

    async def commands(self) -> list[StoredCommand]:
        """All unanswered commands, in the order in which they were added."""
        rows = await self._read("SELECT key, name, place, payload FROM command ORDER BY number")
        return [StoredCommand(key=row[0], name=row[1], place=row[2], payload=row[3]) for row in rows]

    async def save_positions(self, positions: Mapping[str, int]) -> None:
        """Keeps how far conversations were handed to the application; positions only grow."""
        await self._write(
            "INSERT INTO position VALUES (?, ?) ON CONFLICT (conversation_id) DO UPDATE"
            " SET seq = max(seq, excluded.seq)",
            list(positions.items()),
        )

    async def positions(self) -> dict[str, int]:
        """By conversation."""
        return dict(await self._read("SELECT conversation_id, seq FROM position"))

    def _open(self) -> None:
        self._database = sqlite3.connect(self._path, check_same_thread=False)
        with self._database as database:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(_SCHEMA)
            owner = database.execute("SELECT client_id FROM owner").fetchone()
            if owner is None:
                database.execute("INSERT INTO owner VALUES (?)", (self._client_id,))
            elif owner[0] != self._client_id:
                raise ValueError("the state file is another device's")

    async def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        def write() -> None:
            with self._opened as database:
                database.executemany(statement, rows)

        await self._call(write)

    async def _read(self, query: str) -> list[Any]:
        return await self._call(lambda: self._opened.execute(query).fetchall())

    @property
    def _opened(self) -> sqlite3.Connection:
        assert self._database is not None, "the state file is not open"
        return self._database

    async def _call(self, function: Callable[[], _Result]) -> _Result:
        # Shielded: a caller who stops waiting does not undo what was queued.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, function))
