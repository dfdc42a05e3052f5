"""Reads for history and lists: one statement a page, keyset only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.rows import tuple_row

from service.domain.conversation import Conversation, Kind
from service.domain.ids import ClientMessageId, ConversationId, MessageId, UserId
from service.domain.message import Message
from service.domain.receipts import Positions
from service.storage.database import Database, translated_errors
from service.use_cases.ports import ConversationSummary, Direction, HistoryPage

_MAX_SEQ = 2**63 - 1
_MAX_ACTIVITY = UUID(int=2**128 - 1)

# The participants' positions come in front of the messages, in the same
# columns (delivered_seq as seq, user_id as sender_id) and with an id of NULL:
# one statement and one snapshot, and no join for each message.
_POSITIONS = """
SELECT delivered_seq AS seq, NULL::uuid AS id, user_id AS sender_id, NULL::uuid AS client_message_id,
       NULL::text AS text, NULL::timestamptz AS created_at, read_seq
FROM participant
WHERE conversation_id = %(conversation_id)b
"""

_OLDER = f"""
{_POSITIONS}
UNION ALL
(SELECT seq, id, sender_id, client_message_id, text, created_at, NULL
 FROM message
 WHERE conversation_id = %(conversation_id)b AND seq < %(after_seq)b
 ORDER BY seq DESC
 LIMIT %(limit)b)
"""

_NEWER = f"""
{_POSITIONS}
UNION ALL
(SELECT seq, id, sender_id, client_message_id, text, created_at, NULL
 FROM message
 WHERE conversation_id = %(conversation_id)b AND seq > %(after_seq)b
 ORDER BY seq
 LIMIT %(limit)b)
"""

# Which conversations are on the page is settled before their last messages
# and unread counts are looked up, so that only theirs are.
_SUMMARIES = """
WITH page AS MATERIALIZED (
    SELECT c.id, c.kind, c.created_at, c.activity_id, c.last_seq,
           me.delivered_seq AS my_delivered_seq, me.read_seq AS my_read_seq,
           other.user_id AS other_id, other.delivered_seq AS other_delivered_seq,
           other.read_seq AS other_read_seq
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
    WHERE m.conversation_id = page.id AND m.seq > page.my_read_seq AND m.sender_id = page.other_id
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

_LIST = _SUMMARIES.format(condition="AND c.activity_id < %(before)b")
_ONE = _SUMMARIES.format(condition="AND me.conversation_id = %(conversation_id)b")
