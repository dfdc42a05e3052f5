"""The two `BatchWriter`s, with two conversations opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from service.domain.conversation import direct_conversation
from service.domain.ids import UserId, uuid7
from service.storage.batches import PostgresBatchWriter
from service.storage.conversations import PostgresConversationRepository
from service.storage.database import BY_INDEX, Database
from service.use_cases.ports import BatchWriter, ConversationRepository
from tests.fakes import MemoryConversations, MemoryMessages
from tests.leases import FENCE

ALICE, BOB, CAROL = UserId("alice"), UserId("bob"), UserId("carol")
WITH_BOB = direct_conversation(ALICE, BOB)
WITH_CAROL = direct_conversation(ALICE, CAROL)


@dataclass
class Adapters:
    """One implementation of the ports, and how to make a user hide what it reads."""

    writer: BatchWriter
    conversations: ConversationRepository
    database: Database | None
    hiding: set[UserId] = field(default_factory=set)

    async def hide(self, user: UserId) -> None:
        self.hiding.add(user)
        if self.database is not None:
            async with self.database.connection() as connection:
                await connection.execute(
                    "INSERT INTO preference (user_id, read_receipts) VALUES (%s, false)", (user,)
                )


@pytest_asyncio.fixture(params=["memory", "postgresql"])
async def adapters(request: pytest.FixtureRequest) -> AsyncIterator[Adapters]:
    if request.param == "memory":
        fake = MemoryConversations()
        messages = MemoryMessages(fake)
        made = Adapters(messages, fake, None, messages.hiding)
    else:
        database = Database(request.getfixturevalue("database_url"), planner=BY_INDEX)
        await database.open()
        made = Adapters(
            PostgresBatchWriter(database, FENCE), PostgresConversationRepository(database), database
        )
    for conversation in (WITH_BOB, WITH_CAROL):
        await made.conversations.open(conversation, uuid7(0))
    yield made
    if made.database is not None:
        await made.database.close()


@pytest.fixture
def writer(adapters: Adapters) -> BatchWriter:
    return adapters.writer
