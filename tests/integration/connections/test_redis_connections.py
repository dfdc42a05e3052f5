"""The shared layer against real Redis servers: healthy, killed, emptied, slow, silent, and misused."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from structlog.testing import capture_logs

from devstack.ports import free_port
from devstack.redis_server import RedisServer
from service.cache.connections import CachedConnections
from service.cache.pairs import pair_of
from service.cache.redis_connections import RedisConnections
from service.domain.ids import UserId
from tests.contract.connections.doubles import PATIENCE_SECONDS, Clock, MemorySource, ScriptedConnections

ALICE, BOB, CAROL = UserId("alice"), UserId("bob"), UserId("carol")
PAIR, OTHER_PAIR = pair_of(ALICE, BOB), pair_of(ALICE, CAROL)
KEY = "messaging:connections:alice/bob"


@asynccontextmanager
async def layer_on(url: str, clock: Clock, timeout: float = 2.0) -> AsyncIterator[RedisConnections]:
    """A shared layer whose circuit breaker goes by `clock`."""
    layer = RedisConnections(url, timeout=timeout, clock=clock)
    try:
        yield layer
    finally:
        await layer.aclose()


@pytest.fixture
def clock() -> Clock:
    """The clock of the layers' circuit breakers and marks; Redis keeps its own time."""
    return Clock()


@pytest.fixture
async def layer(redis_url: str, clock: Clock) -> AsyncIterator[RedisConnections]:
    """A layer on an empty Redis."""
    async with layer_on(redis_url, clock) as layer:
        yield layer


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """The same Redis, seen directly."""
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    server = RedisServer(tmp_path / "redis", free_port())
    server.start()
    yield server
    server.kill()


async def connected(layer: RedisConnections) -> bool | None:
    answer = await layer.get(PAIR)
    return None if answer is None else answer.connected


def failures(operation: str, reason: str) -> float:
    labels = {"operation": operation, "reason": reason}
    return REGISTRY.get_sample_value("messaging_shared_connections_failures_total", labels) or 0.0


async def test_an_empty_redis_knows_nothing(layer: RedisConnections) -> None:
    assert await layer.get(PAIR) is None


@pytest.mark.parametrize(("answer", "ttl"), [(True, 60.0), (False, 10.0)])
async def test_an_answer_is_kept_for_its_time_and_comes_with_what_is_left(
    layer: RedisConnections, redis: Redis, answer: bool, ttl: float
) -> None:
    await layer.put([PAIR], answer)
    kept = await layer.get(PAIR)
    assert kept is not None
    assert kept.connected is answer
    assert ttl - PATIENCE_SECONDS < kept.lifetime <= ttl
    assert kept.lifetime * 1_000 >= await redis.pttl(KEY)


async def test_keys_hold_the_sorted_pair_and_nothing_else(layer: RedisConnections, redis: Redis) -> None:
    await layer.put([pair_of(BOB, ALICE)], True)
    await layer.mark_changed(OTHER_PAIR)
    assert sorted(await redis.keys()) == [KEY.encode(), b"messaging:connections:alice/carol"]


async def test_an_answer_about_to_expire_is_given_its_short_time(
    layer: RedisConnections, redis: Redis
) -> None:
    await redis.set(KEY, b"1", px=1_500)
    answer = await layer.get(PAIR)
    assert answer is not None
    assert 0 < answer.lifetime <= 1.5


async def test_a_change_drops_the_answer_and_keeps_stale_ones_out_for_a_short_time(
    layer: RedisConnections, redis: Redis
) -> None:
    await layer.put([PAIR], True)
    await layer.mark_changed(PAIR)
    assert await connected(layer) is None
    await layer.put([PAIR], True)
    assert await connected(layer) is None
    assert 0 < await redis.pttl(KEY) <= 2_000


async def test_an_answer_already_there_is_not_replaced(layer: RedisConnections) -> None:
    await layer.put([PAIR], False)
    await layer.put([PAIR], True)
    assert await connected(layer) is False


async def test_answers_for_many_pairs_go_in_one_round_trip_and_each_keeps_what_it_has(
    layer: RedisConnections, redis: Redis
) -> None:
    pairs = [pair_of(ALICE, UserId(f"user-{number}")) for number in range(20)]
    await layer.put([pairs[0]], False)
    await layer.mark_changed(pairs[1])
    reads = (await redis.info("stats"))["total_reads_processed"]
    await layer.put(pairs, True)
    # The other one is this very question.
    assert (await redis.info("stats"))["total_reads_processed"] == reads + 2
    answers = [await layer.get(pair) for pair in pairs]
    assert [answer and answer.connected for answer in answers] == [False, None] + [True] * 18


async def test_a_flushed_redis_is_filled_again(layer: RedisConnections, redis: Redis) -> None:
    await layer.put([PAIR], True)
    await redis.flushall()
    assert await connected(layer) is None
    await layer.put([PAIR], True)
    assert await connected(layer) is True


async def test_a_key_of_another_type_is_a_miss_and_is_overwritten(
    layer: RedisConnections, redis: Redis
) -> None:
    await redis.rpush(KEY, "not", "ours")
    with capture_logs() as logs:
        assert await connected(layer) is None
    assert await redis.get(KEY) == b"?"
    assert logs == []


@pytest.mark.parametrize("value", [b"", b"true", b"11", b"\xff\x00"])
async def test_a_value_that_is_not_ours_is_never_an_answer(
    layer: RedisConnections, redis: Redis, value: bytes
) -> None:
    await redis.set(KEY, value, px=60_000)
    assert await connected(layer) is None
    assert await redis.get(KEY) == b"?"


async def test_a_value_without_an_expiry_is_not_trusted(layer: RedisConnections, redis: Redis) -> None:
    await redis.set(KEY, b"1")
    assert await connected(layer) is None
    assert 0 < await redis.pttl(KEY) <= 2_000


async def test_a_killed_redis_is_a_miss_logged_once_and_used_again_when_it_is_back(
    own_redis: RedisServer, clock: Clock
) -> None:
    async with layer_on(own_redis.url, clock) as layer:
        await layer.put([PAIR], True)
        before = failures("get", "connection")
        own_redis.kill()
        with capture_logs() as logs:
            for _ in range(10):
                assert await layer.get(PAIR) is None
                await layer.put([PAIR], True)
            own_redis.start()
            clock.advance(2.0)
            await layer.put([PAIR], True)
            assert await connected(layer) is True
        assert failures("get", "connection") > before
        assert [entry["event"] for entry in logs] == [
            "shared_connections_failing",
            "circuit_opened",
            "circuit_closed",
            "shared_connections_working_again",
        ]


async def test_a_black_hole_costs_its_timeout_a_few_times_and_then_nothing(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        async with layer_on(f"redis://127.0.0.1:{black_hole.getsockname()[1]}", clock, 0.05) as layer:
            timeouts, refused = failures("get", "timeout"), failures("get", "circuit_open")
            for _ in range(50):
                assert await layer.get(PAIR) is None
            assert failures("get", "timeout") == timeouts + 3
            assert failures("get", "circuit_open") == refused + 47


async def test_concurrent_lookups_of_a_black_hole_wait_one_timeout_together(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        async with layer_on(f"redis://127.0.0.1:{black_hole.getsockname()[1]}", clock, 0.1) as layer:
            started = time.monotonic()
            answers = await asyncio.gather(*(layer.get((ALICE, UserId(f"u{n}"))) for n in range(100)))
            assert answers == [None] * 100
            assert time.monotonic() - started < 2.0


async def test_a_late_reply_is_never_taken_for_the_answer_to_another_question(
    own_redis: RedisServer, clock: Clock
) -> None:
    async with layer_on(own_redis.url, clock, 0.1) as layer, Redis.from_url(own_redis.url) as direct:
        await layer.put([PAIR], True)
        await layer.put([OTHER_PAIR], False)
        os.kill(own_redis.pid, signal.SIGSTOP)
        assert await layer.get(PAIR) is None
        os.kill(own_redis.pid, signal.SIGCONT)
        await direct.ping()
        for _ in range(5):
            other = await layer.get(OTHER_PAIR)
            assert other is not None
            assert other.connected is False
            assert await connected(layer) is True


async def test_redis_is_not_read_for_a_pair_whose_mark_is_on_its_way(
    own_redis: RedisServer, clock: Clock
) -> None:
    async with layer_on(own_redis.url, clock) as layer, Redis.from_url(own_redis.url) as direct:
        await layer.put([PAIR], True)
        _, answer = await asyncio.gather(layer.mark_changed(PAIR), layer.get(PAIR))
        assert answer is None
        assert "cmdstat_get" not in await direct.info("commandstats")


async def test_a_change_that_could_not_be_marked_is_marked_before_redis_is_believed_again(
    own_redis: RedisServer, clock: Clock
) -> None:
    async with layer_on(own_redis.url, clock, 0.1) as layer, Redis.from_url(own_redis.url) as direct:
        await layer.put([PAIR], True)
        os.kill(own_redis.pid, signal.SIGSTOP)
        await layer.mark_changed(PAIR)
        os.kill(own_redis.pid, signal.SIGCONT)
        await direct.ping()
        await direct.set(KEY, b"1", px=60_000)
        assert await connected(layer) is None
        assert await direct.get(KEY) == b"?"
        await direct.delete(KEY)
        await layer.put([PAIR], True)
        assert await connected(layer) is True


async def test_a_change_that_could_not_be_marked_is_remembered_as_long_as_an_answer_can_live(
    own_redis: RedisServer, clock: Clock
) -> None:
    async with layer_on(own_redis.url, clock) as layer:
        own_redis.kill()
        await layer.mark_changed(PAIR)
        own_redis.start()
        clock.advance(59.0)
        async with Redis.from_url(own_redis.url) as direct:
            await direct.set(KEY, b"1", px=60_000)
            assert await connected(layer) is None
            await direct.set(KEY, b"1", px=60_000)
            assert await connected(layer) is True


async def test_a_directory_answers_right_with_redis_down_and_asks_the_source(
    own_redis: RedisServer, clock: Clock
) -> None:
    script = ScriptedConnections()
    script.connect(ALICE, BOB)
    async with layer_on(own_redis.url, clock) as layer:
        directory = CachedConnections(MemorySource(script), layer, clock=clock)
        own_redis.kill()
        assert await directory.are_connected(ALICE, BOB) is True
        assert await directory.are_connected(ALICE, CAROL) is False
        script.disconnect(ALICE, BOB)
        await directory.forget(ALICE, BOB)
        assert await directory.are_connected(ALICE, BOB) is False


async def test_two_instances_share_answers_and_changes(redis_url: str, clock: Clock) -> None:
    script = ScriptedConnections()
    script.connect(ALICE, BOB)
    async with layer_on(redis_url, clock) as one, layer_on(redis_url, clock) as two:
        first, second = (CachedConnections(MemorySource(script), layer, clock=clock) for layer in (one, two))
        await first.are_connected(ALICE, BOB)
        assert await second.are_connected(BOB, ALICE) is True
        assert len(script.asked) == 1
        script.disconnect(ALICE, BOB)
        await first.forget(ALICE, BOB)
        second.forget_everything()
        assert await second.are_connected(ALICE, BOB) is False


async def test_a_refresh_that_finds_a_pair_disconnected_ends_the_shared_answer(
    redis_url: str, clock: Clock
) -> None:
    """Else the shared answer would connect the pair again as soon as memory has forgotten."""
    script = ScriptedConnections()
    script.connect(ALICE, BOB)
    async with layer_on(redis_url, clock) as layer:
        source = MemorySource(script)
        directory = CachedConnections(source, layer, positive_ttl=10.0, negative_ttl=5.0, clock=clock)
        assert await directory.are_connected(ALICE, BOB) is True
        script.disconnect(ALICE, BOB)
        clock.now += 9.8
        assert directory.known(ALICE, BOB) is True
        await script.until_asked(2)
        await directory.aclose()
        clock.now += 5.1
        assert directory.known(ALICE, BOB) is None
        assert await directory.are_connected(ALICE, BOB) is False


async def test_a_lookup_in_flight_elsewhere_cannot_put_the_stale_answer_back(
    redis_url: str, clock: Clock
) -> None:
    script = ScriptedConnections()
    script.connect(ALICE, BOB)
    async with layer_on(redis_url, clock) as one, layer_on(redis_url, clock) as two:
        told, slow = (CachedConnections(MemorySource(script), layer, clock=clock) for layer in (one, two))
        script.hold()
        stale = asyncio.create_task(slow.are_connected(ALICE, BOB))
        await script.until_asked(1)
        script.disconnect(ALICE, BOB)
        await told.forget(ALICE, BOB)
        script.release()
        await stale
        assert await connected(one) is None
        assert await told.are_connected(ALICE, BOB) is False


async def test_neither_logs_nor_errors_hold_the_password(clock: Clock) -> None:
    url = f"redis://user:very-secret@127.0.0.1:{free_port()}/0"
    with capture_logs() as logs:
        async with layer_on(url, clock) as layer:
            assert await layer.get(PAIR) is None
    assert logs
    assert "very-secret" not in repr(logs)
