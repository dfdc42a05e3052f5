"""What the use cases need from the outside, implemented by the adapters.

Every method may raise `Rejected` with a retryable code when the outside does
not answer; adapters translate their library's errors into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from service.domain.conversation import Conversation
from service.domain.errors import Rejection
from service.domain.ids import ClientMessageId, ConversationId, MessageId, UserId
from service.domain.message import Draft, Message
from service.domain.preferences import Preferences
from service.domain.receipts import Mark, Position, Positions, Receipt


@dataclass(slots=True)
class Committed:
    """The row that an idempotency key stands for, new or found."""

    id: MessageId
    conversation_id: ConversationId
    seq: int
    body_hash: bytes
    created_at: datetime


class BatchWriter(Protocol):
    """Commits what the pipeline has gathered.

    What commits may raise `lease.LeaseLost`; nothing is stored then.
    """

    async def find(self, sender: UserId, key: ClientMessageId) -> Committed | None:
        """The row that an idempotency key already stands for, or None."""
        ...

    async def append(self, drafts: Sequence[Draft]) -> Sequence[Committed | None]:
        """Commits all drafts in one transaction and returns their rows, in order.

        No two drafts may have the same key. For a key that history already
        holds, the original row comes back; None stands for a conversation
        that does not exist. What returns is durable.
        """
        ...

    async def advance(self, marks: Sequence[Mark]) -> Sequence[Position | None]:
        """Commits all marks in one transaction and returns where they lead, in order.

        None stands for a message that is not in its conversation. What returns is durable.
        """
        ...


class ConversationRepository(Protocol):
    """Conversations by id."""

    def known(self, conversation_id: ConversationId) -> Conversation | None:
        """What this process knows without asking; None when it must ask."""
        ...

    def forget(self, conversation_id: ConversationId) -> None:
        """Drops what this process knows: the conversation turned out not to exist."""
        ...

    async def find(self, conversation_id: ConversationId) -> Conversation | None:
        """The conversation, or None."""
        ...

    async def open(self, conversation: Conversation, activity_id: UUID) -> None:
        """Stores the conversation and its participants unless they are there already.

        `activity_id` is a UUIDv7 of now: its place in the list before the first message.
        """
        ...


class ConnectionDirectory(Protocol):
    """Who is a first-degree connection of whom."""

    def known(self, user: UserId, other: UserId) -> bool | None:
        """What this process knows without asking; None when it must ask."""
        ...

    async def are_connected(self, user: UserId, other: UserId) -> bool:
        """The same, asked of the cache and then of ConnectionsService on behalf of `user`.

        Raises `Rejected(AUTHORIZATION_UNAVAILABLE)` when nobody can say.
        """
        ...

    def drop(self, user: UserId, other: UserId) -> None:
        """Drops what this process knows of the pair."""
        ...

    async def forget(self, user: UserId, other: UserId) -> None:
        """Drops what is known of the pair, here and in the shared cache."""
        ...

    def forget_everything(self) -> None:
        """Drops all that this process knows: invalidations may have been missed."""
        ...


class Direction(StrEnum):
    """Which way a page of history walks."""

    OLDER = "older"
    NEWER = "newer"


class HistoryMessage(NamedTuple):
    """A committed message as pages hold it, made of what goes over the wire.

    Pages are read by the thousand a second, and making and spelling a UUID or
    a datetime for each message would cost more than the rest of the page.
    """

    seq: int
    id: str
    sender_id: UserId
    client_message_id: str
    text: str
    created_at_us: int
    """Microseconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """Messages in walking order and what their statuses follow from."""

    messages: Sequence[HistoryMessage]
    positions: dict[UserId, Positions]
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationSummary:
    """A conversation as one of its participants sees it in a list."""

    conversation: Conversation
    created_at: datetime
    activity_id: UUID
    """A UUIDv7 of the latest activity: the list's order and its cursor."""
    last_seq: int
    last_message: Message | None
    positions: dict[UserId, Positions]
    unread_count: int
    """Among the newest thousand positions."""


class ConversationReader(Protocol):
    """Reads for history and lists; never on the way of a new message."""

    async def history(
        self, conversation_id: ConversationId, *, limit: int, direction: Direction, after_seq: int | None
    ) -> HistoryPage:
        """Up to `limit` messages beyond `after_seq` that way (None: from that end)."""
        ...

    async def summaries(
        self, user: UserId, *, limit: int, before: UUID | None
    ) -> Sequence[ConversationSummary]:
        """Up to `limit` conversations of `user`, latest activity first, older than `before`."""
        ...

    async def summary(self, user: UserId, conversation_id: ConversationId) -> ConversationSummary | None:
        """One conversation as `user` sees it; None when `user` takes no part or it does not exist."""
        ...


class PreferenceRepository(Protocol):
    """Preferences by user; durable."""

    async def of(self, user: UserId) -> Preferences:
        """The user's preferences, or the defaults."""
        ...

    async def change(
        self, user: UserId, *, read_receipts: bool | None, invisible: bool | None
    ) -> Preferences:
        """Changes what is not None; returns what holds now."""
        ...


class ReceiptReader(Protocol):
    """Reads of single messages' receipts."""

    async def receipts(
        self, caller: UserId, conversation_id: ConversationId, message_id: MessageId
    ) -> Sequence[Receipt]:
        """One for each participant other than the author; none when there is no such message.

        Readings that their reader did not show then are left out, except for the reader.
        """
        ...


class RateLimit(Protocol):
    """How much each user may ask for in a time, all instances together.

    Without a word from the others an instance keeps each user to the whole limit by itself.
    """

    def passes(self, user: UserId) -> bool:
        """Counts one and says yes where this process can say so by itself; no: see the other two."""
        ...

    def refusal(self, user: UserId) -> Rejection | None:
        """RATE_LIMITED while it is known that the user's time is not over; counts nothing."""
        ...

    async def decide(self, user: UserId) -> Rejection | None:
        """Counts one for all instances; None when it is within the limit, else RATE_LIMITED."""
        ...
