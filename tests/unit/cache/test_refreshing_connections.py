"""A positive answer that is used late in its life is asked for again, beside its use."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence

import pytest

from service.cache.connections import CachedConnections
from service.cache.pairs import Pair
from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId
from tests.contract.connections.doubles import MemoryShared

ALICE, BOB = UserId("alice"), UserId("bob")


class Source:
    """Answers when it is let; counts how often it was asked."""

    def __init__(self) -> None:
        self.connected = True
        self.asked = 0
        self.is_down = False
        self.down_for: set[UserId] = set()
        self.defect: Exception | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._one_more = asyncio.Event()

    async def are_connected(self, user: UserId, other: UserId) -> bool:
        self.asked += 1
        self._one_more.set()
        await self.go_on.wait()
        if self.defect is not None:
            raise self.defect
        if self.is_down or user in self.down_for:
            raise Rejected(ErrorCode.AUTHORIZATION_UNAVAILABLE, "down")
        return self.connected

    def hold(self) -> None:
        """Keeps answers back until `go_on` is set."""
        self.go_on.clear()

    async def asked_so_often(self, times: int) -> None:
        """Returns when it was asked `times` times in all; fails when that takes longer than 5 s."""
        async with asyncio.timeout(5.0):
            while self.asked < times:
                self._one_more.clear()
                await self._one_more.wait()


class CountingShared(MemoryShared):
    """Notes how many pairs each answer was put for."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.puts: list[int] = []

    async def put(self, pairs: Sequence[Pair], connected: bool) -> None:
        """Notes and keeps."""
        self.puts.append(len(pairs))
        await super().put(pairs, connected)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def cache(source: Source, clock: Clock) -> CachedConnections:
    made = CachedConnections(source, positive_ttl=10.0, negative_ttl=10.0, clock=clock)
    assert await made.are_connected(ALICE, BOB) is source.connected
    return made


async def learned(cache: CachedConnections, count: int) -> Sequence[tuple[UserId, UserId]]:
    """So many pairs whose first answers the cache has."""
    pairs = [(UserId(f"user-{number}"), BOB) for number in range(count)]
    for pair in pairs:
        assert await cache.are_connected(*pair) is True
    return pairs


async def refreshed() -> None:
    """Returns when all that is due was refreshed."""
    while tasks := [task for task in asyncio.all_tasks() if task.get_name() == "connection refresh"]:
        await asyncio.wait(tasks)


def use_late(cache: CachedConnections, clock: Clock) -> None:
    """Calls for a refresh by a use of the answer."""
    clock.now += 9.5
    assert cache.known(ALICE, BOB) is True


async def test_early_in_its_life_an_answer_is_only_used(
    cache: CachedConnections, source: Source, clock: Clock
) -> None:
    clock.now += 1.9
    assert cache.known(ALICE, BOB) is True
    await refreshed()
    assert source.asked == 1


async def test_a_refreshed_answer_is_only_used_for_longer(
    cache: CachedConnections, source: Source, clock: Clock
) -> None:
    use_late(cache, clock)
    await refreshed()
    clock.now += 6.9
    assert cache.known(ALICE, BOB) is True
    await refreshed()
    assert source.asked == 2


async def test_what_was_learned_together_is_spread_over_most_of_a_life(source: Source, clock: Clock) -> None:
    cache = CachedConnections(source, positive_ttl=10.0, negative_ttl=10.0, clock=clock)
    pairs = await learned(cache, 250)
    asked: list[int] = []
    for _ in range(10):
        clock.now += 0.9
        assert all(cache.known(*pair) for pair in pairs)
        await refreshed()
        asked.append(source.asked)
        # What is asked anew has most of its life before it.
        if source.asked >= 500:
            break
    each_time = [after - before for before, after in zip([250, *asked], asked, strict=False)]
    assert sum(each_time) == 250
    assert max(each_time) < 60


async def test_a_message_goes_before_the_refresh_that_it_calls_for(
    cache: CachedConnections, source: Source, clock: Clock
) -> None:
    use_late(cache, clock)
    for _ in range(3):
        await asyncio.sleep(0)
    assert source.asked == 1
    await refreshed()
    assert source.asked == 2


async def test_what_is_due_is_asked_for_together_and_shared_in_one_go(source: Source, clock: Clock) -> None:
    shared = CountingShared(clock)
    cache = CachedConnections(source, shared, positive_ttl=60.0, negative_ttl=10.0, clock=clock)
    pairs = await learned(cache, 20)
    clock.now += 58.0
    source.hold()
    assert all(cache.known(*pair) for pair in pairs)
    await source.asked_so_often(40)
    source.go_on.set()
    await refreshed()
    clock.now += 1.9
    assert shared.puts == [1] * 20 + [20]
    assert all(cache.known(*pair) for pair in pairs)


async def until_a_round_is_held(
    cache: CachedConnections, pairs: Sequence[tuple[UserId, UserId]], source: Source, clock: Clock
) -> None:
    """Uses all answers late, and returns when as many as a round holds are asked for and kept back."""
    clock.now += 9.5
    source.hold()
    assert all(cache.known(*pair) for pair in pairs)
    await source.asked_so_often(len(pairs) + 32)


async def test_more_than_a_round_holds_is_refreshed_in_the_next_ones(source: Source, clock: Clock) -> None:
    cache = CachedConnections(source, positive_ttl=10.0, negative_ttl=10.0, clock=clock)
    pairs = await learned(cache, 80)
    await until_a_round_is_held(cache, pairs, source, clock)
    # The second round waits for the first one.
    for _ in range(3):
        await asyncio.sleep(0)
    assert source.asked == 80 + 32
    source.go_on.set()
    await refreshed()
    assert source.asked == 160
    clock.now += 0.6
    assert all(cache.known(*pair) for pair in pairs)


async def test_one_failure_among_many_leaves_the_others_refreshed(source: Source, clock: Clock) -> None:
    cache = CachedConnections(source, positive_ttl=10.0, negative_ttl=10.0, clock=clock)
    pairs = await learned(cache, 20)
    source.down_for.add(pairs[7][0])
    clock.now += 9.5
    assert all(cache.known(*pair) for pair in pairs)
    await refreshed()
    clock.now += 0.6
    assert [cache.known(*pair) for pair in pairs] == [None if pair is pairs[7] else True for pair in pairs]


async def test_a_defect_in_a_refresh_is_not_kept_quiet(
    cache: CachedConnections, source: Source, clock: Clock
) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    source.defect = RuntimeError("a defect")
    use_late(cache, clock)
    await source.asked_so_often(2)
    await refreshed()
    gc.collect()
    assert [complaint["exception"] for complaint in complaints] == [source.defect]
    # The next use that is due begins anew.
    source.defect = None
    clock.now += 0.3
    assert cache.known(ALICE, BOB) is True
    await refreshed()
    assert source.asked == 3


async def test_late_in_its_life_it_is_asked_for_once_and_lives_on(
    cache: CachedConnections, source: Source, clock: Clock
) -> None:
    clock.now += 9.5
    assert [cache.known(ALICE, BOB) for _ in range(5)] == [True] * 5
    await refreshed()
    assert source.asked == 2
    clock.now += 6.0
    assert cache.known(BOB, ALICE) is True


async def test_who_is_no_longer_connected_is_known_by_the_refresh(
    cache: CachedConnections, source: Source, clock: Clock
) -> None:
    source.connected = False
    use_late(cache, clock)
    await refreshed()
    assert cache.known(ALICE, BOB) is False


async def test_a_failed_refresh_changes_nothing_and_the_answer_ends_when_it_would_have(
    cache: CachedConnections, source: Source, clock: Clock
) -> None:
    source.is_down = True
    use_late(cache, clock)
    await refreshed()
    assert cache.known(ALICE, BOB) is True
    clock.now += 0.5
    assert cache.known(ALICE, BOB) is None
    with pytest.raises(Rejected):
        await cache.are_connected(ALICE, BOB)


async def test_a_negative_answer_is_never_refreshed(source: Source, clock: Clock) -> None:
    source.connected = False
    cache = CachedConnections(source, positive_ttl=10.0, negative_ttl=10.0, clock=clock)
    await cache.are_connected(ALICE, BOB)
    clock.now += 9.9
    assert cache.known(ALICE, BOB) is False
    await asyncio.sleep(0)
    await refreshed()
    assert source.asked == 1


async def test_what_was_forgotten_before_its_refresh_is_not_asked_for(
    cache: CachedConnections, source: Source, clock: Clock
) -> None:
    use_late(cache, clock)
    cache.drop(ALICE, BOB)
    await refreshed()
    assert source.asked == 1
    assert cache.known(ALICE, BOB) is None


@pytest.mark.parametrize("everything", [False, True])
async def test_what_was_forgotten_during_a_refresh_is_not_remembered_from_before(
    source: Source, clock: Clock, everything: bool
) -> None:
    shared = CountingShared(clock)
    cache = CachedConnections(source, shared, positive_ttl=60.0, negative_ttl=10.0, clock=clock)
    await cache.are_connected(ALICE, BOB)
    source.hold()
    clock.now += 58.0
    assert cache.known(ALICE, BOB) is True
    await source.asked_so_often(2)
    if everything:
        cache.forget_everything()
    else:
        cache.drop(ALICE, BOB)
    source.go_on.set()
    await refreshed()
    assert cache.known(ALICE, BOB) is None
    assert shared.puts == [1]


async def test_closing_waits_for_the_round_under_way_and_begins_no_other(
    source: Source, clock: Clock
) -> None:
    cache = CachedConnections(source, positive_ttl=10.0, negative_ttl=10.0, clock=clock)
    pairs = await learned(cache, 80)
    await until_a_round_is_held(cache, pairs, source, clock)
    closing = asyncio.create_task(cache.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    source.go_on.set()
    await closing
    await refreshed()
    assert source.asked == 80 + 32
