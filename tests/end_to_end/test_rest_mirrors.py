"""What MQTT tells, asked for over REST: through the real gateway, service, broker and database."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.conftest import MintToken
from tests.end_to_end.device import Device, device
from tests.end_to_end.presence import heartbeats
from tests.end_to_end.stack import PageStack


def rest(page_stack: PageStack, token: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=page_stack.page_url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=15,
        trust_env=False,
    )


async def command(device: Device, name: str, **fields: object) -> None:
    await device.publish(name, json.dumps(fields).encode())


async def event(device: Device, name: str, **fields: object) -> dict[str, Any]:
    """The first event of that name with these fields."""

    def told(_events: object) -> dict[str, Any] | None:
        return next((each for each in device.of(name) if fields.items() <= each.items()), None)

    found: dict[str, Any] = await device.until(told)
    return found


async def test_receipts_and_changes_over_rest_are_those_of_mqtt(
    page_stack: PageStack, token: MintToken
) -> None:
    port = page_stack.mosquitto.mqtt_port
    async with (
        device(port, "alice", token("alice")) as alice,
        device(port, "bob", token("bob")) as bob,
        rest(page_stack, token("alice")) as asking,
        rest(page_stack, token("carol")) as stranger,
    ):
        for number in range(12):
            await alice.send(f"{number}" + "\x01" * 4_900, recipientId="bob")
        messages = await bob.until(lambda _: len(bob.of("newMessage")) == 12 and bob.of("newMessage"))
        conversation, third = messages[2]["conversationId"], messages[2]["messageId"]
        await command(bob, "markAsRead", conversationId=conversation, lastReadMessageId=third)
        read = await event(alice, "messageRead", seq=3)
        await command(
            bob, "markAsRead", conversationId=conversation, lastReadMessageId=messages[4]["messageId"]
        )
        await event(alice, "messageRead", seq=5)

        path = f"/api/conversations/{conversation}/messages/{third}/receipts"
        (receipt,) = (await asking.get(path)).json()["receipts"]
        assert receipt == {"userId": "bob", "deliveredAt": read["readAt"], "readAt": read["readAt"]}
        assert (await stranger.get(path)).status_code == 404

        after_seq, complete = 0, False
        while not complete:
            request = f"r-{after_seq}"
            await command(alice, "sync", conversationId=conversation, afterSeq=after_seq, requestId=request)
            told = await event(alice, "syncPage", requestId=request)
            path = f"/api/conversations/{conversation}/changes"
            page = (await asking.get(path, params={"afterSeq": after_seq})).json()
            assert [{"type": "message"} | _without_status(each) for each in page["messages"]] == told[
                "changes"
            ]
            assert (page["positions"], page["complete"]) == (told["positions"], told["complete"])
            assert page["messages"][0]["seq"] == after_seq + 1
            after_seq, complete = page["messages"][-1]["seq"], page["complete"]
        assert after_seq == 12
        shown = (await asking.get(f"/api/conversations/{conversation}")).json()
        assert shown["positions"] == [{"userId": "bob", "deliveredSeq": 5, "readSeq": 5}]


def _without_status(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "status"}


async def test_preferences_set_over_rest_reach_the_devices_and_take_effect(
    page_stack: PageStack, token: MintToken
) -> None:
    port = page_stack.mosquitto.mqtt_port
    async with (
        device(port, "alice", token("alice")) as alice,
        device(port, "bob", token("bob")) as bob,
        rest(page_stack, token("alice")) as of_alice,
        rest(page_stack, token("bob")) as of_bob,
        rest(page_stack, token("carol")) as stranger,
    ):
        await alice.send("hello", recipientId="bob")
        await bob.until(lambda _: bob.of("newMessage"))
        async with heartbeats(alice, session="a"), heartbeats(bob, session="b"):
            await event(bob, "presence", userId="alice", state="online")
            presence = {"userId": "alice", "state": "online", "lastSeenAt": None}
            asked = {"userId": ["alice", "carol"]}
            assert (await of_bob.get("/api/presence", params=asked)).json() == {"presences": [presence]}
            answer = await stranger.get("/api/presence", params={"userId": ["alice", "bob"]})
            assert answer.json() == {"presences": []}

            changed = await of_alice.patch("/api/preferences", json={"invisible": True})
            assert changed.json() == {"readReceipts": True, "invisible": True}
            assert await event(alice, "preferencesChanged") == changed.json()
            gone = await event(bob, "presence", userId="alice", state="offline")
            (seen,) = (await of_bob.get("/api/presence", params=asked)).json()["presences"]
            assert seen == gone
        assert (await of_bob.get("/api/preferences")).json() == {"readReceipts": True, "invisible": False}
