"""Who was away gets everything: from the broker's queue if it can, by `sync` if it must."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.mosquitto import JwtOptions, MosquittoServer
from devstack.ports import free_port
from service.domain.conversation import direct_conversation
from service.domain.ids import UserId
from tests.conftest import MintToken
from tests.end_to_end.reference_client import ReferenceClient, connected, send_many
from tests.end_to_end.stack import Stack

SENDERS = 5
MESSAGES = 10_000


class SmallQueueBroker(MosquittoServer):
    """Holds 40 messages for a client; what comes after them is dropped in silence."""

    def prepare(self) -> None:
        super().prepare()
        text = self.config_file.read_text()
        line = "max_queued_messages 100000\n"
        assert line in text
        self.config_file.write_text(text.replace(line, "max_queued_messages 40\n"))


@pytest.fixture
def broker(
    request: pytest.FixtureRequest, tmp_path: Path, jwt_options: JwtOptions
) -> Iterator[MosquittoServer]:
    """The broker of `stack`, of the class that the test asks for."""
    kind = getattr(request, "param", MosquittoServer)
    server: MosquittoServer = kind(
        tmp_path / "mosquitto", free_port(), free_port(), jwt=jwt_options, log_file=tmp_path / "mosquitto.log"
    )
    server.start()
    yield server
    server.stop()


def conversation(first: str, second: str) -> str:
    return str(direct_conversation(UserId(first), second).id)


@pytest.mark.timeout(180)
async def test_10000_messages_for_one_absent_user_arrive_complete_and_in_order(
    stack: Stack, token: MintToken
) -> None:
    names = [f"sender-{number}" for number in range(SENDERS)]
    port = stack.mosquitto.mqtt_port
    bob = ReferenceClient(port, "bob", token("bob"))
    async with connected(bob):
        pass
    texts = {name: [f"{name}: {n}" for n in range(MESSAGES // SENDERS)] for name in names}
    senders = {name: ReferenceClient(port, name, token(name)) for name in names}
    for name in names:
        stack.connections.connect(name, "bob")
    async with connected(*senders.values()):
        for name, sender in senders.items():
            # The service asks this very process who is connected: in the flood it would answer too late.
            await send_many(sender, "bob", texts[name][:1])
        async with asyncio.TaskGroup() as tasks:
            for name, sender in senders.items():
                tasks.create_task(send_many(sender, "bob", texts[name][1:], window=100))
    async with connected(bob):
        await bob.until(lambda: sum(timeline.head for timeline in bob.timelines.values()) == MESSAGES)
        await bob.settled()
    for name in names:
        timeline = bob.timelines[conversation(name, "bob")]
        assert timeline.texts() == texts[name]
        assert timeline.in_order() == senders[name].timelines[conversation(name, "bob")].in_order()


@pytest.mark.parametrize("broker", [SmallQueueBroker], indirect=True)
async def test_what_the_brokers_queue_dropped_is_noticed_and_fetched(stack: Stack, token: MintToken) -> None:
    """Bob does not ask for anything on his own: the jump in `seq` alone tells him."""
    port = stack.mosquitto.mqtt_port
    alice = ReferenceClient(port, "alice", token("alice"))
    bob = ReferenceClient(port, "bob", token("bob"))
    async with connected(bob):
        pass
    texts = [f"message {number}" for number in range(500)]
    async with connected(alice):
        await send_many(alice, "bob", texts, window=10)
        async with connected(bob):
            # The queue's first messages are without a gap: so far nothing can be noticed.
            await bob.until(lambda: bob.heard["newMessage"] >= 40)
            assert bob.syncs == 0
            await send_many(alice, "bob", ["the one after"])
            timeline = bob.timelines[conversation("alice", "bob")]
            await bob.reaches(conversation("alice", "bob"), len(texts) + 1)
            assert bob.syncs > 0
            assert bob.heard["newMessage"] < len(texts)
            assert timeline.texts() == [*texts, "the one after"]


async def test_with_all_of_the_brokers_state_erased_nothing_acknowledged_is_lost(
    stack: Stack, token: MintToken
) -> None:
    port = stack.mosquitto.mqtt_port
    alice = ReferenceClient(port, "alice", token("alice"))
    bob = ReferenceClient(port, "bob", token("bob"))
    conversation_id = conversation("alice", "bob")
    first = [f"before {number}" for number in range(100)]
    async with connected(bob):
        await bob.answered(bob.send("alice", "hello"))
    async with connected(alice):
        await send_many(alice, "bob", first, window=20)
        unanswered = [alice.send("bob", f"in between {number}") for number in range(100)]
        await asyncio.to_thread(stack.mosquitto.kill)
        await asyncio.to_thread(stack.mosquitto.forget_everything)
        await asyncio.to_thread(stack.mosquitto.start)
        alice.drop()
        await alice.connect()
        for request_id in unanswered:
            assert (await alice.answered(request_id))[0] == "messageSent"
        await alice.settled()
        async with connected(bob):
            timeline = bob.timelines[conversation_id]
            await bob.reaches(conversation_id, 201)
            await bob.settled()
            assert timeline.in_order() == alice.timelines[conversation_id].in_order()
            assert timeline.texts()[:101] == ["hello", *first]
            assert sorted(timeline.texts()[101:]) == sorted(f"in between {number}" for number in range(100))
