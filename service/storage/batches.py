"""Commits batches of messages and marks, one commit each."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psycopg
from psycopg.rows import tuple_row
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from service.domain.ids import ClientMessageId, UserId
from service.domain.message import Draft
from service.domain.receipts import Mark, Position
from service.storage.append import APPEND_STATEMENTS, append_any, append_new, committed
from service.storage.database import Database, translated_errors
from service.storage.fence import Fence
from service.storage.marks import MARK_STATEMENTS, advance
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

_RACES = (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected)


class PostgresBatchWriter:
    """The `BatchWriter` port on PostgreSQL: messages and marks on a connection each.

    So neither waits for the other's commit. What is out of the ordinary goes over the database's pool.
    Commits are made under `fence`: both methods that commit raise `LeaseLost` once it has fallen.
    """

    def __init__(self, database: Database, fence: Fence) -> None:
        self._database = database
        self._fence = fence
        self._appends = database.direct(APPEND_STATEMENTS)
        self._advances = database.direct(MARK_STATEMENTS)
        self._resends_until = 0.0

    def close(self) -> None:
        """Gives the two connections up: the writer of the next lease has its own."""
        for connection in (self._appends, self._advances):
            self._database.give_up(connection)

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

    async def append(self, drafts: Sequence[Draft]) -> Sequence[Committed | None]:
        """See `BatchWriter.append`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        with translated_errors("append"):
            if time.monotonic() >= self._resends_until:
                try:
                    rows = await append_new(self._appends, drafts, self._fence)
                    if rows is not None:
                        return rows
                except (psycopg.errors.IntegrityError, psycopg.errors.DeadlockDetected):
                    self._resends_until = time.monotonic() + _RESENDS_LAST_S
            return await _patient()(self._append_any, drafts)

    async def advance(self, marks: Sequence[Mark]) -> Sequence[Position | None]:
        """See `BatchWriter.advance`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        with translated_errors("advance"):
            return await _patient()(advance, self._advances, marks, self._fence)

    async def _append_any(self, drafts: Sequence[Draft]) -> Sequence[Committed | None]:
        async with self._database.connection() as connection:
            return await append_any(connection, drafts, self._fence)


def _patient() -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception_type(_RACES), stop=stop_after_attempt(_ATTEMPTS), reraise=True
    )
