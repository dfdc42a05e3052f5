"""Batches that mix what is new with what is stored: PostgreSQL has a short statement for the first only."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from service.domain.ids import ConversationId, MessageId, uuid7
from service.domain.message import Draft
from service.storage.append import APPEND_STATEMENTS, append_any, append_new
from service.storage.batches import CommitConnections, PostgresBatchWriter
from service.storage.conversations import PostgresConversationRepository
from service.storage.database import Database
from service.storage.direct import Parameter
from service.use_cases.ports import BatchWriter, Committed
from tests.contract.batch_writer.conftest import ALICE, BOB, CAROL, WITH_BOB, WITH_CAROL
from tests.contract.batch_writer.test_appending import append, draft
from tests.contract.batch_writer.test_marking import mark, summary
from tests.leases import FENCE


def again(original: Draft) -> Draft:
    """The same message as a resend drafts it: with an id that nobody will see."""
    return replace(original, id=MessageId(uuid7(99)))


def seqs(rows: Sequence[Committed | None]) -> list[int | None]:
    return [None if row is None else row.seq for row in rows]


async def test_resends_among_new_messages_get_their_rows_and_leave_no_hole(writer: BatchWriter) -> None:
    first = [draft("1"), draft("2"), draft("1", WITH_CAROL)]
    originals = await append(writer, first)
    rows = await append(
        writer,
        [draft("3"), again(first[1]), draft("2", WITH_CAROL), again(first[2]), draft("4", sender=BOB)],
    )
    assert seqs(rows) == [3, 2, 2, 1, 4]
    assert (rows[1], rows[3]) == (originals[1], originals[2])


async def test_after_a_resend_the_writer_goes_on_as_before(writer: BatchWriter) -> None:
    first = draft("1")
    (original,) = await append(writer, [first])
    assert list(await append(writer, [again(first)])) == [original]
    later = [draft("2"), draft("1", WITH_CAROL), draft("3")]
    rows = await append(writer, later)
    assert seqs(rows) == [2, 1, 3]
    assert list(await append(writer, [again(each) for each in later])) == list(rows)
    lost = replace(draft("lost"), conversation_id=ConversationId(uuid4()))
    assert seqs(await append(writer, [lost, draft("4"), again(first)])) == [None, 4, 1]
    assert seqs(await append(writer, [draft("5")])) == [5]


async def test_a_resend_does_not_undo_or_repeat_the_marks_of_its_batch(writer: BatchWriter) -> None:
    first = draft("1")
    (original,) = await append(writer, [first])
    assert original is not None
    assert seqs(await append(writer, [draft("2"), again(first)])) == [2, 1]
    assert summary(await writer.advance([mark(original.id), mark(original.id)])) == [(1, True), (1, False)]
    positions = await writer.advance([mark(original.id)])
    assert summary(positions) == [(1, False)]


_MESSAGES = """
SELECT id, conversation_id, seq, sender_id, client_message_id, body_hash, text FROM message ORDER BY 2, 3
"""
_CONVERSATIONS = "SELECT id, last_seq, activity_id FROM conversation ORDER BY id"


async def test_both_statements_make_the_same_rows_of_the_same_messages(database_url: str) -> None:
    database = Database(database_url)
    await database.open()
    repository = PostgresConversationRepository(database)
    for conversation in (WITH_BOB, WITH_CAROL):
        await repository.open(conversation, uuid7(0))
    authors = [(WITH_BOB, ALICE), (WITH_BOB, BOB), (WITH_CAROL, CAROL)]
    shuffled = random.Random(3)
    try:
        for size in (1, 2, 7, 60):
            drafts = [draft(str(number), *shuffled.choice(authors)) for number in range(size)]
            outcomes = [await _outcome(database, append_, drafts) for append_ in (append_new, append_any)]
            assert outcomes[0] == outcomes[1]
            # The next batch starts from here.
            await append(PostgresBatchWriter(CommitConnections(database), FENCE), drafts)
    finally:
        await database.close()


class InTransaction:
    """A `DirectConnection`'s statement, run within somebody's transaction."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def execute(self, statement: str, parameters: Sequence[Parameter]) -> list[tuple[Any, ...]]:
        query = re.sub(r"\$(\d+)", r"%(p\1)b", APPEND_STATEMENTS[statement])
        named = {f"p{number}": parameter for number, parameter in enumerate(parameters, start=1)}
        cursor = await self._connection.execute(query.encode(), named, binary=True)
        return await cursor.fetchall()


async def _outcome(database: Database, append_: Any, drafts: Sequence[Draft]) -> tuple[Any, ...]:
    """What the statement answers and what it stores, taken back afterwards."""
    async with database.connection() as connection, connection.transaction(force_rollback=True):
        rows: Sequence[Committed | None] = await append_(InTransaction(connection), drafts, FENCE)
        stored = [await (await connection.execute(query)).fetchall() for query in (_MESSAGES, _CONVERSATIONS)]
        moments = await (await connection.execute("SELECT created_at FROM message ORDER BY seq")).fetchall()
    assert {row.created_at for row in rows if row} <= {moment for (moment,) in moments}
    return [row and replace(row, created_at=datetime.min.replace(tzinfo=UTC)) for row in rows], *stored


async def test_the_short_statement_stores_nothing_where_one_message_is_not_new(database_url: str) -> None:
    database = Database(database_url)
    await database.open()
    await PostgresConversationRepository(database).open(WITH_BOB, uuid7(0))
    stored = draft("1")
    await append(PostgresBatchWriter(CommitConnections(database), FENCE), [stored])
    lost = replace(draft("lost"), conversation_id=ConversationId(uuid4()))
    try:
        for odd in (again(stored), lost):
            direct = database.direct(APPEND_STATEMENTS)
            with pytest.raises(psycopg.errors.IntegrityError):
                await append_new(direct, [draft("before"), odd, draft("after")], FENCE)
        async with database.connection() as connection:
            counts = await connection.execute(
                "SELECT (SELECT count(*) FROM message), (SELECT last_seq FROM conversation)"
            )
            assert await counts.fetchone() == (1, 1)
    finally:
        await database.close()


async def test_resends_raced_with_new_messages_through_two_instances_leave_no_hole(database_url: str) -> None:
    """One instance is sent what the other has stored, while both are sent new messages."""
    instances = [Database(database_url) for _ in range(2)]
    for database in instances:
        await database.open()
    repository = PostgresConversationRepository(instances[0])
    for conversation in (WITH_BOB, WITH_CAROL):
        await repository.open(conversation, uuid7(0))
    writers = [PostgresBatchWriter(CommitConnections(database), FENCE) for database in instances]
    old = [draft(f"old {number}", (WITH_BOB, WITH_CAROL)[number % 2]) for number in range(20)]
    originals = await append(writers[0], old)
    new = [draft(f"new {number}", (WITH_CAROL, WITH_BOB)[number % 2]) for number in range(40)]
    mixed = [[new[number], again(old[number % 20]), new[number + 1]] for number in range(0, 40, 2)]
    results = await asyncio.gather(
        *(append(writers[number % 2], batch) for number, batch in enumerate(mixed))
    )
    for database in instances:
        await database.close()
    assert [rows[1] for rows in results] == [originals[number % 20] for number in range(0, 40, 2)]
    taken: dict[ConversationId, list[int]] = {}
    for row in (*originals, *(row for rows in results for row in (rows[0], rows[2]))):
        assert row is not None
        taken.setdefault(row.conversation_id, []).append(row.seq)
    assert all(sorted(numbers) == list(range(1, 31)) for numbers in taken.values())
