"""The JavaScript client under Node, against the running system."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.end_to_end.node_user import PATIENCE_S, NodeUser, build_library, node_user
from tests.end_to_end.stack import PageStack

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="session", autouse=True)
def library() -> None:
    """The library, compiled from its sources as they are now."""
    build_library()


async def first_message(alice: NodeUser, bob: NodeUser, text: str = "Hello") -> tuple[str, str, str]:
    """Alice writes to Bob; returns the ids of the conversation, the message and the client's message."""
    await alice.do("send", recipientId="bob", text=text)
    message = await bob.until(lambda: next((m for m in bob.of("message") if m["text"] == text), None))
    return message["conversationId"], message["messageId"], message["clientMessageId"]


async def test_a_message_goes_from_sending_over_sent_and_delivered_to_read(page_stack: PageStack) -> None:
    tcp = f"mqtt://127.0.0.1:{page_stack.mosquitto.mqtt_port}"
    async with node_user(page_stack, "alice", url=tcp) as alice, node_user(page_stack, "bob") as bob:
        conversation, message, key = await first_message(alice, bob)
        await alice.until(lambda: "delivered" in alice.steps(key))
        await bob.do("markRead", conversationId=conversation, messageId=message)
        await alice.until(lambda: "read" in alice.steps(key))
        assert alice.steps(key) == ["sending", "sent", "delivered", "read"]
        assert alice.of("receipt")[-1]["userId"] == "bob"
        shown = await alice.do("messages", conversationId=conversation)
        assert [each["status"] for each in shown["messages"]] == ["READ"]


async def test_nothing_is_delivered_until_told_when_that_is_switched_off(page_stack: PageStack) -> None:
    async with (
        node_user(page_stack, "alice") as alice,
        node_user(page_stack, "bob", marksDelivered=False) as bob,
    ):
        conversation, message, key = await first_message(alice, bob)
        await bob.do("markRead", conversationId=conversation, messageId=message)
        await alice.until(lambda: "read" in alice.steps(key))
        assert alice.steps(key) == ["sending", "sent", "read"]


async def test_a_read_clears_the_badge_of_the_readers_other_device(page_stack: PageStack) -> None:
    async with (
        node_user(page_stack, "alice") as alice,
        node_user(page_stack, "bob", history=True) as bob,
        node_user(page_stack, "bob", deviceId="other", history=True) as other,
    ):
        conversation, _, _ = await first_message(alice, bob)
        await alice.do("send", conversationId=conversation, text="and more")
        newest = await bob.until(lambda: next((m for m in bob.of("message") if m["seq"] == 2), None))
        await other.until(lambda: unread(other) == 2)
        await bob.do("markRead", conversationId=conversation, messageId=newest["messageId"])
        await other.until(lambda: unread(other) == 0)
        await bob.until(lambda: unread(bob) == 0)


def has_messages(user: NodeUser, count: int) -> bool:
    """Whether so many messages were announced."""
    return len(user.seqs()) >= count


def unread(user: NodeUser) -> int | None:
    """The badge of the first conversation, as the client told it last."""
    conversations = (user.of("conversations") or [[]])[-1]
    return conversations[0]["unreadCount"] if conversations else None


@pytest.mark.parametrize("with_history", [True, False])
async def test_brokers_that_die_and_forget_leave_no_hole_no_double_and_one_order(
    page_stack: PageStack, with_history: bool
) -> None:
    async with (
        node_user(page_stack, "alice", history=with_history) as alice,
        node_user(page_stack, "bob", history=with_history) as bob,
    ):
        conversation, _, _ = await first_message(alice, bob)
        for round_number in range(4):
            await asyncio.to_thread(page_stack.mosquitto.kill)
            for number in range(5):
                sender = alice if number % 2 else bob
                await sender.do("send", conversationId=conversation, text=f"{round_number}.{number}")
            await asyncio.to_thread(page_stack.mosquitto.start)
            await alice.connected()
            await alice.do("send", conversationId=conversation, text=f"{round_number} is over")
        expected = list(range(1, 26))
        for user in (alice, bob):
            await user.until(partial(has_messages, user, 25))
            assert user.seqs() == expected
        texts = [[message["text"] for message in user.of("message")] for user in (alice, bob)]
        assert texts[0] == texts[1]


async def test_typing_presence_and_preferences_as_they_happen(page_stack: PageStack) -> None:
    async with node_user(page_stack, "alice") as alice, node_user(page_stack, "bob") as bob:
        conversation, _, _ = await first_message(alice, bob)
        await bob.do("setTyping", conversationId=conversation, isTyping=True)
        await alice.until(lambda: [typing["isTyping"] for typing in alice.of("typing")] == [True])
        await bob.do("send", conversationId=conversation, text="that was it")
        await alice.until(lambda: [typing["isTyping"] for typing in alice.of("typing")] == [True, False])
        await bob.do("setPresence", state="away")
        await alice.until(lambda: presence_of_bob(alice) == "away")
        await bob.do("setPresence", state="online")
        await alice.until(lambda: presence_of_bob(alice) == "online")
        assert await bob.do("setPreferences", invisible=True) == {"readReceipts": True, "invisible": True}
        await alice.until(lambda: presence_of_bob(alice) == "offline")
        await bob.do("setPreferences", invisible=False)
        await alice.until(lambda: presence_of_bob(alice) == "online")
        await bob.do("close")
        await alice.until(lambda: presence_of_bob(alice) == "offline")
        assert alice.of("presence")[-1]["lastSeenAt"] is not None


async def test_a_client_that_is_killed_is_offline_soon_after(page_stack: PageStack) -> None:
    async with node_user(page_stack, "alice") as alice:
        async with node_user(page_stack, "bob") as bob:
            await first_message(alice, bob)
            await bob.do("setPresence", state="away")
            await alice.until(lambda: presence_of_bob(alice) == "away")
        await alice.until(lambda: presence_of_bob(alice) == "offline")


def presence_of_bob(user: NodeUser) -> str | None:
    """What the client told last; whether Bob's coming is told depends on when the conversation began."""
    return next((each["state"] for each in reversed(user.of("presence")) if each["userId"] == "bob"), None)


async def test_a_client_goes_on_after_the_position_that_its_application_kept(page_stack: PageStack) -> None:
    async with node_user(page_stack, "alice") as alice, node_user(page_stack, "bob") as bob:
        conversation, _, _ = await first_message(alice, bob)
        for number in range(2, 151):
            await alice.do("send", conversationId=conversation, text=f"message {number}")
        await bob.until(lambda: len(bob.seqs()) == 150)
        async with node_user(page_stack, "bob", deviceId="later") as later:
            await later.do("open", conversationId=conversation, afterSeq=20)
            await later.until(lambda: len(later.seqs()) >= 130)
            assert later.seqs() == list(range(21, 151))


async def test_closing_ends_the_process_and_what_was_not_sent_yet_is_told_as_such(
    page_stack: PageStack,
) -> None:
    async with node_user(page_stack, "alice") as alice, node_user(page_stack, "bob") as bob:
        await first_message(alice, bob)
        await bob.do("close")
        async with asyncio.timeout(PATIENCE_S):
            assert await bob.process.wait() == 0
        assert bob.of("connection")[-1]["status"] == "closed"
        await asyncio.to_thread(page_stack.mosquitto.kill)
        await alice.do("send", recipientId="bob", text="too late")
        await alice.do("close")
        async with asyncio.timeout(PATIENCE_S):
            assert await alice.process.wait() == 0
        assert alice.of("send")[-1]["status"] == "sending"
