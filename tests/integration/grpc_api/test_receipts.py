"""GetMessageReceipts over the wire, after marks as the service commits them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from proto.messaging.v1 import messaging_pb2 as pb
from service.domain.conversation import Conversation
from service.domain.errors import ErrorCode
from service.domain.ids import UserId
from service.domain.message import Message
from service.domain.receipts import Mark, Position
from service.storage.batches import PostgresBatchWriter
from tests.contract.conversation_reader.seeding import PostgresSeed
from tests.integration.grpc_api.client import Client, assert_refused


def mark(message: Message, user: str, *, is_read: bool) -> Mark:
    return Mark(
        conversation_id=message.conversation_id,
        user_id=UserId(user),
        message_id=message.id,
        is_read=is_read,
    )


async def commit(writer: PostgresBatchWriter, *marks: Mark) -> list[Position]:
    """Commits marks in one batch; all must have found their message."""
    positions = await writer.advance(marks)
    found = [position for position in positions if position is not None]
    assert len(found) == len(marks)
    return found


async def times(
    client: Client, caller: str, message: Message, *, of: str = "bob"
) -> tuple[datetime | None, datetime | None]:
    """When the only other participant got and read the message, as the caller is told."""
    (receipt,) = (await client.receipts(caller, message.conversation_id, message.id)).receipts
    assert receipt.user_id == of
    return (
        receipt.delivered_at.ToDatetime(UTC) if receipt.HasField("delivered_at") else None,
        receipt.read_at.ToDatetime(UTC) if receipt.HasField("read_at") else None,
    )


@pytest.fixture
async def conversation(seed: PostgresSeed) -> Conversation:
    return await seed.conversation("alice", "bob")


async def test_a_message_that_nobody_got_has_a_receipt_without_moments(
    client: Client, seed: PostgresSeed, conversation: Conversation
) -> None:
    of_alice, of_bob = await seed.messages(conversation, ["alice", "bob"])
    for caller in ("alice", "bob"):
        assert await times(client, caller, of_alice) == (None, None)
        assert await times(client, caller, of_bob, of="alice") == (None, None)


async def test_moments_are_exact_and_later_marks_overwrite_none(
    client: Client, seed: PostgresSeed, writer: PostgresBatchWriter, conversation: Conversation
) -> None:
    messages = await seed.messages(conversation, ["alice"] * 9)
    at: dict[tuple[int, bool], datetime] = {}
    # Late, repeated and cumulative ones among them.
    for seq, is_read in [(2, False), (1, True), (5, False), (3, False), (5, False), (4, True), (4, True)]:
        (position,) = await commit(writer, mark(messages[seq - 1], "bob", is_read=is_read))
        if position.moved:
            at[seq, is_read] = position.reached_at
    assert len(set(at.values())) == 4
    expected = [
        (at[2, False], at[1, True]),
        (at[2, False], at[4, True]),
        (at[5, False], at[4, True]),
        (at[5, False], at[4, True]),
        (at[5, False], None),
        (None, None),
    ]
    for caller in ("alice", "bob"):
        assert [await times(client, caller, message) for message in messages[:6]] == expected
    (last,) = await commit(writer, mark(messages[-1], "bob", is_read=True))
    assert [await times(client, "alice", message) for message in messages[:4]] == expected[:4]
    assert await times(client, "alice", messages[4]) == (at[5, False], last.reached_at)
    assert await times(client, "alice", messages[-1]) == (last.reached_at, last.reached_at)


async def test_marks_of_the_author_and_in_other_conversations_change_nothing(
    client: Client, seed: PostgresSeed, writer: PostgresBatchWriter, conversation: Conversation
) -> None:
    (message,) = await seed.messages(conversation, ["alice"])
    elsewhere = await seed.conversation("bob", "carol")
    (other,) = await seed.messages(elsewhere, ["carol"])
    await commit(writer, mark(message, "alice", is_read=True), mark(other, "bob", is_read=True))
    assert await times(client, "alice", message) == (None, None)
    assert None not in await times(client, "carol", other)


async def test_hidden_reading_is_told_to_the_reader_only(
    client: Client, seed: PostgresSeed, writer: PostgresBatchWriter, conversation: Conversation
) -> None:
    first, second, third = await seed.messages(conversation, ["alice"] * 3)
    (shown,) = await commit(writer, mark(first, "bob", is_read=True))
    await client.set_preferences("bob", read_receipts=False)
    (hidden,) = await commit(writer, mark(second, "bob", is_read=True))
    assert await times(client, "alice", first) == (shown.reached_at, shown.reached_at)
    assert await times(client, "alice", second) == (hidden.reached_at, None)
    assert await times(client, "bob", second) == (hidden.reached_at, hidden.reached_at)
    statuses = [message.status for message in (await client.history("alice", conversation.id)).messages]
    assert statuses == [pb.MESSAGE_STATUS_SENT, pb.MESSAGE_STATUS_DELIVERED, pb.MESSAGE_STATUS_READ]
    of_alice = await client.conversation("alice", conversation.id)
    assert list(of_alice.positions) == [pb.Position(user_id="bob", delivered_seq=2, read_seq=1)]
    of_bob = await client.conversation("bob", conversation.id)
    assert (of_bob.read_seq, of_bob.unread_count) == (2, 1)
    # What is shown again counts from the moment in which it is shown, as the status does.
    await client.set_preferences("bob", read_receipts=True)
    assert await times(client, "alice", second) == (hidden.reached_at, None)
    (again,) = await commit(writer, mark(third, "bob", is_read=True))
    assert await times(client, "alice", second) == (hidden.reached_at, again.reached_at)
    assert await times(client, "bob", second) == (hidden.reached_at, hidden.reached_at)
    statuses = [message.status for message in (await client.history("alice", conversation.id)).messages]
    assert statuses == [pb.MESSAGE_STATUS_READ] * 3


async def test_what_was_read_in_secret_stays_secret_when_only_delivery_moves(
    client: Client, seed: PostgresSeed, writer: PostgresBatchWriter, conversation: Conversation
) -> None:
    first, second, third = await seed.messages(conversation, ["alice"] * 3)
    await client.set_preferences("bob", read_receipts=False)
    await commit(writer, mark(second, "bob", is_read=True))
    await client.set_preferences("bob", read_receipts=True)
    # A late reading in the same batch reveals nothing either.
    await commit(writer, mark(third, "bob", is_read=False), mark(first, "bob", is_read=True))
    shown = await client.conversation("alice", conversation.id)
    assert list(shown.positions) == [pb.Position(user_id="bob", delivered_seq=3, read_seq=0)]
    statuses = [message.status for message in (await client.history("alice", conversation.id)).messages]
    assert statuses == [pb.MESSAGE_STATUS_DELIVERED] * 3
    for message in (first, second):
        _, read_at = await times(client, "alice", message)
        assert read_at is None


async def test_concurrent_marks_leave_one_moment_for_each_message(
    client: Client, seed: PostgresSeed, writer: PostgresBatchWriter, conversation: Conversation
) -> None:
    messages = await seed.messages(conversation, ["alice"] * 20)
    committed = await asyncio.gather(
        *(commit(writer, mark(message, "bob", is_read=True)) for message in messages)
    )
    moved = {position.seq: position.reached_at for (position,) in committed if position.moved}
    for message in messages:
        expected = moved[min(seq for seq in moved if seq >= message.seq)]
        assert await times(client, "alice", message) == (expected, expected)


async def test_unread_counts_and_read_positions_follow_the_marks(
    client: Client, seed: PostgresSeed, writer: PostgresBatchWriter, conversation: Conversation
) -> None:
    senders = ["alice", "bob", "alice", "alice", "bob", "alice"]
    messages = await seed.messages(conversation, senders)
    highest = 0
    for seq in (1, 3, 2, 6):
        await commit(writer, mark(messages[seq - 1], "bob", is_read=True))
        highest = max(highest, seq)
        shown = await client.conversation("bob", conversation.id)
        assert list((await client.conversations("bob")).conversations) == [shown]
        assert shown.read_seq == highest
        assert shown.unread_count == senders[highest:].count("alice")
        assert list(shown.positions) == [pb.Position(user_id="alice")]
        of_alice = await client.conversation("alice", conversation.id)
        assert (of_alice.read_seq, of_alice.unread_count) == (0, 2)
        assert list(of_alice.positions) == [
            pb.Position(user_id="bob", delivered_seq=highest, read_seq=highest)
        ]


async def test_strangers_and_wrong_ids_learn_nothing(
    client: Client, seed: PostgresSeed, conversation: Conversation
) -> None:
    (message,) = await seed.messages(conversation, ["alice"])
    elsewhere = await seed.conversation("alice", "carol")
    refusals = [
        await assert_refused(
            client.receipts("carol", conversation_id, message.id), ErrorCode.CONVERSATION_NOT_FOUND
        )
        for conversation_id in (conversation.id, uuid4(), conversation.id)
    ]
    assert len({repr(refusal) for refusal in refusals}) == 1
    for conversation_id, message_id in ((conversation.id, uuid4()), (elsewhere.id, message.id)):
        await assert_refused(
            client.receipts("alice", conversation_id, message_id), ErrorCode.MESSAGE_NOT_FOUND
        )
    for wrong in (("x", message.id), (conversation.id, "x"), ("", "")):
        await assert_refused(client.receipts("alice", *wrong), ErrorCode.INVALID_PAYLOAD)
