"""Reads one conversation as a participant sees it."""

from __future__ import annotations

from service.domain.errors import Rejected
from service.domain.ids import ConversationId, UserId
from service.use_cases.authorize import NOT_FOUND
from service.use_cases.ports import ConversationReader, ConversationSummary


class GetConversation:
    """One conversation; to everybody but its participants it does not exist."""

    def __init__(self, reader: ConversationReader) -> None:
        self._reader = reader

    async def __call__(self, caller: UserId, conversation_id: ConversationId) -> ConversationSummary:
        """The conversation; raises `Rejected`: CONVERSATION_NOT_FOUND or STORAGE_UNAVAILABLE."""
        summary = await self._reader.summary(caller, conversation_id)
        if summary is None:
            raise Rejected.by(NOT_FOUND)
        return summary
