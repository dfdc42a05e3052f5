"""Saturation: pairs who write to each other as fast as they are answered."""

from __future__ import annotations

import asyncio
from time import perf_counter

from devstack.ports import LOOPBACK
from loadtests.database import Counted, count_messages
from loadtests.driver.chatter import Marks, Population, populate
from loadtests.driver.link import Link
from loadtests.driver.packets import Ids
from loadtests.processes import CpuMeter
from loadtests.results import Run, Scale, percentile
from loadtests.stack import BenchStack

PAIRS, WINDOW = 100, 4
WARM_UP_S, MEASURED_S = 3.0, 10.0


async def run(stack: BenchStack, scale: Scale) -> Run:
    """200 users in 100 pairs over WebSocket, both writing, window 4 each, deliveries marked."""
    pairs = 5 if scale.smoke else PAIRS
    warm_up, measured = (0.2, 1.0) if scale.smoke else (WARM_UP_S, MEASURED_S)
    before = await count_messages(stack.database_url)

    async def connect(link: Link, user: str) -> None:
        await link.open(LOOPBACK, stack.websocket_port, user=user, device="bench", token=stack.token(user))

    marks = Marks()
    ids = Ids(0 if scale.smoke else round(12_000 * (warm_up + measured)))
    population = await populate(pairs, connect=connect, ids=ids, marks=marks, prefix="w1")
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
    latencies = sorted(ledger.latencies)
    for chatter in population.chatters:
        chatter.window = 0
    is_settled = await population.settled()
    marking.cancel()
    population.close()
    after = await count_messages(stack.database_url)
    return Run(
        workload="saturation",
        figures={
            "messages_per_second": delivered / seconds,
            "marks_per_second": marked / seconds,
            "p50_ms": percentile(latencies, 0.5) * 1_000,
            "p99_ms": percentile(latencies, 0.99) * 1_000,
        },
        cpu_us={role: used / delivered * 1e6 for role, used in cpu.items()},
        checks=checks(population, is_settled=is_settled, stored=after - before),
    )


def checks(population: Population, *, is_settled: bool, stored: Counted) -> dict[str, int]:
    """What must be zero after any run in which users write."""
    ledger = population.ledger
    return {
        "unanswered": sum(len(chatter.unanswered) for chatter in population.chatters),
        "undelivered": sum(len(chatter.flying) for chatter in population.chatters),
        "duplicates": ledger.duplicates,
        "errors": ledger.errors,
        "wrong": ledger.wrong,
        "not_in_postgresql": abs(ledger.sent - stored.messages),
        "links_lost": sum(chatter.link.lost for chatter in population.chatters),
        "unsettled": int(not is_settled),
    }
