"""Who is to hear of a user's presence, and when users were last seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from service.domain.ids import UserId
from service.storage.database import Database, translated_errors

_COUNTERPARTS = """
SELECT other.user_id
FROM participant AS me
JOIN conversation AS c ON c.id = me.conversation_id
JOIN participant AS other ON other.conversation_id = c.id AND other.user_id <> me.user_id
WHERE me.user_id = %(user)s
ORDER BY c.activity_id DESC
LIMIT %(limit)s
"""

_AMONG = """
SELECT DISTINCT other.user_id
FROM participant AS me
JOIN participant AS other ON other.conversation_id = me.conversation_id AND other.user_id <> me.user_id
WHERE me.user_id = %(user)s AND other.user_id = ANY (%(candidates)s::text[])
"""

_LAST_SEEN = "SELECT user_id, seen_at FROM last_seen WHERE user_id = ANY (%s::text[])"

_RECORD = """
INSERT INTO last_seen AS known (user_id, seen_at)
VALUES (%s, %s)
ON CONFLICT (user_id) DO UPDATE SET seen_at = greatest(known.seen_at, excluded.seen_at)
RETURNING seen_at
"""


class PostgresCounterparts:
    """The `Counterparts` port on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, user: UserId, limit: int) -> Sequence[UserId]:
        """See `Counterparts.of`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        with translated_errors("counterparts"):
            async with self._database.connection() as connection:
                cursor = await connection.execute(_COUNTERPARTS, {"user": user, "limit": limit})
                rows = await cursor.fetchall()
        return list(dict.fromkeys(UserId(other) for (other,) in rows))

    async def among(self, user: UserId, candidates: Sequence[UserId]) -> Sequence[UserId]:
        """See `Counterparts.among`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        with translated_errors("counterparts_among"):
            async with self._database.connection() as connection:
                cursor = await connection.execute(_AMONG, {"user": user, "candidates": list(candidates)})
                found = {other for (other,) in await cursor.fetchall()}
        return [candidate for candidate in candidates if candidate in found]


class PostgresLastSeen:
    """The `LastSeen` port on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, users: Sequence[UserId]) -> Mapping[UserId, datetime]:
        """See `LastSeen.of`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        with translated_errors("last_seen"):
            async with self._database.connection() as connection:
                rows = await (await connection.execute(_LAST_SEEN, (list(users),))).fetchall()
        return {UserId(user): seen_at for user, seen_at in rows}

    async def record(self, user: UserId, at: datetime) -> datetime:
        """See `LastSeen.record`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        with translated_errors("record_last_seen"):
            async with self._database.connection() as connection:
                row = await (await connection.execute(_RECORD, (user, at))).fetchone()
        assert row is not None
        seen_at: datetime = row[0]
        return seen_at
