"""Fills the database as the service would have left it after years of use, in seconds.

Rows go in by binary COPY in the order of their commits, so that the messages
of a conversation lie scattered over the table as they do when thousands of
conversations are written to at once. Indexes are built afterwards, and
statistics and the visibility map are as autovacuum leaves them.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from os import urandom
from uuid import UUID

import psycopg

from service.domain.conversation import Conversation, direct_conversation
from service.domain.ids import UserId

_TEXTS = tuple(
    " ".join(("history", "reads", "one", "page", "of", "messages", "at", "any", "depth")[: 1 + number % 9])
    + f", says text {number} "
    + "with some more words" * (number % 7)
    for number in range(101)
)
_TEXTS_UTF8 = tuple(text.encode() for text in _TEXTS)
_COPY = (
    "COPY message (conversation_id, seq, id, sender_id, client_message_id, body_hash, text, created_at)"
    " FROM STDIN (FORMAT binary)"
)
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"
_ROWS_A_WRITE = 2_000
_MICROSECONDS_APART = 20_000
# PostgreSQL counts from 2000-01-01.
_POSTGRES_EPOCH_US = 946_684_800_000_000
# All but the sender and the text have a fixed length; an int in front of each value is its length.
_UP_TO_SENDER = struct.Struct(">hi16siqiQQi")
_UP_TO_TEXT = struct.Struct(">iQQi16si")
_CREATED_AT = struct.Struct(">iq")
_RANDOM = struct.Struct(">QQQ")
_VARIANT = 1 << 63

_READ_EVERY = 50
"""Messages between two advances of a reader."""

_RECEIPTS = """
INSERT INTO receipt (conversation_id, user_id, is_read, seq, is_shown, created_at)
SELECT p.conversation_id, p.user_id, is_read, seq, true, now()
FROM participant AS p
CROSS JOIN (VALUES (false), (true)) AS kind (is_read)
CROSS JOIN LATERAL generate_series(%(every)s::bigint, p.read_seq, %(every)s) AS seq
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """What to put into the empty tables."""

    messages: int
    conversations: int
    """The long one included."""
    long_messages: int = 0
    """Messages of the long conversation; the others share the rest evenly. 0: all are alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    """What is there now; the first conversation is the long one."""

    conversations: Sequence[Conversation]
    messages: Sequence[int]
    """Number of messages by conversation, in the same order."""


def text_of(seq: int) -> str:
    """The text of every seeded conversation's message at `seq`."""
    return _TEXTS[seq % len(_TEXTS)]


def sender_of(conversation: Conversation, seq: int) -> UserId:
    """The author of a seeded conversation's message at `seq`: the two take turns."""
    return conversation.participants[seq % 2]


def planned(seed: Seed) -> Seeded:
    """What `fill` puts in; the same every time."""
    conversations = [
        direct_conversation(UserId(f"seeded-{number}-a"), f"seeded-{number}-b")
        for number in range(seed.conversations)
    ]
    rest = seed.messages - seed.long_messages
    others = seed.conversations - 1 if seed.long_messages else seed.conversations
    shares = [rest // others + (number < rest % others) for number in range(others)]
    counts = [seed.long_messages, *shares] if seed.long_messages else shares
    return Seeded(conversations=conversations, messages=counts)


async def ensure(database_url: str, seed: Seed) -> Seeded:
    """Fills the tables unless an earlier call already has."""
    plan = planned(seed)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        found = await connection.execute(
            "SELECT last_seq FROM conversation WHERE id = %s", (plan.conversations[0].id,)
        )
        if await found.fetchone() is None:
            await _fill(connection, plan)
    return plan


async def _fill(connection: psycopg.AsyncConnection[tuple[object, ...]], plan: Seeded) -> None:
    await connection.execute("SET maintenance_work_mem = '1GB'")
    # The checkpoint at the end makes it durable.
    await connection.execute("SET synchronous_commit = off")
    async with connection.transaction():
        definitions = await _drop_indexes(connection)
        last_ids = await _copy_messages(connection, plan)
        for definition in definitions:
            await connection.execute(definition.encode())
        await _add_conversations(connection, plan, last_ids)
    for table in ("message", "conversation", "participant", "receipt"):
        await connection.execute(f"VACUUM (ANALYZE) {table}".encode())
    await connection.execute("CHECKPOINT")


async def _drop_indexes(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> list[str]:
    """Drops the indexes of `message`; returns the statements that make them again."""
    cursor = await connection.execute(
        "SELECT i.relname, pg_get_indexdef(i.oid), c.conname, pg_get_constraintdef(c.oid)"
        " FROM pg_index JOIN pg_class AS i ON i.oid = indexrelid"
        " LEFT JOIN pg_constraint AS c ON c.conindid = i.oid WHERE indrelid = 'message'::regclass"
    )
    definitions = []
    for index, definition, constraint, rule in await cursor.fetchall():
        if constraint is None:
            await connection.execute(f"DROP INDEX {index}".encode())
            definitions.append(str(definition))
        else:
            await connection.execute(f"ALTER TABLE message DROP CONSTRAINT {constraint}".encode())
            definitions.append(f"ALTER TABLE message ADD CONSTRAINT {constraint} {rule}")
    return definitions


async def _copy_messages(
    connection: psycopg.AsyncConnection[tuple[object, ...]], plan: Seeded
) -> Sequence[UUID]:
    """Copies all messages; returns each conversation's last message id."""
    total = sum(plan.messages)
    began_us = time.time_ns() // 1_000 - total * _MICROSECONDS_APART
    ids = [UUID(int=0)] * len(plan.conversations)
    rows: list[bytes] = []
    async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        await copy.write(_COPY_HEADER)
        for number, (index, seq) in enumerate(_in_order_of_commits(plan.messages)):
            moment_us = began_us + number * _MICROSECONDS_APART
            row, high, low = _row(plan.conversations[index], seq, moment_us)
            rows.append(row)
            if seq == plan.messages[index]:
                ids[index] = UUID(int=high << 64 | low)
            if len(rows) == _ROWS_A_WRITE:
                await copy.write(b"".join(rows))
                rows.clear()
        await copy.write(b"".join(rows) + _COPY_TRAILER)
    return ids


def _in_order_of_commits(counts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Index of the conversation and position of each message: all grow evenly over the whole time."""
    longest = max(counts[1:], default=0)
    long_written = 0
    written = 0
    rest = sum(counts[1:])
    for seq in range(1, longest + 1):
        for index in range(1, len(counts)):
            if seq > counts[index]:
                continue
            yield index, seq
            written += 1
            # The first conversation keeps pace with all others together.
            while long_written * rest < counts[0] * written:
                long_written += 1
                yield 0, long_written
    for seq in range(long_written + 1, counts[0] + 1):
        yield 0, seq


def _row(conversation: Conversation, seq: int, moment_us: int) -> tuple[bytes, int, int]:
    """One row of `message` in the form of COPY, and the halves of its id."""
    key_high, key_low, random = _RANDOM.unpack(urandom(_RANDOM.size))
    milliseconds, fraction = divmod(moment_us, 1_000)
    high = milliseconds << 16 | 0x7000 | fraction * 4_096 // 1_000
    low = _VARIANT | random >> 2
    id_, text = conversation.id.bytes, _TEXTS_UTF8[seq % len(_TEXTS)]
    sender = sender_of(conversation, seq).encode()
    hashed = blake2b(id_ + text, digest_size=16).digest()
    key = (key_high & ~0xF000 | 0x4000, _VARIANT | key_low >> 2)
    row = (
        _UP_TO_SENDER.pack(8, 16, id_, 8, seq, 16, high, low, len(sender))
        + sender
        + _UP_TO_TEXT.pack(16, *key, 16, hashed, len(text))
        + text
        + _CREATED_AT.pack(8, moment_us - _POSTGRES_EPOCH_US)
    )
    return row, high, low


async def _add_conversations(
    connection: psycopg.AsyncConnection[tuple[object, ...]], plan: Seeded, last_ids: Sequence[UUID]
) -> None:
    """Adds the conversations with everything delivered, and read but for the last messages."""
    async with connection.cursor() as cursor:
        async with cursor.copy("COPY conversation (id, kind, last_seq, activity_id) FROM STDIN") as copy:
            for conversation, last_seq, last_id in zip(
                plan.conversations, plan.messages, last_ids, strict=True
            ):
                await copy.write_row((conversation.id, conversation.kind.value, last_seq, last_id))
        async with cursor.copy(
            "COPY participant (conversation_id, user_id, delivered_seq, read_seq, shown_read_seq) FROM STDIN"
        ) as copy:
            for conversation, last_seq in zip(plan.conversations, plan.messages, strict=True):
                read_seq = last_seq - last_seq % _READ_EVERY
                for user in conversation.participants:
                    await copy.write_row((conversation.id, user, last_seq, read_seq, read_seq))
    await connection.execute(_RECEIPTS, {"every": _READ_EVERY})
