"""Saturation: pairs who write to each other as fast as they are answered."""

from __future__ import annotations

import asyncio
from time import perf_counter

from loadtests.driver.chatter import Marks, populate
from loadtests.driver.packets import Ids
from loadtests.processes import DRIVER, CpuMeter
from loadtests.results import Run, Scale
from loadtests.stack import BenchStack
from loadtests.workloads.traffic import Books, connecting, latency_figures

PAIRS, WINDOW = 100, 4
WARM_UP_S, MEASURED_S = 3.0, 10.0


async def run(stack: BenchStack, scale: Scale) -> Run:
    """200 users in 100 pairs over WebSocket, both writing, window 4 each, deliveries marked."""
    warm_up, measured = (0.2, 1.0) if scale.smoke else (WARM_UP_S, MEASURED_S)
    books = Books(stack)
    await books.open()
    marks = Marks()
    population = await populate(
        5 if scale.smoke else PAIRS,
        connect=connecting(stack),
        ids=Ids(0 if scale.smoke else round(12_000 * (warm_up + measured))),
        marks=marks,
        prefix="saturation",
    )
    marking = asyncio.create_task(marks.run(), name="marks")
    ledger = population.ledger
    for chatter in population.chatters:
        chatter.window = WINDOW
        for _ in range(WINDOW):
            chatter.send()
    await asyncio.sleep(warm_up)
    meter = CpuMeter(stack.processes)
    meter.start()
    delivered, marked, started = ledger.delivered, ledger.marked, perf_counter()
    ledger.latencies.clear()
    await asyncio.sleep(measured)
    cpu, seconds = meter.stop(), perf_counter() - started
    delivered, marked = ledger.delivered - delivered, ledger.marked - marked
    latencies = latency_figures(ledger.latencies)
    for chatter in population.chatters:
        chatter.window = 0
    checks = await books.close(population)
    marking.cancel()
    population.close()
    cpu_us = {role: used / max(delivered, 1) * 1e6 for role, used in cpu.items()}
    return Run(
        workload="saturation",
        figures={
            "messages_per_second": delivered / seconds,
            "marks_per_second": marked / seconds,
            "server_cpu_us": sum(cpu_us.values()) - cpu_us[DRIVER],
            **latencies,
        },
        cpu_us=cpu_us,
        checks=checks,
    )
