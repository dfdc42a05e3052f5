"""All devices of a user show the same; the one that sent knows its own message."""

from __future__ import annotations

import asyncio

from service.domain.conversation import direct_conversation
from service.domain.ids import UserId
from tests.conftest import MintToken
from tests.end_to_end.reference_client import ReferenceClient, connected, send_many
from tests.end_to_end.stack import Stack

ALICE_BOB = str(direct_conversation(UserId("alice"), "bob").id)


async def test_three_devices_of_a_user_show_the_same_sent_received_and_read(
    stack: Stack, token: MintToken
) -> None:
    port = stack.mosquitto.mqtt_port
    own = [
        ReferenceClient(port, "alice", token("alice"), device_id=name) for name in ("phone", "laptop", "web")
    ]
    phone, laptop, web = own
    bob = ReferenceClient(port, "bob", token("bob"))
    async with connected(*own, bob):
        async with asyncio.TaskGroup() as tasks:
            for device in own:
                name = f"from device {own.index(device)}"
                tasks.create_task(send_many(device, "bob", [f"{name}: {n}" for n in range(30)], window=10))
            tasks.create_task(send_many(bob, "alice", [f"from bob: {n}" for n in range(30)], window=10))
        for client in (*own, bob):
            await client.reaches(ALICE_BOB, 120)
        shown = phone.timelines[ALICE_BOB].in_order()
        for client in (laptop, web, bob):
            assert client.timelines[ALICE_BOB].in_order() == shown
        # Each heard of every message once, without asking; not one came to its sender as new.
        for device in own:
            assert (device.heard["messageSent"], device.heard["newMessage"], device.syncs) == (90, 30, 0)
        last_of_bob = max(message["seq"] for message in shown if message["senderId"] == "bob")
        await web.answered(web.mark_read(ALICE_BOB, shown[last_of_bob - 1]["messageId"]))
        for device in own:
            await device.hears_read(ALICE_BOB, "alice", last_of_bob)
            assert device.heard["messageRead"] == 1


async def test_the_sending_device_recognises_its_own_by_its_key_and_the_others_do_not(
    stack: Stack, token: MintToken
) -> None:
    port = stack.mosquitto.mqtt_port
    phone = ReferenceClient(port, "alice", token("alice"), device_id="phone")
    laptop = ReferenceClient(port, "alice", token("alice"), device_id="laptop")
    keys = {
        "phone": "11111111-1111-4111-8111-111111111111",
        "laptop": "22222222-2222-4222-8222-222222222222",
    }
    async with connected(phone, laptop):
        request_ids = {
            "phone": phone.send("bob", "the same words", keys["phone"]),
            "laptop": laptop.send("bob", "the same words", keys["laptop"]),
        }
        for device, name in ((phone, "phone"), (laptop, "laptop")):
            event, sent = await device.answered(request_ids[name])
            assert (event, sent["clientMessageId"]) == ("messageSent", keys[name])
            await device.reaches(ALICE_BOB, 2)
            in_timeline = device.timelines[ALICE_BOB].in_order()
            assert {message["clientMessageId"] for message in in_timeline} == set(keys.values())


async def test_a_device_that_is_new_finds_everything_in_the_list_and_by_sync(
    stack: Stack, token: MintToken
) -> None:
    port = stack.mosquitto.mqtt_port
    phone = ReferenceClient(port, "alice", token("alice"), device_id="phone")
    async with connected(phone):
        await send_many(phone, "bob", [f"message {n}" for n in range(130)], window=50)
        newest = phone.timelines[ALICE_BOB].messages[130]["messageId"]
        await phone.answered(phone.mark_read(ALICE_BOB, newest))
        tablet = ReferenceClient(port, "alice", token("alice"), device_id="tablet")
        tablet.follow([ALICE_BOB])
        async with connected(tablet):
            await tablet.settled()
            assert tablet.timelines[ALICE_BOB].in_order() == phone.timelines[ALICE_BOB].in_order()
            assert tablet.timelines[ALICE_BOB].read["alice"] == 130
            assert tablet.heard["messageSent"] == 0
