"""Commits batches of messages and marks, one commit each."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psycopg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from service.domain.ids import ClientMessageId, UserId
from service.domain.message import Draft
from service.domain.receipts import Mark, Position
from service.storage.append import APPEND_STATEMENTS, append_any, append_new
from service.storage.arrays import Packed
from service.storage.database import Database, translated_errors
from service.storage.fence import Fence
from service.storage.marks import MARK_STATEMENTS, advance
from service.use_cases.ports import Committed

_FINDS = {
    "find": """
        SELECT id, conversation_id, seq, body_hash, created_at
        FROM message
        WHERE sender_id = $1::text AND client_message_id = $2::uuid
    """
}
_FIND_CONNECTIONS = 2
"""Beside those that commit, so that who is no longer connected delays nobody's message."""

_ATTEMPTS = 4
"""A second attempt settles a race of two instances for one key; more is luck."""

_RESENDS_LAST_S = 1.0
"""Where one client sends again, others do: for so long no batch is taken for new."""

_RACES = (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected)


class CommitConnections:
    """Messages and marks have a connection each, so that neither waits for the other's commit.

    And both do not wait for who only looks something up. They outlive a lease: to connect is
    five round trips, and all that the next holder is sent would wait for them.
    """

    def __init__(self, database: Database) -> None:
        self.appends = database.direct(APPEND_STATEMENTS)
        self.advances = database.direct(MARK_STATEMENTS)
        self.finds = database.direct_pool(_FINDS, _FIND_CONNECTIONS)

    def end_tenure(self) -> None:
        """Closes what has owed an answer for long: the next holder's first commit would wait for that."""
        for connection in (self.appends, self.advances):
            connection.close_if_late()


class PostgresBatchWriter:
    """The `BatchWriter` port on PostgreSQL.

    Commits are made under `fence`: both methods that commit raise `LeaseLost` once it has fallen.
    """

    def __init__(self, connections: CommitConnections, fence: Fence) -> None:
        self._connections = connections
        self._fence = fence
        # The broker and clients send again what the holder before has not answered.
        self._resends_until = time.monotonic() + _RESENDS_LAST_S

    async def find(self, sender: UserId, key: ClientMessageId) -> Committed | None:
        """See `BatchWriter.find`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        with translated_errors("find"):
            rows = await self._connections.finds.execute("find", (Packed(sender.encode()), Packed(key.bytes)))
        return Committed(*rows[0]) if rows else None

    async def append(self, drafts: Sequence[Draft]) -> Sequence[Committed | None]:
        """See `BatchWriter.append`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        with translated_errors("append"):
            if time.monotonic() >= self._resends_until:
                try:
                    rows = await append_new(self._connections.appends, drafts, self._fence)
                    if rows is not None:
                        return rows
                except (psycopg.errors.IntegrityError, psycopg.errors.DeadlockDetected):
                    self._resends_until = time.monotonic() + _RESENDS_LAST_S
            return await _patient()(append_any, self._connections.appends, drafts, self._fence)

    async def advance(self, marks: Sequence[Mark]) -> Sequence[Position | None]:
        """See `BatchWriter.advance`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        with translated_errors("advance"):
            return await _patient()(advance, self._connections.advances, marks, self._fence)


def _patient() -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception_type(_RACES), stop=stop_after_attempt(_ATTEMPTS), reraise=True
    )
