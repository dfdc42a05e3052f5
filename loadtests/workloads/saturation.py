"""Saturation: pairs who write to each other as fast as they are answered, in turns with the floors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from loadtests.driver.chatter import Marks, populate
from loadtests.processes import DRIVER, CpuMeter
from loadtests.results import Run, Scale
from loadtests.stack import BenchStack
from loadtests.workloads.floors import floors
from loadtests.workloads.traffic import Books, FullSpeed, connecting, ids_for, latency_figures

PAIRS, WINDOW = 100, 4
WARM_UP_S, TURN_S, TURNS = 3.0, 2.0, 6
"""The machine changes within half a minute: what is held against each other takes turns of seconds."""


async def run(stack: BenchStack, scale: Scale) -> Sequence[Run]:
    """200 users in 100 pairs over WebSocket, both writing, window 4 each, deliveries marked."""
    pairs = 5 if scale.smoke else PAIRS
    warm_up, seconds, turns = (0.2, 0.5, 2) if scale.smoke else (WARM_UP_S, TURN_S, TURNS)
    books = Books(stack)
    await books.open()
    marks = Marks()
    population = await populate(
        pairs,
        connect=connecting(stack),
        ids=ids_for(warm_up + turns * seconds),
        marks=marks,
        prefix="saturation",
    )
    marking = asyncio.create_task(marks.run(), name="marks")
    await FullSpeed(population, stack.processes, window=WINDOW).turn(warm_up)
    speed = FullSpeed(population, stack.processes, window=WINDOW)
    late = CpuMeter({"postgresql": stack.processes["postgresql"]})
    async with floors(stack, pairs=pairs, window=WINDOW, seconds=seconds / 2, turns=turns) as limits:
        for _ in range(turns):
            await speed.turn(seconds)
            late.start()
            await limits.echo()
            # What PostgreSQL has put off is part of what it does for the messages.
            speed.cpu["postgresql"] += late.stop()["postgresql"]
            await limits.insert()
        floors_run = limits.run()
    checks = await books.close(population)
    marking.cancel()
    population.close()
    cpu_us = speed.cpu_us()
    saturation_run = Run(
        workload="saturation",
        figures={
            "messages_per_second": speed.delivered / speed.seconds,
            "marks_per_second": speed.marked / speed.seconds,
            "server_cpu_us": sum(cpu_us.values()) - cpu_us[DRIVER],
            **latency_figures(speed.latencies),
        },
        cpu_us=cpu_us,
        checks=checks,
    )
    return floors_run, saturation_run
