"""A conversation and who takes part in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import ConversationId, UserId, conversation_id_for, is_user_id


class Kind(StrEnum):
    """What a conversation is for; its rules stand in `policies.POLICIES`."""

    DIRECT = "direct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The facts of a conversation that never change after it was opened."""

    id: ConversationId
    kind: Kind
    participants: tuple[UserId, UserId]
    """Both users, sorted."""

    def has(self, user: UserId) -> bool:
        """Whether `user` takes part."""
        return user in self.participants

    def counterpart_of(self, user: UserId) -> UserId:
        """The other participant; `user` must be one of the two."""
        first, second = self.participants
        return second if user == first else first


def direct_conversation(user: UserId, other: str) -> Conversation:
    """The direct conversation of two users, whether or not it was opened yet.

    Raises `Rejected(INVALID_PAYLOAD)` when `other` is no user id or is `user`.
    """
    if not is_user_id(other):
        raise Rejected(ErrorCode.INVALID_PAYLOAD, "recipientId is not a user id")
    if other == user:
        raise Rejected(ErrorCode.INVALID_PAYLOAD, "recipientId is the sender")
    first, second = sorted((user, UserId(other)))
    participants = (first, second)
    return Conversation(
        id=conversation_id_for(Kind.DIRECT, participants), kind=Kind.DIRECT, participants=participants
    )
