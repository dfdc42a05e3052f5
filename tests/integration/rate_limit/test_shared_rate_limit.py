"""Two instances and one Redis: one limit for both, and each instance's own when Redis is gone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import cycle, islice
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from structlog.testing import capture_logs

from devstack.ports import free_port
from devstack.redis_server import RedisServer
from service.cache.rate_counts import RateCounts
from service.cache.rate_limit import UserRateLimit
from service.domain.ids import UserId
from tests.contract.connections.doubles import Clock

ALICE = UserId("alice")
LIMIT = "64 per 60 seconds"
KEY = "messaging:rates:LIMITER/sends/alice/64/60/second"


class Instances:
    """Limiters of several instances; the clock of their circuit breakers is the test's."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.breaker_clock = Clock()

    def start(self, url: str, *, timeout: float = 2.0, clock: Clock | None = None) -> UserRateLimit:
        counts = RateCounts(url, timeout=timeout, clock=self.breaker_clock)
        self._stack.push_async_callback(counts.aclose)
        return UserRateLimit("sends", LIMIT, counts, clock=clock or Clock())


@pytest.fixture
async def instances() -> AsyncIterator[Instances]:
    async with AsyncExitStack() as stack:
        yield Instances(stack)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    server = RedisServer(tmp_path / "redis", free_port())
    server.start()
    yield server
    server.kill()


async def use(limit: UserRateLimit, count: int = 1) -> int:
    """How many of `count` commands are admitted; what one tells the others is told when this returns."""
    admitted = 0
    for _ in range(count):
        refused = not limit.passes(ALICE) and (limit.refusal(ALICE) or await limit.decide(ALICE))
        admitted += not refused
    await asyncio.gather(*limit._reports)
    return admitted


@pytest.mark.parametrize("share", [(1, 1), (7, 1), (1, 3)], ids=["evenly", "mostly one", "mostly the other"])
async def test_two_instances_together_admit_the_limit(
    instances: Instances, redis_url: str, share: tuple[int, int]
) -> None:
    pair = [instances.start(redis_url) for _ in range(2)]
    turns = [limit for limit, turns in zip(pair, share, strict=True) for _ in range(turns)]
    admitted = 0
    for limit in islice(cycle(turns), 200):
        admitted += await use(limit)
    assert admitted in {64, 65}
    assert all(limit.refusal(ALICE) for limit in pair)


async def test_an_instance_knows_at_its_first_report_that_another_one_has_used_the_limit_up(
    instances: Instances, redis_url: str
) -> None:
    first, second = (instances.start(redis_url) for _ in range(2))
    assert await use(first, 100) == 64
    # A sixteenth of the limit is not yet told and asked when the second instance begins.
    admitted = 0
    for _ in range(100):
        admitted += await use(second)
    assert admitted <= 4
    assert second.refusal(ALICE) is not None


async def test_at_once_from_many_tasks_the_limit_holds(instances: Instances, redis_url: str) -> None:
    pair = [instances.start(redis_url) for _ in range(2)]
    admitted = await asyncio.gather(*(use(limit, 10) for limit in pair for _ in range(15)))
    # Each may have been quiet for half of the limit before either knew of the other.
    assert sum(admitted) in {64, 65}


async def test_without_redis_each_keeps_the_limit_by_itself_and_both_agree_again_afterwards(
    instances: Instances, own_redis: RedisServer
) -> None:
    clock = Clock()
    pair = [instances.start(own_redis.url, clock=clock) for _ in range(2)]
    assert [await use(limit, 10) for limit in pair] == [10, 10]
    own_redis.kill()
    with capture_logs() as logs:
        assert [await use(limit, 80) for limit in pair] == [54, 54]
    assert [line["event"] for line in logs].count("rate_counts_failing") == 2
    own_redis.start()
    # A new minute, and the breakers may try again.
    clock.advance(60)
    instances.breaker_clock.advance(10)
    admitted = 0
    for limit in islice(cycle(pair), 200):
        admitted += await use(limit)
    assert admitted in {64, 65}


async def test_a_redis_that_says_nothing_costs_a_few_timeouts_and_opens_no_door(
    instances: Instances, own_redis: RedisServer
) -> None:
    limit = instances.start(own_redis.url, timeout=0.05)
    await use(limit, 1)
    before = failures("unreachable"), failures("circuit_open")
    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        assert await use(limit, 100) == 63
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)
    # Three open the circuit; the reports of the quiet half were under way together.
    assert 3 <= failures("unreachable") - before[0] <= 16
    assert failures("circuit_open") - before[1] > 20


def failures(reason: str) -> float:
    name = "messaging_rate_count_failures_total"
    return REGISTRY.get_sample_value(name, {"reason": reason}) or 0.0


async def test_an_emptied_redis_does_not_give_the_limit_anew(instances: Instances, redis_url: str) -> None:
    limit = instances.start(redis_url)
    assert await use(limit, 60) == 60
    async with Redis.from_url(redis_url) as redis:
        await redis.flushall()
    assert await use(limit, 60) == 4


async def test_a_key_of_another_type_is_as_good_as_no_redis(instances: Instances, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.rpush(KEY, "not ours")
        assert await use(instances.start(redis_url), 100) == 64
        assert await redis.type(KEY) == b"list"


async def test_keys_hold_the_user_and_the_limit_and_go_away_by_themselves(
    instances: Instances, redis_url: str
) -> None:
    await use(instances.start(redis_url), 64)
    async with Redis.from_url(redis_url) as redis:
        assert await redis.keys() == [KEY.encode()]
        assert 0 < await redis.ttl(KEY) <= 60


async def test_what_ended_is_forgotten(instances: Instances, redis_url: str) -> None:
    clock = Clock()
    limit = instances.start(redis_url, clock=clock)
    for number in range(100):
        assert limit.passes(UserId(f"user-{number}"))
    clock.advance(60)
    assert limit.passes(ALICE)
    assert list(limit._windows) == [ALICE]
