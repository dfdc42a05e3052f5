"""Turns of several instances, on a lease in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.use_cases.lease import LeaseLost
from service.use_cases.take_turns import TakeTurns
from tests.contract.lease.in_memory import MemoryLease, MemoryTenure, Registrar


class Instance:
    """Takes turns, and keeps a record of what it was told to do."""

    def __init__(self, registrar: Registrar) -> None:
        self.turns = TakeTurns(MemoryLease(registrar), self._serve)
        self.stop = asyncio.Event()
        self.record: list[str] = []
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self.turns.run(self.stop))

    async def _serve(self, tenure: MemoryTenure, stop: asyncio.Event) -> None:
        self.record.append(f"serves {tenure.epoch}")
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((stopping, self.failure), return_when=asyncio.FIRST_COMPLETED)
            if self.failure.done():
                failure, self.failure = self.failure, asyncio.get_running_loop().create_future()
                failure.result()
            tenure.demand()
            self.record.append("finishes")
        except asyncio.CancelledError:
            self.record.append("is cut off")
            raise
        finally:
            stopping.cancel()

    async def until(self, what: str) -> None:
        async with asyncio.timeout(5):
            while what not in self.record:
                await asyncio.sleep(0)

    async def until_standby(self) -> None:
        async with asyncio.timeout(5):
            while not self.turns.is_standby:
                await asyncio.sleep(0)

    async def ended(self) -> None:
        async with asyncio.timeout(5):
            await self.task


@pytest.fixture
def registrar() -> Registrar:
    return Registrar()


@pytest.fixture
async def pair(registrar: Registrar) -> AsyncIterator[tuple[Instance, Instance]]:
    one = Instance(registrar)
    await one.until("serves 1")
    other = Instance(registrar)
    await other.until_standby()
    yield one, other
    for instance in (one, other):
        instance.task.cancel()


async def test_one_serves_and_the_other_stands_by(pair: tuple[Instance, Instance]) -> None:
    one, other = pair
    assert (one.turns.is_active, one.turns.is_standby) == (True, False)
    assert (other.turns.is_active, other.turns.is_standby) == (False, True)
    assert other.record == []


async def test_who_is_stopped_finishes_before_the_next_begins(pair: tuple[Instance, Instance]) -> None:
    one, other = pair
    one.stop.set()
    await other.until("serves 2")
    assert one.record == ["serves 1", "finishes"]
    await one.ended()


async def test_a_standby_that_is_stopped_ends_at_once(pair: tuple[Instance, Instance]) -> None:
    one, other = pair
    other.stop.set()
    await other.ended()
    assert one.turns.is_active


async def test_who_loses_the_lease_is_cut_off_and_stands_by(
    pair: tuple[Instance, Instance], registrar: Registrar
) -> None:
    one, other = pair
    assert registrar.holder is not None
    await registrar.end(registrar.holder)
    await other.until("serves 2")
    await one.until_standby()
    assert one.record == ["serves 1", "is cut off"]
    other.stop.set()
    await one.until("serves 3")
    await other.ended()


async def test_who_finds_out_by_itself_asks_for_the_lease_again(registrar: Registrar) -> None:
    one = Instance(registrar)
    await one.until("serves 1")
    one.failure.set_exception(LeaseLost("a commit was refused"))
    await one.until("serves 2")
    one.stop.set()
    await one.ended()
    assert one.record == ["serves 1", "serves 2", "finishes"]


async def test_the_lease_lost_while_finishing_is_no_failure(
    pair: tuple[Instance, Instance], registrar: Registrar
) -> None:
    one, _ = pair
    assert registrar.holder is not None
    one.stop.set()
    await registrar.end(registrar.holder)
    await one.ended()


async def test_any_other_failure_ends_the_turns_and_frees_the_lease(pair: tuple[Instance, Instance]) -> None:
    one, other = pair
    one.failure.set_exception(RuntimeError("a defect"))
    with pytest.raises(ExceptionGroup) as raised:
        await one.ended()
    assert raised.group_contains(RuntimeError, match="a defect")
    await other.until("serves 2")
