"""What a rate limit promises, on the fake and on the real one with and without its Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from devstack.ports import free_port
from service.cache.rate_counts import RateCounts
from service.cache.rate_limit import UserRateLimit
from service.domain.errors import ErrorCode
from service.domain.ids import UserId
from service.use_cases.ports import RateLimit
from tests.contract.connections.doubles import Clock
from tests.fakes import MemoryRateLimit

ALICE, BOB = UserId("alice"), UserId("bob")
AMOUNT, SECONDS = 8, 10


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["fake", "redis", "no redis"])
async def limit(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[RateLimit]:
    """8 in 10 seconds."""
    if request.param == "fake":
        yield MemoryRateLimit(AMOUNT, SECONDS, clock=clock)
        return
    url = f"redis://127.0.0.1:{free_port()}"
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
    counts = RateCounts(url, timeout=5.0)
    yield UserRateLimit("test", f"{AMOUNT} per {SECONDS} seconds", counts, clock=clock)
    await counts.aclose()


async def use(limit: RateLimit, user: UserId, count: int) -> list[bool]:
    """What becomes of `count` commands."""
    return [
        limit.passes(user) or (limit.refusal(user) or await limit.decide(user)) is None for _ in range(count)
    ]


async def test_the_whole_limit_is_admitted_and_not_one_more(limit: RateLimit) -> None:
    assert await use(limit, ALICE, AMOUNT + 3) == [True] * AMOUNT + [False] * 3


async def test_users_have_limits_of_their_own(limit: RateLimit) -> None:
    await use(limit, ALICE, AMOUNT + 1)
    assert await use(limit, BOB, AMOUNT) == [True] * AMOUNT


async def test_the_first_half_needs_no_question(limit: RateLimit) -> None:
    assert [limit.passes(ALICE) for _ in range(AMOUNT // 2)] == [True] * (AMOUNT // 2)


async def test_a_refusal_is_known_from_then_on_and_says_when_to_come_back(limit: RateLimit) -> None:
    await use(limit, ALICE, AMOUNT)
    assert limit.refusal(ALICE) is None
    refusal = await limit.decide(ALICE)
    assert refusal is not None
    assert (refusal.code, refusal.retryable) == (ErrorCode.RATE_LIMITED, True)
    assert refusal.retry_after_ms is not None
    # Redis's own clock ran on since the window began, and tells whole seconds.
    assert (SECONDS - 5) * 1_000 < refusal.retry_after_ms <= SECONDS * 1_000 + 500
    known = limit.refusal(ALICE)
    assert known == refusal
    assert not limit.passes(ALICE)


async def test_a_user_that_was_refused_passes_again_when_it_was_told_to(
    limit: RateLimit, clock: Clock
) -> None:
    await use(limit, ALICE, AMOUNT + 1)
    refusal = limit.refusal(ALICE)
    assert refusal is not None
    assert refusal.retry_after_ms is not None
    clock.advance(refusal.retry_after_ms / 1_000)
    assert limit.refusal(ALICE) is None
    assert limit.passes(ALICE)
