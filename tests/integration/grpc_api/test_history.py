"""GetMessageHistory over the wire."""

from __future__ import annotations

from itertools import product
from uuid import uuid4

import pytest

from proto.messaging.v1 import messaging_pb2 as pb
from service.domain.errors import ErrorCode
from service.domain.message import Message
from service.domain.receipts import Positions
from tests.contract.conversation_reader.seeding import PostgresSeed
from tests.integration.grpc_api.client import SERVICE, Client, assert_refused, refusal_of

SENT, DELIVERED, READ = pb.MESSAGE_STATUS_SENT, pb.MESSAGE_STATUS_DELIVERED, pb.MESSAGE_STATUS_READ


def wire(message: Message, status: pb.MessageStatus.ValueType) -> pb.Message:
    expected = pb.Message(
        message_id=str(message.id),
        conversation_id=str(message.conversation_id),
        seq=message.seq,
        sender_id=message.sender_id,
        text=message.text,
        client_message_id=str(message.client_message_id),
        status=status,
    )
    expected.timestamp.FromDatetime(message.created_at)
    return expected


async def walk(client: Client, conversation_id: object, **fields: object) -> list[pb.Message]:
    messages: list[pb.Message] = []
    cursor = ""
    while True:
        page = await client.history("alice", conversation_id, cursor=cursor, **fields)
        messages.extend(page.messages)
        cursor = page.next_cursor
        if not cursor:
            return messages


@pytest.mark.parametrize("page_size", [0, 1, 7, 50, 100])
async def test_250_messages_are_walked_both_ways_without_a_hole_or_a_repeat(
    client: Client, seed: PostgresSeed, page_size: int
) -> None:
    conversation = await seed.conversation("alice", "bob")
    seeded = await seed.messages(conversation, ["alice", "bob"] * 125)
    expected = [wire(message, SENT) for message in seeded]
    newer = await walk(client, conversation.id, page_size=page_size, direction=pb.DIRECTION_NEWER)
    assert newer == expected
    for direction in (pb.DIRECTION_OLDER, pb.DIRECTION_UNSPECIFIED):
        older = await walk(client, conversation.id, page_size=page_size, direction=direction)
        assert older == expected[::-1]


async def test_a_page_has_fifty_messages_unless_another_size_is_asked_for(
    client: Client, seed: PostgresSeed
) -> None:
    conversation = await seed.conversation("alice", "bob")
    await seed.messages(conversation, ["alice"] * 101)
    for page_size, messages in ((0, 50), (1, 1), (50, 50), (99, 99), (100, 100)):
        page = await client.history("alice", conversation.id, page_size=page_size)
        assert len(page.messages) == messages
        assert page.next_cursor
    for page_size in (-1, 101, 2**31 - 1, -(2**31)):
        await assert_refused(
            client.history("alice", conversation.id, page_size=page_size), ErrorCode.INVALID_PAYLOAD
        )


async def test_a_page_that_ends_with_the_last_message_has_no_cursor(
    client: Client, seed: PostgresSeed
) -> None:
    conversation = await seed.conversation("alice", "bob")
    assert await client.history("alice", conversation.id) == pb.GetMessageHistoryResponse()
    await seed.messages(conversation, ["alice"] * 10)
    assert not (await client.history("alice", conversation.id, page_size=10)).next_cursor
    assert (await client.history("alice", conversation.id, page_size=9)).next_cursor


async def test_messages_that_arrive_while_one_pages_back_shift_nothing(
    client: Client, seed: PostgresSeed
) -> None:
    conversation = await seed.conversation("alice", "bob")
    await seed.messages(conversation, ["alice"] * 20)
    first = await client.history("alice", conversation.id, page_size=10)
    await seed.messages(conversation, ["bob"] * 5, first_seq=21)
    second = await client.history("alice", conversation.id, page_size=10, cursor=first.next_cursor)
    assert [m.seq for m in (*first.messages, *second.messages)] == list(range(20, 0, -1))


async def test_statuses_follow_from_the_positions_of_the_authors_counterpart(
    client: Client, seed: PostgresSeed
) -> None:
    conversation = await seed.conversation("alice", "bob")
    await seed.messages(conversation, ["alice", "bob"] * 4)
    await seed.positions(conversation, "bob", Positions(delivered_seq=5, read_seq=4, shown_read_seq=3))
    await seed.positions(conversation, "alice", Positions(delivered_seq=8, read_seq=2, shown_read_seq=2))
    expected = {1: READ, 3: READ, 5: DELIVERED, 7: SENT, 2: READ, 4: DELIVERED, 6: DELIVERED, 8: DELIVERED}
    for user, direction in product(("alice", "bob"), (pb.DIRECTION_OLDER, pb.DIRECTION_NEWER)):
        page = await client.history(user, conversation.id, direction=direction)
        assert {message.seq: message.status for message in page.messages} == expected


async def test_a_stranger_cannot_tell_a_conversation_from_none(client: Client, seed: PostgresSeed) -> None:
    conversation = await seed.conversation("alice", "bob")
    await seed.messages(conversation, ["alice"] * 3)
    for call in (client.history, client.conversation):
        # Twice: what the server remembers of the first call must not show in the second.
        refusals = [
            await assert_refused(call("carol", conversation_id), ErrorCode.CONVERSATION_NOT_FOUND)
            for conversation_id in (conversation.id, uuid4(), conversation.id, uuid4())
        ]
        assert len({repr(refusal) for refusal in refusals}) == 1
    assert not (await client.conversations("carol")).conversations


async def test_a_cursor_of_another_list_and_a_damaged_one_are_refused(
    client: Client, seed: PostgresSeed
) -> None:
    with_bob = await seed.conversation("alice", "bob")
    with_carol = await seed.conversation("alice", "carol")
    for conversation in (with_bob, with_carol):
        await seed.messages(conversation, ["alice"] * 5)
    cursor = (await client.history("alice", with_bob.id, page_size=2)).next_cursor
    of_list = (await client.conversations("alice", page_size=1)).next_cursor
    await client.history("bob", with_bob.id, cursor=cursor)
    wrong = [
        (with_carol.id, pb.DIRECTION_OLDER, cursor),
        (with_bob.id, pb.DIRECTION_NEWER, cursor),
        (with_bob.id, pb.DIRECTION_OLDER, of_list),
        (with_bob.id, pb.DIRECTION_OLDER, cursor[:-1]),
        (with_bob.id, pb.DIRECTION_OLDER, cursor + "="),
        (with_bob.id, pb.DIRECTION_OLDER, cursor.swapcase()),
        (with_bob.id, pb.DIRECTION_OLDER, "2"),
        (with_bob.id, pb.DIRECTION_OLDER, "' OR 1=1 --"),
        (with_bob.id, pb.DIRECTION_OLDER, "\x00" * 24),
    ]
    for conversation_id, direction, wrong_cursor in wrong:
        call = client.history("alice", conversation_id, direction=direction, cursor=wrong_cursor)
        await assert_refused(call, ErrorCode.INVALID_PAYLOAD)


@pytest.mark.parametrize(
    "conversation_id",
    ["", "x", "{e9ac7fbd-4806-57bb-9371-0299e3f8f28d}", "e9ac7fbd480657bb93710299e3f8f28d", "\x00" * 36],
)
async def test_what_is_no_conversation_id_is_refused(client: Client, conversation_id: str) -> None:
    for call in (client.history, client.conversation):
        await assert_refused(call("alice", conversation_id), ErrorCode.INVALID_PAYLOAD)


async def test_an_unknown_direction_is_refused(client: Client, seed: PostgresSeed) -> None:
    conversation = await seed.conversation("alice", "bob")
    for direction in (3, -1, 2**31 - 1):
        await assert_refused(
            client.history("alice", conversation.id, direction=direction), ErrorCode.INVALID_PAYLOAD
        )


@pytest.mark.parametrize("request_bytes", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7fshort"])
async def test_bytes_that_are_no_request_are_refused_in_the_same_form(
    client: Client, request_bytes: bytes
) -> None:
    call = client.call(SERVICE + "GetMessageHistory", request_bytes, client.user("alice"))
    await assert_refused(call, ErrorCode.INVALID_PAYLOAD)


async def test_a_request_beyond_64_kib_is_refused(client: Client) -> None:
    refusal = await refusal_of(client.history("alice", "x" * 70_000))
    assert refusal.status.name == "RESOURCE_EXHAUSTED"


async def test_the_greatest_page_fits_into_a_message(client: Client, seed: PostgresSeed) -> None:
    conversation = await seed.conversation("alice", "bob")
    await seed.messages(conversation, ["alice"] * 100)
    text = "\N{GRINNING FACE}" * 5_000
    await seed.connection.execute("UPDATE message SET text = %s", (text,))
    page = await client.history("alice", conversation.id, page_size=100)
    assert {message.text for message in page.messages} == {text}


async def test_texts_come_back_byte_for_byte(client: Client, seed: PostgresSeed) -> None:
    texts = [
        "e\u0301" * 2_500,
        "\u202eabc",
        "\u05e9\u05dc\u05d5\u05dd",
        " \t\r\n ",
        "\ufeff",
        "\U0001f9d1\u200d\U0001f680",
    ]
    conversation = await seed.conversation("alice", "bob")
    await seed.messages(conversation, ["alice"] * len(texts))
    for seq, text in enumerate(texts, 1):
        await seed.connection.execute("UPDATE message SET text = %s WHERE seq = %s", (text, seq))
    page = await client.history("alice", conversation.id, direction=pb.DIRECTION_NEWER)
    assert [message.text for message in page.messages] == texts
