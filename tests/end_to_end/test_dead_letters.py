"""What cannot be processed is told to the platform once, without its content, and holds up nobody."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import aiomqtt
import psycopg
import pytest_asyncio

from service.domain.conversation import direct_conversation
from service.domain.ids import UserId
from tests.asyncapi_schemas import validator
from tests.conftest import MintToken
from tests.end_to_end.device import PATIENCE_S, Device, device
from tests.end_to_end.platform import platform
from tests.end_to_end.stack import Stack
from tests.end_to_end.test_messages import BAD_INPUT

CANARY = "kanarienvogel"
CONTENT_CODES = {"INVALID_PAYLOAD", "PAYLOAD_TOO_LARGE"}


class Letters:
    """A platform consumer of dead letters; each is held to the contract."""

    def __init__(self) -> None:
        self.data: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self._changed = asyncio.Condition()
        self._read = 0

    async def collect(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            if message.topic.value.rsplit("/", 1)[1] != "command.deadLettered":
                continue
            letter = json.loads(message.payload)
            assert [error.message for error in validator("commandDeadLettered").iter_errors(letter)] == []
            assert message.qos == 1
            async with self._changed:
                self.raw.append(message.payload)
                self.data.append(letter["data"])
                self._changed.notify_all()

    async def next(self) -> dict[str, Any]:
        """The next one that was not taken yet."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: len(self.data) > self._read)
        self._read += 1
        return self.data[self._read - 1]


@asynccontextmanager
async def listening(stack: Stack, token: MintToken) -> AsyncIterator[Letters]:
    """A subscribed consumer."""
    async with aiomqtt.Client(
        "127.0.0.1",
        stack.mosquitto.mqtt_port,
        identifier="dead-letter-reader:1",
        username="dead-letter-reader",
        password=token("dead-letter-reader", role="platform"),
        protocol=aiomqtt.ProtocolVersion.V5,
    ) as client:
        await client.subscribe("chat/v1/platform/events/+", qos=1)
        letters = Letters()
        collecting = asyncio.create_task(letters.collect(client))
        try:
            yield letters
        finally:
            collecting.cancel()
            outcome = await asyncio.gather(collecting, return_exceptions=True)
        if not isinstance(outcome[0], asyncio.CancelledError):
            raise AssertionError("the consumer stopped listening") from outcome[0]


@pytest_asyncio.fixture
async def letters(stack: Stack, token: MintToken) -> AsyncIterator[Letters]:
    async with listening(stack, token) as letters:
        yield letters


@pytest_asyncio.fixture
async def pair(stack: Stack, token: MintToken) -> AsyncIterator[tuple[Device, Device]]:
    """Alice's and Bob's devices, whose connection the service already knows."""
    async with AsyncExitStack() as opened:
        alice, bob = [
            await opened.enter_async_context(device(stack.mosquitto.mqtt_port, user, token(user)))
            for user in ("alice", "bob")
        ]
        await alice.send("warm", recipientId="bob")
        await alice.next("messageSent")
        await bob.next("newMessage")
        yield alice, bob


async def served_within_ms(alice: Device, bob: Device, text: str) -> float:
    """How long it took from the send until Bob had it."""
    began = time.perf_counter()
    await alice.send(text, recipientId="bob")
    arrived = await bob.next("newMessage")
    took = (time.perf_counter() - began) * 1_000
    assert arrived.payload["text"] == text
    await alice.next("messageSent")
    return took


def with_canary(payload: bytes) -> bytes:
    """The same kind of bad input with the canary in it, as text and where a client may write freely."""
    return payload.replace(b'"hello"', f'"{CANARY}"'.encode()).replace(b"hello", CANARY.encode())


async def test_every_kind_of_bad_input_makes_one_dead_letter_and_the_next_message_is_served(
    stack: Stack, pair: tuple[Device, Device], letters: Letters
) -> None:
    alice, bob = pair
    expected = []
    for name, (bad, code) in BAD_INPUT.items():
        payload = with_canary(bad)
        await alice.publish("sendMessage", payload)
        assert (await alice.next("error")).payload["code"] == code, name
        assert await served_within_ms(alice, bob, f"after: {name}") < 100, name
        if code in CONTENT_CODES:
            digest = {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
            expected.append({"reason": code, "userId": "alice", "command": "sendMessage", **digest})
            assert await letters.next() == expected[-1], name
    await alice.publish(f"{CANARY}-command", CANARY.encode())
    await alice.next("error")
    last = await letters.next()
    assert (last["reason"], last["userId"], "command" in last) == ("UNKNOWN_COMMAND", "alice", False)
    # Exactly one each, and none for what the service understood and refused: the last one was the last.
    assert letters.data == [*expected, last]
    assert len(expected) >= 15
    assert CANARY.encode() not in b"".join(letters.raw)
    assert CANARY not in stack.service.process.log_file.read_text()
    metrics = stack.service.get("/metrics") or ""
    assert CANARY not in metrics
    invalid = sum(letter["reason"] == "INVALID_PAYLOAD" for letter in expected)
    assert f'messaging_dead_letters_total{{reason="INVALID_PAYLOAD"}} {invalid}.0' in metrics
    assert 'messaging_dead_letters_total{reason="UNKNOWN_COMMAND"} 1.0' in metrics


async def test_letters_that_come_back_to_the_service_make_no_others(
    stack: Stack, pair: tuple[Device, Device], letters: Letters, token: MintToken
) -> None:
    alice, bob = pair
    async with platform(stack, token) as publish:
        await publish({CANARY: CANARY})
        assert (await letters.next()) | {"bytes": 0, "sha256": ""} == {
            "reason": "INVALID_PAYLOAD",
            "event": "connections.changed",
            "bytes": 0,
            "sha256": "",
        }
    await alice.publish("sync", CANARY.encode())
    await alice.next("error")
    assert (await letters.next())["command"] == "sync"

    def came_back() -> bool:
        metrics = stack.service.get("/metrics") or ""
        return 'messaging_platform_events_total{outcome="ignored"} 2.0' in metrics

    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(came_back):
            await asyncio.sleep(0.05)
    assert await served_within_ms(alice, bob, "after both came back") < 100
    assert len(letters.data) == 2
    assert CANARY.encode() not in b"".join(letters.raw)


def refuse_poison(database_url: str) -> None:
    """Makes the database choke on some texts, as on a row that it has a defect with."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "CREATE FUNCTION choke() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'choked on %', NEW.text; END $$"
        )
        connection.execute(
            "CREATE TRIGGER choke BEFORE INSERT ON message FOR EACH ROW "
            "WHEN (NEW.text LIKE 'poison%') EXECUTE FUNCTION choke()"
        )


async def test_poison_in_a_commit_fails_alone_and_is_buried_under_its_incident(
    stack: Stack, pair: tuple[Device, Device], letters: Letters
) -> None:
    alice, bob = pair
    await asyncio.to_thread(refuse_poison, stack.database_url)
    conversation = str(direct_conversation(UserId("alice"), "bob").id)
    texts = [str(number) for number in range(200)]
    texts[120] = f"poison {CANARY}"
    keys = {text: str(uuid4()) for text in texts}
    async with asyncio.TaskGroup() as sends:
        for text, key in keys.items():
            sends.create_task(alice.send(text, conversationId=conversation, clientMessageId=key))
    await alice.until(lambda events: len(events) >= 201)
    (error,) = alice.of("error")
    assert (error["code"], error["clientMessageId"]) == ("INTERNAL", keys[texts[120]])
    assert error["retryable"] is True
    letter = await letters.next()
    assert (letter["reason"], letter["command"], letter["userId"]) == ("INTERNAL", "sendMessage", "alice")
    assert letter["incidentId"] in error["message"]
    log = stack.service.process.log_file.read_text()
    assert letter["incidentId"] in log
    await bob.until(lambda events: len(events) >= 200)
    arrived = [payload["text"] for payload in bob.of("newMessage")]
    assert arrived == ["warm", *(text for text in texts if not text.startswith("poison"))]
    assert len(letters.data) == 1
    for text in (CANARY, "choked"):
        assert text.encode() not in letters.raw[0]
        assert text not in log


async def test_the_message_behind_a_poison_is_served_within_100_ms(
    stack: Stack, pair: tuple[Device, Device], letters: Letters
) -> None:
    alice, bob = pair
    await asyncio.to_thread(refuse_poison, stack.database_url)
    for number in range(5):
        await alice.send(f"poison {number}", recipientId="bob")
        assert (await alice.next("error")).payload["code"] == "INTERNAL"
        assert await served_within_ms(alice, bob, f"good {number}") < 100
        assert (await letters.next())["reason"] == "INTERNAL"
    assert len(letters.data) == 5
