"""The limits of the machine and of the parts: what no service between them can beat."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from uuid import UUID

import mqtt5
import psycopg

from devstack.ports import LOOPBACK
from loadtests.driver.chatter import Marks, populate
from loadtests.driver.link import Link
from loadtests.driver.packets import Ids
from loadtests.echo import responder, without_service
from loadtests.processes import CpuMeter
from loadtests.results import Run, Scale
from loadtests.stack import BenchStack
from loadtests.workloads.traffic import connecting
from service.domain.ids import uuid7

PAIRS, WINDOW = 100, 4
_ROWS_A_COMMIT = 200
_RELAYED_ONE_BY_ONE = 2_000

_INSERT = """
INSERT INTO bench_floor
SELECT * FROM unnest(%b::uuid[], %b::int8[], %b::uuid[], %b::text[], %b::uuid[], %b::bytea[], %b::text[],
                     %b::timestamptz[])
"""


async def run(stack: BenchStack, scale: Scale) -> Run:
    """Relay by the broker alone, echo of our traffic with nothing stored, and bare multi-row inserts."""
    seconds = 0.5 if scale.smoke else 6.0
    figures: dict[str, float] = {}
    checks: dict[str, int] = {}
    async with without_service(stack):
        figures |= await _relay(stack, 100 if scale.smoke else _RELAYED_ONE_BY_ONE)
        async with responder(stack):
            figures |= await _echo(stack, seconds, checks, pairs=5 if scale.smoke else PAIRS)
    figures |= await _insert(stack, seconds)
    figures["floor_cpu_us"] = (
        figures["echo_broker_us"] + figures["echo_responder_us"] + figures["insert_postgresql_us"]
    )
    return Run(workload="floors", figures=figures, checks=checks)


async def _relay(stack: BenchStack, count: int) -> dict[str, float]:
    """From one client through the broker to another, one message at a time."""
    arrived = asyncio.Event()
    receiver = Link(lambda _packet: arrived.set())
    user = "floor-relay"
    await receiver.open(LOOPBACK, stack.websocket_port, user=user, device="receiver", token=stack.token(user))
    sender = Link(lambda _packet: None)
    # Only the service may publish events.
    await sender.open(
        LOOPBACK,
        stack.websocket_port,
        user="messaging-service",
        device="relay",
        token=stack.token("messaging-service", role="service"),
        subscribe=False,
    )
    packet = mqtt5.PublishPacket(
        f"chat/v1/users/{user}/events/newMessage", b"x" * 300, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1
    ).write()
    times: list[float] = []
    for _ in range(count):
        arrived.clear()
        started = perf_counter()
        sender.write(packet)
        await arrived.wait()
        times.append(perf_counter() - started)
    receiver.close()
    sender.close()
    return {"relay_p50_ms": median(times) * 1_000}


async def _echo(stack: BenchStack, seconds: float, checks: dict[str, int], *, pairs: int) -> dict[str, float]:
    """The load of the saturation workload against the responder."""

    marks = Marks()
    population = await populate(
        pairs, connect=connecting(stack), ids=Ids(round(10_000 * seconds)), marks=marks, prefix="floor"
    )
    marking = asyncio.create_task(marks.run(), name="marks")
    ledger = population.ledger
    for chatter in population.chatters:
        chatter.window = WINDOW
        for _ in range(WINDOW):
            chatter.send()
    await asyncio.sleep(seconds / 4)
    meter = CpuMeter(stack.processes)
    meter.start()
    delivered, started = ledger.delivered, perf_counter()
    await asyncio.sleep(seconds)
    cpu, took = meter.stop(), perf_counter() - started
    delivered = ledger.delivered - delivered
    for chatter in population.chatters:
        chatter.window = 0
    checks["echo_unsettled"] = int(not await population.settled())
    marking.cancel()
    population.close()
    return {
        "echo_per_second": delivered / took,
        "echo_broker_us": cpu["broker"] / delivered * 1e6,
        "echo_responder_us": cpu["responder"] / delivered * 1e6,
        "echo_driver_us": cpu["driver"] / delivered * 1e6,
    }


async def _insert(stack: BenchStack, seconds: float) -> dict[str, float]:
    """Rows like those of `message`, with its keys, into a table of their own; a commit each 200."""
    async with await psycopg.AsyncConnection.connect(
        stack.database_url, autocommit=True, prepare_threshold=0
    ) as connection:
        await connection.execute("CREATE TABLE bench_floor (LIKE message INCLUDING ALL)")
        try:
            batches = [_rows(number) for number in range(round(100 * seconds))]
            cursor = connection.cursor(binary=True)
            await cursor.execute(_INSERT, batches.pop())
            meter = CpuMeter(stack.processes)
            meter.start()
            started = perf_counter()
            for batch in batches:
                await cursor.execute(_INSERT, batch)
            cpu, took = meter.stop(), perf_counter() - started
        finally:
            await connection.execute("DROP TABLE bench_floor")
    rows = len(batches) * _ROWS_A_COMMIT
    return {"insert_rows_per_second": rows / took, "insert_postgresql_us": cpu["postgresql"] / rows * 1e6}


def _rows(number: int) -> Sequence[Sequence[object]]:
    """The columns of a batch: 100 conversations, random keys, texts of 100 characters."""
    count = range(_ROWS_A_COMMIT)
    started = 1_700_000_000_000_000_000 + number * 20_000_000
    return (
        [UUID(int=place % 100) for place in count],
        [number * 2 + place // 100 for place in count],
        [uuid7(started + place * 100_000) for place in count],
        [f"floor-{place:05}" for place in count],
        [UUID(bytes=os.urandom(16), version=4) for _ in count],
        [os.urandom(16) for _ in count],
        ["x" * 100 for _ in count],
        ["2026-01-01T00:00:00Z" for _ in count],
    )
