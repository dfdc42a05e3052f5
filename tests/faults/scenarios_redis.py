"""Faults of Redis: with it everything is faster, and nothing rests on it."""

from __future__ import annotations

from tests.faults.arena import Arena
from tests.faults.scenario import Scenario

_PREFIXES = ("messaging:connections:", "messaging:presence:")


async def killed(arena: Arena) -> None:
    """Away for some seconds, and empty when it is back."""
    for _ in range(1 if arena.short else 4):
        await arena.kill(arena.servers.redis)
        await arena.pause(arena.random.uniform(1.0, 4.0))
        await arena.start(arena.servers.redis)
        await arena.pause(1.0)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(name="redis-killed", run=killed, fault="Redis `kill -9`, empty when it is back"),
)
