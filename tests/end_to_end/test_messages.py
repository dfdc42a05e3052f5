"""Messages from device to device through the whole system, and what bad input gets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio

from service.domain.conversation import direct_conversation
from service.domain.ids import UserId
from tests.conftest import MintToken
from tests.end_to_end.device import Device, device
from tests.end_to_end.stack import Stack

KEY = "0b0e7a1e-4c55-4f55-9e55-0a53a8b6f001"


@pytest_asyncio.fixture
async def devices(stack: Stack, token: MintToken) -> AsyncIterator[dict[str, Device]]:
    """A phone each for Alice, Bob and Carol, and a laptop for Alice."""
    async with AsyncExitStack() as opened:
        made = {}
        for name, user in (("alice", "alice"), ("laptop", "alice"), ("bob", "bob"), ("carol", "carol")):
            made[name] = await opened.enter_async_context(
                device(stack.mosquitto.mqtt_port, user, token(user), device_id=name)
            )
        yield made


def stored(stack: Stack) -> list[tuple[str, int, str]]:
    """Sender, position and text of everything in the database, in order."""
    with psycopg.connect(stack.database_url) as connection:
        return connection.execute(
            "SELECT sender_id, seq, text FROM message ORDER BY conversation_id, seq"
        ).fetchall()


async def test_a_message_reaches_both_users_devices_and_the_database(
    stack: Stack, devices: dict[str, Device]
) -> None:
    key = await devices["alice"].send("hello", recipientId="bob", requestId="r-1")
    arrived = await devices["bob"].next("newMessage")
    answer = await devices["alice"].next("messageSent")
    on_laptop = await devices["laptop"].next("messageSent")
    assert answer.payload == {**arrived.payload, "requestId": "r-1"} == on_laptop.payload
    assert arrived.payload["clientMessageId"] == key
    assert (arrived.payload["senderId"], arrived.payload["seq"]) == ("alice", 1)
    assert UUID(arrived.payload["messageId"]).version == 7
    expected = direct_conversation(UserId("bob"), "alice").id
    assert arrived.payload["conversationId"] == str(expected)
    assert stored(stack) == [("alice", 1, "hello")]
    await devices["bob"].send("and back", conversationId=str(expected))
    reply = await devices["alice"].next("newMessage")
    assert (reply.payload["seq"], reply.payload["text"]) == (2, "and back")
    assert devices["carol"].received == []


async def test_correlation_data_comes_back_with_answer_and_error(devices: dict[str, Device]) -> None:
    body = {"recipientId": "bob", "clientMessageId": str(uuid4()), "text": "x"}
    await devices["alice"].publish("sendMessage", json.dumps(body).encode(), correlation_data=b"\x00c1")
    assert (await devices["alice"].next("messageSent")).correlation_data == b"\x00c1"
    assert (await devices["bob"].next("newMessage")).correlation_data is None
    await devices["alice"].publish("sendMessage", b"{}", correlation_data=b"c2")
    assert (await devices["alice"].next("error")).correlation_data == b"c2"


@pytest.mark.parametrize(
    "text", ["😀", "שלום, עולם — مرحبا", "e" + "\u0301" * 4_999, "x" * 5_000, " \n\t ", '<b>"&\\'],
    ids=["emoji", "right-to-left", "combining", "longest", "blank", "markup"],
)  # fmt: skip
async def test_text_arrives_and_is_stored_byte_for_byte(
    stack: Stack, devices: dict[str, Device], text: str
) -> None:
    await devices["alice"].send(text, recipientId="bob")
    assert (await devices["bob"].next("newMessage")).payload["text"] == text
    assert (await devices["alice"].next("messageSent")).payload["text"] == text
    assert stored(stack) == [("alice", 1, text)]


def command(**fields: object) -> bytes:
    return json.dumps({"recipientId": "bob", "clientMessageId": KEY, "text": "hello", **fields}).encode()


BAD_INPUT = {
    "not JSON": (b"hello", "INVALID_PAYLOAD"),
    "not UTF-8": (b"\xff\xfe\x00", "INVALID_PAYLOAD"),
    "empty": (b"", "INVALID_PAYLOAD"),
    "not an object": (b"[1]", "INVALID_PAYLOAD"),
    "over 32 KiB": (command(pad="x" * 32_768), "PAYLOAD_TOO_LARGE"),
    "nested 100,000 deep": (b"[" * 100_000 + b"]" * 100_000, "PAYLOAD_TOO_LARGE"),
    "nested 16,000 deep": (b"[" * 16_000 + b"]" * 16_000, "INVALID_PAYLOAD"),
    "nested in a field": (
        command()[:-1] + b',"x":' + b"[" * 15_000 + b"]" * 15_000 + b"}",
        "INVALID_PAYLOAD",
    ),
    "NaN": (command()[:-1] + b',"x":NaN}', "INVALID_PAYLOAD"),
    "lone surrogate": (command(text="?").replace(b"?", b"\\udc00"), "INVALID_PAYLOAD"),
    "NUL in text": (command(text="a\0b"), "INVALID_PAYLOAD"),
    "empty text": (command(text=""), "INVALID_PAYLOAD"),
    "5,001 characters": (command(text="x" * 5_001), "INVALID_PAYLOAD"),
    "both targets": (command(conversationId=str(uuid4())), "INVALID_PAYLOAD"),
    "no target": (command(recipientId=None), "INVALID_PAYLOAD"),
    "oneself": (command(recipientId="alice"), "INVALID_PAYLOAD"),
    "a wildcard for a user": (command(recipientId="+"), "INVALID_PAYLOAD"),
    "unknown conversation": (
        command(recipientId=None, conversationId=str(uuid4())),
        "CONVERSATION_NOT_FOUND",
    ),
    "someone else's conversation": (
        command(recipientId=None, conversationId=str(direct_conversation(UserId("bob"), "carol").id)),
        "CONVERSATION_NOT_FOUND",
    ),
    "not connected": (command(recipientId="carol"), "NOT_CONNECTED"),
    "nobody": (command(recipientId="nobody"), "NOT_CONNECTED"),
}


async def test_bad_input_gets_one_typed_error_and_the_next_message_is_served(
    stack: Stack, devices: dict[str, Device]
) -> None:
    alice, bob = devices["alice"], devices["bob"]
    await bob.send("between bob and carol", recipientId="carol")
    await bob.next("messageSent")
    for seq, (name, (payload, code)) in enumerate(BAD_INPUT.items(), start=1):
        await alice.publish("sendMessage", payload)
        error = await alice.next("error")
        assert error.payload["code"] == code, name
        assert error.payload["command"] == "sendMessage"
        assert error.payload["retryable"] is False
        await alice.send(f"after: {name}", recipientId="bob")
        await alice.next("messageSent")
        arrived = await bob.next("newMessage")
        assert (arrived.payload["text"], arrived.payload["seq"]) == (f"after: {name}", seq)
    await alice.publish("danceTango", b"{}")
    error = await alice.next("error")
    assert (error.payload["code"], error.payload["command"]) == ("UNKNOWN_COMMAND", "danceTango")
    texts = [text for sender, _, text in stored(stack) if sender == "alice"]
    assert texts == [f"after: {name}" for name in BAD_INPUT]


async def test_errors_name_the_command_they_answer(devices: dict[str, Device]) -> None:
    await devices["alice"].publish("sendMessage", command(recipientId="carol", requestId="r9"))
    error = (await devices["alice"].next("error")).payload
    assert (error["clientMessageId"], error["requestId"]) == (KEY, "r9")
    assert "connected" in error["message"]


async def test_a_reused_key_gives_the_original_or_a_conflict(
    stack: Stack, devices: dict[str, Device]
) -> None:
    alice = devices["alice"]
    await alice.publish("sendMessage", command())
    first = (await alice.next("messageSent")).payload
    await alice.publish("sendMessage", command())
    assert (await alice.next("messageSent")).payload == first
    await alice.publish("sendMessage", command(text="other"))
    conflict = (await alice.next("error")).payload
    assert (conflict["code"], conflict["retryable"]) == ("IDEMPOTENCY_CONFLICT", False)
    assert stored(stack) == [("alice", 1, "hello")]


async def test_logs_and_metrics_hold_neither_text_nor_tokens(
    stack: Stack, devices: dict[str, Device], token: MintToken
) -> None:
    alice = devices["alice"]
    await alice.send("canary-in-a-message", recipientId="bob")
    await alice.next("messageSent")
    await alice.publish("sendMessage", command(text="canary-in-a-refusal" + "x" * 5_000))
    await alice.publish(
        "sendMessage", command(clientMessageId="canary-in-a-key", recipientId="canary in a name")
    )
    await alice.publish("canary-in-a-command", b"canary-in-a-payload")
    for _ in range(3):
        error = await alice.next("error")
        assert "canary" not in error.payload["message"]
    log = stack.service.process.log_file.read_text()
    metrics = stack.service.get("/metrics") or ""
    assert '"code": "INVALID_PAYLOAD"' in log
    assert "messaging_commands_total" in metrics
    for secret in ("canary", "eyJ"):
        assert secret not in log
        assert secret not in metrics
