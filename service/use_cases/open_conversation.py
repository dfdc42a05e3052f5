"""Opens the conversation with another user."""

from __future__ import annotations

from service.domain.ids import UserId
from service.use_cases.authorize import Authorize
from service.use_cases.get_conversation import GetConversation
from service.use_cases.ports import ConversationReader, ConversationSummary


class OpenConversation:
    """Opens a direct conversation, or returns the one there is.

    Who may open is who may send: both ask the same use case.
    """

    def __init__(self, authorize: Authorize, reader: ConversationReader) -> None:
        self._authorize = authorize
        self._get_conversation = GetConversation(reader)

    async def __call__(self, caller: UserId, recipient: str) -> ConversationSummary:
        """The conversation of `caller` and `recipient`, stored when this returns.

        Raises `Rejected`: INVALID_PAYLOAD when `recipient` is no user id or is
        the caller, NOT_CONNECTED, AUTHORIZATION_UNAVAILABLE or STORAGE_UNAVAILABLE.
        """
        conversation = await self._authorize.decide(caller, recipient)
        return await self._get_conversation(caller, conversation.id)
