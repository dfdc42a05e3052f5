"""The events of `docs/asyncapi.yaml` as types."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """The other participant wrote; durable."""

    message_id: str
    conversation_id: str
    seq: int
    """Position in the conversation, the only order."""
    sender_id: str
    text: str
    timestamp: datetime
    """Commit time, for display only."""
    client_message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSent:
    """This user wrote, on this device or another one; durable."""

    message_id: str
    conversation_id: str
    seq: int
    """Position in the conversation, the only order."""
    sender_id: str
    text: str
    timestamp: datetime
    """Commit time, for display only."""
    client_message_id: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherChange:
    """A change of a conversation that this version of the client has no type for; it takes its `seq`."""

    conversation_id: str
    seq: int
    kind: str
    payload: dict[str, Any]


Change = NewMessage | MessageSent | OtherChange
"""What takes a place in the order of a conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDelivered:
    """A device of `user_id` has all messages up to and including this one."""

    conversation_id: str
    message_id: str
    seq: int
    user_id: str
    delivered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRead:
    """`user_id` (possibly this user, on any device) has read all up to and including this message."""

    conversation_id: str
    message_id: str
    seq: int
    user_id: str
    read_at: datetime
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far one participant has come; every message up to and including these is delivered, read."""

    user_id: str
    delivered_seq: int
    read_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationSummary:
    """A row of the conversation list, as the application gives it to the client."""

    last_seq: int
    """The newest change."""
    positions: tuple[Position, ...] = ()
    """Where participants stand, where the list tells it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionsMoved:
    """Marks that were missed: a sync told where the participants stand now. Made by the client."""

    conversation_id: str
    positions: tuple[Position, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPage:
    """What follows `after_seq` in a conversation, oldest first and without a hole."""

    conversation_id: str
    after_seq: int
    changes: tuple[Change, ...]
    positions: tuple[Position, ...]
    complete: bool
    """Otherwise ask again after `last_seq`."""
    request_id: str | None = None

    @property
    def last_seq(self) -> int:
        """Up to where this page tells everything."""
        return self.changes[-1].seq if self.changes else self.after_seq


@dataclass(frozen=True, slots=True, kw_only=True)
class Typing:
    """The counterpart began, goes on, or stopped typing."""

    conversation_id: str
    user_id: str
    is_typing: bool
    expires_in_ms: int
    """Without another event within this time the user has stopped."""


class PresenceState(StrEnum):
    """What others see of a user."""

    ONLINE = "online"
    AWAY = "away"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceChanged:
    """A counterpart came, went away from its devices, or left."""

    user_id: str
    state: PresenceState
    last_seen_at: datetime | None
    """Only when offline, and not always then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencesChanged:
    """This user's preferences as they are now."""

    read_receipts: bool
    """Whether others see what this user has read."""
    invisible: bool
    """Whether this user always looks offline."""
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandError:
    """A command of this user, from this device or another one, was refused."""

    code: str
    message: str
    retryable: bool
    retry_after_ms: int | None = None
    command: str
    client_message_id: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEvent:
    """An event that this version of the client has no type for."""

    name: str
    payload: dict[str, Any]


Event = (
    NewMessage
    | MessageSent
    | OtherChange
    | MessageDelivered
    | MessageRead
    | PositionsMoved
    | SyncPage
    | Typing
    | PresenceChanged
    | PreferencesChanged
    | CommandError
    | OtherEvent
)
