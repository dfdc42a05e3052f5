"""SyncConversation over the wire: the page that `sync` gives over MQTT."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from bridge.payloads import encode_sync_page
from proto.messaging.v1 import messaging_pb2 as pb
from service.domain.errors import ErrorCode
from service.domain.ids import UserId
from service.domain.receipts import Positions
from service.storage.conversations import PostgresConversationRepository
from service.storage.database import Database
from service.storage.reads import PostgresConversationReader
from service.use_cases.authorize import Authorize
from service.use_cases.sync_conversation import MAX_TEXT_BYTES, SyncConversation
from tests.asyncapi_schemas import validate_event
from tests.contract.conversation_reader.seeding import PostgresSeed
from tests.integration.grpc_api.client import Client, assert_refused
from tests.unit.use_cases.connected_pairs import ConnectedPairs

BROKER_LIMIT = 256 * 1024
LONG = "\x01" * 5_000


@pytest.fixture
def over_mqtt(database: Database, connections: ConnectedPairs) -> SyncConversation:
    """The use case that the bridge asks."""
    authorize = Authorize(PostgresConversationRepository(database), connections, lambda: 0)
    return SyncConversation(authorize, PostgresConversationReader(database))


def as_json(page: pb.SyncConversationResponse, conversation_id: str, after_seq: int) -> dict[str, object]:
    """The page in the form of the event, without what the event has no place for: statuses."""
    return {
        "conversationId": conversation_id,
        "afterSeq": after_seq,
        "changes": [
            {
                "type": "message",
                "messageId": message.message_id,
                "conversationId": message.conversation_id,
                "seq": message.seq,
                "senderId": message.sender_id,
                "text": message.text,
                "timestamp": _moment(message),
                "clientMessageId": message.client_message_id,
            }
            for message in page.messages
        ],
        "positions": [
            {"userId": at.user_id, "deliveredSeq": at.delivered_seq, "readSeq": at.read_seq}
            for at in page.positions
        ],
        "complete": page.complete,
    }


def _moment(message: pb.Message) -> str:
    return message.timestamp.ToDatetime().isoformat(timespec="microseconds") + "Z"


@pytest.mark.parametrize("limit", [0, 1, 7, 100])
async def test_250_messages_are_the_same_pages_as_over_mqtt_and_without_a_hole(
    client: Client, seed: PostgresSeed, over_mqtt: SyncConversation, limit: int
) -> None:
    conversation = await seed.conversation("alice", "bob")
    messages = await seed.messages(conversation, ["alice", "bob"] * 125)
    await seed.connection.execute("UPDATE message SET text = %s WHERE seq %% 5 < 2", (LONG,))
    await seed.positions(conversation, "bob", Positions(delivered_seq=200, read_seq=100, shown_read_seq=40))
    walked: list[int] = []
    while True:
        after_seq = walked[-1] if walked else 0
        page = await client.sync("alice", conversation.id, after_seq=after_seq, limit=limit)
        told = await over_mqtt(UserId("alice"), conversation.id, after_seq=after_seq, limit=limit)
        event = encode_sync_page(told, "r" * 128)
        assert len(event) < BROKER_LIMIT - 1024
        body = json.loads(event)
        validate_event("syncPage", body)
        del body["requestId"]
        assert as_json(page, str(conversation.id), after_seq) == body
        assert 0 < len(page.messages) <= (limit or 100)
        assert sum(len(message.text) for message in page.messages) <= MAX_TEXT_BYTES
        walked += [message.seq for message in page.messages]
        if page.complete:
            break
        assert walked[-1] < 250
    assert walked == [message.seq for message in messages]


async def test_complete_says_that_the_newest_change_is_there(client: Client, seed: PostgresSeed) -> None:
    conversation = await seed.conversation("alice", "bob")
    empty = await client.sync("alice", conversation.id)
    assert (list(empty.messages), empty.complete) == ([], True)
    await seed.messages(conversation, ["alice"] * 10)
    for after_seq, limit, complete in (
        (0, 10, True),
        (0, 9, False),
        (1, 9, True),
        (10, 1, True),
        (11, 0, True),
    ):
        page = await client.sync("bob", conversation.id, after_seq=after_seq, limit=limit)
        assert [message.seq for message in page.messages] == [*range(after_seq + 1, 11)][: limit or 100]
        assert page.complete is complete
    await seed.messages(conversation, ["bob"], first_seq=11)
    assert [m.seq for m in (await client.sync("alice", conversation.id, after_seq=10)).messages] == [11]
    assert (await client.sync("alice", conversation.id, after_seq=2**63 - 1)).complete


async def test_positions_and_statuses_are_as_the_caller_may_see_them(
    client: Client, seed: PostgresSeed
) -> None:
    conversation = await seed.conversation("alice", "bob")
    await seed.messages(conversation, ["alice"] * 4)
    await seed.positions(conversation, "bob", Positions(delivered_seq=3, read_seq=2, shown_read_seq=1))
    of_alice = await client.sync("alice", conversation.id)
    assert {at.user_id: (at.delivered_seq, at.read_seq) for at in of_alice.positions} == {
        "alice": (0, 0),
        "bob": (3, 1),
    }
    assert [message.status for message in of_alice.messages] == [
        pb.MESSAGE_STATUS_READ,
        pb.MESSAGE_STATUS_DELIVERED,
        pb.MESSAGE_STATUS_DELIVERED,
        pb.MESSAGE_STATUS_SENT,
    ]
    of_bob = await client.sync("bob", conversation.id)
    assert {at.user_id: (at.delivered_seq, at.read_seq) for at in of_bob.positions}["bob"] == (3, 2)


async def test_strangers_and_wrong_requests_get_no_page(client: Client, seed: PostgresSeed) -> None:
    conversation = await seed.conversation("alice", "bob")
    await seed.messages(conversation, ["alice"])
    refusals = [
        await assert_refused(client.sync("carol", conversation_id), ErrorCode.CONVERSATION_NOT_FOUND)
        for conversation_id in (conversation.id, uuid4(), conversation.id)
    ]
    assert len({repr(refusal) for refusal in refusals}) == 1
    for wrong in ({"after_seq": -1}, {"limit": -1}, {"limit": 101}):
        await assert_refused(client.sync("alice", conversation.id, **wrong), ErrorCode.INVALID_PAYLOAD)
    await assert_refused(client.sync("alice", "x"), ErrorCode.INVALID_PAYLOAD)
