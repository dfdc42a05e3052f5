"""Commits batches of messages and marks, one commit each."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
from psycopg.rows import tuple_row
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from service.domain.ids import ClientMessageId, UserId
from service.domain.message import Draft
from service.domain.receipts import Mark, Position
from service.storage.append import append_any, append_new, committed
from service.storage.database import Database, translated_errors
from service.storage.marks import advance
from service.use_cases.ports import Committed

_FIND = """
SELECT id, conversation_id, seq, sender_id, client_message_id, body_hash, created_at
FROM message
WHERE sender_id = %b AND client_message_id = %b
"""

_ATTEMPTS = 4
"""A second attempt settles a race of two instances for one key; more is luck."""

_RESENDS_LAST_S = 1.0
"""Where one client sends again, others do: for so long no batch is taken for new."""

_Append = Callable[[psycopg.AsyncConnection[Any], Sequence[Draft]], Awaitable[Sequence[Committed | None]]]


class PostgresBatchWriter:
    """The `BatchWriter` port on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._resends_until = 0.0

    async def find(self, sender: UserId, key: ClientMessageId) -> Committed | None:
        """See `BatchWriter.find`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        with translated_errors("find"):
            async with (
                self._database.connection() as connection,
                connection.cursor(binary=True, row_factory=tuple_row) as cursor,
            ):
                await cursor.execute(_FIND, (sender, key))
                row = await cursor.fetchone()
        return None if row is None else committed(row)

    async def commit(
        self, drafts: Sequence[Draft], marks: Sequence[Mark]
    ) -> tuple[Sequence[Committed | None], Sequence[Position | None]]:
        """See `BatchWriter.commit`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        with translated_errors("commit"):
            if time.monotonic() >= self._resends_until:
                try:
                    return await self._commit(append_new, drafts, marks)
                except (psycopg.errors.IntegrityError, psycopg.errors.DeadlockDetected):
                    self._resends_until = time.monotonic() + _RESENDS_LAST_S
            races = retry_if_exception_type((psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected))
            patient = AsyncRetrying(retry=races, stop=stop_after_attempt(_ATTEMPTS), reraise=True)
            return await patient(self._commit, append_any, drafts, marks)

    async def _commit(
        self, append: _Append, drafts: Sequence[Draft], marks: Sequence[Mark]
    ) -> tuple[Sequence[Committed | None], Sequence[Position | None]]:
        async with self._database.connection() as connection:
            # A statement alone is its own transaction and saves two round trips.
            if not marks:
                return await append(connection, drafts), ()
            if not drafts:
                return (), await advance(connection, marks)
            async with connection.transaction():
                return await append(connection, drafts), await advance(connection, marks)
