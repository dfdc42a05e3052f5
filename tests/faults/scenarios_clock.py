"""Clocks that jump, and time that passes: clocks order nothing, and keys hold for ever."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Sequence
from email.utils import parsedate_to_datetime

from devstack.ports import LOOPBACK
from devstack.server_process import ServerProcess
from tests.faults.arena import Arena
from tests.faults.clocks import settable_clocks
from tests.faults.resends import resend_acknowledged
from tests.faults.scenario import Scenario
from tests.faults.servers import ServiceInstance

_STEPS = (-2, 0, 2, 0)
"""Hours from the right time."""
_SLACK_S = 5.0
_GETS_THROUGH_S = 10.0


async def service_stepped(arena: Arena) -> None:
    """The clock of the service's machine goes two hours back, forth, forth again, and back."""
    await _step(arena, [arena.service.process])


async def both_stepped(arena: Arena) -> None:
    """The same with the broker on that machine.

    By PostgreSQL's clock the checker goes; Redis, with its own allocator, does not start under libfaketime.
    """
    await _step(arena, [arena.servers.mosquitto, arena.service.process])


async def a_day_passes(arena: Arena) -> None:
    """What was acknowledged a day ago is sent again, to a service that has started since."""
    async with settable_clocks(arena, [arena.servers.postgresql, arena.service.process]) as clocks:
        await arena.pause(2.0)
        clocks.set_to("+24h")
        await clocks.restart(arena.service.process)
        await _is_set(arena, 24)
        await resend_acknowledged(arena, "after a day")


async def _step(arena: Arena, servers: Sequence[ServerProcess]) -> None:
    async with settable_clocks(arena, servers) as clocks:
        for hours in _STEPS:
            clocks.set_to(f"{hours:+}h")
            await _is_set(arena, hours)
            await arena.pause(2.0 if arena.short else 10.0)
            await _everybody_gets_through(arena, hours)
            arena.note("clock steps")


async def _is_set(arena: Arena, hours: int) -> None:
    """Waits until the service's clock is so many hours from the right one."""

    async def is_set() -> bool:
        distance_s = await asyncio.to_thread(_distance_s, arena.service)
        return abs(distance_s - hours * 3_600) < _SLACK_S

    await arena.until(is_set, 5.0, f"the service's clock is {hours:+} h off")


def _distance_s(instance: ServiceInstance) -> float:
    """Between the clock by which the service dates its HTTP answers and ours."""
    with urllib.request.urlopen(f"http://{LOOPBACK}:{instance.http_port}/healthz", timeout=2) as answer:
        return parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()


async def _everybody_gets_through(arena: Arena, hours: int) -> None:
    began = arena.ledger.now()
    await arena.until(
        lambda: not arena.load.not_recovered(began),
        _GETS_THROUGH_S,
        f"everybody gets through with clocks {hours:+} h off",
    )


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="clock-of-service-stepped",
        run=service_stepped,
        fault="the service's clock stepped two hours back and forth",
        needs="faketime",
        alone=True,
    ),
    Scenario(
        name="clocks-stepped",
        run=both_stepped,
        fault="the clocks of service and broker stepped two hours back and forth",
        needs="faketime",
        alone=True,
        in_short=False,
    ),
    Scenario(
        name="resend-after-a-day",
        run=a_day_passes,
        fault="messages sent again after 24 (simulated) hours and a restart",
        needs="faketime",
        alone=True,
    ),
)
