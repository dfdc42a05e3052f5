"""Steady: a moderate rate, and how long a message takes."""

from __future__ import annotations

import asyncio

from loadtests.disk import sync_times
from loadtests.driver.chatter import Marks, populate
from loadtests.driver.packets import Ids
from loadtests.echo import echo
from loadtests.pauses import pauses
from loadtests.processes import CpuMeter
from loadtests.results import Run, Scale
from loadtests.stack import BenchStack
from loadtests.workloads.traffic import Books, connecting, latency_figures, write_at

PAIRS, RATE = 250, 300.0
WARM_UP_S, MEASURED_S = 5.0, 20.0


async def run(stack: BenchStack, scale: Scale) -> Run:
    """500 connections, 300 messages a second, deliveries marked; from the send to the receipt."""
    # The limits that no durable message gets below, at the same pace: the disk, the machine's pauses, and
    # the same traffic with nothing stored.
    disk = sync_times(stack.folder, rate=RATE, seconds=0.2 if scale.smoke else 10.0)
    machine = pauses(0.2 if scale.smoke else 5.0)
    pairs = 5 if scale.smoke else PAIRS
    echoed, echo_unsettled = await _echo(stack, pairs, 0.5 if scale.smoke else 8.0)
    books = Books(stack)
    await books.open()
    marks = Marks()
    population = await populate(
        pairs,
        connect=connecting(stack),
        ids=Ids(0 if scale.smoke else 8_000),
        marks=marks,
        prefix="steady",
    )
    marking = asyncio.create_task(marks.run(), name="marks")
    ledger = population.ledger
    await write_at(RATE, population.chatters, 0.2 if scale.smoke else WARM_UP_S)
    ledger.latencies.clear()
    ledger.answer_times.clear()
    meter = CpuMeter(stack.processes)
    meter.start()
    pace = await write_at(RATE, population.chatters, 1.0 if scale.smoke else MEASURED_S)
    cpu = meter.stop()
    latencies, answers = latency_figures(ledger.latencies), latency_figures(ledger.answer_times)
    checks = await books.close(population)
    marking.cancel()
    population.close()
    return Run(
        workload="steady",
        figures={
            **latencies,
            "answer_p50_ms": answers["p50_ms"],
            "answer_p99_ms": answers["p99_ms"],
            **echoed,
            **disk,
            **machine,
        },
        cpu_us={role: used / pace.sent * 1e6 for role, used in cpu.items()},
        checks=checks | {"echo_unsettled": echo_unsettled},
    )


async def _echo(stack: BenchStack, pairs: int, seconds: float) -> tuple[dict[str, float], int]:
    """The same rate against the responder: its latency, and 1 if something was not answered or delivered."""
    marks = Marks()
    async with echo(stack) as end:
        population = await populate(
            pairs,
            connect=connecting(stack, port=end.websocket_port),
            ids=Ids(round(RATE * seconds * 2) + 2 * pairs),
            marks=marks,
            prefix="floor",
        )
        marking = asyncio.create_task(marks.run(), name="marks")
        await write_at(RATE, population.chatters, seconds / 4)
        population.ledger.latencies.clear()
        await write_at(RATE, population.chatters, seconds)
        latencies = latency_figures(population.ledger.latencies)
        is_settled = await population.settled()
        marking.cancel()
        population.close()
    return {f"echo_{name}": value for name, value in latencies.items()}, int(not is_settled)
