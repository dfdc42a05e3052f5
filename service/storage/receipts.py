"""Reads when a message was delivered and read."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.rows import tuple_row

from service.domain.ids import ConversationId, MessageId, UserId
from service.domain.receipts import Receipt
from service.storage.database import Database, translated_errors

# The first advance at or beyond the message is the one that reached it. Of
# readings, others see only those shown when they happened: what was read in
# secret counts from the next reading that is shown, as its status does. The
# position in front of the search spares going through all that was never shown.
_RECEIPTS = """
SELECT p.user_id, delivered.created_at, read.created_at
FROM message
JOIN participant AS p ON p.conversation_id = message.conversation_id AND p.user_id <> message.sender_id
LEFT JOIN LATERAL (
    SELECT r.created_at
    FROM receipt AS r
    WHERE r.conversation_id = message.conversation_id AND r.user_id = p.user_id
      AND NOT r.is_read AND r.seq >= message.seq
    ORDER BY r.seq
    LIMIT 1
) AS delivered ON true
LEFT JOIN LATERAL (
    SELECT r.created_at
    FROM receipt AS r
    WHERE r.conversation_id = message.conversation_id AND r.user_id = p.user_id
      AND r.is_read AND r.seq >= message.seq AND (r.is_shown OR p.user_id = %(caller)b)
      AND (message.seq <= p.shown_read_seq OR p.user_id = %(caller)b)
    ORDER BY r.seq
    LIMIT 1
) AS read ON true
WHERE message.id = %(message_id)b AND message.conversation_id = %(conversation_id)b
ORDER BY p.user_id
"""


class PostgresReceiptReader:
    """The `ReceiptReader` port on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def receipts(
        self, caller: UserId, conversation_id: ConversationId, message_id: MessageId
    ) -> Sequence[Receipt]:
        """See `ReceiptReader.receipts`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        parameters = {"caller": caller, "conversation_id": conversation_id, "message_id": message_id}
        with translated_errors("receipts"):
            async with (
                self._database.connection() as connection,
                connection.cursor(binary=True, row_factory=tuple_row) as cursor,
            ):
                await cursor.execute(_RECEIPTS, parameters, prepare=True)
                rows = await cursor.fetchall()
        return [
            Receipt(user_id=UserId(user), delivered_at=delivered_at, read_at=read_at)
            for user, delivered_at, read_at in rows
        ]
