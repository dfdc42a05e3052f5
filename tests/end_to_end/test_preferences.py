"""What users choose to show, as their devices and their counterparts see it."""

from __future__ import annotations

import json

import pytest

from tests.conftest import MintToken
from tests.end_to_end.device import Device, device
from tests.end_to_end.presence import heartbeats, say, sees
from tests.end_to_end.stack import Stack


async def prefers(device: Device, **fields: object) -> None:
    await device.publish("setPreferences", json.dumps(fields).encode(), correlation_data=b"c")


async def test_a_change_is_answered_on_every_device_of_the_user(stack: Stack, token: MintToken) -> None:
    port = stack.mosquitto.mqtt_port
    async with (
        device(port, "alice", token("alice")) as alice,
        device(port, "alice", token("alice"), device_id="laptop") as laptop,
        device(port, "bob", token("bob")) as bob,
    ):
        await prefers(alice, readReceipts=False, requestId="r-1")
        answer = await alice.next("preferencesChanged")
        assert answer.payload == {"readReceipts": False, "invisible": False, "requestId": "r-1"}
        assert answer.correlation_data == b"c"
        assert (await laptop.next("preferencesChanged")).payload == answer.payload
        await prefers(alice, invisible=True)
        assert (await alice.next("preferencesChanged")).payload == {"readReceipts": False, "invisible": True}
        assert bob.received == []


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"invisible": null}', b'{"invisible": "yes"}'])
async def test_malformed_preferences_are_one_error(stack: Stack, token: MintToken, payload: bytes) -> None:
    async with device(stack.mosquitto.mqtt_port, "alice", token("alice")) as alice:
        await alice.publish("setPreferences", payload)
        error = (await alice.next("error")).payload
        assert (error["code"], error["command"]) == ("INVALID_PAYLOAD", "setPreferences")


async def test_an_invisible_user_is_offline_for_others_and_hears_of_them(
    stack: Stack, token: MintToken
) -> None:
    port = stack.mosquitto.mqtt_port
    async with device(port, "alice", token("alice")) as alice, device(port, "bob", token("bob")) as bob:
        await alice.send("hello", recipientId="bob")
        await bob.until(lambda _: bob.of("newMessage"))
        async with heartbeats(bob, session="b1"), heartbeats(alice, session="a1"):
            await sees(bob, "online")
            await prefers(alice, invisible=True)
            hidden = await sees(bob, "online", "offline")
            assert hidden["lastSeenAt"] is not None
            # Whatever really happens is not told.
            await say(alice, "away", "a1")
            await say(alice, "offline", "a1")
            await say(alice, "online", "a1")
            await say(bob, "away", "b1")
            await alice.until(lambda _: "away" in [event["state"] for event in alice.of("presence")])
            await sees(bob, "online", "offline")
            await prefers(alice, invisible=False)
            await sees(bob, "online", "offline", "online")


async def test_who_was_always_invisible_was_never_seen(stack: Stack, token: MintToken) -> None:
    port = stack.mosquitto.mqtt_port
    async with device(port, "alice", token("alice")) as alice, device(port, "bob", token("bob")) as bob:
        await alice.send("hello", recipientId="bob")
        await bob.until(lambda _: bob.of("newMessage"))
        await prefers(alice, invisible=True)
        await alice.until(lambda _: alice.of("preferencesChanged"))
        async with heartbeats(bob, session="b1"):
            await say(alice, "online", "a1")
            # Alice is here: she is told of Bob.
            await alice.until(lambda _: alice.of("presence"))
            await say(alice, "offline", "a1")
            await say(bob, "away", "b1")
            await bob.send("and now", recipientId="alice")
            await bob.until(lambda _: bob.of("messageSent"))
            assert bob.of("presence") == []
