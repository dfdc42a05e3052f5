"""What every `BatchWriter` promises: the fake of the unit tests and PostgreSQL alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest

from service.domain.conversation import Conversation
from service.domain.ids import ClientMessageId, ConversationId, MessageId, UserId, uuid7
from service.domain.message import Draft, body_hash
from service.storage.batches import CommitConnections, PostgresBatchWriter
from service.storage.conversations import PostgresConversationRepository
from service.storage.database import Database
from service.use_cases.ports import BatchWriter, Committed
from tests.contract.batch_writer.conftest import ALICE, BOB, WITH_BOB, WITH_CAROL
from tests.leases import FENCE


def draft(text: str = "hello", conversation: Conversation = WITH_BOB, sender: UserId = ALICE) -> Draft:
    return Draft(
        id=MessageId(uuid7(1)),
        conversation_id=conversation.id,
        sender_id=sender,
        client_message_id=ClientMessageId(uuid4()),
        body_hash=body_hash(conversation.id, text),
        text=text,
    )


async def append(writer: BatchWriter, drafts: Sequence[Draft]) -> Sequence[Committed | None]:
    return await writer.append(drafts)


async def test_a_batch_takes_the_next_positions_in_its_order(writer: BatchWriter) -> None:
    rows = await append(writer, [draft("1"), draft("2", sender=BOB), draft("3")])
    assert [row and row.seq for row in rows] == [1, 2, 3]
    (row,) = await append(writer, [draft("4")])
    assert row is not None
    assert row.seq == 4


async def test_conversations_are_numbered_apart(writer: BatchWriter) -> None:
    rows = await append(writer, [draft(), draft(conversation=WITH_CAROL), draft()])
    assert [row and row.seq for row in rows] == [1, 1, 2]


async def test_a_repeated_key_gets_its_first_row_and_takes_no_position(writer: BatchWriter) -> None:
    first = draft()
    (original,) = await append(writer, [first])
    again = replace(first, id=MessageId(uuid7(2)))
    rows = await append(writer, [draft("before"), again, draft("after")])
    assert rows[1] == original
    assert [row and row.seq for row in rows] == [2, 1, 3]


async def test_a_key_used_for_another_body_gets_the_original_row(writer: BatchWriter) -> None:
    first = draft("original")
    (original,) = await append(writer, [first])
    other = replace(first, text="other", body_hash=body_hash(WITH_BOB.id, "other"))
    assert list(await append(writer, [other])) == [original]


async def test_the_same_key_of_two_senders_is_two_messages(writer: BatchWriter) -> None:
    mine = draft()
    yours = replace(draft(sender=BOB), client_message_id=mine.client_message_id)
    rows = await append(writer, [mine, yours])
    assert [row and row.seq for row in rows] == [1, 2]


async def test_an_unknown_conversation_stores_nothing_and_harms_no_neighbour(writer: BatchWriter) -> None:
    lost = replace(draft(), conversation_id=ConversationId(uuid4()))
    rows = await append(writer, [draft(), lost, draft()])
    assert [row and row.seq for row in rows] == [1, None, 2]


@pytest.fixture
def two_instances(database_url: str) -> tuple[Database, Database]:
    return Database(database_url), Database(database_url)


async def test_instances_that_race_for_one_key_agree_and_leave_no_hole(
    two_instances: tuple[Database, Database], database_url: str
) -> None:
    """The same sends through two instances at once, in batches of different composition."""
    one, other = two_instances
    for database in two_instances:
        await database.open()
    repository = PostgresConversationRepository(one)
    for conversation in (WITH_BOB, WITH_CAROL):
        await repository.open(conversation, uuid7(0))
    drafts = [draft(str(n), (WITH_BOB, WITH_CAROL)[n % 2]) for n in range(120)]
    writers = (
        PostgresBatchWriter(CommitConnections(one), FENCE),
        PostgresBatchWriter(CommitConnections(other), FENCE),
    )
    results = await asyncio.gather(
        *(append(writers[0], drafts[start : start + 6]) for start in range(0, 120, 6)),
        *(append(writers[1], drafts[start : start + 8][::-1]) for start in range(0, 120, 8)),
    )
    for database in two_instances:
        await database.close()
    seqs: dict[ConversationId, set[int]] = {}
    answers: dict[MessageId, tuple[ConversationId, int]] = {}
    for row in (row for result in results for row in result):
        assert row is not None
        assert answers.setdefault(row.id, (row.conversation_id, row.seq)) == (row.conversation_id, row.seq)
        seqs.setdefault(row.conversation_id, set()).add(row.seq)
    assert len(answers) == 120
    assert all(found == set(range(1, 61)) for found in seqs.values())
    with psycopg.connect(database_url) as connection:
        stored = connection.execute(
            "SELECT count(*), count(DISTINCT client_message_id), max(seq) FROM message"
        ).fetchone()
        positions = connection.execute("SELECT last_seq FROM conversation").fetchall()
    assert stored == (120, 120, 60)
    assert positions == [(60,), (60,)]


async def test_one_key_raced_into_two_conversations_leaves_no_hole(
    two_instances: tuple[Database, Database], database_url: str
) -> None:
    """Nothing but the unique index orders these: the loser must roll its position back."""
    for database in two_instances:
        await database.open()
    repository = PostgresConversationRepository(two_instances[0])
    for conversation in (WITH_BOB, WITH_CAROL):
        await repository.open(conversation, uuid7(0))
    writers = [PostgresBatchWriter(CommitConnections(database), FENCE) for database in two_instances]
    for number in range(60):
        mine = draft(str(number))
        yours = replace(mine, conversation_id=WITH_CAROL.id, id=MessageId(uuid7(3)))
        (first,), (second,) = await asyncio.gather(append(writers[0], [mine]), append(writers[1], [yours]))
        assert first == second
    for database in two_instances:
        await database.close()
    with psycopg.connect(database_url) as connection:
        holes = connection.execute(
            "SELECT c.id FROM conversation c LEFT JOIN message m ON m.conversation_id = c.id "
            "GROUP BY c.id HAVING c.last_seq <> count(m.seq)"
        ).fetchall()
        (count,) = connection.execute("SELECT count(*) FROM message").fetchone() or (0,)
    assert holes == []
    assert count == 60


@pytest.mark.parametrize("text", ["😀", "שלום", "e" + "\u0301" * 4_999, "\u0001\u2028\\'\"", " \t\r\n "])
async def test_text_is_stored_byte_for_byte(text: str, database_url: str) -> None:
    database = Database(database_url)
    await database.open()
    await PostgresConversationRepository(database).open(WITH_BOB, uuid7(0))
    await append(PostgresBatchWriter(CommitConnections(database), FENCE), [draft(text)])
    await database.close()
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT text, convert_to(text, 'UTF8') FROM message").fetchone()
    assert row == (text, text.encode())
