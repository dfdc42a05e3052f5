"""What every `ConversationReader` does: the fake of the unit tests and the one on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg
import pytest

from service.domain.conversation import direct_conversation
from service.domain.ids import ConversationId, UserId
from service.domain.receipts import Positions
from service.storage.database import Database
from service.storage.reads import PostgresConversationReader
from service.use_cases.ports import ConversationReader, Direction, HistoryMessage
from tests.contract.conversation_reader.in_memory import InMemoryConversations, on_a_page
from tests.contract.conversation_reader.seeding import MemorySeed, PostgresSeed, Seed

ALICE, BOB, CAROL = UserId("alice"), UserId("bob"), UserId("carol")


@dataclass(frozen=True, slots=True)
class World:
    reader: ConversationReader
    seed: Seed


@pytest.fixture(params=["memory", "postgresql"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        store = InMemoryConversations()
        yield World(store, MemorySeed(store))
        return
    url: str = request.getfixturevalue("database_url")
    database = Database(url, size=2)
    await database.open()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        yield World(PostgresConversationReader(database), PostgresSeed(connection))
    await database.close()


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("limit", [1, 7, 10, 100])
async def test_pages_of_any_size_hold_each_message_once_in_walking_order(
    world: World, direction: Direction, limit: int
) -> None:
    conversation = await world.seed.conversation(ALICE, BOB)
    messages = await world.seed.messages(conversation, [ALICE, BOB] * 10)
    await world.seed.messages(await world.seed.conversation(ALICE, CAROL), [CAROL] * 30)
    walked: list[HistoryMessage] = []
    after_seq: int | None = None
    has_more = True
    while has_more:
        page = await world.reader.history(
            conversation.id, limit=limit, direction=direction, after_seq=after_seq
        )
        assert 0 < len(page.messages) <= limit
        walked.extend(page.messages)
        after_seq, has_more = page.messages[-1].seq, page.has_more
    written = [on_a_page(message) for message in messages]
    assert walked == (written if direction is Direction.NEWER else written[::-1])


@pytest.mark.parametrize(("direction", "after_seq"), [(Direction.NEWER, 3), (Direction.OLDER, 1)])
async def test_beyond_the_end_there_is_an_empty_page(
    world: World, direction: Direction, after_seq: int
) -> None:
    conversation = await world.seed.conversation(ALICE, BOB)
    await world.seed.messages(conversation, [ALICE] * 3)
    page = await world.reader.history(conversation.id, limit=5, direction=direction, after_seq=after_seq)
    assert (list(page.messages), page.has_more) == ([], False)


@pytest.mark.parametrize("after_seq", [1, 40_000, 3_000_000_000, 2**63 - 1])
async def test_positions_of_any_width_are_walked_from(world: World, after_seq: int) -> None:
    conversation = await world.seed.conversation(ALICE, BOB)
    messages = await world.seed.messages(conversation, [BOB, ALICE])
    older = await world.reader.history(
        conversation.id, limit=5, direction=Direction.OLDER, after_seq=after_seq
    )
    assert list(older.messages) == [on_a_page(m) for m in reversed(messages) if m.seq < after_seq]
    newer = await world.reader.history(
        conversation.id, limit=5, direction=Direction.NEWER, after_seq=after_seq
    )
    assert list(newer.messages) == [on_a_page(m) for m in messages if m.seq > after_seq]


async def test_a_page_carries_the_positions_of_both_participants(world: World) -> None:
    conversation = await world.seed.conversation(ALICE, BOB)
    await world.seed.messages(conversation, [ALICE, BOB, ALICE])
    of_bob = Positions(delivered_seq=3, read_seq=2, shown_read_seq=1)
    await world.seed.positions(conversation, BOB, of_bob)
    page = await world.reader.history(conversation.id, limit=2, direction=Direction.OLDER, after_seq=None)
    assert page.positions == {ALICE: Positions(), BOB: of_bob}


async def test_an_unknown_conversation_has_no_history_and_no_summary(world: World) -> None:
    unknown = ConversationId(uuid4())
    page = await world.reader.history(unknown, limit=5, direction=Direction.OLDER, after_seq=None)
    assert (list(page.messages), page.positions, page.has_more) == ([], {}, False)
    assert await world.reader.summary(ALICE, unknown) is None


async def test_a_summary_holds_what_its_participant_sees(world: World) -> None:
    conversation = await world.seed.conversation(BOB, ALICE)
    messages = await world.seed.messages(conversation, [ALICE, BOB, BOB, ALICE, BOB])
    position = Positions(delivered_seq=5, read_seq=2, shown_read_seq=1)
    await world.seed.positions(conversation, ALICE, position)
    of_alice = await world.reader.summary(ALICE, conversation.id)
    of_bob = await world.reader.summary(BOB, conversation.id)
    assert of_alice is not None
    assert of_bob is not None
    assert of_alice.conversation == of_bob.conversation == direct_conversation(ALICE, BOB)
    assert of_alice.last_message == of_bob.last_message == messages[-1]
    assert of_alice.last_seq == of_bob.last_seq == 5
    assert of_alice.activity_id == of_bob.activity_id == messages[-1].id
    assert of_alice.positions == of_bob.positions
    assert of_alice.positions == {ALICE: position, BOB: Positions()}
    # Behind position 2, Bob wrote 3 and 5; Bob has read nothing of 1 and 4.
    assert (of_alice.unread_count, of_bob.unread_count) == (2, 2)


async def test_unread_messages_are_counted_among_the_newest_thousand_positions(world: World) -> None:
    conversation = await world.seed.conversation(ALICE, BOB)
    await world.seed.messages(conversation, [BOB] * 500 + [ALICE, BOB] * 500)
    of_alice = await world.reader.summary(ALICE, conversation.id)
    assert of_alice is not None
    assert of_alice.unread_count == 500
    await world.seed.positions(conversation, ALICE, Positions(delivered_seq=1_500, read_seq=1_490))
    of_alice = await world.reader.summary(ALICE, conversation.id)
    assert of_alice is not None
    assert of_alice.unread_count == 5


async def test_a_conversation_without_messages_has_a_summary_without_one(world: World) -> None:
    conversation = await world.seed.conversation(ALICE, BOB)
    summary = await world.reader.summary(ALICE, conversation.id)
    assert summary is not None
    assert (summary.last_seq, summary.last_message, summary.unread_count) == (0, None, 0)
    assert list(await world.reader.summaries(ALICE, limit=5, before=None)) == [summary]


async def test_a_stranger_gets_no_summary(world: World) -> None:
    conversation = await world.seed.conversation(ALICE, BOB)
    assert await world.reader.summary(CAROL, conversation.id) is None
    assert list(await world.reader.summaries(CAROL, limit=5, before=None)) == []


@pytest.mark.parametrize("limit", [1, 4, 12, 50])
async def test_the_list_holds_each_of_the_users_conversations_once_latest_activity_first(
    world: World, limit: int
) -> None:
    opened = [await world.seed.conversation(ALICE, f"user{number}") for number in range(12)]
    await world.seed.conversation(BOB, CAROL)
    for number, seq in ((3, 1), (7, 1), (3, 2), (0, 1)):
        await world.seed.messages(opened[number], [ALICE], first_seq=seq)
    order = [0, 3, 7, 11, 10, 9, 8, 6, 5, 4, 2, 1]
    listed: list[ConversationId] = []
    before: UUID | None = None
    while summaries := await world.reader.summaries(ALICE, limit=limit, before=before):
        assert len(summaries) <= limit
        listed.extend(summary.conversation.id for summary in summaries)
        before = summaries[-1].activity_id
    assert listed == [opened[number].id for number in order]


async def test_the_list_shows_the_same_summary_as_the_conversation_alone(world: World) -> None:
    for other in ("bob", "carol", "dave"):
        conversation = await world.seed.conversation(ALICE, other)
        await world.seed.messages(conversation, [other, ALICE, other])
        await world.seed.positions(conversation, ALICE, Positions(delivered_seq=3, read_seq=2))
    summaries = await world.reader.summaries(ALICE, limit=5, before=None)
    assert len(summaries) == 3
    for summary in summaries:
        assert summary == await world.reader.summary(ALICE, summary.conversation.id)
        assert summary.unread_count == 1
