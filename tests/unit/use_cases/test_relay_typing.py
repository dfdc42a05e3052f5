"""Typing by an injected clock: what is told, when it ends, and what a flood costs."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from service.domain.conversation import direct_conversation
from service.domain.errors import ErrorCode, Rejection
from service.domain.ids import ConversationId, UserId
from service.use_cases.authorize import Authorize
from service.use_cases.relay_typing import RelayTyping, TypingCommand, TypingSignal
from tests.fakes import MemoryConversations
from tests.unit.use_cases.connected_pairs import ConnectedPairs

ALICE, BOB = UserId("alice"), UserId("bob")
CONVERSATION = direct_conversation(ALICE, "bob")


class KnownPairs(ConnectedPairs):
    """Answers from memory, and counts what it is asked beyond that."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        super().__init__(*pairs)
        self.in_memory = True
        self.gate = asyncio.Event()
        self.gate.set()

    def known(self, user: UserId, other: UserId) -> bool | None:
        return frozenset((user, other)) in self._pairs if self.in_memory else None

    async def are_connected(self, user: UserId, other: UserId) -> bool:
        answer = await super().are_connected(user, other)
        await self.gate.wait()
        return answer


class World:
    def __init__(self, *, max_typists: int = 100) -> None:
        self.now = 100.0
        self.told: list[tuple[UserId, bool]] = []
        self.refused: list[Rejection] = []
        self.conversations = MemoryConversations()
        self.conversations.stored[CONVERSATION.id] = CONVERSATION
        self.connections = KnownPairs(("alice", "bob"))
        self.relay = RelayTyping(
            Authorize(self.conversations, self.connections, lambda: 0),
            self._tell,
            clock=lambda: self.now,
            max_typists=max_typists,
        )

    def _tell(self, signal: TypingSignal) -> None:
        self.told.append((signal.recipient_id, signal.is_typing))

    def types(
        self, is_typing: bool = True, *, user: UserId = ALICE, conversation: ConversationId = CONVERSATION.id
    ) -> None:
        command = TypingCommand(user_id=user, conversation_id=conversation, is_typing=is_typing)
        self.relay(command, self.refused.append)


@pytest.fixture
async def world() -> World:
    return World()


async def test_the_counterpart_is_told_without_waiting(world: World) -> None:
    world.types()
    assert world.told == [(BOB, True)]


async def test_typing_is_told_once_a_second_at_the_most(world: World) -> None:
    for _ in range(100):
        world.types()
        world.now += 0.05
    assert world.told == [(BOB, True)] * 5


async def test_typing_that_is_not_repeated_ends_after_six_seconds(world: World) -> None:
    world.types()
    world.now += 3
    world.types()
    world.now += 5.9
    assert world.relay.expire() == pytest.approx(0.1)
    assert world.told == [(BOB, True)] * 2
    world.now += 0.1
    assert world.relay.expire() is None
    assert world.told == [(BOB, True), (BOB, True), (BOB, False)]


async def test_an_end_is_told_at_once_and_only_after_a_beginning(world: World) -> None:
    world.types(False)
    world.types()
    world.types(False)
    world.types(False)
    assert world.told == [(BOB, True), (BOB, False)]


async def test_beginning_and_ending_in_turn_makes_no_flood(world: World) -> None:
    for _ in range(50):
        world.types(True)
        world.types(False)
    assert world.told == [(BOB, True), (BOB, False)]
    world.now += 1
    world.types(True)
    assert world.told[2:] == [(BOB, True)]


async def test_the_sent_message_ends_it(world: World) -> None:
    world.types()
    world.relay.sent(ALICE, CONVERSATION.id)
    world.relay.sent(ALICE, CONVERSATION.id)
    world.relay.sent(BOB, CONVERSATION.id)
    assert world.told == [(BOB, True), (BOB, False)]


async def test_going_offline_ends_it_everywhere(world: World) -> None:
    other = direct_conversation(ALICE, "carol")
    world.conversations.stored[other.id] = other
    world.connections.connect("alice", "carol")
    world.types()
    world.types(conversation=other.id)
    world.relay.gone(ALICE)
    world.relay.gone(BOB)
    assert sorted(world.told[2:]) == [(BOB, False), (UserId("carol"), False)]


async def test_the_state_is_bounded_and_who_gives_way_is_ended(world: World) -> None:
    world = World(max_typists=10)
    users = [UserId(f"user{number}") for number in range(30)]
    for user in users:
        conversation = direct_conversation(user, "bob")
        world.conversations.stored[conversation.id] = conversation
        world.connections.connect(user, "bob")
        world.types(user=user, conversation=conversation.id)
    assert world.told.count((BOB, True)) == 30
    assert world.told.count((BOB, False)) == 20
    world.now += 6
    assert world.relay.expire() is None
    assert world.told.count((BOB, False)) == 30


async def test_a_stranger_hears_of_one_error_a_second_and_nobody_else_of_anything(world: World) -> None:
    for _ in range(10):
        world.types(user=UserId("mallory"))
    assert [rejection.code for rejection in world.refused] == [ErrorCode.CONVERSATION_NOT_FOUND]
    world.now += 1
    world.types(user=UserId("mallory"))
    assert len(world.refused) == 2
    assert world.told == []


async def test_who_is_not_connected_is_refused(world: World) -> None:
    other = direct_conversation(ALICE, "carol")
    world.conversations.stored[other.id] = other
    world.types(conversation=other.id)
    assert [rejection.code for rejection in world.refused] == [ErrorCode.NOT_CONNECTED]


async def test_a_missing_conversation_is_looked_up_and_refused(world: World) -> None:
    world.types(conversation=ConversationId(uuid4()))
    await settle()
    assert [rejection.code for rejection in world.refused] == [ErrorCode.CONVERSATION_NOT_FOUND]


async def test_a_flood_is_looked_up_once_and_the_last_word_counts(world: World) -> None:
    world.connections.in_memory = False
    world.connections.gate.clear()
    for number in range(1_000):
        world.types(number % 2 == 1)
    await settle()
    assert len(world.connections.asked) == 1
    assert world.told == []
    world.connections.gate.set()
    await settle()
    assert world.told == [(BOB, True)]


async def test_trouble_with_asking_is_not_told(world: World) -> None:
    world.connections.in_memory = False
    world.connections.reachable = False
    world.types()
    await settle()
    assert world.told == []
    assert world.refused == []
    world.connections.reachable = True
    world.types()
    await settle()
    assert world.told == [(BOB, True)]


async def test_the_timer_ends_what_expires() -> None:
    """With the real clock of the loop behind the injected one."""
    world = World()
    running = asyncio.create_task(world.relay.run())
    await settle()
    world.types()
    world.now += 5.99
    async with asyncio.timeout(5):
        while world.told != [(BOB, True), (BOB, False)]:
            await asyncio.sleep(0.005)
            world.now += 0.005
    running.cancel()


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)
