"""Connections to Redis that the network resets, on the service's own event loop."""

from __future__ import annotations

import asyncio

import uvloop
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from devstack.redis_server import RedisServer
from service.cache.redis_pool import redis_pool
from tests.faults.proxy import FaultProxy

_TIMES = 50


def test_a_write_after_a_reset_fails_like_any_other_loss_and_the_next_one_connects(
    redis_server: RedisServer, redis_url: str
) -> None:
    async def write_after_resets() -> int:
        lost = 0
        async with FaultProxy(redis_server.port) as proxy:
            url = redis_url.replace(str(redis_server.port), str(proxy.listen_port))
            async with Redis.from_pool(redis_pool(url, timeout=2.0, max_connections=1)) as redis:
                for turn in range(_TIMES):
                    await redis.set("key", "value")
                    proxy.reset()
                    # The reset is heard of in one of the next turns of the loop, the write may be in any.
                    for _ in range(turn % 10):
                        await asyncio.sleep(0)
                    try:
                        await redis.set("key", "value")
                    except RedisConnectionError:
                        lost += 1
        return lost

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert 0 < runner.run(write_after_resets()) <= _TIMES
