"""What every `BatchWriter` promises of positions: the fake of the unit tests and PostgreSQL alike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import psycopg

from service.domain.ids import MessageId, UserId
from service.domain.receipts import Mark, Position
from service.storage.batches import CommitConnections, PostgresBatchWriter
from service.storage.conversations import PostgresConversationRepository
from service.storage.database import Database
from service.use_cases.ports import BatchWriter
from tests.contract.batch_writer.conftest import ALICE, BOB, WITH_BOB, WITH_CAROL, Adapters
from tests.contract.batch_writer.test_appending import append, draft
from tests.leases import FENCE


async def messages(writer: BatchWriter, count: int) -> list[MessageId]:
    rows = await append(writer, [draft(str(number)) for number in range(count)])
    return [row.id for row in rows if row is not None]


def mark(message: MessageId, *, read: bool = True, user: UserId = BOB) -> Mark:
    return Mark(conversation_id=WITH_BOB.id, user_id=user, message_id=message, is_read=read)


async def advance(writer: BatchWriter, *marks: Mark) -> Sequence[Position | None]:
    return await writer.advance(marks)


def summary(positions: Sequence[Position | None]) -> list[tuple[int, bool] | None]:
    return [None if position is None else (position.seq, position.moved) for position in positions]


async def test_a_mark_moves_the_position_to_its_message(writer: BatchWriter) -> None:
    ids = await messages(writer, 3)
    (position,) = await advance(writer, mark(ids[1]))
    assert position is not None
    assert (position.message_id, position.seq, position.moved, position.visible) == (ids[1], 2, True, True)


async def test_late_and_repeated_marks_change_nothing_and_tell_where_the_position_is(
    writer: BatchWriter,
) -> None:
    ids = await messages(writer, 3)
    (first,) = await advance(writer, mark(ids[2]))
    for again in (ids[2], ids[0]):
        (position,) = await advance(writer, mark(again))
        assert first is not None
        assert position == replace(first, moved=False, moved_delivered=False)


async def test_marks_of_one_batch_are_one_move(writer: BatchWriter) -> None:
    ids = await messages(writer, 4)
    positions = await advance(writer, mark(ids[1]), mark(ids[3]), mark(ids[0]), mark(ids[3]))
    assert summary(positions) == [(4, False), (4, True), (4, False), (4, False)]


async def test_reading_implies_having(writer: BatchWriter) -> None:
    ids = await messages(writer, 3)
    await advance(writer, mark(ids[2]))
    assert summary(await advance(writer, mark(ids[1], read=False))) == [(3, False)]


async def test_having_does_not_imply_reading(writer: BatchWriter) -> None:
    ids = await messages(writer, 3)
    assert summary(await advance(writer, mark(ids[2], read=False))) == [(3, True)]
    assert summary(await advance(writer, mark(ids[0]))) == [(1, True)]


async def test_both_participants_have_positions_of_their_own(writer: BatchWriter) -> None:
    ids = await messages(writer, 2)
    positions = await advance(writer, mark(ids[1]), mark(ids[0], user=ALICE))
    assert summary(positions) == [(2, True), (1, True)]


async def test_unknown_and_foreign_messages_move_nothing(writer: BatchWriter) -> None:
    await messages(writer, 1)
    (foreign,) = await append(writer, [draft("elsewhere", WITH_CAROL)])
    assert foreign is not None
    positions = await advance(writer, mark(foreign.id), mark(MessageId(uuid4())))
    assert positions == [None, None]


async def test_who_hides_reading_shows_having(adapters: Adapters) -> None:
    ids = await messages(adapters.writer, 2)
    await adapters.hide(BOB)
    read, had = await advance(adapters.writer, mark(ids[0]), mark(ids[1], read=False))
    assert read is not None
    assert had is not None
    assert (read.visible, had.visible) == (False, True)


async def test_what_was_hidden_stays_hidden_when_it_is_marked_again(adapters: Adapters) -> None:
    """A mark that is delivered again is told again, and by now its user may show what it reads."""
    ids = await messages(adapters.writer, 3)
    await adapters.hide(BOB)
    await advance(adapters.writer, mark(ids[1]))
    await adapters.show(BOB)
    for older in (ids[1], ids[0]):
        (again,) = await advance(adapters.writer, mark(older))
        assert again is not None
        assert (again.seq, again.moved, again.visible) == (2, False, False)
    (newer,) = await advance(adapters.writer, mark(ids[2]))
    (newer_again,) = await advance(adapters.writer, mark(ids[2]))
    assert newer is not None
    assert newer_again is not None
    assert (newer.moved, newer.visible) == (True, True)
    assert (newer_again.moved, newer_again.visible) == (False, True)


async def test_what_was_shown_stays_shown_when_its_reader_hides(adapters: Adapters) -> None:
    ids = await messages(adapters.writer, 2)
    await advance(adapters.writer, mark(ids[1]))
    await adapters.hide(BOB)
    (again,) = await advance(adapters.writer, mark(ids[1]))
    assert again is not None
    assert (again.moved, again.visible) == (False, True)


async def test_reading_what_was_had_already_does_not_tell_that_it_was_had(adapters: Adapters) -> None:
    """Who hides reading would give the moment of it away with a second delivery."""
    ids = await messages(adapters.writer, 2)
    await adapters.hide(BOB)
    await advance(adapters.writer, mark(ids[0], read=False))
    (had_before,) = await advance(adapters.writer, mark(ids[0]))
    (had_now,) = await advance(adapters.writer, mark(ids[1]))
    assert had_before is not None
    assert had_now is not None
    assert (had_before.moved, had_before.moved_delivered) == (True, False)
    assert (had_now.moved, had_now.moved_delivered) == (True, True)


async def test_the_original_row_of_a_key_is_found(adapters: Adapters) -> None:
    first = draft()
    (row,) = await append(adapters.writer, [first])
    assert await adapters.writer.find(first.sender_id, first.client_message_id) == row
    assert await adapters.writer.find(BOB, first.client_message_id) is None


async def test_marks_raced_through_two_instances_only_ever_move_forward(database_url: str) -> None:
    databases = [Database(database_url), Database(database_url)]
    for database in databases:
        await database.open()
    await PostgresConversationRepository(databases[0]).open(WITH_BOB, MessageId(uuid4()))
    writers = [PostgresBatchWriter(CommitConnections(database), FENCE) for database in databases]
    ids = await messages(writers[0], 100)
    shuffled = random.Random(7)
    orders = [shuffled.sample(ids, len(ids)) for _ in writers]
    positions = await asyncio.gather(
        *(
            advance(writer, *(mark(message, read=number % 2 == 0) for message in order[number : number + 5]))
            for writer, order in zip(writers, orders, strict=True)
            for number in range(0, 100, 5)
        )
    )
    for database in databases:
        await database.close()
    moved = [position.seq for batch in positions for position in batch if position and position.moved]
    assert max(moved) == 100
    with psycopg.connect(database_url) as connection:
        final = connection.execute("SELECT delivered_seq FROM participant WHERE user_id = 'bob'").fetchone()
        log = connection.execute(
            "SELECT seq FROM receipt WHERE user_id = 'bob' AND NOT is_read ORDER BY created_at, seq"
        ).fetchall()
    assert final == (100,)
    assert log == sorted(log)
    assert len(log) == len(set(log))
