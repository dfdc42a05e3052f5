"""Fills a reader's store from behind: the fake's memory, or PostgreSQL by SQL."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Protocol
from uuid import UUID, uuid4

import psycopg

from service.domain.conversation import Conversation, direct_conversation
from service.domain.ids import ClientMessageId, MessageId, UserId, uuid7
from service.domain.message import Message
from service.domain.receipts import Positions
from tests.contract.conversation_reader.in_memory import CREATED_AT, InMemoryConversations

_milliseconds = count(1_750_000_000_000)


def next_activity_id() -> UUID:
    """A UUIDv7 later than all before it."""
    return uuid7(next(_milliseconds) * 1_000_000)


class Seed(Protocol):
    """What the tests put into a store."""

    async def conversation(self, user: str, other: str) -> Conversation:
        """Opens a conversation without messages."""
        ...

    async def messages(
        self, conversation: Conversation, senders: Iterable[str], *, first_seq: int = 1
    ) -> list[Message]:
        """Appends one message for each sender."""
        ...

    async def positions(self, conversation: Conversation, user: str, positions: Positions) -> None:
        """Sets how far a participant has come."""
        ...


def _messages(conversation: Conversation, senders: Iterable[str], first_seq: int) -> list[Message]:
    return [
        Message(
            id=MessageId(next_activity_id()),
            conversation_id=conversation.id,
            seq=seq,
            sender_id=UserId(sender),
            client_message_id=ClientMessageId(uuid4()),
            text=f"{sender} says {seq} \N{GRINNING FACE}",
            created_at=_moment(seq),
        )
        for seq, sender in enumerate(senders, first_seq)
    ]


def _moment(seq: int) -> datetime:
    # Backwards, so that nothing that orders by time passes.
    return CREATED_AT - timedelta(seconds=seq, microseconds=seq)


class MemorySeed:
    """Seeds the fake."""

    def __init__(self, store: InMemoryConversations) -> None:
        self._store = store

    async def conversation(self, user: str, other: str) -> Conversation:
        conversation = direct_conversation(UserId(user), other)
        await self._store.open(conversation, next_activity_id())
        return conversation

    async def messages(
        self, conversation: Conversation, senders: Iterable[str], *, first_seq: int = 1
    ) -> list[Message]:
        messages = _messages(conversation, senders, first_seq)
        for message in messages:
            self._store.add_message(message)
        return messages

    async def positions(self, conversation: Conversation, user: str, positions: Positions) -> None:
        self._store.set_positions(conversation, UserId(user), positions)


class PostgresSeed:
    """Seeds PostgreSQL over a connection of its own, in autocommit mode."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    async def conversation(self, user: str, other: str) -> Conversation:
        conversation = direct_conversation(UserId(user), other)
        await self.connection.execute(
            "INSERT INTO conversation (id, kind, activity_id, created_at) VALUES (%s, 'direct', %s, %s)",
            (conversation.id, next_activity_id(), CREATED_AT),
        )
        for participant in conversation.participants:
            await self.connection.execute(
                "INSERT INTO participant (conversation_id, user_id) VALUES (%s, %s)",
                (conversation.id, participant),
            )
        return conversation

    async def messages(
        self, conversation: Conversation, senders: Iterable[str], *, first_seq: int = 1
    ) -> list[Message]:
        messages = _messages(conversation, senders, first_seq)
        async with self.connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO message VALUES (%s, %s, %s, %s, %s, 'hash', %s, %s)",
                [
                    (m.conversation_id, m.seq, m.id, m.sender_id, m.client_message_id, m.text, m.created_at)
                    for m in messages
                ],
            )
        await self.connection.execute(
            "UPDATE conversation SET last_seq = %s, activity_id = %s WHERE id = %s",
            (messages[-1].seq, messages[-1].id, conversation.id),
        )
        return messages

    async def positions(self, conversation: Conversation, user: str, positions: Positions) -> None:
        await self.connection.execute(
            "UPDATE participant SET delivered_seq = %s, read_seq = %s, shown_read_seq = %s"
            " WHERE conversation_id = %s AND user_id = %s",
            (
                positions.delivered_seq,
                positions.read_seq,
                positions.shown_read_seq,
                conversation.id,
                user,
            ),
        )
