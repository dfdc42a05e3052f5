"""Positions of participants, the marks that move them and the statuses that follow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from service.domain.ids import ConversationId, MessageId, UserId
from service.domain.message import MessageStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """How far one participant has come; all of them only ever grow.

    Reading implies having, so `delivered_seq` is at least `read_seq`.
    """

    delivered_seq: int = 0
    read_seq: int = 0
    shown_read_seq: int = 0
    """How far the counterpart may know of the reading; less than `read_seq` for who hides it."""

    def seen_by_others(self) -> Positions:
        """The same as the counterpart may see it."""
        return Positions(
            delivered_seq=self.delivered_seq,
            read_seq=self.shown_read_seq,
            shown_read_seq=self.shown_read_seq,
        )


def status_of(seq: int, counterpart: Positions) -> MessageStatus:
    """Status of the message at `seq`, by the positions of its author's counterpart."""
    if seq <= counterpart.shown_read_seq:
        return MessageStatus.READ
    if seq <= counterpart.delivered_seq:
        return MessageStatus.DELIVERED
    return MessageStatus.SENT


# Not frozen, and made by position, as all that is made once for every command: frozen costs three times
# as much, keywords twice. The types tell the ids apart.
@dataclass(slots=True)
class Mark:
    """A participant has, or has read, everything up to and including a message."""

    conversation_id: ConversationId
    user_id: UserId
    message_id: MessageId
    is_read: bool
    """Read, which implies delivered; otherwise delivered only."""


@dataclass(slots=True, kw_only=True)
class Position:
    """Where a participant stands after a mark: the furthest message, and since when."""

    message_id: MessageId
    seq: int
    reached_at: datetime
    moved: bool
    """Whether this mark, of all in its batch, is the one that moved the position here."""
    moved_delivered: bool
    """Whether this mark moved the delivered position, as reading may do too."""
    visible: bool
    """Whether the counterpart may know: always for delivered, for read if the user allowed it when it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """When a participant got and read one message; later marks change neither."""

    user_id: UserId
    delivered_at: datetime | None
    """None until a device of the participant has the message."""
    read_at: datetime | None
    """None until it is read, and for others than the reader if they may not know."""
