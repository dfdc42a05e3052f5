"""Marks messages as delivered or read: from the command to the mark, from the position to the answer."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.conversation import Conversation
from service.domain.errors import ErrorCode, Rejection
from service.domain.ids import ConversationId, MessageId, UserId
from service.domain.receipts import Mark, Position

NO_MESSAGE = Rejection(ErrorCode.MESSAGE_NOT_FOUND, "the conversation has no such message")


@dataclass(slots=True)
class MarkCommand:
    """The wish to mark everything up to and including a message; not yet authorized."""

    mark: Mark

    @property
    def user_id(self) -> UserId:
        """Who marks."""
        return self.mark.user_id

    @property
    def conversation_id(self) -> ConversationId:
        """Where."""
        return self.mark.conversation_id

    @property
    def id(self) -> MessageId:
        """What logs name the command by."""
        return self.mark.message_id


@dataclass(slots=True)
class Marked:
    """The mark is durable, whether or not it moved the position."""

    mark: Mark
    position: Position
    counterpart_id: UserId


def marked(mark: Mark, conversation: Conversation, position: Position | None) -> Marked | Rejection:
    """The answer to a committed mark."""
    if position is None:
        return NO_MESSAGE
    return Marked(mark, position, conversation.counterpart_of(mark.user_id))
