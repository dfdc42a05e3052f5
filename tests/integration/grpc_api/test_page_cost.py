"""What a page costs the database: the same at any depth, however long the conversation is."""

from __future__ import annotations

import pytest

from service.storage import reads
from service.storage.database import Database
from service.storage.reads import PostgresConversationReader
from service.use_cases.ports import Direction
from tests.contract.conversation_reader.seeding import PostgresSeed

MESSAGES = 30_000


@pytest.fixture(autouse=True)
def _one_connection_that_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics are told by the connection that has them."""
    monkeypatch.setattr(reads, "_HISTORY_CONNECTIONS", 1)
    tell = {"tell": "SELECT pg_stat_force_next_flush()::text"}
    monkeypatch.setattr(reads, "_HISTORIES", {**reads._HISTORIES, **tell})


async def rows_read(reader: PostgresConversationReader, seed: PostgresSeed) -> int:
    """Rows of `message` that the reader's only connection has read so far."""
    await reader._histories.execute("tell", [])
    cursor = await seed.connection.execute(
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'message'"
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("analyzed", [True, False], ids=["with statistics", "without statistics"])
async def test_a_page_reads_its_own_rows_and_no_others_at_any_depth(
    database_url: str, seed: PostgresSeed, analyzed: bool
) -> None:
    conversation = await seed.conversation("alice", "bob")
    await seed.connection.execute(
        "INSERT INTO message SELECT %s, seq, gen_random_uuid(), 'alice', gen_random_uuid(), 'hash', 'text',"
        " now() FROM generate_series(1, %s) AS seq",
        (conversation.id, MESSAGES),
    )
    if analyzed:
        await seed.connection.execute("ANALYZE message")
    database = Database(database_url)
    await database.open()
    reader = PostgresConversationReader(database)
    for direction in Direction:
        # Often enough for PostgreSQL to have changed to the plan that it then keeps.
        for after_seq in (None, *range(100, MESSAGES - 100, 1_900)):
            before = await rows_read(reader, seed)
            page = await reader.history(conversation.id, limit=50, direction=direction, after_seq=after_seq)
            assert (len(page.messages), page.has_more) == (50, True)
            assert await rows_read(reader, seed) - before == 51
    await database.close()
