"""Marks in the pipeline: they share commits, and let messages go first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest

from service.domain.errors import ErrorCode, Rejection
from service.domain.ids import MessageId
from service.domain.message import Draft, Message
from service.use_cases import commit_commands
from service.use_cases.mark_position import Marked
from service.use_cases.ports import Committed
from service.use_cases.send_message import Sent
from tests.unit.use_cases.pipeline_bench import ALICE, BOB, CAROL, Bench, running


async def the_first_message(bench: Bench) -> Message:
    bench.send("first")
    first = (await bench.until(1))["first"]
    assert isinstance(first, Sent)
    return first.message


async def turns() -> None:
    """All that is ready has its turn."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_marks_of_a_moment_share_a_commit_and_delay_no_message(bench: Bench) -> None:
    first = await the_first_message(bench)
    bench.send("second")
    bench.mark("read", first.id, user=BOB)
    bench.mark("again", first.id, user=BOB)
    results = await bench.until(4)
    assert bench.messages.batches == [1, 1, 2]
    for ticket, moved in (("read", True), ("again", False)):
        marked = results[ticket]
        assert isinstance(marked, Marked)
        assert (marked.position.seq, marked.position.moved, marked.counterpart_id) == (1, moved, ALICE)


async def test_a_mark_needs_participation_and_a_message_but_no_connection(bench: Bench) -> None:
    first = await the_first_message(bench)
    bench.directory.verdicts.clear()
    bench.directory.forget_everything()
    bench.mark("after disconnecting", first.id, user=BOB)
    bench.mark("stranger", first.id, user=CAROL)
    bench.mark("no such message", MessageId(uuid4()), user=BOB)
    results = await bench.until(4)
    assert isinstance(results["after disconnecting"], Marked)
    for ticket, code in (
        ("stranger", ErrorCode.CONVERSATION_NOT_FOUND),
        ("no such message", ErrorCode.MESSAGE_NOT_FOUND),
    ):
        refusal = results[ticket]
        assert isinstance(refusal, Rejection)
        assert refusal.code is code


async def test_marks_begin_when_the_message_under_way_is_with_the_broker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_commands, "_MARKS_GATHER_S", 0.0)
    monkeypatch.setattr(commit_commands, "_MARKS_YIELD_S", 60.0)
    first = await the_first_message(bench)
    bench.mark("read", first.id, user=BOB)
    bench.send("second")
    await bench.until(2)
    await turns()
    assert [ticket for ticket, _ in bench.results] == ["first", "second"]
    bench.pipeline.message_told()
    assert "read" in await bench.until(3)


@pytest.mark.parametrize(("marks", "batches"), [(2, [1, 2, 1]), (3, [1, 4])])
async def test_many_marks_wait_for_more_and_a_few_do_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, marks: int, batches: Sequence[int]
) -> None:
    for name, value in (("_MARKS_GATHER_S", 0.0), ("_MARKS_YIELD_S", 0.0), ("_MANY_MARKS", 2)):
        monkeypatch.setattr(commit_commands, name, value)
    first = await the_first_message(bench)
    for number in range(marks):
        bench.mark(f"mark {number}", first.id, user=BOB)
    await turns()
    bench.mark("late", first.id, user=BOB)
    await bench.until(marks + 2)
    assert bench.messages.batches == batches


async def test_many_marks_do_not_wait_where_too_much_waits_for_its_acknowledgement(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_MARKS_YIELD_S", 0.0), ("_MANY_MARKS", 2), ("_MANY_GATHER_S", 60.0)):
        monkeypatch.setattr(commit_commands, name, value)
    first = await the_first_message(bench)
    for number in range(3):
        bench.mark(f"mark {number}", first.id, user=BOB)
    bench.is_crowded = True
    await bench.until(4)
    assert bench.messages.batches == [1, 3]


async def test_a_full_batch_of_marks_does_not_wait_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_commands, "_MARKS_GATHER_S", 60.0)
    bench = Bench(batch_limit=2)
    async with running(bench):
        first = await the_first_message(bench)
        for number in range(4):
            bench.mark(f"mark {number}", first.id, user=BOB)
        await bench.until(5)
        assert bench.messages.batches == [1, 2, 2]


async def test_many_marks_wait_no_more_when_they_fill_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_MARKS_YIELD_S", 0.0), ("_MANY_MARKS", 2), ("_MANY_GATHER_S", 60.0)):
        monkeypatch.setattr(commit_commands, name, value)
    bench = Bench(batch_limit=4)
    async with running(bench):
        first = await the_first_message(bench)
        for number in range(3):
            bench.mark(f"mark {number}", first.id, user=BOB)
        await turns()
        bench.mark("mark 3", first.id, user=BOB)
        await bench.until(5)
        assert bench.messages.batches == [1, 4]


class Gate:
    """Holds the commits of messages until it is opened."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open = asyncio.Event()
        self._append = bench.messages.append
        monkeypatch.setattr(bench.messages, "append", self._held)

    async def _held(self, drafts: Sequence[Draft]) -> Sequence[Committed | None]:
        await self._open.wait()
        return await self._append(drafts)

    def open(self) -> None:
        self._open.set()


async def test_marks_do_not_wait_for_messages_for_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await the_first_message(bench)
    gate = Gate(bench, monkeypatch)
    bench.send("held")
    bench.mark("read", first.id, user=BOB)
    assert set(await bench.until(2)) == {"first", "read"}
    gate.open()
    assert "held" in await bench.until(3)
