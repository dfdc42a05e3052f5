"""Decides whether a user may send in a conversation, opening it on first use."""

from __future__ import annotations

from collections.abc import Callable

from service.domain.conversation import Conversation, direct_conversation
from service.domain.errors import ErrorCode, Rejected, Rejection
from service.domain.ids import ConversationId, UserId, uuid7
from service.domain.policies import POLICIES
from service.use_cases.ports import ConnectionDirectory, ConversationRepository

NOT_FOUND = Rejection(ErrorCode.CONVERSATION_NOT_FOUND, "no such conversation")
NOT_CONNECTED = Rejection(ErrorCode.NOT_CONNECTED, "you and the recipient are not connected")


class Authorize:
    """The check before every send: first from memory, then by asking."""

    def __init__(
        self,
        conversations: ConversationRepository,
        connections: ConnectionDirectory,
        now_ns: Callable[[], int],
    ) -> None:
        self._conversations = conversations
        self._connections = connections
        self._now_ns = now_ns

    def known(self, sender: UserId, target: ConversationId | str) -> Conversation | Rejection | None:
        """The decision, if this process can take it without waiting; else None.

        `target` is a conversation's id or the recipient's user id.
        """
        if isinstance(target, str):
            try:
                conversation_id = direct_conversation(sender, target).id
            except Rejected as error:
                return error.rejection
        else:
            conversation_id = target
        conversation = self._conversations.known(conversation_id)
        if conversation is None:
            return None
        if not conversation.has(sender):
            return NOT_FOUND
        if POLICIES[conversation.kind].requires_connection:
            connected = self._connections.known(sender, conversation.counterpart_of(sender))
            if not connected:
                return None if connected is None else NOT_CONNECTED
        return conversation

    def known_participation(
        self, user: UserId, conversation_id: ConversationId
    ) -> Conversation | Rejection | None:
        """Whether `user` takes part, which is all that reading and marking need; None if unknown here."""
        conversation = self._conversations.known(conversation_id)
        if conversation is None:
            return None
        return conversation if conversation.has(user) else NOT_FOUND

    async def participation(self, user: UserId, conversation_id: ConversationId) -> Conversation:
        """The same, asking the database; raises `Rejected`: CONVERSATION_NOT_FOUND, STORAGE_UNAVAILABLE."""
        conversation = await self._conversations.find(conversation_id)
        if conversation is None or not conversation.has(user):
            raise Rejected.by(NOT_FOUND)
        return conversation

    async def addressed(self, sender: UserId, target: ConversationId | str) -> Conversation | None:
        """The conversation that a target stands for, whether or not the two are connected (any more)."""
        if isinstance(target, str):
            return direct_conversation(sender, target)
        return await self._conversations.find(target)

    async def decide(self, sender: UserId, target: ConversationId | str) -> Conversation:
        """The same decision, asking whoever must be asked.

        A conversation that is addressed by its recipient exists when this
        returns. Raises `Rejected`: INVALID_PAYLOAD, CONVERSATION_NOT_FOUND,
        NOT_CONNECTED, AUTHORIZATION_UNAVAILABLE or STORAGE_UNAVAILABLE.
        """
        if isinstance(target, str):
            conversation = direct_conversation(sender, target)
        else:
            conversation = await self.participation(sender, target)
        if POLICIES[conversation.kind].requires_connection:
            counterpart = conversation.counterpart_of(sender)
            if not await self._connections.are_connected(sender, counterpart):
                raise Rejected.by(NOT_CONNECTED)
        if await self._conversations.find(conversation.id) is None:
            await self._conversations.open(conversation, uuid7(self._now_ns()))
        return conversation
