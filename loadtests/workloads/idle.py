"""Idle: thousands of connections that say nothing, and what they cost."""

from __future__ import annotations

import asyncio

from loadtests.driver.chatter import populate
from loadtests.driver.link import Link
from loadtests.driver.packets import Ids
from loadtests.processes import resident_bytes
from loadtests.results import Run, Scale
from loadtests.stack import BenchStack
from loadtests.workloads.traffic import Books, connecting, latency_figures, write_at

CONNECTIONS = 5_000
PAIRS, RATE, MEASURED_S = 250, 300.0, 15.0
_AT_ONCE = 100


async def run(stack: BenchStack, scale: Scale) -> Run:
    """Memory by authenticated connection; the latency at the steady rate without and among them."""
    connections, seconds = (50, 1.0) if scale.smoke else (CONNECTIONS, MEASURED_S)
    books = Books(stack)
    await books.open()
    population = await populate(
        5 if scale.smoke else PAIRS, connect=connecting(stack), ids=Ids(0), prefix="idle-writer"
    )
    ledger = population.ledger

    async def latency() -> dict[str, float]:
        await write_at(RATE, population.chatters, seconds / 5)
        ledger.latencies.clear()
        await write_at(RATE, population.chatters, seconds)
        return latency_figures(ledger.latencies)

    without = await latency()
    broker, service = (resident_bytes(stack.processes[role]) for role in ("broker", "service"))
    links = [Link(lambda _packet: None) for _ in range(connections)]
    connect = connecting(stack)
    for start in range(0, connections, _AT_ONCE):
        await asyncio.gather(
            *(
                connect(link, f"idle-{start + number:05}")
                for number, link in enumerate(links[start:][:_AT_ONCE])
            )
        )
    broker_bytes = resident_bytes(stack.processes["broker"]) - broker
    service_bytes = max(0, resident_bytes(stack.processes["service"]) - service)
    among = await latency()
    checks = await books.close(population)
    lost = sum(link.lost for link in links)
    for link in links:
        link.close()
    population.close()
    return Run(
        workload="idle",
        figures={
            "broker_kib_per_connection": broker_bytes / connections / 1024,
            "service_kib_per_connection": service_bytes / connections / 1024,
            "without_p50_ms": without["p50_ms"],
            "without_p99_ms": without["p99_ms"],
            "among_p50_ms": among["p50_ms"],
            "among_p99_ms": among["p99_ms"],
            "latency_ratio": among["p50_ms"] / without["p50_ms"],
        },
        checks={**checks, "idle_links_lost": lost},
    )
