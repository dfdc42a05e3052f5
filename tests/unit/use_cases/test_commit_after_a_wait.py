"""Messages that wait long for their commit, as when the database stands still, are authorized again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import pytest_asyncio

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import ClientMessageId
from service.domain.message import Draft
from service.use_cases.ports import Committed
from tests.fakes import MemoryConversations, MemoryMessages
from tests.unit.use_cases.pipeline_bench import ALICE, BOB, CAROL, Bench, code, running, seq


class StandingMessages(MemoryMessages):
    """Commits when the test lets it."""

    def __init__(self, conversations: MemoryConversations) -> None:
        super().__init__(conversations)
        self.begun, self.may_go_on = asyncio.Event(), asyncio.Event()
        self.may_go_on.set()

    async def append(self, drafts: Sequence[Draft]) -> Sequence[Committed | None]:
        self.begun.set()
        await self.may_go_on.wait()
        return await super().append(drafts)

    def stand_still(self) -> None:
        self.begun.clear()
        self.may_go_on.clear()


class Stalled:
    """A pipeline in which Alice and Bob, and Bob and Carol, write, and whose database can stand still."""

    def __init__(self) -> None:
        self.bench = Bench(messages=StandingMessages)
        assert isinstance(self.bench.messages, StandingMessages)
        self._messages = self.bench.messages

    async def stand_still(self) -> None:
        """A commit is under way, and does not end."""
        self._messages.stand_still()
        self.bench.send("under way")
        await self._messages.begun.wait()

    async def disconnect(self) -> None:
        """Alice and Bob are connected no longer."""
        self.bench.directory.verdicts[frozenset((ALICE, BOB))] = False
        await self.bench.directory.forget(ALICE, BOB)

    def go_on(self, *, after: float) -> None:
        """The commit ends, so many seconds later."""
        self.bench.seconds_later += after
        self._messages.may_go_on.set()


@pytest_asyncio.fixture
async def stalled() -> AsyncIterator[Stalled]:
    made = Stalled()
    async with running(made.bench):
        made.bench.send("alice to bob")
        made.bench.send("bob to carol", sender=BOB, target=CAROL)
        await made.bench.until(2)
        yield made


async def test_a_connection_that_ended_meanwhile_stops_them(stalled: Stalled) -> None:
    bench = stalled.bench
    await stalled.stand_still()
    key = ClientMessageId(uuid4())
    bench.send("too late", key=key)
    bench.send("of others", sender=BOB, target=CAROL)
    await stalled.disconnect()
    stalled.go_on(after=2)
    results = await bench.until(5)
    assert code(results["too late"]) is ErrorCode.NOT_CONNECTED
    assert seq(results["under way"]) == seq(results["of others"]) == 2
    assert await bench.messages.find(ALICE, key) is None


async def test_what_only_memory_forgot_is_committed_in_its_order(stalled: Stalled) -> None:
    bench = stalled.bench
    await stalled.stand_still()
    for text in ("a", "b", "c"):
        bench.send(text)
    bench.directory.forget_everything()
    stalled.go_on(after=2)
    results = await bench.until(6)
    assert [seq(results[text]) for text in ("a", "b", "c")] == [3, 4, 5]


async def test_what_nobody_can_say_is_retryable_and_fails_nobody_else(stalled: Stalled) -> None:
    bench = stalled.bench
    await stalled.stand_still()
    bench.send("unknown")
    bench.send("known", sender=BOB, target=CAROL)
    bench.directory.failure = Rejected(ErrorCode.AUTHORIZATION_UNAVAILABLE, "down", retry_after_ms=7)
    await bench.directory.forget(ALICE, BOB)
    stalled.go_on(after=2)
    results = await bench.until(5)
    assert code(results["unknown"]) is ErrorCode.AUTHORIZATION_UNAVAILABLE
    assert seq(results["known"]) == 2


async def test_a_defect_while_asking_again_is_answered(stalled: Stalled) -> None:
    bench = stalled.bench
    await stalled.stand_still()
    bench.send("unknown")
    bench.directory.failure = RuntimeError("defect")
    await bench.directory.forget(ALICE, BOB)
    stalled.go_on(after=2)
    assert code((await bench.until(4))["unknown"]) is ErrorCode.INTERNAL


async def test_the_same_message_sent_again_keeps_its_result(stalled: Stalled) -> None:
    bench, key = stalled.bench, ClientMessageId(uuid4())
    bench.send("first", key=key, text="text")
    await bench.until(3)
    await stalled.stand_still()
    bench.send("again", key=key, text="text")
    await stalled.disconnect()
    stalled.go_on(after=2)
    results = await bench.until(5)
    assert results["again"] == results["first"]


async def test_what_did_not_wait_long_is_not_asked_for_again(stalled: Stalled) -> None:
    bench = stalled.bench
    await stalled.stand_still()
    bench.send("soon")
    bench.directory.failure = RuntimeError("nobody asks")
    await bench.directory.forget(ALICE, BOB)
    stalled.go_on(after=0)
    assert seq((await bench.until(4))["soon"]) == 3
