"""ListConversations, GetConversation and OpenConversation over the wire."""

from __future__ import annotations

import asyncio

import pytest

from proto.messaging.v1 import messaging_pb2 as pb
from service.domain.conversation import direct_conversation
from service.domain.errors import ErrorCode
from service.domain.ids import UserId
from service.domain.receipts import Positions
from tests.contract.conversation_reader.in_memory import CREATED_AT
from tests.contract.conversation_reader.seeding import PostgresSeed
from tests.integration.grpc_api.client import Client, assert_refused
from tests.unit.use_cases.connected_pairs import ConnectedPairs


def without_positions(conversation: pb.Conversation) -> pb.Conversation:
    """What both participants see alike."""
    alike = pb.Conversation()
    alike.CopyFrom(conversation)
    del alike.positions[:]
    return alike


@pytest.mark.parametrize("page_size", [0, 1, 7, 100])
async def test_120_conversations_are_listed_once_each_latest_activity_first(
    client: Client, seed: PostgresSeed, page_size: int
) -> None:
    opened = [await seed.conversation("alice", f"user{number}") for number in range(120)]
    await seed.conversation("bob", "carol")
    for number in range(0, 120, 3):
        await seed.messages(opened[number], ["alice"])
    with_messages, without = range(117, -1, -3), [n for n in range(119, -1, -1) if n % 3]
    listed: list[str] = []
    cursor = ""
    while True:
        page = await client.conversations("alice", page_size=page_size, cursor=cursor)
        assert len(page.conversations) <= (page_size or 50)
        listed.extend(conversation.conversation_id for conversation in page.conversations)
        cursor = page.next_cursor
        if not cursor:
            break
    assert listed == [str(opened[number].id) for number in (*with_messages, *without)]


async def test_list_and_conversation_show_the_same(client: Client, seed: PostgresSeed) -> None:
    conversation = await seed.conversation("bob", "alice")
    messages = await seed.messages(conversation, ["alice", "bob", "bob", "alice", "bob"])
    await seed.positions(conversation, "alice", Positions(delivered_seq=5, read_seq=2, shown_read_seq=1))
    shown = await client.conversation("alice", conversation.id)
    assert list((await client.conversations("alice")).conversations) == [shown]
    assert shown.conversation_id == str(conversation.id)
    assert shown.kind == "direct"
    assert list(shown.participant_ids) == ["alice", "bob"]
    assert (shown.last_seq, shown.unread_count, shown.read_seq) == (5, 2, 2)
    assert list(shown.positions) == [pb.Position(user_id="bob")]
    of_bob = await client.conversation("bob", conversation.id)
    assert of_bob.read_seq == 0
    assert list(of_bob.positions) == [pb.Position(user_id="alice", delivered_seq=5, read_seq=1)]
    assert shown.created_at.ToDatetime(CREATED_AT.tzinfo) == CREATED_AT
    assert shown.last_message.text == messages[-1].text
    assert shown.last_message.status == pb.MESSAGE_STATUS_DELIVERED
    history = await client.history("alice", conversation.id, page_size=1)
    assert shown.last_message == history.messages[0]


async def test_unread_counts_are_exact_for_both_at_every_position(client: Client, seed: PostgresSeed) -> None:
    conversation = await seed.conversation("alice", "bob")
    senders = ["alice", "bob", "bob", "alice", "bob", "alice", "alice"]
    await seed.messages(conversation, senders)
    for read_seq in range(len(senders) + 1):
        for user in ("alice", "bob"):
            await seed.positions(conversation, user, Positions(delivered_seq=7, read_seq=read_seq))
            expected = sum(sender != user for sender in senders[read_seq:])
            assert (await client.conversation(user, conversation.id)).unread_count == expected
            (listed,) = (await client.conversations(user)).conversations
            assert listed.unread_count == expected


async def test_a_list_cursor_of_another_user_or_list_is_refused(client: Client, seed: PostgresSeed) -> None:
    for other in ("bob", "carol", "dave"):
        conversation = await seed.conversation("alice", other)
    await seed.conversation("bob", "carol")
    await seed.messages(conversation, ["alice"] * 3)
    of_bob = (await client.conversations("bob", page_size=1)).next_cursor
    of_history = (await client.history("alice", conversation.id, page_size=1)).next_cursor
    own = (await client.conversations("alice", page_size=1)).next_cursor
    assert len((await client.conversations("alice", cursor=own)).conversations) == 2
    for cursor in (of_bob, of_history, own[:-1], own.swapcase(), "A" * 36):
        await assert_refused(client.conversations("alice", cursor=cursor), ErrorCode.INVALID_PAYLOAD)


@pytest.mark.parametrize("page_size", [-1, 101])
async def test_a_list_page_has_one_to_a_hundred_conversations(client: Client, page_size: int) -> None:
    await assert_refused(client.conversations("alice", page_size=page_size), ErrorCode.INVALID_PAYLOAD)


async def test_fifty_calls_at_once_open_one_conversation(client: Client, seed: PostgresSeed) -> None:
    callers = [("alice", "bob"), ("bob", "alice")] * 25
    opened = await asyncio.gather(*(client.open(user, recipient) for user, recipient in callers))
    for (_, recipient), conversation in zip(callers, opened, strict=True):
        assert list(conversation.positions) == [pb.Position(user_id=recipient)]
        assert without_positions(conversation) == without_positions(opened[0])
    assert opened[0].conversation_id == str(direct_conversation(UserId("alice"), "bob").id)
    assert list(opened[0].participant_ids) == ["alice", "bob"]
    assert not opened[0].HasField("last_message")
    cursor = await seed.connection.execute(
        "SELECT (SELECT count(*) FROM conversation), (SELECT count(*) FROM participant)"
    )
    assert await cursor.fetchone() == (1, 2)


async def test_opening_leaves_what_was_written_and_read_as_it_is(client: Client, seed: PostgresSeed) -> None:
    conversation = await seed.conversation("alice", "bob")
    await seed.messages(conversation, ["alice", "bob"])
    await seed.positions(conversation, "alice", Positions(delivered_seq=2, read_seq=1))
    before = await client.conversation("alice", conversation.id)
    assert await client.open("alice", "bob") == before
    assert before.last_seq == 2


async def test_a_new_conversation_stands_first_in_both_lists(client: Client, seed: PostgresSeed) -> None:
    await seed.conversation("alice", "zoe")
    opened = await client.open("alice", "bob")
    for user in ("alice", "bob"):
        first = (await client.conversations(user)).conversations[0]
        assert without_positions(first) == without_positions(opened)


async def test_users_who_are_not_connected_cannot_open(client: Client, connections: ConnectedPairs) -> None:
    await assert_refused(client.open("alice", "carol"), ErrorCode.NOT_CONNECTED)
    await assert_refused(client.open("alice", "nobody-at-all"), ErrorCode.NOT_CONNECTED)
    assert not (await client.conversations("alice")).conversations
    connections.connect("alice", "carol")
    assert (await client.open("alice", "carol")).participant_ids == ["alice", "carol"]


async def test_when_connections_cannot_be_checked_the_caller_is_told_when_to_try_again(
    client: Client, connections: ConnectedPairs
) -> None:
    connections.reachable = False
    refusal = await assert_refused(client.open("alice", "bob"), ErrorCode.AUTHORIZATION_UNAVAILABLE)
    assert refusal.metadata["error-retryable"] == "true"
    assert refusal.metadata["error-retry-after-ms"] == "250"


@pytest.mark.parametrize("recipient", ["alice", "", "a/b", "x" * 65, "zoë", "\x00"])
async def test_oneself_and_what_is_no_user_id_cannot_be_opened(client: Client, recipient: str) -> None:
    await assert_refused(client.open("alice", recipient), ErrorCode.INVALID_PAYLOAD)
