"""The two `BatchWriter`s, with two conversations opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from service.domain.conversation import direct_conversation
from service.domain.ids import UserId, uuid7
from service.storage import batches
from service.storage.batches import CommitConnections, PostgresBatchWriter
from service.storage.conversations import PostgresConversationRepository
from service.storage.database import Database
from service.use_cases.ports import BatchWriter, ConversationRepository
from tests.fakes import MemoryConversations, MemoryMessages
from tests.leases import FENCE, take_lease

ALICE, BOB, CAROL = UserId("alice"), UserId("bob"), UserId("carol")
WITH_BOB = direct_conversation(ALICE, BOB)
WITH_CAROL = direct_conversation(ALICE, CAROL)


@dataclass
class Adapters:
    """One implementation of the ports, how to make a user hide what it reads, and how to lose the lease."""

    writer: BatchWriter
    conversations: ConversationRepository
    database: Database | None
    lose_lease: Callable[[], None]
    hiding: set[UserId] = field(default_factory=set)

    async def hide(self, user: UserId) -> None:
        self.hiding.add(user)
        await self._prefer(user, read_receipts=False)

    async def show(self, user: UserId) -> None:
        """For who has hidden it until now."""
        self.hiding.remove(user)
        await self._prefer(user, read_receipts=True)

    async def _prefer(self, user: UserId, *, read_receipts: bool) -> None:
        if self.database is not None:
            async with self.database.connection() as connection:
                await connection.execute(
                    "INSERT INTO preference (user_id, read_receipts) VALUES (%s, %s)"
                    " ON CONFLICT (user_id) DO UPDATE SET read_receipts = excluded.read_receipts",
                    (user, read_receipts),
                )


def lose_in_postgresql(database_url: str) -> Callable[[], None]:
    def lose() -> None:
        take_lease(database_url)

    return lose


@pytest.fixture(params=[0.0, 60.0], ids=["short statement first", "long statement for a while"], autouse=True)
def _resends_last(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_RESENDS_LAST_S", request.param)


@pytest_asyncio.fixture(params=["memory", "postgresql"])
async def adapters(request: pytest.FixtureRequest) -> AsyncIterator[Adapters]:
    if request.param == "memory":
        fake = MemoryConversations()
        messages = MemoryMessages(fake)

        def lose() -> None:
            messages.lease_is_lost = True

        made = Adapters(messages, fake, None, lose, messages.hiding)
    else:
        url = request.getfixturevalue("database_url")
        database = Database(url)
        await database.open()
        made = Adapters(
            PostgresBatchWriter(CommitConnections(database), FENCE),
            PostgresConversationRepository(database),
            database,
            lose_in_postgresql(url),
        )
    for conversation in (WITH_BOB, WITH_CAROL):
        await made.conversations.open(conversation, uuid7(0))
    yield made
    if made.database is not None:
        await made.database.close()


@pytest.fixture
def writer(adapters: Adapters) -> BatchWriter:
    return adapters.writer
