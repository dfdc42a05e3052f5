"""What the in-process layer adds to the contract: bounds, lifetimes, and its use of the layers below."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence

import pytest
from prometheus_client import REGISTRY

from service.cache.connections import CachedConnections, SharedAnswer
from service.cache.pairs import Pair, pair_of
from service.domain.errors import Rejected
from service.domain.ids import UserId
from tests.contract.connections.doubles import Clock, MemoryShared, MemorySource, ScriptedConnections

ALICE, BOB, CAROL = UserId("alice"), UserId("bob"), UserId("carol")


class ShortLivedShared(MemoryShared):
    """Has one positive answer, about to expire."""

    async def get(self, pair: Pair) -> SharedAnswer | None:
        """The answer, for another 1.5 s."""
        return SharedAnswer(connected=True, lifetime=1.5)


class HeldShared(MemoryShared):
    """Keeps back its replies until told."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def put(self, pairs: Sequence[Pair], connected: bool) -> None:
        """Waits, then keeps the answer."""
        self.reached.set()
        await self.go_on.wait()
        await super().put(pairs, connected)


async def test_an_answer_never_outlives_the_one_in_the_shared_layer() -> None:
    clock = Clock()
    directory = CachedConnections(MemorySource(ScriptedConnections()), ShortLivedShared(clock), clock=clock)
    assert await directory.are_connected(ALICE, BOB) is True
    clock.advance(1.4)
    assert directory.known(ALICE, BOB) is True
    clock.advance(0.1)
    assert directory.known(ALICE, BOB) is None


async def test_the_lifetime_counts_from_the_question_not_from_the_answer() -> None:
    clock, script = Clock(), ScriptedConnections()
    script.connect(ALICE, BOB)
    script.hold()
    directory = CachedConnections(MemorySource(script), clock=clock)
    asker = asyncio.create_task(directory.are_connected(ALICE, BOB))
    await script.until_asked(1)
    clock.advance(3.0)
    script.release()
    assert await asker is True
    clock.advance(2.0)
    assert directory.known(ALICE, BOB) is None


async def test_no_more_than_the_allowed_number_of_pairs_is_kept_and_the_oldest_goes() -> None:
    directory = CachedConnections(MemorySource(ScriptedConnections()), max_pairs=2, clock=Clock())
    for other in ("u1", "u2", "u3"):
        await directory.are_connected(ALICE, UserId(other))
    assert directory.known(ALICE, UserId("u1")) is None
    assert directory.known(ALICE, UserId("u2")) is False
    assert directory.known(ALICE, UserId("u3")) is False


async def test_a_second_instance_finds_the_answer_in_the_shared_layer() -> None:
    clock, script = Clock(), ScriptedConnections()
    script.connect(ALICE, BOB)
    shared = MemoryShared(clock)
    first = CachedConnections(MemorySource(script), shared, clock=clock)
    second = CachedConnections(MemorySource(script), shared, clock=clock)
    await first.are_connected(ALICE, BOB)
    assert await second.are_connected(BOB, ALICE) is True
    assert len(script.asked) == 1


async def test_a_lookup_in_flight_elsewhere_cannot_put_the_stale_answer_back() -> None:
    clock, script = Clock(), ScriptedConnections()
    script.connect(ALICE, BOB)
    shared = MemoryShared(clock)
    told, slow = (CachedConnections(MemorySource(script), shared, clock=clock) for _ in range(2))
    script.hold()
    stale = asyncio.create_task(slow.are_connected(ALICE, BOB))
    await script.until_asked(1)
    script.disconnect(ALICE, BOB)
    await told.forget(ALICE, BOB)
    script.release()
    await stale
    assert await shared.get(pair_of(ALICE, BOB)) is None
    assert await told.are_connected(ALICE, BOB) is False


async def test_an_invalidation_while_the_answer_is_being_shared_is_noticed() -> None:
    clock, script = Clock(), ScriptedConnections()
    script.connect(ALICE, BOB)
    shared = HeldShared(clock)
    directory = CachedConnections(MemorySource(script), shared, clock=clock)
    asker = asyncio.create_task(directory.are_connected(ALICE, BOB))
    await shared.reached.wait()
    script.disconnect(ALICE, BOB)
    await directory.forget(ALICE, BOB)
    shared.go_on.set()
    assert await asker is False
    assert directory.known(ALICE, BOB) is False


async def test_a_failed_lookup_whose_askers_all_left_makes_no_noise() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    script = ScriptedConnections()
    script.failing = True
    script.hold()
    directory = CachedConnections(MemorySource(script), clock=Clock())
    asker = asyncio.create_task(directory.are_connected(ALICE, BOB))
    await script.until_asked(1)
    asker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asker
    lookups = {task for task in asyncio.all_tasks() if task.get_name() == "connection lookup"}
    assert len(lookups) == 1
    script.release()
    await asyncio.wait(lookups)
    lookups.clear()
    gc.collect()
    assert complaints == []


async def test_closing_waits_for_lookups_under_way_and_answers_their_askers() -> None:
    script = ScriptedConnections()
    script.connect(ALICE, BOB)
    script.hold()
    directory = CachedConnections(MemorySource(script), clock=Clock())
    asker = asyncio.create_task(directory.are_connected(ALICE, BOB))
    await script.until_asked(1)
    closing = asyncio.create_task(directory.aclose())
    script.release()
    await closing
    assert await asker is True


async def test_lookups_are_counted_by_layer_and_result() -> None:
    def count(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    def counts() -> list[float]:
        asked = "messaging_connection_lookups_total"
        return [
            count("messaging_connection_known_total", result="connected"),
            count("messaging_connection_known_total", result="not_connected"),
            count(asked, layer="connections_service", result="connected"),
            count(asked, layer="connections_service", result="not_connected"),
            count(asked, layer="connections_service", result="unavailable"),
        ]

    script = ScriptedConnections()
    script.connect(ALICE, BOB)
    directory = CachedConnections(MemorySource(script), clock=Clock())
    before = counts()
    await directory.are_connected(ALICE, BOB)
    await directory.are_connected(ALICE, CAROL)
    for _ in range(3):
        directory.known(ALICE, BOB)
    directory.known(ALICE, CAROL)
    script.failing = True
    with pytest.raises(Rejected):
        await directory.are_connected(BOB, CAROL)
    assert [after - earlier for after, earlier in zip(counts(), before, strict=True)] == [3, 1, 1, 1, 1]


async def test_who_is_not_told_of_changes_keeps_no_answers() -> None:
    clock, script = Clock(), ScriptedConnections()
    script.connect(ALICE, BOB)
    directory = CachedConnections(MemorySource(script), clock=clock)
    assert await directory.are_connected(ALICE, BOB) is True
    directory.keep_answers(False)
    for _ in range(2):
        assert directory.known(ALICE, BOB) is None
        assert await directory.are_connected(ALICE, BOB) is True
    script.disconnect(ALICE, BOB)
    assert await directory.are_connected(ALICE, BOB) is False
    directory.keep_answers(True)
    assert directory.known(ALICE, BOB) is None
    assert await directory.are_connected(ALICE, BOB) is False
    assert directory.known(ALICE, BOB) is False
