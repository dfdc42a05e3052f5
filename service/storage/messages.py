"""Commits batches: one statement appends all messages, one moves all positions, one commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.rows import tuple_row
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from service.domain.ids import ClientMessageId, UserId
from service.domain.message import Draft
from service.domain.receipts import Mark, Position
from service.storage.database import Database, translated_errors
from service.storage.marks import advance
from service.use_cases.ports import Committed

# The conversations are locked in id order, so that two instances cannot
# deadlock, and positions come from the locked rows. A key that is already in
# history is left out of the numbering and answered with its row. A key that
# another instance commits between this statement's snapshot and its lock
# violates the unique index: the statement rolls back whole, no position is
# lost, and the next attempt sees the row.
_APPEND = """
WITH batch AS (
    SELECT *
    FROM unnest(%b::uuid[], %b::uuid[], %b::text[], %b::uuid[], %b::bytea[], %b::text[])
         WITH ORDINALITY
         AS b (message_id, conversation_id, sender_id, client_message_id, body_hash, text, place)
), locked AS MATERIALIZED (
    SELECT id, last_seq FROM conversation WHERE id = ANY (%b::uuid[]) ORDER BY id FOR UPDATE
), found AS MATERIALIZED (
    SELECT m.id, m.conversation_id, m.seq, m.sender_id, m.client_message_id, m.body_hash, m.created_at
    FROM batch AS b
    JOIN message AS m ON m.sender_id = b.sender_id AND m.client_message_id = b.client_message_id
), numbered AS MATERIALIZED (
    SELECT b.*,
           l.last_seq + row_number() OVER (PARTITION BY b.conversation_id ORDER BY b.place) AS seq
    FROM batch AS b
    JOIN locked AS l ON l.id = b.conversation_id
    WHERE NOT EXISTS (
        SELECT FROM found AS f
        WHERE f.sender_id = b.sender_id AND f.client_message_id = b.client_message_id
    )
), advanced AS (
    UPDATE conversation AS c
    SET last_seq = n.seq, activity_id = greatest(c.activity_id, n.message_id)
    FROM (
        SELECT DISTINCT ON (conversation_id) conversation_id, seq, message_id
        FROM numbered
        ORDER BY conversation_id, seq DESC
    ) AS n
    WHERE c.id = n.conversation_id
), inserted AS (
    INSERT INTO message
        (id, conversation_id, seq, sender_id, client_message_id, body_hash, text, created_at)
    SELECT message_id, conversation_id, seq, sender_id, client_message_id, body_hash, text,
           statement_timestamp()
    FROM numbered
    RETURNING id, conversation_id, seq, sender_id, client_message_id, body_hash, created_at
)
SELECT * FROM inserted
UNION ALL
SELECT * FROM found
"""

_FIND = """
SELECT id, conversation_id, seq, sender_id, client_message_id, body_hash, created_at
FROM message
WHERE sender_id = %b AND client_message_id = %b
"""

_ATTEMPTS = 4
"""A second attempt settles a race of two instances for one key; more is luck."""


class PostgresBatchWriter:
    """The `BatchWriter` port on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, sender: UserId, key: ClientMessageId) -> Committed | None:
        """See `BatchWriter.find`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        with translated_errors("find"):
            async with (
                self._database.connection() as connection,
                connection.cursor(binary=True, row_factory=tuple_row) as cursor,
            ):
                await cursor.execute(_FIND, (sender, key))
                row = await cursor.fetchone()
        return None if row is None else _committed(row)

    async def commit(
        self, drafts: Sequence[Draft], marks: Sequence[Mark]
    ) -> tuple[Sequence[Committed | None], Sequence[Position | None]]:
        """See `BatchWriter.commit`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        races = retry_if_exception_type((psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected))
        patient = AsyncRetrying(retry=races, stop=stop_after_attempt(_ATTEMPTS), reraise=True)
        with translated_errors("commit"):
            return await patient(self._commit, drafts, marks)

    async def _commit(
        self, drafts: Sequence[Draft], marks: Sequence[Mark]
    ) -> tuple[Sequence[Committed | None], Sequence[Position | None]]:
        async with self._database.connection() as connection:
            # A statement alone is its own transaction and saves two round trips.
            if not marks:
                return await _append(connection, drafts), ()
            if not drafts:
                return (), await advance(connection, marks)
            async with connection.transaction():
                return await _append(connection, drafts), await advance(connection, marks)


async def _append(
    connection: psycopg.AsyncConnection[Any], drafts: Sequence[Draft]
) -> Sequence[Committed | None]:
    parameters = (
        [draft.id for draft in drafts],
        [draft.conversation_id for draft in drafts],
        [draft.sender_id for draft in drafts],
        [draft.client_message_id for draft in drafts],
        [draft.body_hash for draft in drafts],
        [draft.text for draft in drafts],
        list({draft.conversation_id for draft in drafts}),
    )
    async with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        await cursor.execute(_APPEND, parameters)
        rows = await cursor.fetchall()
    found = {(row[3], row[4]): _committed(row) for row in rows}
    return [found.get(draft.key) for draft in drafts]


def _committed(row: tuple[Any, ...]) -> Committed:
    id_, conversation, seq, _, _, body_hash, created_at = row
    return Committed(
        id=id_, conversation_id=conversation, seq=seq, body_hash=body_hash, created_at=created_at
    )
