"""What every `BatchWriter` promises after its lease is lost: nothing is stored, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest

from service.domain.ids import ConversationId, MessageId, uuid7
from service.domain.message import Draft
from service.storage.batches import CommitConnections, PostgresBatchWriter
from service.storage.conversations import PostgresConversationRepository
from service.storage.database import Database
from service.use_cases.lease import LeaseLost
from tests.contract.batch_writer.conftest import WITH_BOB, WITH_CAROL, Adapters
from tests.contract.batch_writer.test_appending import append, draft
from tests.contract.batch_writer.test_marking import advance, mark, messages, summary
from tests.contract.batch_writer.test_resends import again
from tests.leases import FENCE, take_lease


def lost(_: Draft) -> Draft:
    return replace(draft("lost"), conversation_id=ConversationId(uuid4()))


BATCHES: dict[str, Callable[[Draft], Sequence[Draft]]] = {
    "one": lambda _: [draft("new")],
    "one, stored": lambda stored: [again(stored)],
    "one, nowhere": lambda stored: [lost(stored)],
    "many": lambda _: [draft("new"), draft("new", WITH_CAROL), draft("newer")],
    "many, one stored": lambda stored: [draft("new"), again(stored), draft("newer")],
    "many, one nowhere": lambda stored: [draft("new"), lost(stored), draft("newer")],
}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
async def test_no_message_is_stored(adapters: Adapters, batch: Callable[[Draft], Sequence[Draft]]) -> None:
    stored = draft("stored")
    await append(adapters.writer, [stored])
    # A resend lets the next batches take the long statement, where it is set to.
    (original,) = await append(adapters.writer, [again(stored)])
    adapters.lose_lease()
    drafts = batch(stored)
    with pytest.raises(LeaseLost):
        await append(adapters.writer, drafts)
    for each in drafts:
        found = await adapters.writer.find(each.sender_id, each.client_message_id)
        assert found == (original if each.key == stored.key else None)


async def test_no_position_moves(adapters: Adapters) -> None:
    ids = await messages(adapters.writer, 2)
    await advance(adapters.writer, mark(ids[0]))
    adapters.lose_lease()
    for message in (ids[1], ids[0], MessageId(uuid4())):
        with pytest.raises(LeaseLost):
            await advance(adapters.writer, mark(message))


async def test_the_next_holder_goes_on_where_the_one_before_was_stopped(database_url: str) -> None:
    database = Database(database_url)
    await database.open()
    await PostgresConversationRepository(database).open(WITH_BOB, uuid7(0))
    connections = CommitConnections(database)
    before = PostgresBatchWriter(connections, FENCE)
    ids = await messages(before, 2)
    after = PostgresBatchWriter(connections, take_lease(database_url))
    for _ in range(2):
        with pytest.raises(LeaseLost):
            await append(before, [draft("late"), draft("later")])
        with pytest.raises(LeaseLost):
            await advance(before, mark(ids[1]))
    assert [row and row.seq for row in await append(after, [draft("3"), draft("4")])] == [3, 4]
    assert summary(await advance(after, mark(ids[1]))) == [(2, True)]
    await database.close()
    with psycopg.connect(database_url) as connection:
        stored = connection.execute("SELECT seq, text FROM message ORDER BY seq").fetchall()
    assert stored == [(1, "0"), (2, "1"), (3, "3"), (4, "4")]


async def test_other_leases_are_not_in_the_way(adapters: Adapters, request: pytest.FixtureRequest) -> None:
    if adapters.database is None:
        pytest.skip("the fake knows of one lease only")
    take_lease(request.getfixturevalue("database_url"), replace(FENCE, name="another"))
    (row,) = await append(adapters.writer, [draft()])
    assert row is not None
