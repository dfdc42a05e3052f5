"""Moves positions forward: one statement for all marks of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from service.domain.receipts import Mark, Position

# Participants are locked in the order of their key, so that two instances
# cannot deadlock; what is compared and stored comes from the locked rows.
# `receipt` gets a row for every advance: it keeps the moment of each message
# that a later mark must not overwrite.
_ADVANCE = """
WITH mark AS (
    SELECT *
    FROM unnest(%b::uuid[], %b::text[], %b::uuid[], %b::boolean[])
         WITH ORDINALITY AS m (conversation_id, user_id, message_id, is_read, place)
), aimed AS MATERIALIZED (
    SELECT mark.*, message.seq
    FROM mark
    JOIN message ON message.id = mark.message_id AND message.conversation_id = mark.conversation_id
), goal AS (
    SELECT conversation_id, user_id,
           max(seq) AS delivered, coalesce(max(seq) FILTER (WHERE is_read), 0) AS read
    FROM aimed
    GROUP BY conversation_id, user_id
), locked AS MATERIALIZED (
    SELECT p.conversation_id, p.user_id, p.delivered_seq, p.read_seq, goal.delivered, goal.read,
           coalesce((SELECT read_receipts FROM preference WHERE user_id = p.user_id), true) AS shows
    FROM participant AS p
    JOIN goal USING (conversation_id, user_id)
    ORDER BY p.conversation_id, p.user_id
    FOR UPDATE OF p
), participation AS MATERIALIZED (
    -- After the lock, so that moments are in the order of the positions.
    SELECT locked.*, clock_timestamp() AS reached_at
    FROM locked
), moved AS (
    UPDATE participant AS p
    SET delivered_seq = greatest(b.delivered_seq, b.delivered),
        read_seq = greatest(b.read_seq, b.read),
        shown_read_seq = CASE WHEN b.shows AND b.read > b.read_seq THEN b.read ELSE p.shown_read_seq END
    FROM participation AS b
    WHERE p.conversation_id = b.conversation_id AND p.user_id = b.user_id
      AND (b.delivered > b.delivered_seq OR b.read > b.read_seq)
), logged AS (
    INSERT INTO receipt (conversation_id, user_id, is_read, seq, is_shown, created_at)
    SELECT conversation_id, user_id, false, delivered, true, reached_at
    FROM participation WHERE delivered > delivered_seq
    UNION ALL
    SELECT conversation_id, user_id, true, read, shows, reached_at
    FROM participation WHERE read > read_seq
), reached AS (
    SELECT a.place, a.conversation_id, a.user_id, a.is_read,
           CASE WHEN a.is_read THEN b.read_seq ELSE b.delivered_seq END AS before,
           CASE WHEN a.is_read THEN greatest(b.read_seq, b.read)
                               ELSE greatest(b.delivered_seq, b.delivered) END AS after,
           a.seq, NOT a.is_read OR b.shows AS is_shown, b.delivered_seq AS delivered_before, b.reached_at
    FROM aimed AS a
    JOIN participation AS b USING (conversation_id, user_id)
)
SELECT r.place, r.seq, r.before, r.after, at_position.id,
       coalesce(logged_before.created_at, r.reached_at),
       r.delivered_before, r.is_shown
FROM reached AS r
LEFT JOIN message AS at_position
       ON at_position.conversation_id = r.conversation_id AND at_position.seq = r.after
LEFT JOIN receipt AS logged_before
       ON logged_before.conversation_id = r.conversation_id AND logged_before.user_id = r.user_id
      AND logged_before.is_read = r.is_read AND logged_before.seq = r.after
"""

_MESSAGE_ID = 4
"""Column of the statement's result."""


async def advance(
    connection: psycopg.AsyncConnection[Any], marks: Sequence[Mark]
) -> Sequence[Position | None]:
    """Where every mark's participant stands afterwards; None for a message not in the conversation.

    Of the marks that reach the same new position only the first one `moved` it.
    """
    parameters = (
        [mark.conversation_id for mark in marks],
        [mark.user_id for mark in marks],
        [mark.message_id for mark in marks],
        [mark.is_read for mark in marks],
    )
    async with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        await cursor.execute(_ADVANCE, parameters)
        rows = await cursor.fetchall()
        if any(row[_MESSAGE_ID] is None for row in rows):
            # Another instance has moved a position to a message that is younger than this
            # statement's snapshot; the next statement sees it.
            await cursor.execute(_ADVANCE, parameters)
            seen = {row[0]: row for row in await cursor.fetchall()}
            rows = [seen[row[0]] if row[_MESSAGE_ID] is None else row for row in rows]
    positions: list[Position | None] = [None] * len(marks)
    movers: set[tuple[object, ...]] = set()
    for place, seq, before, after, message_id, reached_at, delivered_before, visible in sorted(rows):
        mark = marks[place - 1]
        mover = (mark.conversation_id, mark.user_id, mark.is_read)
        moved = after == seq and after > before and mover not in movers
        if moved:
            movers.add(mover)
        positions[place - 1] = Position(
            message_id=message_id,
            seq=after,
            reached_at=reached_at,
            moved=moved,
            moved_delivered=moved and seq > delivered_before,
            visible=visible,
        )
    return positions
