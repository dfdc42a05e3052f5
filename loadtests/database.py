"""What the database holds, asked beside the service."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg


@dataclass(frozen=True, slots=True)
class Counted:
    """Rows in the database."""

    messages: int

    def __sub__(self, other: Counted) -> Counted:
        """What came after `other` was counted."""
        return Counted(self.messages - other.messages)


async def count_messages(database_url: str) -> Counted:
    """Counts all messages by their conversations' last position, which no gap can be in."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        cursor = await connection.execute("SELECT coalesce(sum(last_seq), 0)::bigint FROM conversation")
        row = await cursor.fetchone()
    assert row is not None
    return Counted(int(row[0]))
