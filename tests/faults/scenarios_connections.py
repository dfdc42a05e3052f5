"""Faults of the foreign ConnectionsService: not knowing is a retryable error, never an open door."""

from __future__ import annotations

import asyncio

from tests.faults.arena import Arena
from tests.faults.ledger import Attempt, Sent
from tests.faults.load import Pair
from tests.faults.scenario import Scenario
from tests.faults.scenarios_redis import SHORT_MEMORY

_BREAKER_OPENS_S = 1.0
_FORGOTTEN_S = 2.5
"""After so long nobody remembers an answer: the caches' second, the look-up's deadline, and some."""
_REVOCATIONS = 1_000


async def killed(arena: Arena) -> None:
    """`kill -9`, away for some seconds."""
    began = arena.ledger.now()
    await arena.kill(arena.servers.connections.process)
    await _fails_closed(arena, began)
    await arena.start(arena.servers.connections.process)


async def late(arena: Arena) -> None:
    """Every answer comes after 5 s."""
    began = arena.ledger.now()
    await arena.servers.connections.answer(delay_seconds=5.0)
    arena.ledger.fault("ConnectionsService answers after 5 s")
    await _fails_closed(arena, began)
    await arena.servers.connections.answer()


async def failing(arena: Arena) -> None:
    """Every answer is an error of its own."""
    for status in (
        ("INTERNAL",) if arena.short else ("INTERNAL", "UNAVAILABLE", "UNKNOWN", "RESOURCE_EXHAUSTED")
    ):
        began = arena.ledger.now()
        await arena.servers.connections.answer(failure=status)
        arena.ledger.fault(f"ConnectionsService answers {status}")
        await _fails_closed(arena, began)
        await arena.servers.connections.answer()
        if not arena.short:
            await arena.pause(3.0)


async def flapping(arena: Arena) -> None:
    """Well and unwell by turns."""
    for _ in range(6 if arena.short else 40):
        await arena.servers.connections.answer(failure="UNAVAILABLE")
        await arena.pause(arena.random.uniform(0.1, 0.8))
        await arena.servers.connections.answer()
        await arena.pause(arena.random.uniform(0.1, 0.8))
        arena.note("flaps")


async def revoked(arena: Arena) -> None:
    """Connections end and begin again under load; the ledger shows what was accepted when."""
    pairs = [pair for pair in arena.load.pairs if pair.connected]
    times = -(-(_REVOCATIONS // 5 if arena.short else _REVOCATIONS) // len(pairs))
    async with asyncio.TaskGroup() as tasks:
        for pair in pairs:
            tasks.create_task(_come_and_go(arena, pair, times))


async def _come_and_go(arena: Arena, pair: Pair, times: int) -> None:
    for _ in range(times):
        await arena.pause(arena.random.uniform(0.2, 1.0))
        await arena.revoke(pair)
        arena.note("revocations")
        # Longer than the bound, so that what is sent in the rest of the time must be refused.
        await arena.pause(arena.random.uniform(2.0, 3.0))
        await arena.connect(pair)


async def _fails_closed(arena: Arena, began: float) -> None:
    """The breaker opens in time; once what was known is forgotten nothing is accepted."""

    async def is_open() -> bool:
        return await arena.metric(arena.service, "messaging_circuit_open", circuit="connections_service") == 1

    if not arena.combined:
        try:
            await arena.until(is_open, _BREAKER_OPENS_S, "the breaker opens")
            arena.note("breaker opened")
        except TimeoutError:
            arena.violate("I6", f"the breaker did not open within {_BREAKER_OPENS_S:.0f} s")
    await arena.pause(_FORGOTTEN_S + (1.5 if arena.short else 8.0) - (arena.ledger.now() - began))
    accepted = _accepted(arena, began + _FORGOTTEN_S, arena.ledger.now())
    if accepted:
        arena.violate("I6", f"{accepted} messages were accepted while nobody could say who is connected")
    if not arena.load.refusals(since=began).get("AUTHORIZATION_UNAVAILABLE"):
        arena.violate("I6", "nobody was told AUTHORIZATION_UNAVAILABLE")


def _accepted(arena: Arena, since: float, until: float) -> int:
    """Messages attempted first and acknowledged in that time."""
    attempted = {
        attempt.key for attempt in arena.ledger.of(Attempt) if attempt.number == 1 and attempt.at > since
    }
    return sum(answer.at < until and answer.message.key in attempted for answer in arena.ledger.of(Sent))


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="connections-killed", run=killed, fault="ConnectionsService `kill -9`", settings=SHORT_MEMORY
    ),
    Scenario(
        name="connections-late", run=late, fault="ConnectionsService answers after 5 s", settings=SHORT_MEMORY
    ),
    Scenario(
        name="connections-failing",
        run=failing,
        fault="ConnectionsService answers with errors",
        settings=SHORT_MEMORY,
    ),
    Scenario(
        name="connections-flapping",
        run=flapping,
        fault="ConnectionsService well and unwell by turns",
        settings=SHORT_MEMORY,
    ),
    Scenario(
        name="connections-revoked",
        run=revoked,
        fault="connections revoked under load",
        pairs=60,
        alone=True,
    ),
)
