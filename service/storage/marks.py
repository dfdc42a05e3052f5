"""Moves positions forward: one statement for all marks of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.domain.ids import MessageId
from service.domain.receipts import Mark, Position
from service.storage.arrays import BigIntArray, BoolArray, IntArray, TextArray, UuidArray
from service.storage.direct import DirectConnection
from service.storage.fence import Fence

# Participants are locked in the order of their key, so that two instances
# cannot deadlock; what is compared and stored comes from the locked rows.
# `receipt` gets a row for every advance: it keeps the moment of each message
# that a later mark must not overwrite.
#
# The marks of one participant share a group number, and what belongs together
# is put together by the caller: nested loops are all the joins there are here
# (`BY_INDEX`), and over two lists they would cost the product of both lengths.
_ADVANCE = """
WITH aimed AS MATERIALIZED (
    SELECT mark.*, message.seq
    FROM unnest($1::int4[], $2::uuid[], $3::text[],
                $4::uuid[], $5::boolean[])
         WITH ORDINALITY AS mark (member, conversation_id, user_id, message_id, is_read, place)
    JOIN message ON message.id = mark.message_id AND message.conversation_id = mark.conversation_id
    WHERE demand_lease($6::text, $7::int8)
), goal AS (
    SELECT member, conversation_id, user_id,
           max(seq) AS delivered, coalesce(max(seq) FILTER (WHERE is_read), 0) AS read
    FROM aimed
    GROUP BY member, conversation_id, user_id
), locked AS MATERIALIZED (
    SELECT goal.member, p.conversation_id, p.user_id, p.delivered_seq, p.read_seq, p.shown_read_seq,
           goal.delivered, goal.read,
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
)
SELECT member, 0 AS place, delivered_seq, read_seq, delivered, read,
       CASE WHEN shows AND read > read_seq THEN read ELSE shown_read_seq END, reached_at
FROM participation
UNION ALL
SELECT member, place, seq, NULL, NULL, NULL, NULL, NULL FROM aimed
"""

# Where positions are that a mark did not move, and since when.
_LOOK_UP = """
SELECT at.place,
       (SELECT m.id FROM message AS m WHERE m.conversation_id = at.conversation_id AND m.seq = at.seq),
       (SELECT l.created_at FROM receipt AS l
        WHERE l.conversation_id = at.conversation_id AND l.user_id = at.user_id
          AND l.is_read = at.is_read AND l.seq = at.seq)
FROM unnest($1::int4[], $2::uuid[], $3::text[], $4::boolean[],
            $5::int8[]) AS at (place, conversation_id, user_id, is_read, seq)
"""

MARK_STATEMENTS = {"advance": _ADVANCE, "look_up": _LOOK_UP}
"""What `advance` needs prepared."""


@dataclass(slots=True)
class _Participation:
    """A participant's positions before and after a batch."""

    delivered_before: int
    read_before: int
    delivered: int
    read: int
    shown_read: int
    """Up to where others may see it afterwards."""
    reached_at: datetime

    def span(self, is_read: bool) -> tuple[int, int]:
        """The position of one kind, before and after."""
        if is_read:
            return self.read_before, max(self.read_before, self.read)
        return self.delivered_before, max(self.delivered_before, self.delivered)


async def advance(
    connection: DirectConnection, marks: Sequence[Mark], fence: Fence
) -> Sequence[Position | None]:
    """Where every mark's participant stands afterwards; None for a message not in the conversation.

    Of the marks that reach the same new position only the first one `moved` it.
    """
    numbers: dict[tuple[int, str], int] = {}
    members = [numbers.setdefault((mark.conversation_id.int, mark.user_id), len(numbers)) for mark in marks]
    parameters = (
        IntArray(members),
        UuidArray(mark.conversation_id for mark in marks),
        TextArray(mark.user_id for mark in marks),
        UuidArray(mark.message_id for mark in marks),
        BoolArray([mark.is_read for mark in marks]),
        *fence.parameters,
    )
    positions, unmoved = _positions(marks, members, await connection.execute("advance", parameters))
    if unmoved:
        await _look_up(connection, marks, positions, unmoved)
    return positions


def _positions(
    marks: Sequence[Mark], members: Sequence[int], rows: Sequence[tuple[Any, ...]]
) -> tuple[list[Position | None], list[int]]:
    """The positions, and the places of those that are not where their mark points or were there before."""
    participations = {row[0]: _Participation(*row[2:]) for row in rows if not row[1]}
    positions: list[Position | None] = [None] * len(marks)
    movers: set[tuple[int, bool]] = set()
    unmoved: list[int] = []
    for _, place, seq, *_ in sorted((row for row in rows if row[1]), key=lambda row: int(row[1])):
        mark, member = marks[place - 1], members[place - 1]
        participation = participations.get(member)
        if participation is None:
            continue
        before, after = participation.span(mark.is_read)
        moved = after == seq and after > before and (member, mark.is_read) not in movers
        if moved:
            movers.add((member, mark.is_read))
        if after != seq or after == before:
            unmoved.append(place - 1)
        positions[place - 1] = Position(
            message_id=mark.message_id,
            seq=after,
            reached_at=participation.reached_at,
            moved=moved,
            moved_delivered=moved and seq > participation.delivered_before,
            visible=not mark.is_read or after <= participation.shown_read,
        )
    return positions, unmoved


async def _look_up(
    connection: DirectConnection,
    marks: Sequence[Mark],
    positions: Sequence[Position | None],
    places: Sequence[int],
) -> None:
    """Corrects id and moment of the positions at these places.

    It is a statement of its own, so it also sees a position that another
    instance has moved to a message younger than the first one's snapshot.
    """
    there = [(place, marks[place], position) for place in places if (position := positions[place])]
    parameters = (
        IntArray([place for place, _, _ in there]),
        UuidArray(mark.conversation_id for _, mark, _ in there),
        TextArray(mark.user_id for _, mark, _ in there),
        BoolArray([mark.is_read for _, mark, _ in there]),
        BigIntArray([position.seq for _, _, position in there]),
    )
    for place, message_id, reached_at in await connection.execute("look_up", parameters):
        position = positions[place]
        assert position is not None
        position.message_id = MessageId(message_id)
        position.reached_at = reached_at or position.reached_at
