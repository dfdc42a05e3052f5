"""What the use cases need from the outside, implemented by the adapters.

Every method may raise `Rejected` with a retryable code when the outside does
not answer; adapters translate their library's errors into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from service.domain.conversation import Conversation
from service.domain.ids import ClientMessageId, ConversationId, MessageId, UserId
from service.domain.message import Draft, Message
from service.domain.preferences import Preferences
from service.domain.presence import Presence, PresenceState
from service.domain.receipts import Mark, Position, Positions, Receipt


@dataclass(slots=True, kw_only=True)
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


class PresenceUnavailable(Exception):
    """The presence store does not answer; heartbeats and sweeps put it right later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReport:
    """What one session of a user says of itself; holds for one lease."""

    user_id: UserId
    session_id: str
    state: PresenceState


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What a report led to."""

    state: PresenceState
    """The user's real state, all sessions taken together."""
    is_new_session: bool
    is_told: bool
    """Whether others were told of the state that they may see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A user's presence as it is, and as others are to see it."""

    real: PresenceState
    is_hidden: bool | None
    """None: nobody has told the store yet, and until then others see the user as offline."""
    untold: PresenceState | None = None
    """What others must be told, if they were told something else before."""
    left_at: datetime | None = None
    """When the latest session that ended was heard of last."""

    @property
    def visible(self) -> PresenceState:
        """What others may see."""
        return self.real if self.is_hidden is False else PresenceState.OFFLINE


class PresenceStore(Protocol):
    """The sessions of all users, shared by all instances. Every method may raise `PresenceUnavailable`.

    It may forget everything at any time: what sessions report again, it knows again.
    """

    async def report(self, reports: Sequence[SessionReport]) -> Sequence[Noted]:
        """Takes in reports, in order, and says what each led to."""
        ...

    async def take_due(self, limit: int) -> Sequence[UserId]:
        """Users with an expired session or of whom something is untold for too long.

        Each is given to one instance; who is not settled by it comes up again later.
        """
        ...

    async def inspect(self, user: UserId, *, was_present: bool) -> Outlook:
        """What there is to tell of a user, without its expired sessions.

        `was_present` stands in for what the store forgot: others were told that the user is there.
        """
        ...

    async def hide(self, user: UserId, hidden: bool) -> None:
        """Lets the store know whether the user is invisible."""
        ...

    async def settle(self, user: UserId, told: PresenceState) -> None:
        """Others were told of this state."""
        ...

    async def look_up(self, users: Sequence[UserId]) -> Mapping[UserId, Outlook]:
        """Each user as of now, for reading only."""
        ...


class PresenceAnnouncer(Protocol):
    """Brings presence to devices."""

    def announce(self, recipients: Sequence[UserId], presence: Presence) -> bool:
        """Tells the recipients' devices; False when nobody can be told now."""
        ...


class Counterparts(Protocol):
    """Who has a conversation with whom."""

    async def of(self, user: UserId, limit: int) -> Sequence[UserId]:
        """Up to `limit` counterparts, latest activity first."""
        ...

    async def among(self, user: UserId, candidates: Sequence[UserId]) -> Sequence[UserId]:
        """Those of `candidates` who are counterparts, in the same order."""
        ...


class LastSeen(Protocol):
    """When users were last seen; durable."""

    async def of(self, users: Sequence[UserId]) -> Mapping[UserId, datetime]:
        """The moments that are known."""
        ...

    async def record(self, user: UserId, at: datetime) -> datetime:
        """Keeps the later of the known moment and `at`, and returns it."""
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
