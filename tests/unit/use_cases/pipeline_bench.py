"""A pipeline on in-memory ports, whose lookups come when a test lets them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

from service.domain.conversation import direct_conversation
from service.domain.errors import ErrorCode, Rejection
from service.domain.ids import ClientMessageId, ConversationId, MessageId, UserId
from service.domain.message import Draft
from service.domain.receipts import Mark
from service.use_cases.authorize import Authorize
from service.use_cases.commit_commands import CommitCommands, Result
from service.use_cases.mark_position import MarkCommand
from service.use_cases.ports import Committed
from service.use_cases.send_message import SendCommand, Sent
from service.use_cases.set_preferences import SetPreferences
from service.use_cases.shedding import Shedding
from tests.fakes import MemoryConversations, MemoryMessages, MemoryPreferences

ALICE, BOB, CAROL, DAVE = (UserId(name) for name in ("alice", "bob", "carol", "dave"))


class Directory:
    """`ConnectionDirectory` whose answers come when the test lets them."""

    def __init__(self) -> None:
        self.verdicts: dict[frozenset[UserId], bool] = {}
        self.remembered: dict[frozenset[UserId], bool] = {}
        self.gates: dict[UserId, asyncio.Event] = {}
        self.failure: Exception | None = None

    def known(self, user: UserId, other: UserId) -> bool | None:
        return self.remembered.get(frozenset((user, other)))

    async def are_connected(self, user: UserId, other: UserId) -> bool:
        gate = self.gates.get(user)
        if gate is not None:
            await gate.wait()
        if self.failure is not None:
            raise self.failure
        pair = frozenset((user, other))
        self.remembered[pair] = self.verdicts.get(pair, False)
        return self.remembered[pair]

    def drop(self, user: UserId, other: UserId) -> None:
        self.remembered.pop(frozenset((user, other)), None)

    async def forget(self, user: UserId, other: UserId) -> None:
        self.drop(user, other)

    def forget_everything(self) -> None:
        self.remembered.clear()


class Bench:
    """A pipeline with its ports and everything that it delivered."""

    def __init__(
        self,
        batch_limit: int = 512,
        *,
        waiting_limit: int = 10_000,
        of_one_user: int = 10_000,
        messages: type[MemoryMessages] = MemoryMessages,
    ) -> None:
        self.conversations = MemoryConversations()
        self.messages = messages(self.conversations)
        self.preferences = MemoryPreferences()
        self.directory = Directory()
        for pair in ((ALICE, BOB), (BOB, CAROL), (CAROL, DAVE)):
            self.directory.verdicts[frozenset(pair)] = True
        self.results: list[tuple[str, Result]] = []
        self.is_crowded = False
        self.seconds_later = 0.0
        """What the pipeline's clock is ahead."""
        self.pipeline: CommitCommands[str] = CommitCommands(
            Authorize(self.conversations, self.directory, lambda: 0),
            self.conversations,
            self.messages,
            SetPreferences(self.preferences, lambda _: None),
            self._deliver,
            shedding=Shedding(waiting_limit, of_one_user, clock=lambda: 0.0, jitter=lambda low, _: low),
            lane_limit=of_one_user,
            now_ns=lambda: 0,
            batch_limit=batch_limit,
            is_crowded=lambda: self.is_crowded,
            clock=lambda: time.monotonic() + self.seconds_later,
        )
        self._changed = asyncio.Event()

    def _deliver(self, results: Sequence[tuple[str, Result]]) -> None:
        self.results += results
        self._changed.set()

    def send(
        self,
        ticket: str,
        sender: UserId = ALICE,
        target: ConversationId | str = BOB,
        key: ClientMessageId | None = None,
        text: str | None = None,
    ) -> None:
        command = SendCommand(
            user_id=sender,
            target=target,
            client_message_id=key or ClientMessageId(uuid4()),
            text=text or ticket,
        )
        self.pipeline.submit(command, ticket)

    def mark(self, ticket: str, message: MessageId, *, user: UserId, is_read: bool = True) -> None:
        mark = Mark(
            conversation_id=direct_conversation(ALICE, BOB).id,
            user_id=user,
            message_id=message,
            is_read=is_read,
        )
        self.pipeline.submit(MarkCommand(mark=mark), ticket)

    async def until(self, count: int) -> dict[str, Result]:
        while len(self.results) < count:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 5)
        return dict(self.results)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    """Its pipeline runs meanwhile."""
    task = asyncio.create_task(bench.pipeline.run())
    try:
        yield
    finally:
        task.cancel()


class PoisonedMessages(MemoryMessages):
    """Refuses, as a database would refuse a row, every batch with the word poison in it."""

    async def append(self, drafts: Sequence[Draft]) -> Sequence[Committed | None]:
        if any("poison" in draft.text for draft in drafts):
            raise RuntimeError("refused")
        return await super().append(drafts)


def code(result: Result) -> ErrorCode:
    """Of a command that was refused."""
    assert isinstance(result, Rejection)
    return result.code


def seq(result: Result) -> int:
    """Of a message that was committed."""
    assert isinstance(result, Sent)
    return result.message.seq
