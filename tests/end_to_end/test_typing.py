"""Who is typing, as the counterpart is told: seldom, not for long, and never in a message's way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from time import monotonic
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.conftest import MintToken
from tests.end_to_end.device import Device, device
from tests.end_to_end.platform import platform
from tests.end_to_end.presence import say
from tests.end_to_end.stack import Stack


@pytest_asyncio.fixture
async def pair(stack: Stack, token: MintToken) -> AsyncIterator[tuple[Device, Device, str]]:
    """Alice and Bob, and the conversation they have."""
    port = stack.mosquitto.mqtt_port
    async with device(port, "alice", token("alice")) as alice, device(port, "bob", token("bob")) as bob:
        await alice.send("hello", recipientId="bob")
        sent = (await alice.next("messageSent")).payload
        await bob.next("newMessage")
        yield alice, bob, sent["conversationId"]


async def types(device: Device, conversation_id: str, is_typing: bool = True) -> None:
    body = {"conversationId": conversation_id, "isTyping": is_typing}
    await device.publish("typing", json.dumps(body).encode(), qos=0)


def told(device: Device) -> list[bool]:
    return [event["isTyping"] for event in device.of("typing")]


async def test_typing_is_told_to_the_counterpart_alone_and_expires(
    stack: Stack, pair: tuple[Device, Device, str], token: MintToken
) -> None:
    alice, bob, conversation_id = pair
    async with device(stack.mosquitto.mqtt_port, "carol", token("carol")) as carol:
        start = monotonic()
        await types(alice, conversation_id)
        event = await bob.next("typing")
        assert event.payload == {
            "conversationId": conversation_id,
            "userId": "alice",
            "isTyping": True,
            "expiresInMs": 6000,
        }
        assert (event.qos, event.expires_in_s) == (0, 6)
        await bob.until(lambda _: told(bob) == [True, False])
        assert 5.5 < monotonic() - start < 9
        assert carol.received == []
        assert told(alice) == []


async def test_typing_ends_at_once_with_the_message_with_a_stop_and_with_going_offline(
    pair: tuple[Device, Device, str],
) -> None:
    alice, bob, conversation_id = pair
    await types(alice, conversation_id)
    await bob.next("typing")
    start = monotonic()
    await alice.send("done", conversationId=conversation_id)
    assert (await bob.next("typing")).payload["isTyping"] is False
    await bob.next("newMessage")
    for end in ("stop", "offline"):
        await asyncio.sleep(1.1)
        await types(alice, conversation_id)
        assert (await bob.next("typing")).payload["isTyping"] is True
        if end == "stop":
            await types(alice, conversation_id, False)
        else:
            await say(alice, "offline", "a1")
        assert (await bob.next("typing")).payload["isTyping"] is False
    assert monotonic() - start < 5.5


async def test_strangers_hear_of_their_error_and_nobody_of_their_typing(
    stack: Stack, pair: tuple[Device, Device, str], token: MintToken
) -> None:
    alice, bob, conversation_id = pair
    async with device(stack.mosquitto.mqtt_port, "mallory", token("mallory")) as mallory:
        await types(mallory, conversation_id)
        error = (await mallory.next("error")).payload
        assert (error["code"], error["command"]) == ("CONVERSATION_NOT_FOUND", "typing")
        await asyncio.sleep(1.1)
        await types(mallory, str(uuid4()))
        assert (await mallory.next("error")).payload == error
    await alice.send("and now", conversationId=conversation_id)
    await bob.next("newMessage")
    assert told(alice) == told(bob) == []


async def test_who_is_not_connected_any_more_is_refused(
    stack: Stack, pair: tuple[Device, Device, str], token: MintToken
) -> None:
    alice, bob, conversation_id = pair
    async with platform(stack, token) as publish:
        stack.connections.disconnect("alice", "bob")
        await publish({"userIdA": "alice", "userIdB": "bob", "areConnected": False})

        async def refused() -> bool:
            await types(alice, conversation_id)
            await asyncio.sleep(0.1)
            return any(event["code"] == "NOT_CONNECTED" for event in alice.of("error"))

        async with asyncio.timeout(5):
            while not await refused():
                pass
    before = told(bob).count(True)
    await asyncio.sleep(1.1)
    await types(alice, conversation_id)
    await alice.until(lambda _: len(alice.of("error")) == 2)
    assert told(bob).count(True) == before


@pytest.mark.parametrize(
    "payload", [b"", b"null", b"{}", b'{"isTyping": true}', b'{"conversationId": "x", "isTyping": true}']
)
async def test_malformed_typing_is_one_error(stack: Stack, token: MintToken, payload: bytes) -> None:
    async with device(stack.mosquitto.mqtt_port, "alice", token("alice")) as alice:
        await alice.publish("typing", payload, qos=0)
        error = (await alice.next("error")).payload
        assert (error["code"], error["command"]) == ("INVALID_PAYLOAD", "typing")
        await alice.send("still served", recipientId="bob")
        await alice.next("messageSent")


async def test_a_flood_of_typing_holds_up_no_message(pair: tuple[Device, Device, str]) -> None:
    alice, bob, conversation_id = pair
    start = monotonic()

    async def flood() -> None:
        for number in range(2_000):
            await types(alice, conversation_id, number % 10 != 0)

    async def talk() -> None:
        for number in range(50):
            await bob.send(str(number), conversationId=conversation_id)

    await asyncio.gather(flood(), talk())
    await bob.until(lambda _: len(bob.of("messageSent")) == 50)
    await alice.until(lambda _: len(alice.of("newMessage")) == 50)
    seconds = monotonic() - start
    seen = told(bob)
    assert sum(seen) <= seconds + 2
    assert all(before is not after or before for before, after in pairwise(seen))
    assert [event["text"] for event in alice.of("newMessage")] == [str(number) for number in range(50)]
