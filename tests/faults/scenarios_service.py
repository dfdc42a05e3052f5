"""Faults of the service's processes."""

from __future__ import annotations

from tests.faults.arena import Arena
from tests.faults.scenario import Scenario


async def killed(arena: Arena) -> None:
    """`kill -9` every few seconds."""
    for _ in range(2 if arena.short else 8):
        await arena.pause(arena.random.uniform(0.5, 2.0))
        await arena.kill(arena.service.process)
        await arena.start(arena.service.process)


async def stopped_one_after_the_other(arena: Arena) -> None:
    """SIGTERM, as a rolling deployment sends it; what is stopped must stop cleanly."""
    for instance in list(arena.services) * (1 if arena.short else 3):
        await arena.pause(arena.random.uniform(0.5, 2.0))
        await arena.terminate(instance.process)
        if instance.process.exit_code != 0:
            arena.violate("I7", f"SIGTERM: the service {instance.process.ending()}")
        await arena.start(instance.process)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(name="service-killed", run=killed, fault="service `kill -9` every few seconds"),
    Scenario(
        name="service-sigterm",
        run=stopped_one_after_the_other,
        fault="service stopped with SIGTERM and started again",
    ),
)
