"""Faults of the service's processes."""

from __future__ import annotations

from tests.faults.arena import Arena
from tests.faults.ledger import Live, Sent
from tests.faults.scenario import Scenario
from tests.faults.servers import ServiceInstance

TAKEOVER_S = 5.0
"""A standby serves within this time."""
_STALE_S = 5.0
"""What was acknowledged this long ago is nobody's news any more."""


async def killed(arena: Arena) -> None:
    """`kill -9` every few seconds."""
    for _ in range(2 if arena.short else 8):
        await arena.pause(arena.random.uniform(0.5, 2.0))
        await arena.kill(arena.service.process)
        await arena.start(arena.service.process)


async def stopped(arena: Arena) -> None:
    """SIGTERM to each in turn, as a rolling deployment sends it; who is stopped must stop cleanly."""
    for instance in list(arena.services) * (1 if arena.short else 3):
        await arena.pause(arena.random.uniform(0.5, 2.0))
        await arena.terminate(instance.process)
        if instance.process.exit_code != 0:
            arena.violate("I7", f"at SIGTERM the service {instance.process.ending()}")
        await arena.start(instance.process)


async def active_killed(arena: Arena) -> None:
    """`kill -9` of whichever is active, again and again; the other one takes over in time."""
    for _ in range(2 if arena.short else 6):
        active, standby = await roles(arena)
        await arena.kill(active.process)
        await _takes_over(arena, standby)
        await arena.start(active.process)
        await arena.pause(arena.random.uniform(0.5, 2.0))


async def active_suspended(arena: Arena) -> None:
    """SIGSTOP of the active one until well after the other took over, then SIGCONT."""
    active, standby = await roles(arena)
    suspended = arena.suspend(active.process)
    try:
        await _takes_over(arena, standby)
        await arena.pause(_STALE_S + 1.0 if arena.short else 30.0)
    finally:
        resumed_at = arena.ledger.now()
        arena.resume(suspended)
    await arena.pause(3.0)
    stale = _stale_events(arena, resumed_at)
    if stale:
        arena.violate("I2", f"{stale} events about settled messages came after the fenced one went on")
    if not await _holds_lease(arena, standby) or await _holds_lease(arena, active):
        arena.violate("I2", "the fenced instance believes that it is the active one")


async def roles(arena: Arena) -> tuple[ServiceInstance, ServiceInstance]:
    """The active instance and the standby, once it is decided who is who."""
    first, second = arena.services

    async def decided() -> bool:
        return await _holds_lease(arena, first) != await _holds_lease(arena, second)

    await arena.until(decided, TAKEOVER_S, "one active instance")
    return (first, second) if await _holds_lease(arena, first) else (second, first)


async def _takes_over(arena: Arena, standby: ServiceInstance) -> None:
    """Waits until the standby is the active one and somebody's message was acknowledged since."""
    began, before = arena.ledger.now(), arena.load.acknowledged()

    async def serves() -> bool:
        return await _holds_lease(arena, standby) and arena.load.acknowledged() > before

    try:
        await arena.until(serves, TAKEOVER_S, "take-over")
    except TimeoutError:
        arena.violate("I7", f"the standby did not serve within {TAKEOVER_S:.0f} s")
    arena.note("take-overs")
    arena.measure("ms of the longest take-over", round((arena.ledger.now() - began) * 1_000))


async def _holds_lease(arena: Arena, instance: ServiceInstance) -> bool:
    return await arena.metric(instance, "messaging_lease_held") == 1


def _stale_events(arena: Arena, since: float) -> int:
    """Events since then about messages that were acknowledged long before."""
    acknowledged: dict[str, float] = {}
    for answer in arena.ledger.of(Sent):
        acknowledged.setdefault(answer.message.message_id, answer.at)
    told: list[Live | Sent] = [*arena.ledger.of(Live), *arena.ledger.of(Sent)]
    return sum(
        event.at > since and acknowledged.get(event.message.message_id, since) < since - _STALE_S
        for event in told
    )


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="service-killed", run=killed, fault="service `kill -9` every few seconds", controls="service"
    ),
    Scenario(
        name="service-stopped",
        run=stopped,
        fault="service stopped with SIGTERM and started again",
        controls="service",
    ),
    Scenario(
        name="standby-active-killed",
        run=active_killed,
        fault="the active one of two instances `kill -9`",
        instances=2,
        controls="service",
    ),
    Scenario(
        name="standby-active-suspended",
        run=active_suspended,
        fault="the active one of two instances SIGSTOP until the standby has taken over, then SIGCONT",
        instances=2,
        controls="service",
    ),
    Scenario(
        name="standby-rolling-stop",
        run=stopped,
        fault="both of two instances stopped with SIGTERM, one after the other",
        instances=2,
        controls="service",
    ),
)
