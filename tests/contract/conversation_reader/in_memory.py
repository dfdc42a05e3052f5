"""Conversations in memory: a real fake of the repository and the reader, over one store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from service.domain.conversation import Conversation
from service.domain.ids import ConversationId, UserId
from service.domain.message import Message
from service.domain.receipts import Positions
from service.use_cases.ports import ConversationSummary, Direction, HistoryMessage, HistoryPage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CREATED_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def on_a_page(message: Message) -> HistoryMessage:
    """The message as a page of history holds it."""
    return HistoryMessage(
        seq=message.seq,
        id=str(message.id),
        sender_id=message.sender_id,
        client_message_id=str(message.client_message_id),
        text=message.text,
        created_at_us=(message.created_at - _EPOCH) // timedelta(microseconds=1),
    )


@dataclass(slots=True)
class _Stored:
    conversation: Conversation
    activity_id: UUID
    positions: dict[UserId, Positions]
    messages: list[Message] = field(default_factory=list)


class InMemoryConversations:
    """`ConversationRepository` and `ConversationReader`."""

    def __init__(self) -> None:
        self._stored: dict[ConversationId, _Stored] = {}

    def add_message(self, message: Message) -> None:
        stored = self._stored[message.conversation_id]
        stored.messages.append(message)
        stored.activity_id = message.id

    def set_positions(self, conversation: Conversation, user: UserId, positions: Positions) -> None:
        self._stored[conversation.id].positions[user] = positions

    def known(self, conversation_id: ConversationId) -> Conversation | None:
        stored = self._stored.get(conversation_id)
        return stored.conversation if stored else None

    def forget(self, conversation_id: ConversationId) -> None:
        """The store itself is the memory here: there is nothing to drop."""

    async def find(self, conversation_id: ConversationId) -> Conversation | None:
        return self.known(conversation_id)

    async def open(self, conversation: Conversation, activity_id: UUID) -> None:
        positions = {user: Positions() for user in conversation.participants}
        self._stored.setdefault(conversation.id, _Stored(conversation, activity_id, positions))

    async def history(
        self, conversation_id: ConversationId, *, limit: int, direction: Direction, after_seq: int | None
    ) -> HistoryPage:
        stored = self._stored.get(conversation_id)
        if stored is None:
            return HistoryPage(messages=[], positions={}, has_more=False)
        if direction is Direction.OLDER:
            walk = [m for m in reversed(stored.messages) if after_seq is None or m.seq < after_seq]
        else:
            walk = [m for m in stored.messages if after_seq is None or m.seq > after_seq]
        return HistoryPage(
            messages=[on_a_page(message) for message in walk[:limit]],
            positions=dict(stored.positions),
            has_more=len(walk) > limit,
        )

    async def summaries(
        self, user: UserId, *, limit: int, before: UUID | None
    ) -> Sequence[ConversationSummary]:
        mine = [
            stored
            for stored in self._stored.values()
            if stored.conversation.has(user) and (before is None or stored.activity_id < before)
        ]
        mine.sort(key=lambda stored: stored.activity_id, reverse=True)
        return [_summary(user, stored) for stored in mine[:limit]]

    async def summary(self, user: UserId, conversation_id: ConversationId) -> ConversationSummary | None:
        stored = self._stored.get(conversation_id)
        if stored is None or not stored.conversation.has(user):
            return None
        return _summary(user, stored)


def _summary(user: UserId, stored: _Stored) -> ConversationSummary:
    messages = stored.messages
    last_seq = messages[-1].seq if messages else 0
    counted_from = max(stored.positions[user].read_seq, last_seq - 1_000)
    return ConversationSummary(
        conversation=stored.conversation,
        created_at=CREATED_AT,
        activity_id=stored.activity_id,
        last_seq=last_seq,
        last_message=messages[-1] if messages else None,
        positions=dict(stored.positions),
        unread_count=sum(m.sender_id != user and m.seq > counted_from for m in messages),
    )
