"""Appends messages to their conversations: one statement for a whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from service.domain.message import Draft
from service.storage.arrays import ByteaArray, IntArray, Packed, TextArray, UuidArray
from service.storage.direct import DirectConnection
from service.storage.fence import Fence
from service.use_cases.ports import Committed

# A batch of one, which is most of them while a second has fewer messages than commits: the same
# as the next statement, and a fifth of the whole way of a message less. The fence is here
# without its function, which is a tenth of the statement: that leaves no row where it has
# fallen, as where there is no such conversation.
_APPEND_ONE = """
WITH advanced AS (
    UPDATE conversation
    SET last_seq = last_seq + 1, activity_id = greatest(activity_id, $2::uuid)
    WHERE id = $1::uuid AND EXISTS (SELECT FROM lease WHERE name = $7::text AND epoch = $8::int8)
    RETURNING last_seq
)
INSERT INTO message (id, conversation_id, seq, sender_id, client_message_id, body_hash, text, created_at)
SELECT $2::uuid, $1::uuid, last_seq, $3::text, $4::uuid, $5::bytea, $6::text, statement_timestamp()
FROM advanced
RETURNING seq, created_at
"""

# For keys that nobody used before, which is nearly all. Every conversation moves on
# by as many positions as it has messages in the batch; a message's own place among
# them comes with it. Conversations are in id order, so that two instances cannot
# deadlock. A key that is in history violates the unique index, and a conversation
# that does not exist leaves seq empty: either rolls everything back, and
# `append_any` finds out.
_APPEND_NEW = """
WITH target AS MATERIALIZED (
    SELECT *
    FROM unnest($1::uuid[], $2::int4[], $3::uuid[])
         WITH ORDINALITY AS t (id, messages, activity_id, place)
), advanced AS (
    UPDATE conversation AS c
    SET last_seq = c.last_seq + t.messages, activity_id = greatest(c.activity_id, t.activity_id)
    FROM target AS t
    WHERE c.id = t.id AND demand_lease($11::text, $12::int8)
    RETURNING t.place, c.last_seq - t.messages AS before
), base AS MATERIALIZED (
    -- Nothing, where a conversation is missing: what comes of it has no place in any.
    SELECT CASE WHEN count(*) = cardinality($1::uuid[])
                THEN array_agg(before ORDER BY place)
           END AS before
    FROM advanced
), inserted AS (
    INSERT INTO message
        (id, conversation_id, seq, sender_id, client_message_id, body_hash, text, created_at)
    SELECT m.id, ($1::uuid[])[m.target], (SELECT before FROM base)[m.target] + m.step,
           m.sender_id, m.client_message_id, m.body_hash, m.text, statement_timestamp()
    FROM unnest($4::uuid[], $5::int4[], $6::int4[], $7::text[],
                $8::uuid[], $9::bytea[], $10::text[])
         AS m (id, target, step, sender_id, client_message_id, body_hash, text)
)
SELECT before, statement_timestamp() FROM base
"""

# The conversations are locked in id order, so that two instances cannot
# deadlock, and positions come from the locked rows. A key that is already in
# history is left out of the numbering and answered with its row. A key that
# another instance commits between this statement's snapshot and its lock
# violates the unique index: the statement rolls back whole, no position is
# lost, and the next attempt sees the row.
_APPEND_ANY = """
WITH batch AS (
    SELECT *
    FROM unnest(%b::uuid[], %b::uuid[], %b::text[], %b::uuid[], %b::bytea[], %b::text[])
         WITH ORDINALITY
         AS b (message_id, conversation_id, sender_id, client_message_id, body_hash, text, place)
), locked AS MATERIALIZED (
    SELECT id, last_seq
    FROM conversation
    WHERE id = ANY (%b::uuid[]) AND demand_lease(%b::text, %b::int8)
    ORDER BY id
    FOR UPDATE
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


APPEND_STATEMENTS = {"append_one": _APPEND_ONE, "append_new": _APPEND_NEW}
"""What `append_new` needs prepared."""


async def append_new(
    connection: DirectConnection, drafts: Sequence[Draft], fence: Fence
) -> Sequence[Committed] | None:
    """Appends messages whose keys are new to conversations that exist.

    Where one of them is not so it raises `psycopg.errors.IntegrityError`, or returns None, and
    nothing is stored; None is also for a fence that has fallen. `append_any` finds out.
    """
    if len(drafts) == 1:
        return await _append_one(connection, drafts[0], fence)
    latest = {draft.conversation_id.int: draft for draft in drafts}
    target_of = {number: place for place, number in enumerate(sorted(latest), start=1)}
    counts = [0] * (len(latest) + 1)
    targets: list[int] = []
    steps: list[int] = []
    for draft in drafts:
        target = target_of[draft.conversation_id.int]
        counts[target] += 1
        targets.append(target)
        steps.append(counts[target])
    last = [latest[number] for number in target_of]
    parameters = (
        UuidArray(draft.conversation_id for draft in last),
        IntArray(counts[1:]),
        UuidArray(draft.id for draft in last),
        UuidArray(draft.id for draft in drafts),
        IntArray(targets),
        IntArray(steps),
        TextArray(draft.sender_id for draft in drafts),
        UuidArray(draft.client_message_id for draft in drafts),
        ByteaArray(draft.body_hash for draft in drafts),
        TextArray(draft.text for draft in drafts),
        *fence.parameters,
    )
    ((before, created_at),) = await connection.execute("append_new", parameters)
    return [
        Committed(
            id=draft.id,
            conversation_id=draft.conversation_id,
            seq=before[target - 1] + step,
            body_hash=draft.body_hash,
            created_at=created_at,
        )
        for draft, target, step in zip(drafts, targets, steps, strict=True)
    ]


async def _append_one(connection: DirectConnection, draft: Draft, fence: Fence) -> Sequence[Committed] | None:
    parameters = (
        Packed(draft.conversation_id.bytes),
        Packed(draft.id.bytes),
        Packed(draft.sender_id.encode()),
        Packed(draft.client_message_id.bytes),
        Packed(draft.body_hash),
        Packed(draft.text.encode()),
        *fence.parameters,
    )
    rows = await connection.execute("append_one", parameters)
    if not rows:
        return None
    ((seq, created_at),) = rows
    return [
        Committed(
            id=draft.id,
            conversation_id=draft.conversation_id,
            seq=seq,
            body_hash=draft.body_hash,
            created_at=created_at,
        )
    ]


async def append_any(
    connection: psycopg.AsyncConnection[Any], drafts: Sequence[Draft], fence: Fence
) -> Sequence[Committed | None]:
    """Appends messages of which some may be in history already, or in no conversation (None).

    Raises `psycopg.errors.UniqueViolation` where another instance has just taken a key.
    """
    parameters = (
        UuidArray(draft.id for draft in drafts),
        UuidArray(draft.conversation_id for draft in drafts),
        TextArray(draft.sender_id for draft in drafts),
        UuidArray(draft.client_message_id for draft in drafts),
        ByteaArray(draft.body_hash for draft in drafts),
        TextArray(draft.text for draft in drafts),
        UuidArray({draft.conversation_id for draft in drafts}),
        *fence.parameters,
    )
    async with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        await cursor.execute(_APPEND_ANY, parameters)
        rows = await cursor.fetchall()
    found = {(row[3], row[4].int): committed(row) for row in rows}
    return [found.get(draft.key) for draft in drafts]


def committed(row: tuple[Any, ...]) -> Committed:
    """What a row of `message` says, without its text."""
    id_, conversation, seq, _, _, body_hash, created_at = row
    return Committed(
        id=id_, conversation_id=conversation, seq=seq, body_hash=body_hash, created_at=created_at
    )
