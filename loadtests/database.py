"""What the database holds, asked beside the service."""

from __future__ import annotations

import psycopg


async def count_messages(database_url: str) -> int:
    """All messages, by the last positions of their conversations, in which there are no gaps."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        cursor = await connection.execute("SELECT coalesce(sum(last_seq), 0)::bigint FROM conversation")
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def count_messages_of(database_url: str, sender: str) -> int:
    """The messages that one user wrote."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        cursor = await connection.execute("SELECT count(*) FROM message WHERE sender_id = %s", (sender,))
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])
