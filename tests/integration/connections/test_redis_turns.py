"""Many new pairs at once, as after a start: who waits for a connection to Redis finds no fault with it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from prometheus_client import REGISTRY

from service.cache.pairs import Pair, pair_of
from service.cache.redis_connections import RedisConnections
from service.domain.ids import UserId
from tests.faults.proxy import Direction, FaultProxy

TIMEOUT_S = 1.0


def pairs(count: int) -> list[Pair]:
    return [pair_of(UserId("alice"), UserId(f"user-{number}")) for number in range(count)]


def failures(reason: str) -> float:
    labels = {"operation": "get", "reason": reason}
    return REGISTRY.get_sample_value("messaging_shared_connections_failures_total", labels) or 0


@asynccontextmanager
async def layer_on(url: str, connections: int) -> AsyncIterator[RedisConnections]:
    layer = RedisConnections(url, timeout=TIMEOUT_S, max_connections=connections)
    yield layer
    await layer.aclose()


async def test_a_burst_is_answered_over_few_connections(redis_url: str) -> None:
    known = pairs(200)
    async with layer_on(redis_url, 4) as layer:
        await layer.put(known, connected=True)
        answers = await asyncio.gather(*(layer.get(pair) for pair in known))
    assert all(answer is not None and answer.connected for answer in answers)


async def test_who_waits_too_long_for_a_turn_does_without_and_redis_is_not_at_fault(redis_url: str) -> None:
    known = pairs(3)
    port = urlsplit(redis_url).port
    assert port is not None
    async with (
        FaultProxy(port) as proxy,
        layer_on(redis_url.replace(f":{port}", f":{proxy.listen_port}"), 1) as layer,
    ):
        await layer.put(known, connected=True)
        busy, timeouts = failures("busy"), failures("timeout")
        # In time for each, but not for the third in a row.
        proxy.delay(0.6 * TIMEOUT_S, 0.0, chance=random.Random(1), direction=Direction.TO_CLIENT)
        answers = await asyncio.gather(*(layer.get(pair) for pair in known))
        assert [answer is not None for answer in answers] == [True, True, False]
        assert (failures("busy"), failures("timeout")) == (busy + 1, timeouts)
        proxy.heal()
        assert await layer.get(known[2]) is not None
