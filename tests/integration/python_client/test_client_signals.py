"""What the Python client tells of its own accord, and how it keeps to its bounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from messaging_client import (
    ClientClosed,
    CommandError,
    CommandRejected,
    ConversationSummary,
    MessagingClient,
    NewMessage,
    Position,
    PositionsMoved,
    PresenceState,
)
from tests.integration.python_client.conftest import MakeOptions, take
from tests.integration.python_client.responder import Dropped, Received, Refused, Responder

User = Callable[[str], str]


def fields_of(commands: list[Received], command: str, user: str) -> list[dict[str, Any]]:
    return [one.fields for one in commands if one.command == command and one.user == user]


async def test_a_session_tells_that_it_begins_lives_and_ends(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    alice = user("alice")
    async with MessagingClient(options(alice, heartbeat=0.1)) as client:
        await responder.wait_for_signal(lambda seen: len(fields_of(seen, "presence", alice)) >= 3)
        client.set_presence(PresenceState.AWAY)
        await responder.wait_for_signal(
            lambda seen: "away" in [one["state"] for one in fields_of(seen, "presence", alice)]
        )
    await responder.wait_for_signal(lambda seen: fields_of(seen, "presence", alice)[-1]["state"] == "offline")
    told = fields_of(responder.background, "presence", alice)
    assert [one["state"] for one in told[:3]] == ["online"] * 3
    assert [one["state"] for one in told].count("offline") == 1
    assert len({one["sessionId"] for one in told}) == 1


async def test_the_will_of_a_session_that_was_taken_over_names_that_session(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    alice = user("alice")

    def ended(seen: list[Received]) -> set[str]:
        told = fields_of(seen, "presence", alice)
        return {one["sessionId"] for one in told if one["state"] == "offline"}

    async with MessagingClient(options(alice)) as first:
        await first.wait_connected()
        await responder.wait_for_signal(lambda seen: bool(fields_of(seen, "presence", alice)))
        session = fields_of(responder.background, "presence", alice)[0]["sessionId"]
        async with MessagingClient(options(alice)):
            await responder.wait_for_signal(lambda seen: session in ended(seen))


async def test_only_the_newest_message_is_marked_as_delivered(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    alice, bob = user("alice"), user("bob")
    async with (
        MessagingClient(options(alice)) as sender,
        MessagingClient(options(bob, mark_delivered_delay=0.5)) as receiver,
    ):
        await receiver.wait_connected()
        sent = [await sender.send(str(number), recipient_id=bob) for number in range(10)]
        await responder.wait_for_signal(
            lambda seen: (
                sent[-1].message_id in [one["messageId"] for one in fields_of(seen, "markAsDelivered", bob)]
            )
        )
    assert len(fields_of(responder.background, "markAsDelivered", bob)) < 10
    assert fields_of(responder.background, "markAsDelivered", alice) == []


async def test_marks_can_be_switched_off(options: MakeOptions, responder: Responder, user: User) -> None:
    alice, bob = user("alice"), user("bob")
    async with (
        MessagingClient(options(alice)) as sender,
        MessagingClient(options(bob, mark_delivered=False, presence=False)) as receiver,
    ):
        await receiver.wait_connected()
        sent = await sender.send("hello", recipient_id=bob)
        await take(receiver, 1)
        assert (await receiver.mark_as_read(sent.conversation_id, sent.message_id)).seq == 1
    assert [one.command for one in responder.background if one.user == bob] == []


async def test_typing_is_refreshed_until_the_message_is_sent(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    alice = user("alice")
    async with MessagingClient(options(alice, typing_refresh=0.1, heartbeat=0.1)) as client:
        sent = await client.send("hello", recipient_id=user("bob"))

        def told(seen: list[Received]) -> list[bool]:
            return [one["isTyping"] for one in fields_of(seen, "typing", alice)]

        await client.set_typing(sent.conversation_id, True)
        await responder.wait_for_signal(lambda seen: len(told(seen)) >= 3)
        await client.set_typing(sent.conversation_id, False)
        await responder.wait_for_signal(lambda seen: told(seen)[-1] is False)
        await client.set_typing(sent.conversation_id, False)
        await client.set_typing(sent.conversation_id, True)
        await client.send("the service ends it now", recipient_id=user("bob"))
        count = len(told(responder.background))
        # Four heartbeats take longer than three refreshes would.
        beats = len(fields_of(responder.background, "presence", alice))
        await responder.wait_for_signal(lambda seen: len(fields_of(seen, "presence", alice)) >= beats + 4)
        assert told(responder.background)[count:] == []


async def test_an_unanswered_read_is_sent_again_and_a_refused_one_is_raised(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    async with MessagingClient(options(user("alice"))) as client:
        sent = await client.send("hello", recipient_id=user("bob"))
        responder.script.append(Dropped())
        read = await client.mark_as_read(sent.conversation_id, sent.message_id)
        assert read.message_id == sent.message_id
        responder.script.append(Refused(code="MESSAGE_NOT_FOUND", retryable=False, names_the_message=False))
        with pytest.raises(CommandRejected, match="MESSAGE_NOT_FOUND"):
            await client.mark_as_read(sent.conversation_id, sent.conversation_id)
    reads = [command.payload for command in responder.received if command.command == "markAsRead"]
    assert reads[0] == reads[1]


async def test_lost_events_are_repaired_in_order_by_small_pages(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    responder.page_size = 3
    responder.unheard = {2, 3, 5, 6, 7, 8, 9, 10, 13}
    async with (
        MessagingClient(options(user("alice"))) as alice,
        MessagingClient(options(user("bob"))) as bob,
    ):
        await bob.wait_connected()
        for number in range(1, 15):
            await alice.send(str(number), recipient_id=user("bob"))
        received = await take(bob, 14)
    assert [event.seq for event in received if isinstance(event, NewMessage)] == list(range(1, 15))


async def test_a_reader_that_does_not_keep_up_loses_nothing_and_memory_stays_bounded(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    responder.page_size = 3
    async with (
        MessagingClient(options(user("alice"))) as alice,
        MessagingClient(options(user("bob"), max_buffered_events=5)) as bob,
    ):
        await bob.wait_connected()
        for number in range(1, 41):
            await alice.send(str(number), recipient_id=user("bob"))
        assert _waiting(bob) <= 5 + responder.page_size
        received = await take(bob, 40)
    assert [event.seq for event in received if isinstance(event, NewMessage)] == list(range(1, 41))


def _waiting(client: MessagingClient) -> int:
    assert client._session is not None
    return client._session.inbox.waiting


async def test_refusals_of_what_the_client_does_by_itself_are_not_told(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    error = {"code": "UNKNOWN_COMMAND", "message": "no", "retryable": False, "command": "presence"}
    async with MessagingClient(options(user("alice"))) as alice:
        await alice.wait_connected()
        await responder.publish(user("alice"), "error", error, b"messaging-client:presence")
        await responder.publish(user("alice"), "error", error | {"message": "told"}, b"mine")
        (told,) = await take(alice, 1)
    assert isinstance(told, CommandError)
    assert told.message == "told"


async def test_with_a_state_file_a_message_goes_out_though_its_caller_and_its_run_have_ended(
    options: MakeOptions, responder: Responder, user: User, tmp_path: Path
) -> None:
    kept = {"state_file": tmp_path / "state"}
    responder.script.extend([Dropped()] * 50)
    async with MessagingClient(options(user("alice"), **kept)) as alice:
        with pytest.raises(TimeoutError):
            await alice.send("first", recipient_id=user("bob"), timeout=0.3)
        second = asyncio.create_task(alice.send("second", recipient_id=user("bob")))
        await responder.wait_for(1)
    with pytest.raises(ClientClosed):
        await second
    responder.script.clear()
    async with MessagingClient(options(user("alice"), **kept)) as alice:
        resent = await take(alice, 2)
        third = await alice.send("third", recipient_id=user("bob"))
    sent = [json.loads(command.payload)["clientMessageId"] for command in responder.received]
    assert list(dict.fromkeys(sent))[:2] == [event.client_message_id for event in resent]  # type: ignore[union-attr]
    assert third.seq == 3
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("messaging-client")]


async def test_positions_are_kept_of_what_was_handled(
    options: MakeOptions, responder: Responder, user: User, tmp_path: Path
) -> None:
    kept = {"state_file": tmp_path / "state", "keep_positions": True}
    async with MessagingClient(options(user("alice"))) as alice:
        async with MessagingClient(options(user("bob"), **kept)) as bob:
            await bob.wait_connected()
            for number in range(1, 6):
                await alice.send(str(number), recipient_id=user("bob"))
            await take(bob, 3)
        async with MessagingClient(options(user("bob"), **kept)) as bob:
            received = await take(bob, 2)
    assert [event.seq for event in received if isinstance(event, NewMessage)] == [4, 5]


async def test_a_delivered_mark_that_was_refused_for_now_is_repeated(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    bob = user("bob")
    error = {"code": "STORAGE_UNAVAILABLE", "message": "why", "retryable": True, "command": "markAsDelivered"}
    async with (
        MessagingClient(options(user("alice"))) as alice,
        MessagingClient(options(bob)) as receiver,
    ):
        await receiver.wait_connected()
        sent = await alice.send("hello", recipient_id=bob)
        await responder.wait_for_signal(lambda seen: bool(fields_of(seen, "markAsDelivered", bob)))
        about = b"messaging-client:" + sent.conversation_id.encode()
        await responder.publish(bob, "error", error | {"retryAfterMs": 1}, about)
        await responder.wait_for_signal(lambda seen: len(fields_of(seen, "markAsDelivered", bob)) == 2)


async def test_the_list_tells_what_to_ask_for_and_is_asked_again_when_it_fails(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    bob, asked = user("bob"), 0
    async with MessagingClient(options(user("alice"))) as alice:
        for number in range(3):
            sent = await alice.send(str(number), recipient_id=bob)

        async def listed() -> dict[str, ConversationSummary]:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise ConnectionError("the gateway is down")
            positions = (Position(user_id=user("alice"), delivered_seq=3, read_seq=2),)
            return {sent.conversation_id: ConversationSummary(last_seq=3, positions=positions)}

        async with MessagingClient(options(bob, list_conversations=listed)) as receiver:
            moved, *messages = await take(receiver, 4)
        known = {sent.conversation_id: 3}
        async with MessagingClient(
            options(bob, list_conversations=listed, known_positions=known, device_id="other")
        ) as receiver:
            await take(receiver, 1)
    assert isinstance(moved, PositionsMoved)
    assert [event.seq for event in messages if isinstance(event, NewMessage)] == [1, 2, 3]
    # Nothing new in the list: nothing was asked for.
    assert len(fields_of(responder.background, "sync", bob)) == 1
