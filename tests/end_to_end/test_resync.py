"""`sync` over MQTT: pages without a hole, equal to history, for participants only."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest

from service.domain.conversation import direct_conversation
from service.domain.ids import UserId
from tests.conftest import MintToken
from tests.end_to_end.device import Device, device
from tests.end_to_end.grpc_reader import grpc_reader
from tests.end_to_end.platform import platform
from tests.end_to_end.reference_client import ReferenceClient, connected, send_many
from tests.end_to_end.stack import Stack
from tests.end_to_end.timeline import MESSAGE_FIELDS

ALICE_BOB = str(direct_conversation(UserId("alice"), "bob").id)
BROKER_LIMIT_BYTES = 256 * 1024


async def ask(asking: Device, **fields: object) -> dict[str, Any]:
    """One page, or the error; the answer carries the request id."""
    request_id = str(uuid4())
    body = {"conversationId": ALICE_BOB, "afterSeq": 0, "requestId": request_id, **fields}
    await asking.publish("sync", json.dumps(body).encode())
    answer = await asking.until(
        lambda events: [event for event in events if event.payload.get("requestId") == request_id]
    )
    payload: dict[str, Any] = answer[0].payload
    assert answer[0].name == ("error" if "code" in payload else "syncPage")
    return payload


def seqs(page: dict[str, Any]) -> list[int]:
    return [change["seq"] for change in page["changes"]]


async def walk(asking: Device, limit: int) -> list[dict[str, Any]]:
    """Pages from the start until one is complete."""
    pages = [await ask(asking, limit=limit)]
    while not pages[-1]["complete"]:
        pages.append(await ask(asking, limit=limit, afterSeq=seqs(pages[-1])[-1]))
    return pages


async def write(stack: Stack, token: MintToken, texts: list[str]) -> None:
    alice = ReferenceClient(stack.mosquitto.mqtt_port, "alice", token("alice"), device_id="writer")
    async with connected(alice):
        await send_many(alice, "bob", texts, window=50)


async def test_pages_are_whole_bounded_and_equal_to_history(stack: Stack, token: MintToken) -> None:
    texts = [f"message {number}" for number in range(1, 251)]
    await write(stack, token, texts)
    async with (
        device(stack.mosquitto.mqtt_port, "bob", token("bob")) as bob,
        grpc_reader(stack.service.grpc_target, token) as reader,
    ):
        pages = await walk(bob, 100)
        assert [len(page["changes"]) for page in pages] == [100, 100, 50]
        assert [page["complete"] for page in pages] == [False, False, True]
        assert [page["afterSeq"] for page in pages] == [0, 100, 200]
        changes = [change for page in pages for change in page["changes"]]
        assert [change["seq"] for change in changes] == list(range(1, 251))
        assert [change["text"] for change in changes] == texts
        in_history = await reader.history("bob", ALICE_BOB)
        assert [
            (message.message_id, message.seq, message.sender_id, message.text, message.client_message_id)
            for message in in_history
        ] == [(c["messageId"], c["seq"], c["senderId"], c["text"], c["clientMessageId"]) for c in changes]
        # The same facts as in the live event, field by field.
        live = {payload["seq"]: payload for payload in bob.of("newMessage")}
        for change in changes:
            if change["seq"] in live:
                assert {name: change[name] for name in MESSAGE_FIELDS} == live[change["seq"]]
        # A page that ends exactly at the end is complete, and so is what follows the end.
        exact = await ask(bob, afterSeq=150, limit=100)
        assert (len(exact["changes"]), exact["complete"]) == (100, True)
        for beyond in (250, 251, 2**63 - 1):
            empty = await ask(bob, afterSeq=beyond)
            assert (empty["changes"], empty["complete"], empty["afterSeq"]) == ([], True, beyond)
        one = await ask(bob, afterSeq=248, limit=1)
        assert (seqs(one), one["complete"]) == ([249], False)
        await bob.publish(
            "markAsRead",
            json.dumps({"conversationId": ALICE_BOB, "lastReadMessageId": changes[41]["messageId"]}).encode(),
        )
        await bob.until(lambda events: events[-1].name == "messageRead")
        positions = {
            at["userId"]: (at["deliveredSeq"], at["readSeq"])
            for at in (await ask(bob, afterSeq=250))["positions"]
        }
        assert positions == {"alice": (0, 0), "bob": (42, 42)}


@pytest.mark.parametrize("character", ["\x01", "😀", '"'], ids=["control", "emoji", "quote"])
async def test_the_longest_texts_fit_through_the_broker_a_few_a_page(
    stack: Stack, token: MintToken, character: str
) -> None:
    texts = [character * 5_000 for _ in range(20)]
    await write(stack, token, texts)
    async with device(stack.mosquitto.mqtt_port, "bob", token("bob")) as bob:
        pages = await walk(bob, 100)
        assert [change["text"] for page in pages for change in page["changes"]] == texts
        assert [seq for page in pages for seq in seqs(page)] == list(range(1, 21))
        assert 1 < len(pages) <= len(texts)
        for page in pages:
            assert len(json.dumps(page, ensure_ascii=False).encode()) < BROKER_LIMIT_BYTES


async def test_strangers_and_malformed_requests_get_one_error_each(stack: Stack, token: MintToken) -> None:
    await write(stack, token, ["between alice and bob"])
    async with (
        device(stack.mosquitto.mqtt_port, "carol", token("carol")) as carol,
        device(stack.mosquitto.mqtt_port, "bob", token("bob")) as bob,
    ):
        of_others = await ask(carol)
        of_nobody = await ask(carol, conversationId=str(uuid4()))
        for error in (of_others, of_nobody):
            error.pop("requestId")
            assert error["code"] == "CONVERSATION_NOT_FOUND"
        assert of_others == of_nobody
        for fields in (
            {"afterSeq": -1},
            {"afterSeq": 2**63},
            {"afterSeq": "0"},
            {"afterSeq": None},
            {"limit": 0},
            {"limit": 101},
            {"conversationId": "no uuid"},
        ):
            refused = await ask(bob, **fields)
            assert (refused["code"], refused["command"]) == ("INVALID_PAYLOAD", "sync"), fields
        assert seqs(await ask(bob)) == [1]
        assert {event.name for event in carol.received} == {"error"}


async def test_a_flood_of_syncs_is_answered_each_and_holds_up_nobody(stack: Stack, token: MintToken) -> None:
    await write(stack, token, ["one"])
    async with (
        device(stack.mosquitto.mqtt_port, "bob", token("bob")) as bob,
        device(stack.mosquitto.mqtt_port, "carol", token("carol")) as carol,
    ):
        # While the flood goes out, this process cannot say who is connected.
        await carol.send("before", recipientId="bob")
        await carol.next("messageSent")
        body = json.dumps({"conversationId": ALICE_BOB, "afterSeq": 0}).encode()
        flood = [asyncio.create_task(bob.publish("sync", body)) for _ in range(500)]
        await carol.send("in between", recipientId="bob")
        await carol.next("messageSent")
        await asyncio.gather(*flood)
        answers = ("syncPage", "error")
        await bob.until(lambda events: sum(event.name in answers for event in events) == 500)
        assert {error["code"] for error in bob.of("error")} <= {"BUSY"}
        assert all(page["complete"] for page in bob.of("syncPage"))
        assert len(bob.of("syncPage")) >= 64


async def test_a_resend_after_a_revocation_gets_the_original_result(stack: Stack, token: MintToken) -> None:
    async with device(stack.mosquitto.mqtt_port, "alice", token("alice")) as alice:
        key = await alice.send("accepted", recipientId="bob")
        first = await alice.next("messageSent")
        stack.connections.disconnect("alice", "bob")
        async with platform(stack, token) as publish:
            await publish({"userIdA": "alice", "userIdB": "bob", "areConnected": False})
        await alice.send("refused", recipientId="bob")
        # What was asked before the change is asked again, and may not be answered in time.
        while (answer := await alice.next()).name != "error" or answer.payload["retryable"]:
            await alice.send("refused", recipientId="bob")
        assert answer.payload["code"] == "NOT_CONNECTED"
        await alice.send("accepted", recipientId="bob", clientMessageId=key)
        assert (await alice.next("messageSent")).payload == first.payload
