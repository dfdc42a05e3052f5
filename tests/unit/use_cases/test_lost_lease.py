"""The pipeline's end when another instance has taken the lease."""

from __future__ import annotations

import asyncio

import pytest

from service.use_cases.lease import LeaseLost
from service.use_cases.send_message import Sent
from service.use_cases.set_preferences import SetPreferencesCommand
from tests.unit.use_cases.pipeline_bench import ALICE, BOB, Bench


async def until_lost(bench: Bench, task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(5):
        with pytest.raises(ExceptionGroup) as raised:
            await task
    assert raised.group_contains(LeaseLost)


@pytest.mark.parametrize("count", [1, 3])
async def test_a_lost_lease_ends_the_pipeline_and_answers_nobody(count: int) -> None:
    bench = Bench()
    task = asyncio.create_task(bench.pipeline.run())
    bench.send("before")
    await bench.until(1)
    bench.messages.lease_is_lost = True
    for number in range(count):
        bench.send(f"after {number}")
    await until_lost(bench, task)
    assert [ticket for ticket, _ in bench.results] == ["before"]


async def test_a_lease_lost_under_marks_ends_the_pipeline_and_answers_nobody() -> None:
    bench = Bench()
    task = asyncio.create_task(bench.pipeline.run())
    bench.send("before")
    sent = (await bench.until(1))["before"]
    assert isinstance(sent, Sent)
    bench.messages.lease_is_lost = True
    bench.mark("mark", sent.message.id, user=BOB)
    bench.mark("another", sent.message.id, user=ALICE)
    await until_lost(bench, task)
    assert [ticket for ticket, _ in bench.results] == ["before"]


async def test_a_lease_lost_in_a_lane_ends_the_pipeline_and_answers_nobody() -> None:
    bench = Bench()
    task = asyncio.create_task(bench.pipeline.run())
    bench.preferences.lease_is_lost = True
    command = SetPreferencesCommand(user_id=ALICE, read_receipts=False, invisible=None)
    bench.pipeline.submit(command, "preferences")
    bench.send("behind it")
    await until_lost(bench, task)
    assert bench.results == []
