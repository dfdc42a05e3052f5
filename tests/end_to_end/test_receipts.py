"""Delivered and read, from the reader's device to the author's: told once, never going back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest_asyncio

from devstack.mosquitto import MosquittoServer
from devstack.python_server import Surroundings
from service.domain.conversation import direct_conversation
from service.domain.ids import UserId
from tests.conftest import MintToken
from tests.end_to_end.grpc_reader import grpc_reader
from tests.end_to_end.reference_client import ReferenceClient, connected, send_many
from tests.end_to_end.stack import Stack, new_service
from tests.tcp_proxy import tcp_proxy

ALICE_BOB = str(direct_conversation(UserId("alice"), "bob").id)
BOB_CAROL = str(direct_conversation(UserId("bob"), "carol").id)


@dataclass(frozen=True, slots=True)
class People:
    """Two devices for Alice and Bob, one for Carol."""

    alice: ReferenceClient
    laptop: ReferenceClient
    bob: ReferenceClient
    tablet: ReferenceClient
    carol: ReferenceClient

    async def write(self, *texts: str) -> list[str]:
        """Alice writes to Bob; returns the ids of all messages when everybody has them."""
        await send_many(self.alice, "bob", texts, window=50)
        head = self.alice.timelines[ALICE_BOB].head
        for client in (self.laptop, self.bob, self.tablet):
            await client.reaches(ALICE_BOB, head)
        return [message["messageId"] for message in self.bob.timelines[ALICE_BOB].in_order()]

    async def nothing_under_way(self) -> None:
        """Every event of every mark so far has arrived: one user's commands and events keep their order."""
        await self.bob.answered(self.bob.send("alice", "the end"))
        head = self.bob.timelines[ALICE_BOB].head
        for client in (self.alice, self.laptop, self.tablet):
            await client.reaches(ALICE_BOB, head)


@pytest_asyncio.fixture
async def people(stack: Stack, token: MintToken) -> AsyncIterator[People]:
    def new(user_id: str, device_id: str) -> ReferenceClient:
        return ReferenceClient(stack.mosquitto.mqtt_port, user_id, token(user_id), device_id=device_id)

    made = People(
        alice=new("alice", "phone"),
        laptop=new("alice", "laptop"),
        bob=new("bob", "phone"),
        tablet=new("bob", "tablet"),
        carol=new("carol", "phone"),
    )
    async with connected(made.alice, made.laptop, made.bob, made.tablet, made.carol):
        yield made


async def test_delivered_and_read_are_told_once_with_who_what_and_when(
    stack: Stack, people: People, token: MintToken
) -> None:
    ids = await people.write("one", "two", "three")
    async with grpc_reader(stack.service.grpc_target, token) as reader:
        assert await reader.statuses("alice", ALICE_BOB) == ["SENT", "SENT", "SENT"]
        assert await reader.unread("bob", ALICE_BOB) == 3
        people.bob.mark_delivered(ALICE_BOB, ids[1])
        for device in (people.alice, people.laptop):
            await device.hears_delivered(ALICE_BOB, "bob", 2)
        assert await reader.statuses("alice", ALICE_BOB) == ["DELIVERED", "DELIVERED", "SENT"]
        assert await reader.unread("bob", ALICE_BOB) == 3
        answer = await people.bob.answered(people.bob.mark_read(ALICE_BOB, ids[0]))
        assert answer[0] == "messageRead"
        assert await reader.statuses("alice", ALICE_BOB) == ["READ", "DELIVERED", "SENT"]
        assert await reader.unread("bob", ALICE_BOB) == 2
        assert await reader.unread("alice", ALICE_BOB) == 0
        await people.nothing_under_way()
        for device in (people.alice, people.laptop):
            (delivered,) = device.told["messageDelivered"]
            assert (delivered["userId"], delivered["seq"], delivered["messageId"]) == ("bob", 2, ids[1])
            (read,) = device.told["messageRead"]
            assert (read["userId"], read["seq"], read["messageId"]) == ("bob", 1, ids[0])
            assert read["readAt"] == answer[1]["readAt"]
        for device in (people.bob, people.tablet):
            assert [event["seq"] for event in device.told["messageRead"]] == [1]
            assert device.told["messageDelivered"] == []
        # Read implies delivered.
        await people.bob.answered(people.bob.mark_read(ALICE_BOB, ids[2]))
        assert (await reader.statuses("alice", ALICE_BOB))[:3] == ["READ", "READ", "READ"]
        assert people.carol.heard.total() == 0


async def test_late_repeated_and_unordered_marks_never_move_back(
    stack: Stack, people: People, token: MintToken
) -> None:
    ids = await people.write("one", "two", "three")
    first = await people.bob.answered(people.bob.mark_read(ALICE_BOB, ids[2]))
    for late in (ids[0], ids[2], ids[1]):
        people.tablet.mark_delivered(ALICE_BOB, late)
        name, holds = await people.tablet.answered(people.tablet.mark_read(ALICE_BOB, late))
        assert name == "messageRead"
        # The answer to a late mark tells where the position is, and since when.
        assert {**holds, "requestId": ""} == {**first[1], "requestId": ""}
    await people.nothing_under_way()
    async with grpc_reader(stack.service.grpc_target, token) as reader:
        assert (await reader.statuses("alice", ALICE_BOB))[:3] == ["READ", "READ", "READ"]
        assert await reader.unread("bob", ALICE_BOB) == 0
        assert [event["seq"] for event in people.alice.told["messageRead"]] == [3]
        assert people.alice.told["messageDelivered"] == []
        # Having more is not reading more, and takes nothing back of what is read.
        ids = await people.write("five", "six")
        people.bob.mark_delivered(ALICE_BOB, ids[-1])
        await people.alice.hears_delivered(ALICE_BOB, "bob", len(ids))
        statuses = await reader.statuses("bob", ALICE_BOB)
        assert statuses == ["READ", "READ", "READ", "SENT", "DELIVERED", "DELIVERED"]
        assert await reader.unread("bob", ALICE_BOB) == 2


async def test_foreign_and_unknown_messages_and_strangers_get_an_error_and_move_nothing(
    stack: Stack, people: People, token: MintToken
) -> None:
    ids = await people.write("one", "two")
    await people.carol.answered(people.carol.send("bob", "elsewhere"))
    await people.bob.reaches(BOB_CAROL, 1)
    elsewhere = people.bob.timelines[BOB_CAROL].messages[1]["messageId"]
    bob, carol = people.bob, people.carol
    wrong = [
        (bob, ALICE_BOB, elsewhere, "MESSAGE_NOT_FOUND"),
        (bob, ALICE_BOB, str(uuid4()), "MESSAGE_NOT_FOUND"),
        (bob, BOB_CAROL, ids[0], "MESSAGE_NOT_FOUND"),
        (bob, str(uuid4()), ids[0], "CONVERSATION_NOT_FOUND"),
        (carol, ALICE_BOB, ids[0], "CONVERSATION_NOT_FOUND"),
        (carol, ALICE_BOB, str(uuid4()), "CONVERSATION_NOT_FOUND"),
        (bob, ALICE_BOB, "no uuid", "INVALID_PAYLOAD"),
    ]
    for who, conversation_id, message_id, code in wrong:
        read = who.mark_read(conversation_id, message_id)
        delivered = who.mark_delivered(conversation_id, message_id)
        for request_id, command in ((read, "markAsRead"), (delivered, "markAsDelivered")):
            name, error = await who.answered(request_id)
            assert (name, error["code"], error["command"]) == ("error", code, command)
            assert error["retryable"] is False
    await people.nothing_under_way()
    async with grpc_reader(stack.service.grpc_target, token) as reader:
        assert (await reader.statuses("alice", ALICE_BOB))[:2] == ["SENT", "SENT"]
        assert await reader.statuses("carol", BOB_CAROL) == ["SENT"]
        assert await reader.unread("bob", ALICE_BOB) == 2
    assert people.alice.told == {}


async def test_hundreds_of_marks_at_once_are_few_events_and_the_last_position(
    stack: Stack, people: People, token: MintToken
) -> None:
    ids = await people.write(*(f"message {number}" for number in range(200)))
    requests = [people.bob.mark_read(ALICE_BOB, message_id) for message_id in ids]
    for message_id in ids:
        people.bob.mark_delivered(ALICE_BOB, message_id)
    for request_id in requests:
        assert (await people.bob.answered(request_id))[0] == "messageRead"
    await people.nothing_under_way()
    seqs = [event["seq"] for event in people.alice.told["messageRead"]]
    assert seqs == sorted(set(seqs))
    assert seqs[-1] == 200
    assert len(seqs) <= 40
    assert len(people.alice.told["messageDelivered"]) <= 40
    async with grpc_reader(stack.service.grpc_target, token) as reader:
        assert set((await reader.statuses("alice", ALICE_BOB))[:200]) == {"READ"}
        assert await reader.unread("bob", ALICE_BOB) == 0


async def test_the_same_mark_many_times_at_once_is_one_event(people: People) -> None:
    ids = await people.write("one", "two")
    marks = [people.bob.mark_read(ALICE_BOB, ids[0]) for _ in range(100)]
    marks += [people.tablet.mark_read(ALICE_BOB, ids[0]) for _ in range(100)]
    for device, request_ids in ((people.bob, marks[:100]), (people.tablet, marks[100:])):
        for request_id in request_ids:
            assert (await device.answered(request_id))[1]["seq"] == 1
    await people.nothing_under_way()
    assert [event["seq"] for event in people.alice.told["messageRead"]] == [1]


async def test_a_message_that_arrives_as_the_reader_reads_stays_unread(
    stack: Stack, people: People, token: MintToken
) -> None:
    async with grpc_reader(stack.service.grpc_target, token) as reader:
        for number in range(1, 21):
            (*_, shown) = await people.write(f"shown {number}")
            read = people.bob.mark_read(ALICE_BOB, shown)
            await people.alice.answered(people.alice.send("bob", f"at the same moment {number}"))
            await people.bob.answered(read)
            assert await reader.unread("bob", ALICE_BOB) == 1
            assert (await reader.statuses("alice", ALICE_BOB))[-2:] == ["READ", "SENT"]


async def test_a_kill_between_commit_and_publish_takes_no_receipt_from_anybody(
    tmp_path: Path, broker: MosquittoServer, surroundings: Surroundings, token: MintToken
) -> None:
    """The answer to the commit is held back, so the service dies exactly in between."""
    port = urlsplit(surroundings.database_url).port
    assert port is not None
    async with tcp_proxy(port) as proxy:
        url = surroundings.database_url.replace(f":{port}/", f":{proxy.listen_port}/")
        service = new_service(tmp_path, replace(surroundings, database_url=url))
        await asyncio.to_thread(service.process.start)
        alice = ReferenceClient(broker.mqtt_port, "alice", token("alice"))
        bob = ReferenceClient(broker.mqtt_port, "bob", token("bob"))
        try:
            async with connected(alice, bob):
                await send_many(alice, "bob", [f"message {number}" for number in range(1, 7)])
                await bob.reaches(ALICE_BOB, 6)
                ids = [message["messageId"] for message in bob.timelines[ALICE_BOB].in_order()]
                # Every database connection has prepared its statement before the answers stop.
                for message_id in ids[:4]:
                    await bob.answered(bob.mark_read(ALICE_BOB, message_id))
                await alice.hears_read(ALICE_BOB, "bob", 4)
                proxy.hold_answers()
                unanswered = bob.mark_read(ALICE_BOB, ids[5])
                await until_read(surroundings.database_url, 6)
                service.process.kill()
                assert alice.timelines[ALICE_BOB].read["bob"] == 4
                proxy.release_answers()
                await asyncio.to_thread(service.process.start)
                assert (await bob.answered(unanswered))[1]["seq"] == 6
                await alice.hears_read(ALICE_BOB, "bob", 6)
                # Asked once more, the answer is the same.
                _, again = await bob.answered(bob.mark_read(ALICE_BOB, ids[5]))
                assert {**again, "requestId": ""} == {**bob.answers[unanswered][1], "requestId": ""}
        finally:
            await asyncio.to_thread(service.process.stop)


async def until_read(database_url: str, seq: int) -> None:
    """Waits until Bob's committed read position is there."""

    def position() -> int:
        with psycopg.connect(database_url) as connection:
            row = connection.execute("SELECT read_seq FROM participant WHERE user_id = 'bob'").fetchone()
        assert row is not None
        return int(row[0])

    async with asyncio.timeout(20):
        while await asyncio.to_thread(position) < seq:
            await asyncio.sleep(0.02)
