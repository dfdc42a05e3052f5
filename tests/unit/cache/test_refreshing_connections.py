"""A positive answer that is used late in its life is asked for again, beside its use."""

from __future__ import annotations

import asyncio

import pytest

from service.cache.connections import CachedConnections
from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId

ALICE, BOB = UserId("alice"), UserId("bob")


class Source:
    """Answers when it is let; counts how often it was asked."""

    def __init__(self) -> None:
        self.connected = True
        self.asked = 0
        self.is_down = False

    async def are_connected(self, user: UserId, other: UserId) -> bool:
        self.asked += 1
        if self.is_down:
            raise Rejected(ErrorCode.AUTHORIZATION_UNAVAILABLE, "down")
        return self.connected


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


def use_late(cache: CachedConnections, clock: Clock) -> None:
    """Calls for a refresh by a use of the answer."""
    clock.now += 9.5
    assert cache.known(ALICE, BOB) is True


async def test_early_in_its_life_an_answer_is_only_used(
    cache: CachedConnections, source: Source, clock: Clock
) -> None:
    clock.now += 1.9
    assert cache.known(ALICE, BOB) is True
    await cache.aclose()
    assert source.asked == 1


async def test_a_refreshed_answer_is_only_used_for_longer(
    cache: CachedConnections, source: Source, clock: Clock
) -> None:
    use_late(cache, clock)
    await cache.aclose()
    clock.now += 6.9
    assert cache.known(ALICE, BOB) is True
    await cache.aclose()
    assert source.asked == 2


async def test_what_was_learned_together_is_spread_over_most_of_a_life(source: Source, clock: Clock) -> None:
    cache = CachedConnections(source, positive_ttl=10.0, negative_ttl=10.0, clock=clock)
    pairs = [(UserId(f"user-{number}"), BOB) for number in range(250)]
    for pair in pairs:
        await cache.are_connected(*pair)
    asked: list[int] = []
    for _ in range(10):
        clock.now += 0.9
        assert all(cache.known(*pair) for pair in pairs)
        await cache.aclose()
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
    await cache.aclose()
    assert source.asked == 2


async def test_late_in_its_life_it_is_asked_for_once_and_lives_on(
    cache: CachedConnections, source: Source, clock: Clock
) -> None:
    clock.now += 9.5
    assert [cache.known(ALICE, BOB) for _ in range(5)] == [True] * 5
    await cache.aclose()
    assert source.asked == 2
    clock.now += 6.0
    assert cache.known(BOB, ALICE) is True


async def test_who_is_no_longer_connected_is_known_by_the_refresh(
    cache: CachedConnections, source: Source, clock: Clock
) -> None:
    source.connected = False
    use_late(cache, clock)
    await cache.aclose()
    assert cache.known(ALICE, BOB) is False


async def test_a_failed_refresh_changes_nothing_and_the_answer_ends_when_it_would_have(
    cache: CachedConnections, source: Source, clock: Clock
) -> None:
    source.is_down = True
    use_late(cache, clock)
    await cache.aclose()
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
    await cache.aclose()
    assert source.asked == 1


async def test_what_was_forgotten_during_a_refresh_is_not_remembered_from_before(
    cache: CachedConnections, source: Source, clock: Clock
) -> None:
    use_late(cache, clock)
    source.connected = False
    cache.drop(ALICE, BOB)
    assert cache.known(ALICE, BOB) is None
    await cache.aclose()
    assert cache.known(ALICE, BOB) is False
