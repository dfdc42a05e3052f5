"""Sends a message: from the command to the draft, from the committed row to the answer."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.conversation import Conversation
from service.domain.errors import ErrorCode, Rejection
from service.domain.ids import ClientMessageId, ConversationId, MessageId, UserId, uuid7
from service.domain.message import Draft, Message, body_hash
from service.use_cases.ports import Committed

_CONFLICT = Rejection(
    ErrorCode.IDEMPOTENCY_CONFLICT, "this clientMessageId was used before with another body"
)
_GONE = Rejection(ErrorCode.STORAGE_UNAVAILABLE, "the conversation is no longer stored", 1_000)
"""The database was restored to an earlier time. Sent again, the message opens its conversation once more,
or is told that there is none where it names it by its id."""


# Not frozen, and made by position, as all that is made once for every command: frozen costs three times
# as much, keywords twice. The types tell the ids apart.
@dataclass(slots=True)
class SendCommand:
    """The wish to send: validated, not yet authorized."""

    user_id: UserId
    target: ConversationId | str
    """A conversation's id, or the recipient's user id."""
    client_message_id: ClientMessageId
    text: str

    @property
    def id(self) -> ClientMessageId:
        """What logs name the command by."""
        return self.client_message_id


@dataclass(slots=True)
class Sent:
    """The message is durable: new just now, or found under its key."""

    message: Message
    recipient_id: UserId


def drafted(command: SendCommand, conversation: Conversation, now_ns: int) -> Draft:
    """The message to commit, with an id of its own."""
    return Draft(
        MessageId(uuid7(now_ns)),
        conversation.id,
        command.user_id,
        command.client_message_id,
        body_hash(conversation.id, command.text),
        command.text,
    )


def sent(draft: Draft, conversation: Conversation, row: Committed | None) -> Sent | Rejection:
    """The answer to a committed draft, whose row may be an older one of the same key."""
    if row is None:
        return _GONE
    if row.body_hash != draft.body_hash:
        return _CONFLICT
    message = Message(
        row.id,
        row.conversation_id,
        row.seq,
        draft.sender_id,
        draft.client_message_id,
        draft.text,
        row.created_at,
    )
    return Sent(message, conversation.counterpart_of(draft.sender_id))
