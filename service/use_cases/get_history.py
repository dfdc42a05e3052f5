"""Reads one page of a conversation's messages."""

from __future__ import annotations

from service.domain.errors import Rejected
from service.domain.ids import ConversationId, UserId
from service.use_cases.authorize import NOT_FOUND
from service.use_cases.paging import page_limit
from service.use_cases.ports import ConversationReader, ConversationRepository, Direction, HistoryPage


class GetHistory:
    """Pages for participants; to everybody else the conversation does not exist.

    Reading needs no connection: what two users wrote stays readable to both
    after they disconnect.
    """

    def __init__(self, conversations: ConversationRepository, reader: ConversationReader) -> None:
        self._conversations = conversations
        self._reader = reader

    async def __call__(
        self,
        caller: UserId,
        conversation_id: ConversationId,
        *,
        page_size: int,
        direction: Direction,
        after_seq: int | None,
    ) -> HistoryPage:
        """The page beyond `after_seq` in that direction (None: from that end).

        Raises `Rejected`: INVALID_PAYLOAD for a page size outside 0..100,
        CONVERSATION_NOT_FOUND or STORAGE_UNAVAILABLE.
        """
        limit = page_limit(page_size)
        conversation = await self._conversations.find(conversation_id)
        if conversation is None or not conversation.has(caller):
            raise Rejected.by(NOT_FOUND)
        return await self._reader.history(
            conversation_id, limit=limit, direction=direction, after_seq=after_seq
        )
