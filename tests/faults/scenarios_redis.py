"""Faults of Redis: with it everything is faster, and nothing rests on it."""

from __future__ import annotations

from redis.asyncio import Redis

from tests.faults.arena import Arena
from tests.faults.scenario import Scenario

SHORT_MEMORY = {
    "MESSAGING_CONNECTIONS_CACHE_LOCAL_S": "1",
    "MESSAGING_CONNECTIONS_CACHE_SHARED_S": "1",
    "MESSAGING_CONNECTIONS_CACHE_NEGATIVE_S": "1",
}
"""Answers about connections are asked for again and again, so that who gives them matters at once."""

_ONLY_SLOWER_S = 3.0


async def killed(arena: Arena) -> None:
    """Away for some seconds, and empty when it is back."""
    began = arena.ledger.now()
    for _ in range(1 if arena.short else 4):
        await arena.kill(arena.servers.redis)
        await arena.pause(arena.random.uniform(2.0, 4.0))
        await arena.start(arena.servers.redis)
        await arena.pause(1.0)
    _was_only_slower(arena, began)


async def emptied(arena: Arena) -> None:
    """`FLUSHALL` again and again."""
    began = arena.ledger.now()
    async with Redis.from_url(arena.servers.redis.url) as redis:
        for _ in range(10 if arena.short else 60):
            await redis.flushall()
            arena.note("FLUSHALL")
            await arena.pause(arena.random.uniform(0.1, 0.5))
    _was_only_slower(arena, began)


async def mistyped(arena: Arena) -> None:
    """Every key becomes a list, whatever it was; in the end the foreign keys are gone again."""
    began = arena.ledger.now()
    async with Redis.from_url(arena.servers.redis.url) as redis:
        for _ in range(10 if arena.short else 60):
            async for key in redis.scan_iter():
                async with redis.pipeline() as pipeline:
                    pipeline.delete(key)
                    pipeline.rpush(key, "not what anybody put here")
                    await pipeline.execute()
                arena.note("keys of a wrong type")
            await arena.pause(arena.random.uniform(0.1, 0.5))
        await redis.flushall()
    _was_only_slower(arena, began)


def _was_only_slower(arena: Arena, began: float) -> None:
    """Nobody was refused for it, and nobody waited long."""
    if arena.combined:
        return
    refused = arena.load.refusals(since=began)
    if refused:
        arena.violate("I7", f"without Redis senders were refused: {dict(refused)}")
    if arena.load.longest_silence() > _ONLY_SLOWER_S:
        arena.violate("I7", f"without Redis a sender waited {arena.load.longest_silence():.1f} s")


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="redis-killed",
        run=killed,
        fault="Redis `kill -9`, empty when it is back",
        settings=SHORT_MEMORY,
    ),
    Scenario(name="redis-flushed", run=emptied, fault="Redis `FLUSHALL`", settings=SHORT_MEMORY),
    Scenario(
        name="redis-wrong-types",
        run=mistyped,
        fault="every key in Redis replaced by one of another type",
        settings=SHORT_MEMORY,
    ),
)
