"""Conversations by id, with the unchanging facts kept in the process."""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from service.domain.conversation import Conversation, Kind
from service.domain.ids import ConversationId, UserId
from service.storage.database import Database, translated_errors

_FIND = """
SELECT c.kind, array_agg(p.user_id ORDER BY p.user_id)
FROM conversation AS c
JOIN participant AS p ON p.conversation_id = c.id
WHERE c.id = %s
GROUP BY c.id
"""

# One statement, so that a conversation never exists without its participants.
_OPEN = """
WITH opened AS (
    INSERT INTO conversation (id, kind, activity_id)
    VALUES (%(id)s, %(kind)s, %(activity_id)s)
    ON CONFLICT (id) DO NOTHING
    RETURNING id
)
INSERT INTO participant (conversation_id, user_id)
SELECT opened.id, member.user_id
FROM opened, unnest(%(participants)s::text[]) AS member (user_id)
"""


class PostgresConversationRepository:
    """The `ConversationRepository` port on PostgreSQL, with a cache before it.

    A conversation's kind and participants never change, so what was found once
    needs no expiry; that a conversation is missing is never remembered.
    """

    def __init__(self, database: Database, *, cached: int = 100_000) -> None:
        self._database = database
        # Oldest out first: to note every use would cost more than the few finds that it saves.
        # By the UUID's number: its own hash and comparison are written in Python.
        self._cache: OrderedDict[int, Conversation] = OrderedDict()
        self._cached = cached

    def known(self, conversation_id: ConversationId) -> Conversation | None:
        """See `ConversationRepository.known`."""
        return self._cache.get(conversation_id.int)

    def forget(self, conversation_id: ConversationId) -> None:
        """See `ConversationRepository.forget`."""
        self._cache.pop(conversation_id.int, None)

    async def find(self, conversation_id: ConversationId) -> Conversation | None:
        """See `ConversationRepository.find`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        cached = self._cache.get(conversation_id.int)
        if cached is not None:
            return cached
        with translated_errors("find_conversation"):
            async with self._database.connection() as connection:
                cursor = await connection.execute(_FIND, (conversation_id,))
                row = await cursor.fetchone()
        if row is None:
            return None
        kind, (first, second) = row
        conversation = Conversation(
            id=conversation_id, kind=Kind(kind), participants=(UserId(first), UserId(second))
        )
        self._remember(conversation)
        return conversation

    async def open(self, conversation: Conversation, activity_id: UUID) -> None:
        """See `ConversationRepository.open`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        with translated_errors("open_conversation"):
            async with self._database.connection() as connection:
                await connection.execute(
                    _OPEN,
                    {
                        "id": conversation.id,
                        "kind": conversation.kind,
                        "activity_id": activity_id,
                        "participants": list(conversation.participants),
                    },
                )
        self._remember(conversation)

    def _remember(self, conversation: Conversation) -> None:
        self._cache[conversation.id.int] = conversation
        if len(self._cache) > self._cached:
            self._cache.popitem(last=False)
