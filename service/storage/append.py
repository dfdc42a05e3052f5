"""Appends messages to their conversations: one statement for a whole batch."""

from __future__ import annotations

from collections.abc import Sequence

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
#
# A message finds its conversation's position by key in one value: nested loops
# are all the joins there are here (`BY_INDEX`), and over two lists they would
# cost the product of both lengths.
_APPEND_ANY = """
WITH batch AS MATERIALIZED (
    SELECT b.*, old.id AS old_id, old.conversation_id AS old_conversation_id, old.seq AS old_seq,
           old.body_hash AS old_body_hash, old.created_at AS old_created_at
    FROM unnest($2::uuid[], $3::int4[], $4::text[], $5::uuid[], $6::bytea[], $7::text[])
         WITH ORDINALITY
         AS b (id, target, sender_id, client_message_id, body_hash, text, place)
    LEFT JOIN message AS old USING (sender_id, client_message_id)
), locked AS MATERIALIZED (
    SELECT t.place, c.last_seq
    FROM unnest($1::uuid[]) WITH ORDINALITY AS t (id, place)
    JOIN conversation AS c ON c.id = t.id
    WHERE demand_lease($8::text, $9::int8)
    ORDER BY c.id
    FOR UPDATE OF c
), base AS MATERIALIZED (
    SELECT jsonb_object_agg(place, last_seq) AS last_seq FROM locked
), numbered AS MATERIALIZED (
    SELECT b.*, ($1::uuid[])[b.target] AS conversation_id,
           (base.last_seq ->> b.target::text)::int8
           + row_number() OVER (PARTITION BY b.target ORDER BY b.place) AS seq
    FROM batch AS b, base
    WHERE b.old_id IS NULL AND base.last_seq ? b.target::text
), advanced AS (
    UPDATE conversation AS c
    SET last_seq = n.seq, activity_id = greatest(c.activity_id, n.id)
    FROM (SELECT DISTINCT ON (target) conversation_id, seq, id FROM numbered ORDER BY target, seq DESC) AS n
    WHERE c.id = n.conversation_id
), inserted AS (
    INSERT INTO message
        (id, conversation_id, seq, sender_id, client_message_id, body_hash, text, created_at)
    SELECT id, conversation_id, seq, sender_id, client_message_id, body_hash, text, statement_timestamp()
    FROM numbered
)
SELECT place, id, conversation_id, seq, body_hash, statement_timestamp() FROM numbered
UNION ALL
SELECT place, old_id, old_conversation_id, old_seq, old_body_hash, old_created_at
-- With the base, which demands the lease where nothing is new, too.
FROM batch, base WHERE old_id IS NOT NULL
"""


APPEND_STATEMENTS = {"append_one": _APPEND_ONE, "append_new": _APPEND_NEW, "append_any": _APPEND_ANY}
"""What the functions here need prepared."""


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
        UuidArray([draft.conversation_id for draft in last]),
        IntArray(counts[1:]),
        UuidArray([draft.id for draft in last]),
        UuidArray([draft.id for draft in drafts]),
        IntArray(targets),
        IntArray(steps),
        TextArray([draft.sender_id for draft in drafts]),
        UuidArray([draft.client_message_id for draft in drafts]),
        ByteaArray([draft.body_hash for draft in drafts]),
        TextArray([draft.text for draft in drafts]),
        *fence.parameters,
    )
    ((before, created_at),) = await connection.execute("append_new", parameters)
    return [
        Committed(draft.id, draft.conversation_id, before[target - 1] + step, draft.body_hash, created_at)
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
    return [Committed(draft.id, draft.conversation_id, seq, draft.body_hash, created_at)]


async def append_any(
    connection: DirectConnection, drafts: Sequence[Draft], fence: Fence
) -> Sequence[Committed | None]:
    """Appends messages of which some may be in history already, or in no conversation (None).

    Raises `psycopg.errors.UniqueViolation` where another instance has just taken a key.
    """
    conversations = sorted({draft.conversation_id for draft in drafts})
    target_of = {conversation: place for place, conversation in enumerate(conversations, start=1)}
    parameters = (
        UuidArray(conversations),
        UuidArray(draft.id for draft in drafts),
        IntArray([target_of[draft.conversation_id] for draft in drafts]),
        TextArray(draft.sender_id for draft in drafts),
        UuidArray(draft.client_message_id for draft in drafts),
        ByteaArray(draft.body_hash for draft in drafts),
        TextArray(draft.text for draft in drafts),
        *fence.parameters,
    )
    rows: list[Committed | None] = [None] * len(drafts)
    for place, *row in await connection.execute("append_any", parameters):
        rows[place - 1] = Committed(*row)
    return rows
