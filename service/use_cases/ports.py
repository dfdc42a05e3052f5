"""What the use cases need from the outside, implemented by the adapters.

Every method may raise `Rejected` with a retryable code when the outside does
not answer; adapters translate their library's errors into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from service.domain.conversation import Conversation
from service.domain.ids import ConversationId, MessageId, UserId
from service.domain.message import Draft, Message
from service.domain.receipts import Positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The row that an idempotency key stands for, new or found."""

    id: MessageId
    conversation_id: ConversationId
    seq: int
    body_hash: bytes
    created_at: datetime


class MessageWriter(Protocol):
    """Appends messages to their conversations."""

    async def append(self, drafts: Sequence[Draft]) -> Sequence[Committed | None]:
        """Commits all drafts in one transaction and returns their rows, in order.

        No two drafts may have the same key. For a key that history already
        holds, the original row comes back; None stands for a conversation
        that does not exist. What returns is durable.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """Messages in walking order and what their statuses follow from."""

    messages: Sequence[Message]
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
