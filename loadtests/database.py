"""What the database holds, asked beside the service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

import psycopg


async def count_messages(database_url: str, *, without: Sequence[str] = ()) -> int:
    """All messages, by the last positions of their conversations, in which there are no gaps.

    Conversations of the users in `without` do not count.
    """
    statement: LiteralString = """
        SELECT coalesce(sum(last_seq), 0)::bigint FROM conversation
        WHERE id NOT IN (SELECT conversation_id FROM participant WHERE user_id = ANY(%s))
    """
    return await _number(database_url, statement, list(without))


async def count_messages_of(database_url: str, sender: str) -> int:
    """The messages that one user wrote."""
    return await _number(database_url, "SELECT count(*) FROM message WHERE sender_id = %s", sender)


async def _number(database_url: str, statement: LiteralString, *parameters: object) -> int:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        cursor = await connection.execute(statement, parameters)
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])
