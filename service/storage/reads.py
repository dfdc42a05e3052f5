"""Reads for history and lists: one statement a page, keyset only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from psycopg.rows import tuple_row
from psycopg.types.numeric import Int8

from service.domain.conversation import Conversation, Kind
from service.domain.ids import ClientMessageId, ConversationId, MessageId, UserId
from service.domain.message import Message
from service.domain.receipts import Positions
from service.storage.arrays import Packed, packed_bigint
from service.storage.database import Database, translated_errors
from service.use_cases.ports import ConversationSummary, Direction, HistoryMessage, HistoryPage

_MAX_SEQ = 2**63 - 1
_MAX_ACTIVITY = UUID(int=2**128 - 1)

# The participants' positions come in front of the messages, in the same
# columns (user_id as sender_id, the positions as text) and with an id of NULL:
# one statement and one snapshot, and no join for each message.
#
# Doubles hold the microseconds of our time exactly, and extract() would
# compute with numeric.
#
# The planner must not know the limit. Where its statistics are older than a
# conversation, it takes the conversation for shorter than a page, and then
# would read and sort all of it; an unknown limit makes it walk the index.
_HISTORY = """
SELECT 0::bigint, NULL::text, user_id, NULL::text, concat_ws(' ', delivered_seq, read_seq, shown_read_seq),
       0::bigint
FROM participant
WHERE conversation_id = $1::uuid
UNION ALL
(SELECT seq, id::text, sender_id, client_message_id::text, text,
        (date_part('epoch', created_at) * 1000000)::bigint
 FROM message
 WHERE conversation_id = $1::uuid AND seq {beyond} $2::bigint
 ORDER BY seq {order}
 LIMIT (SELECT $3::bigint))
"""

_HISTORIES: Mapping[str, str] = {
    Direction.OLDER: _HISTORY.format(beyond="<", order="DESC"),
    Direction.NEWER: _HISTORY.format(beyond=">", order="ASC"),
}
_HISTORY_CONNECTIONS = 4
"""One is used while pages are in memory, the others beside pages that come from the disk."""

# Which conversations are on the page is settled before their last messages
# and unread counts are looked up, so that only theirs are. Counting walks so
# many positions at most, whatever a user has not read: it is done by each list.
_SUMMARIES = """
WITH page AS MATERIALIZED (
    SELECT c.id, c.kind, c.created_at, c.activity_id, c.last_seq,
           me.delivered_seq AS my_delivered_seq, me.read_seq AS my_read_seq,
           me.shown_read_seq AS my_shown_read_seq,
           other.user_id AS other_id, other.delivered_seq AS other_delivered_seq,
           other.read_seq AS other_read_seq, other.shown_read_seq AS other_shown_read_seq
    FROM participant AS me
    JOIN conversation AS c ON c.id = me.conversation_id
    JOIN participant AS other ON other.conversation_id = c.id AND other.user_id <> me.user_id
    WHERE me.user_id = %(user)b {condition}
    ORDER BY c.activity_id DESC
    LIMIT %(limit)b
)
SELECT page.*, unread.messages,
       last.id, last.seq, last.sender_id, last.client_message_id, last.text, last.created_at
FROM page
CROSS JOIN LATERAL (
    SELECT count(*) AS messages
    FROM message AS m
    WHERE m.conversation_id = page.id AND m.seq > greatest(page.my_read_seq, page.last_seq - {counted})
      AND m.sender_id = page.other_id
) AS unread
LEFT JOIN LATERAL (
    SELECT m.id, m.seq, m.sender_id, m.client_message_id, m.text, m.created_at
    FROM message AS m
    WHERE m.conversation_id = page.id
    ORDER BY m.seq DESC
    LIMIT 1
) AS last ON true
ORDER BY page.activity_id DESC
"""

_COUNTED = 1_000
"""The newest positions of a conversation, among which unread messages are counted."""

_LIST = _SUMMARIES.format(condition="AND c.activity_id < %(before)b", counted=_COUNTED)
_ONE = _SUMMARIES.format(condition="AND me.conversation_id = %(conversation_id)b", counted=_COUNTED)


class PostgresConversationReader:
    """The `ConversationReader` port on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._histories = database.direct_pool(_HISTORIES, _HISTORY_CONNECTIONS)
        self._places = asyncio.Semaphore(max(1, database.size // 2))
        """Half of the pool: the rest is for those on whom messages wait."""

    async def history(
        self, conversation_id: ConversationId, *, limit: int, direction: Direction, after_seq: int | None
    ) -> HistoryPage:
        """See `ConversationReader.history`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        end = _MAX_SEQ if direction is Direction.OLDER else 0
        parameters = (
            Packed(conversation_id.bytes),
            packed_bigint(end if after_seq is None else after_seq),
            # One more than asked for tells whether another page follows.
            packed_bigint(limit + 1),
        )
        with translated_errors("history"):
            rows = await self._histories.execute(direction, parameters, _message_row)
        positions = {
            row.sender_id: _positions(*map(int, row.text.split())) for row in rows[:2] if row.id is None
        }
        first, end_of_page = len(positions), len(positions) + limit
        return HistoryPage(
            messages=rows[first:end_of_page], positions=positions, has_more=len(rows) > end_of_page
        )

    async def summaries(
        self, user: UserId, *, limit: int, before: UUID | None
    ) -> Sequence[ConversationSummary]:
        """See `ConversationReader.summaries`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        parameters = {"user": user, "before": before or _MAX_ACTIVITY, "limit": Int8(limit)}
        return [_summary(user, row) for row in await self._rows("summaries", _LIST, parameters)]

    async def summary(self, user: UserId, conversation_id: ConversationId) -> ConversationSummary | None:
        """See `ConversationReader.summary`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        parameters = {"user": user, "conversation_id": conversation_id, "limit": Int8(1)}
        rows = await self._rows("summary", _ONE, parameters)
        return _summary(user, rows[0]) if rows else None

    async def _rows(
        self, operation: str, statement: str, parameters: Mapping[str, object]
    ) -> list[tuple[Any, ...]]:
        """All rows of a prepared statement, in the binary format: it is the cheaper one to read."""
        with translated_errors(operation):
            async with (
                self._places,
                self._database.connection() as connection,
                connection.cursor(binary=True, row_factory=tuple_row) as cursor,
            ):
                await cursor.execute(statement, parameters, prepare=True)
                return await cursor.fetchall()


# What HistoryMessage._make does, without a Python frame for each row.
_message_row: Callable[[Sequence[Any]], HistoryMessage] = partial(tuple.__new__, HistoryMessage)


def _summary(user: UserId, row: tuple[Any, ...]) -> ConversationSummary:
    id_, kind, created_at, activity_id, last_seq, *mine, other_id = row[:9]
    other, unread_count = UserId(other_id), row[12]
    first, second = sorted((user, other))
    return ConversationSummary(
        conversation=Conversation(id=ConversationId(id_), kind=Kind(kind), participants=(first, second)),
        created_at=created_at,
        activity_id=activity_id,
        last_seq=last_seq,
        last_message=_last_message(ConversationId(id_), row[13:]),
        positions={user: _positions(*mine), other: _positions(*row[9:12])},
        unread_count=unread_count,
    )


def _positions(delivered_seq: int, read_seq: int, shown_read_seq: int) -> Positions:
    return Positions(delivered_seq=delivered_seq, read_seq=read_seq, shown_read_seq=shown_read_seq)


def _last_message(conversation_id: ConversationId, row: tuple[Any, ...]) -> Message | None:
    id_, seq, sender_id, client_message_id, text, created_at = row
    if id_ is None:
        return None
    return Message(
        id=MessageId(id_),
        conversation_id=conversation_id,
        seq=seq,
        sender_id=UserId(sender_id),
        client_message_id=ClientMessageId(client_message_id),
        text=text,
        created_at=created_at,
    )
