"""The Python client on a real Mosquitto: every send ends in one answer, in call order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import pytest

from devstack.mosquitto import MosquittoServer
from messaging_client import CommandError, CommandRejected, MessageSent, MessagingClient, NewMessage
from tests.integration.python_client.conftest import MakeOptions, take
from tests.integration.python_client.responder import Answered, Dropped, Refused, Responder

User = Callable[[str], str]
Way = Mapping[str, Any]


@pytest.fixture(params=["tcp", "websockets"])
def way(request: pytest.FixtureRequest, mosquitto_server: MosquittoServer) -> Way:
    """The options of each transport."""
    port = mosquitto_server.mqtt_port if request.param == "tcp" else mosquitto_server.websocket_port
    return {"transport": request.param, "port": port}


async def test_a_message_is_acknowledged_and_reaches_the_other_user(
    way: Way,
    options: MakeOptions,
    responder: Responder,
    user: User,
) -> None:
    async with (
        MessagingClient(options(user("alice"), **way)) as alice,
        MessagingClient(options(user("bob"), **way)) as bob,
    ):
        await bob.wait_connected()
        sent = await alice.send("hello \U0001f600 مرحبا", recipient_id=user("bob"))
        (received,) = await take(bob, 1)
        assert await take(alice, 1) == [sent]
    assert isinstance(sent, MessageSent)
    assert isinstance(received, NewMessage)
    assert (sent.text, sent.seq, sent.sender_id) == ("hello \U0001f600 مرحبا", 1, user("alice"))
    assert (received.message_id, received.text, received.seq) == (sent.message_id, sent.text, 1)


async def test_small_packets_do_not_wait_for_each_other(
    way: Way,
    options: MakeOptions,
    user: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[socket.socket] = []
    connect = socket.create_connection

    def create_connection(*arguments: Any, **keywords: Any) -> socket.socket:
        opened.append(connect(*arguments, **keywords))
        return opened[-1]

    monkeypatch.setattr(socket, "create_connection", create_connection)
    async with MessagingClient(options(user("alice"), **way)) as alice:
        await alice.wait_connected()
        assert [each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in opened] == [1]


async def test_an_unanswered_message_is_sent_again_with_the_same_id(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    responder.script.extend([Dropped(), Dropped()])
    key = uuid4()
    async with MessagingClient(options(user("alice"))) as alice:
        sent = await alice.send("hello", recipient_id=user("bob"), client_message_id=key)
    assert sent.client_message_id == str(key)
    assert len(responder.received) == 3
    assert len({command.payload for command in responder.received}) == 1


async def test_a_second_answer_is_no_second_event(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    responder.script.append(Answered(times=3))
    async with (
        MessagingClient(options(user("alice"))) as alice,
        MessagingClient(options(user("bob"))) as bob,
    ):
        await bob.wait_connected()
        first = await alice.send("one", recipient_id=user("bob"))
        second = await alice.send("two", conversation_id=first.conversation_id)
        third = await alice.send("three", recipient_id=user("bob"))
        assert await take(alice, 3) == [first, second, third]
        # Nobody told Bob the second message: the gap before the third makes the client ask.
        texts = [event.text for event in await take(bob, 3) if isinstance(event, NewMessage)]
    assert texts == ["one", "two", "three"]


@pytest.mark.parametrize("code", ["STORAGE_UNAVAILABLE", "BUSY", "RATE_LIMITED"])
async def test_a_retryable_error_is_retried_not_before_the_time_it_asks_for(
    options: MakeOptions, responder: Responder, user: User, code: str
) -> None:
    responder.script.append(Refused(code=code, retryable=True, retry_after_ms=700))
    async with MessagingClient(options(user("alice"))) as alice:
        sent = await alice.send("hello", recipient_id=user("bob"))
        events = await take(alice, 2)
    first, second = responder.received
    assert second.at - first.at >= 0.7
    assert first.payload == second.payload
    assert isinstance(events[0], CommandError)
    assert events[1] == sent


async def test_a_final_error_is_raised_and_the_next_message_is_sent(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    responder.script.append(Refused(code="NOT_CONNECTED", retryable=False))
    async with MessagingClient(options(user("alice"))) as alice:
        with pytest.raises(CommandRejected) as refusal:
            await alice.send("hello", recipient_id=user("carol"))
        sent = await alice.send("hello", recipient_id=user("bob"))
    assert (refusal.value.code, refusal.value.retryable) == ("NOT_CONNECTED", False)
    assert sent.seq == 1


async def test_an_error_that_cannot_name_the_message_is_still_recognised(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    responder.script.append(Refused(code="PAYLOAD_TOO_LARGE", retryable=False, names_the_message=False))
    async with MessagingClient(options(user("alice"))) as alice:
        with pytest.raises(CommandRejected, match="PAYLOAD_TOO_LARGE"):
            await alice.send("x" * 40_000, recipient_id=user("bob"))
    assert len(responder.received) == 1


async def test_retries_do_not_change_the_order_of_a_conversation(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    refused = Refused(code="AUTHORIZATION_UNAVAILABLE", retryable=True)
    for _ in range(4):
        responder.script.extend([Answered(), refused, Dropped(), Answered()])
    texts = [str(number) for number in range(12)]
    async with MessagingClient(options(user("alice"))) as alice:
        sent = await asyncio.gather(*(alice.send(text, recipient_id=user("bob")) for text in texts))
    assert [message.text for message in sorted(sent, key=lambda message: message.seq)] == texts


async def test_a_slow_conversation_does_not_hold_up_another_one(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    responder.script.append(Refused(code="AUTHORIZATION_UNAVAILABLE", retryable=True, retry_after_ms=60_000))
    async with MessagingClient(options(user("alice"))) as alice:
        slow = asyncio.create_task(alice.send("waits", recipient_id=user("bob")))
        await responder.wait_for(1)
        assert (await alice.send("passes", recipient_id=user("carol"))).text == "passes"
        assert not slow.done()
        slow.cancel()
        await asyncio.wait({slow})


async def test_a_send_gives_up_at_its_timeout_and_the_next_one_goes_on(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    responder.script.extend([Dropped(), Dropped()])
    async with MessagingClient(options(user("alice"))) as alice:
        with pytest.raises(TimeoutError):
            await alice.send("first", recipient_id=user("bob"), timeout=0.2)
        sent = await alice.send("second", recipient_id=user("bob"), timeout=20)
    assert sent.text == "second"


async def test_bad_input_goes_out_byte_for_byte_through_the_low_level_door(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    async with MessagingClient(options(user("alice"))) as alice:
        responder.script.extend([Dropped(), Dropped()])
        await alice.publish_command("sendMessage", b"\xff not JSON \x00", correlation_data=b"c")
        await alice.publish_command("dance", {"a": 1})
        await responder.wait_for(2)
    assert [(command.command, command.payload) for command in responder.received] == [
        ("sendMessage", b"\xff not JSON \x00"),
        ("dance", b'{"a":1}'),
    ]


async def test_a_send_must_name_one_receiver_and_text_that_utf_8_can_hold(
    options: MakeOptions, user: User
) -> None:
    async with MessagingClient(options(user("alice"))) as alice:
        with pytest.raises(ValueError, match="either"):
            await alice.send("x")
        with pytest.raises(ValueError, match="either"):
            await alice.send("x", recipient_id="bob", conversation_id=uuid4())
        with pytest.raises(UnicodeEncodeError):
            await alice.send("\ud800", recipient_id="bob")
