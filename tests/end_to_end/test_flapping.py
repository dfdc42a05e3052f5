"""A client whose connection breaks all the time ends up with what one that was never away has."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from service.domain.conversation import direct_conversation
from service.domain.ids import UserId
from tests.conftest import MintToken
from tests.end_to_end.reference_client import ReferenceClient, connected, send_many
from tests.end_to_end.stack import Stack

CYCLES = 500
PER_CYCLE = 3


@pytest.mark.timeout(180)
async def test_500_broken_connections_end_equal_to_an_unbroken_one(stack: Stack, token: MintToken) -> None:
    """Bob's phone connects and drops without a word, while Alice writes and Bob's tablet reads."""
    port = stack.mosquitto.mqtt_port
    alice = ReferenceClient(port, "alice", token("alice"))
    tablet = ReferenceClient(port, "bob", token("bob"), device_id="tablet")
    phone = ReferenceClient(port, "bob", token("bob"), device_id="phone")
    conversation_id = str(direct_conversation(UserId("alice"), "bob").id)
    random = Random(3)
    go_on = asyncio.Semaphore(0)
    sent = [f"message {number}" for number in range(CYCLES * PER_CYCLE)]

    async def write() -> None:
        for start in range(0, len(sent), PER_CYCLE):
            await go_on.acquire()
            await send_many(alice, "bob", sent[start : start + PER_CYCLE], window=PER_CYCLE)

    async def read() -> None:
        """Each mark names the newest message that the tablet has by then."""
        timeline = tablet.timelines[conversation_id]
        while timeline.head < len(sent):
            await tablet.reaches(conversation_id, min(timeline.head + 20, len(sent)))
            newest = timeline.messages[timeline.head]
            await tablet.answered(tablet.mark_read(conversation_id, newest["messageId"]))

    async def flap() -> None:
        timeline = phone.timelines[conversation_id]
        for cycle in range(CYCLES):
            go_on.release()
            await phone.connect()
            if cycle % 10 == 0:
                phone.send("alice", f"reply {cycle}")
            # Sometimes at once, sometimes in the middle of what arrives.
            enough = timeline.head + random.choice((0, 0, 1, PER_CYCLE))
            await phone.reaches(conversation_id, min(enough, PER_CYCLE * (cycle + 1)))
            phone.drop()

    async with connected(alice, tablet):
        async with asyncio.TaskGroup() as tasks:
            for work in (write(), read(), flap()):
                tasks.create_task(work)
        replies = [f"reply {cycle}" for cycle in range(0, CYCLES, 10)]
        async with connected(phone):
            await phone.settled()
            expected = sorted(sent + replies)
            for client in (tablet, phone, alice):
                await client.reaches(conversation_id, len(expected))
                await client.settled()
            never_away = tablet.timelines[conversation_id]
            assert sorted(never_away.texts()) == expected
            assert [text for text in never_away.texts() if text in set(sent)] == sent
            assert [text for text in never_away.texts() if text in set(replies)] == replies
            for client in (phone, alice):
                assert client.timelines[conversation_id].in_order() == never_away.in_order()
            assert phone.timelines[conversation_id].read["bob"] == never_away.read["bob"]
            await alice.hears_read(conversation_id, "bob", never_away.read["bob"])
