"""Flood: one user sends as fast as it can, and how long the others' messages take."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from devstack.python_server import REPOSITORY
from loadtests.database import count_messages_of
from loadtests.driver.chatter import Marks, Population, populate
from loadtests.driver.packets import Ids
from loadtests.flooder import FLOODING, Flooded, together
from loadtests.results import Run, Scale
from loadtests.stack import BenchStack
from loadtests.workloads.steady import PAIRS, RATE
from loadtests.workloads.traffic import Books, connecting, latency_figures, write_at

WARM_UP_S, MEASURED_S = 3.0, 15.0
_ROUNDS = 3
"""Of both, in turn: what the machine itself does differently from one minute to the next is in both alike."""


async def run(stack: BenchStack, scale: Scale) -> Run:
    """The steady workload without and beside a user who floods, with the limits of a user as by default."""
    rounds, warm_up, measured = (1, 0.2, 1.0) if scale.smoke else (_ROUNDS, WARM_UP_S, MEASURED_S)
    books = Books(stack)
    await books.open()
    marks = Marks()
    population = await populate(
        5 if scale.smoke else PAIRS,
        connect=connecting(stack),
        ids=Ids(0 if scale.smoke else 16_000),
        marks=marks,
        prefix="beside",
    )
    marking = asyncio.create_task(marks.run(), name="marks")
    without: list[float] = []
    beside: list[float] = []
    floods: list[Flood] = []
    for _ in range(rounds):
        without += await _latencies(population, warm_up, measured)
        async with flooding(stack) as flood:
            beside += await _latencies(population, warm_up, measured)
        floods.append(flood)
    # What a flooder was cut off from may still be on its way to the database.
    checks = await books.close(population, without=[flood.user for flood in floods])
    stored = [await count_messages_of(stack.database_url, flood.user) for flood in floods]
    outcomes = [flood.ended() for flood in floods]
    # Of each flood, how many more are stored than were accepted. Each of a pair opens the conversation with a
    # message, and one of them is not the flooder's.
    surplus = [rows - (flooded.accepted - 1) for rows, flooded in zip(stored, outcomes, strict=True)]
    flooded = together(outcomes)
    marking.cancel()
    population.close()
    figures_without, figures_beside = latency_figures(without), latency_figures(beside)
    return Run(
        workload="flood",
        figures={
            **{f"without_{name}": value for name, value in figures_without.items()},
            **{f"beside_{name}": value for name, value in figures_beside.items()},
            "latency_ratio": figures_beside["p99_ms"] / figures_without["p99_ms"],
            "flooded_per_second": flooded.sent / flooded.seconds,
            "stopped_at_broker_per_second": flooded.stopped / flooded.seconds,
            "rate_limited_per_second": flooded.limited / flooded.seconds,
            "disconnected": flooded.disconnected,
            "kept_out": flooded.kept_out,
        },
        checks={
            **checks,
            "flood_undone": flooded.undone,
            "flood_not_in_postgresql": sum(max(-more, 0) for more in surplus),
            "flood_not_accepted": sum(
                max(more - each.cut_off, 0) for more, each in zip(surplus, outcomes, strict=True)
            ),
            "refused_untimed": flooded.refused_untimed,
        },
    )


async def _latencies(population: Population, warm_up: float, measured: float) -> Sequence[float]:
    await write_at(RATE, population.chatters, warm_up)
    population.ledger.latencies.clear()
    await write_at(RATE, population.chatters, measured)
    return tuple(population.ledger.latencies)


@dataclass(slots=True)
class Flood:
    """A flood that goes on or has ended."""

    user: str
    outcome: Flooded | None = None

    def ended(self) -> Flooded:
        """What became of it."""
        assert self.outcome is not None, "it goes on"
        return self.outcome


@asynccontextmanager
async def flooding(stack: BenchStack) -> AsyncIterator[Flood]:
    """One user floods another, until the end; then all that was sent has been answered.

    The user is a new one each time: the earlier one's limit may still be used up.
    Raises `RuntimeError` when the flooding process fails.
    """
    prefix = f"flood-{secrets.token_hex(4)}"
    flood = Flood(f"{prefix}-00000")
    tokens = {user: stack.token(user) for user in (f"{prefix}-00000", f"{prefix}-00001")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtests.flooder", str(stack.websocket_port), prefix),
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(tokens).encode() + b"\n")
        if (await process.stdout.readline()).decode().strip() != FLOODING:
            raise RuntimeError("the flood has not begun")
        yield flood
        process.stdin.close()
        told = await process.stdout.readline()
        if await process.wait() or not told:
            raise RuntimeError(f"the flood has failed: {process.returncode}")
        flood.outcome = Flooded(**json.loads(told))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
