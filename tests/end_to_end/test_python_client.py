"""The Python client against the running system: statuses, many devices, absences, lost events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from devstack.mosquitto import MosquittoServer
from messaging_client import (
    Backoff,
    ConversationSummary,
    Event,
    MessageDelivered,
    MessageRead,
    MessageSent,
    MessagingClient,
    MessagingClientOptions,
    NewMessage,
    PositionsMoved,
    PreferencesChanged,
    PresenceChanged,
    PresenceState,
    Typing,
)
from tests.conftest import MintToken
from tests.end_to_end.device import device
from tests.end_to_end.stack import Stack

_Event = TypeVar("_Event")
FAST = Backoff(initial=0.05, maximum=0.5)


def client(stack: Stack, token: MintToken, user: str, device_id: str, **changes: Any) -> MessagingClient:
    async def fresh() -> str:
        return token(user)

    settings: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": stack.mosquitto.mqtt_port,
        "user_id": user,
        "device_id": device_id,
        "token": fresh,
        "reconnect": FAST,
        "retry": FAST,
        "answer_wait": Backoff(initial=2, maximum=5),
    }
    return MessagingClient(MessagingClientOptions(**(settings | changes)))


async def until(
    client: MessagingClient, kind: type[_Event], condition: Callable[[_Event], bool] = lambda event: True
) -> _Event:
    """The next event of this kind for which the condition holds; all before it are passed over."""
    async with asyncio.timeout(20):
        async for event in client.events():
            if isinstance(event, kind) and condition(event):
                return event
    raise AssertionError("the events ended")


async def changes(client: MessagingClient, count: int) -> list[NewMessage | MessageSent]:
    """The next messages, of both sides."""
    found: list[NewMessage | MessageSent] = []
    async with asyncio.timeout(60):
        async for event in client.events():
            if isinstance(event, NewMessage | MessageSent):
                found.append(event)
            if len(found) == count:
                return found
    raise AssertionError("the events ended")


async def restart_without_memory(broker: MosquittoServer) -> None:
    broker.kill()
    broker.forget_everything()
    await asyncio.to_thread(broker.start)


async def test_a_message_is_delivered_and_read_on_all_devices(stack: Stack, token: MintToken) -> None:
    async with (
        client(stack, token, "alice", "phone") as phone,
        client(stack, token, "alice", "laptop") as laptop,
        client(stack, token, "bob", "phone") as bob,
        client(stack, token, "bob", "laptop", mark_delivered=False) as bobs_laptop,
    ):
        for one in (phone, laptop, bob, bobs_laptop):
            await one.wait_connected()
        sent = await phone.send("hello", recipient_id="bob")
        assert await until(laptop, MessageSent) == sent
        assert (await until(bob, NewMessage)).message_id == sent.message_id
        for author in (phone, laptop):
            delivered = await until(author, MessageDelivered)
            assert (delivered.message_id, delivered.seq, delivered.user_id) == (sent.message_id, 1, "bob")
        answer = await bob.mark_as_read(sent.conversation_id, sent.message_id, timeout=20)
        assert (answer.seq, answer.user_id) == (1, "bob")
        for one in (phone, laptop, bob, bobs_laptop):
            read = await until(one, MessageRead)
            assert (read.message_id, read.user_id) == (sent.message_id, "bob")


async def test_a_mark_by_hand_and_a_late_one(stack: Stack, token: MintToken) -> None:
    async with (
        client(stack, token, "alice", "phone") as alice,
        client(stack, token, "bob", "phone", mark_delivered=False) as bob,
    ):
        await bob.wait_connected()
        first = await alice.send("first", recipient_id="bob")
        second = await alice.send("second", recipient_id="bob")
        await bob.mark_as_delivered(second.conversation_id, second.message_id)
        assert (await until(alice, MessageDelivered)).seq == 2
        await bob.mark_as_read(second.conversation_id, second.message_id)
        late = await bob.mark_as_read(first.conversation_id, first.message_id)
        assert (late.seq, late.message_id) == (2, second.message_id)
        pages = [page async for page in bob.sync(first.conversation_id, limit=1)]
    assert [change.seq for page in pages for change in page.changes] == [1, 2]
    assert [page.complete for page in pages] == [False, True]


async def test_300_messages_of_an_absence_arrive_whole_and_in_order_without_the_broker(
    stack: Stack, token: MintToken, tmp_path: Path
) -> None:
    """The broker loses all of its memory, so that only asking can bring them."""
    kept: dict[str, Any] = {"state_file": tmp_path / "bob.state", "keep_positions": True}
    async with client(stack, token, "alice", "phone") as alice:
        async with client(stack, token, "bob", "phone", **kept) as bob:
            await bob.wait_connected()
            await alice.send("before", recipient_id="bob")
            assert [event.seq for event in await changes(bob, 1)] == [1]
        await asyncio.gather(*(alice.send(str(number), recipient_id="bob") for number in range(300)))
        await restart_without_memory(stack.mosquitto)
        async with client(stack, token, "bob", "phone", **kept) as bob:
            missed = await changes(bob, 300)
            assert [event.seq for event in missed] == list(range(2, 302))
            assert [event.text for event in missed] == [str(number) for number in range(300)]
            await alice.send("after", recipient_id="bob")
            assert [event.seq for event in await changes(bob, 1)] == [302]

    async with client(stack, token, "alice", "new device") as fresh:
        # What the new device knows begins with the next message: it asks for all before it.
        await fresh.send("from the new device", recipient_id="bob")
        assert [event.seq for event in await changes(fresh, 303)] == list(range(1, 304))


async def test_a_broker_that_loses_its_memory_between_two_connected_clients_loses_nothing(
    stack: Stack, token: MintToken
) -> None:
    async with (
        client(stack, token, "alice", "phone") as alice,
        client(stack, token, "bob", "phone") as bob,
    ):
        await bob.wait_connected()
        sending = asyncio.gather(*(alice.send(str(number), recipient_id="bob") for number in range(60)))
        begun = await changes(bob, 20)
        await restart_without_memory(stack.mosquitto)
        async with asyncio.timeout(60):
            sent = await sending
        received = begun + await changes(bob, 40)
        assert [event.seq for event in received] == list(range(1, 61))
        assert [event.message_id for event in received] == [event.message_id for event in sent]
        # And the author learns how far it got, by a mark or by a page.
        async with asyncio.timeout(20):
            async for event in alice.events():
                if _delivered_to_bob(event) == 60:
                    break


def _delivered_to_bob(event: Event) -> int:
    match event:
        case MessageDelivered(user_id="bob", seq=seq):
            return seq
        case PositionsMoved(positions=positions):
            return max(position.delivered_seq for position in positions if position.user_id == "bob")
    return 0


async def test_events_that_nobody_was_there_to_hear_are_asked_for(stack: Stack, token: MintToken) -> None:
    async with device(stack.mosquitto.mqtt_port, "alice", token("alice")) as alice:
        for number in range(1, 6):
            await alice.send(str(number), recipientId="bob")
            conversation_id = (await alice.next("messageSent")).payload["conversationId"]

        async def listed() -> dict[str, ConversationSummary]:
            return {conversation_id: ConversationSummary(last_seq=5)}

        # Bob had no session when these were told: the conversation list gives them away ...
        async with client(stack, token, "bob", "phone", list_conversations=listed) as bob:
            assert [event.seq for event in await changes(bob, 5)] == [1, 2, 3, 4, 5]
        # ... and without one, the next message does. What the application has is not told again.
        async with client(stack, token, "bob", "laptop", known_positions={conversation_id: 2}) as bob:
            assert [event.seq for event in await changes(bob, 3)] == [3, 4, 5]
        async with client(stack, token, "bob", "tablet") as bob:
            await bob.wait_connected()
            await alice.send("6", recipientId="bob")
            assert [event.seq for event in await changes(bob, 6)] == [1, 2, 3, 4, 5, 6]


async def test_what_was_not_answered_before_the_end_is_sent_by_the_next_run(
    stack: Stack, token: MintToken, tmp_path: Path
) -> None:
    kept: dict[str, Any] = {"state_file": tmp_path / "alice.state"}
    await asyncio.to_thread(stack.service.process.stop)
    async with client(stack, token, "alice", "phone", **kept) as alice:
        await alice.wait_connected()
        sends = [asyncio.create_task(alice.send(str(n), recipient_id="bob")) for n in range(3)]
        await asyncio.wait(sends, timeout=0.5)
    await asyncio.wait(sends)
    await restart_without_memory(stack.mosquitto)
    await asyncio.to_thread(stack.service.process.start)
    async with (
        client(stack, token, "bob", "phone") as bob,
        client(stack, token, "alice", "phone", **kept) as alice,
    ):
        resent = await changes(alice, 3)
        assert [event.text for event in resent] == ["0", "1", "2"]
        await alice.send("3", recipient_id="bob")
        assert [event.text for event in await changes(bob, 4)] == ["0", "1", "2", "3"]


async def test_typing_is_seen_and_ends_with_the_message(stack: Stack, token: MintToken) -> None:
    async with (
        client(stack, token, "alice", "phone") as alice,
        client(stack, token, "bob", "phone") as bob,
    ):
        await bob.wait_connected()
        sent = await alice.send("hello", recipient_id="bob")
        await alice.set_typing(sent.conversation_id, True)
        seen = await until(bob, Typing)
        assert (seen.conversation_id, seen.user_id, seen.is_typing) == (sent.conversation_id, "alice", True)
        await alice.send("done", conversation_id=sent.conversation_id)
        assert not (await until(bob, Typing)).is_typing
        await alice.set_typing(sent.conversation_id, True)
        assert (await until(bob, Typing)).is_typing
        await alice.set_typing(sent.conversation_id, False)
        assert not (await until(bob, Typing)).is_typing


async def test_presence_is_seen_by_a_connected_counterpart(stack: Stack, token: MintToken) -> None:
    async with client(stack, token, "bob", "phone") as bob:
        # Counterparts are those with whom there is a conversation.
        await bob.send("hello", recipient_id="alice")
        async with client(stack, token, "alice", "phone") as alice:
            assert (await until(bob, PresenceChanged)).state is PresenceState.ONLINE
            assert (await until(alice, PresenceChanged)).user_id == "bob"
            alice.set_presence(PresenceState.AWAY)
            assert (await until(bob, PresenceChanged)).state is PresenceState.AWAY
        gone = await until(bob, PresenceChanged)
        assert gone.state is PresenceState.OFFLINE
        assert gone.last_seen_at is not None


async def test_preferences_reach_all_devices_and_hide_reads(stack: Stack, token: MintToken) -> None:
    async with (
        client(stack, token, "alice", "phone") as alice,
        client(stack, token, "bob", "phone") as bob,
        client(stack, token, "bob", "laptop", mark_delivered=False) as laptop,
    ):
        await laptop.wait_connected()
        await bob.wait_connected()
        answer = await bob.set_preferences(read_receipts=False, timeout=20)
        assert (answer.read_receipts, answer.invisible) == (False, False)
        assert not (await until(laptop, PreferencesChanged)).read_receipts
        sent = await alice.send("hello", recipient_id="bob")
        await until(alice, MessageDelivered)
        await bob.mark_as_read(sent.conversation_id, sent.message_id)
        await until(laptop, MessageRead)
        await bob.send("an answer", conversation_id=sent.conversation_id)
        async with asyncio.timeout(20):
            async for event in alice.events():
                assert not isinstance(event, MessageRead)
                if isinstance(event, NewMessage):
                    break
