"""A message: its limits, its identity and what makes two of them the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.domain.ids import ClientMessageId, ConversationId, MessageId, UserId

MAX_TEXT_CHARACTERS = 5_000
"""Unicode code points, not bytes or grapheme clusters."""

_EMPTY = hashlib.blake2b(digest_size=16)
"""Copied for each message: to set up a new one costs as much as the digest."""


class MessageStatus(StrEnum):
    """What the counterpart of the author has done with a message so far."""

    SENT = "SENT"
    DELIVERED = "DELIVERED"
    READ = "READ"


# Not frozen, and made by position, as all that is made once for every message: frozen costs three times
# as much, keywords twice. The types tell the ids apart.
@dataclass(slots=True)
class Message:
    """A committed message, as history holds it."""

    id: MessageId
    conversation_id: ConversationId
    seq: int
    """Position in its conversation: 1, 2, 3, ... the only order."""
    sender_id: UserId
    client_message_id: ClientMessageId
    text: str
    created_at: datetime
    """Commit time by the database's clock, for display only."""


@dataclass(slots=True)
class Draft:
    """A message that passed authorization and waits for its commit."""

    id: MessageId
    conversation_id: ConversationId
    sender_id: UserId
    client_message_id: ClientMessageId
    body_hash: bytes
    text: str

    @property
    def key(self) -> tuple[UserId, int]:
        """The idempotency key: what makes a resend the same send."""
        # The UUID's number: its own hash and comparison are written in Python.
        return self.sender_id, self.client_message_id.int


def body_hash(conversation_id: ConversationId, text: str) -> bytes:
    """Digest (16 bytes) of everything that a resend must repeat: conversation and text."""
    digest = _EMPTY.copy()
    digest.update(conversation_id.bytes + text.encode())
    return digest.digest()
