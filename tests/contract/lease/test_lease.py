"""What every `Lease` promises: the one in memory and the one in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from service.storage.lease import PostgresLease
from service.use_cases.lease import Lease, LeaseLost, Tenure
from tests.contract.lease.in_memory import MemoryLease, Registrar

LIMIT_S = 1.0


@dataclass
class Subject:
    """Instances that compete for one lease, and how to end the session of whoever holds it."""

    new_lease: Callable[[], Lease[Any]]
    end_session: Callable[[Tenure], Awaitable[None]]
    tenures: list[Tenure] = field(default_factory=list)

    async def acquire(self, lease: Lease[Any] | None = None) -> Tenure:
        async with asyncio.timeout(10):
            tenure: Tenure = await (lease or self.new_lease()).acquire()
        self.tenures.append(tenure)
        return tenure

    async def waiting(self) -> tuple[Lease[Any], asyncio.Task[Tenure]]:
        """A lease of another instance, once it has found the lease taken."""
        lease = self.new_lease()
        task = asyncio.create_task(self.acquire(lease))
        async with asyncio.timeout(10):
            while not lease.is_held_elsewhere:
                await asyncio.sleep(0)
        return lease, task


@pytest.fixture(params=["memory", "postgresql"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        registrar = Registrar()
        made = Subject(lambda: MemoryLease(registrar), registrar.end)  # type: ignore[arg-type]
    else:
        url = request.getfixturevalue("database_url")
        made = Subject(
            lambda: PostgresLease(url, name="tests", limit_s=LIMIT_S),
            lambda _: asyncio.to_thread(end_holder, url),
        )
    yield made
    for tenure in made.tenures:
        tenure.release()


def end_holder(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks "
            "WHERE locktype = 'advisory' AND granted AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchall()
    assert ended == [(True,)]


async def ends(holding: asyncio.Task[None]) -> LeaseLost:
    async with asyncio.timeout(10):
        with pytest.raises(LeaseLost) as raised:
            await holding
    return raised.value


async def test_whoever_asks_first_holds_it(subject: Subject) -> None:
    lease = subject.new_lease()
    tenure = await subject.acquire(lease)
    tenure.demand()
    assert not lease.is_held_elsewhere


async def test_the_next_waits_and_follows_with_a_higher_epoch(subject: Subject) -> None:
    first = await subject.acquire()
    lease, waiting = await subject.waiting()
    assert not waiting.done()
    first.release()
    second = await waiting
    assert second.epoch > first.epoch
    second.demand()
    assert not lease.is_held_elsewhere


async def test_what_was_given_up_is_not_held(subject: Subject) -> None:
    tenure = await subject.acquire()
    tenure.release()
    with pytest.raises(LeaseLost):
        tenure.demand()


async def test_a_holder_is_kept_for_longer_than_the_limit(subject: Subject) -> None:
    tenure = await subject.acquire()
    holding = asyncio.create_task(tenure.hold())
    _, waiting = await subject.waiting()
    done, _ = await asyncio.wait((holding, waiting), timeout=2.5 * LIMIT_S)
    assert not done
    tenure.demand()
    holding.cancel()
    waiting.cancel()


async def test_a_holder_whose_session_ends_learns_it_and_is_followed(subject: Subject) -> None:
    first = await subject.acquire()
    holding = asyncio.create_task(first.hold())
    _, waiting = await subject.waiting()
    await subject.end_session(first)
    await ends(holding)
    with pytest.raises(LeaseLost):
        first.demand()
    assert (await waiting).epoch > first.epoch


async def test_who_gave_up_waiting_takes_nothing(subject: Subject) -> None:
    first = await subject.acquire()
    _, gone = await subject.waiting()
    gone.cancel()
    with suppress(asyncio.CancelledError):
        await gone
    _, waiting = await subject.waiting()
    first.release()
    (await waiting).demand()


async def test_of_many_one_at_a_time_holds_it(subject: Subject) -> None:
    epochs: list[int] = []
    held = 0

    async def take() -> None:
        nonlocal held
        tenure = await subject.acquire()
        held += 1
        assert held == 1
        epochs.append(tenure.epoch)
        await asyncio.sleep(0)
        held -= 1
        tenure.release()

    async with asyncio.timeout(30):
        await asyncio.gather(*(take() for _ in range(5)))
    assert epochs == sorted(set(epochs))
