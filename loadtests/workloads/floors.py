"""The limits of the machine and of the parts: what no service between them can beat."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import median
from time import perf_counter
from typing import Any
from uuid import UUID

import mqtt5
import psycopg

from devstack.ports import LOOPBACK
from loadtests.driver.chatter import Marks, populate
from loadtests.driver.link import Link
from loadtests.echo import echo
from loadtests.processes import CpuMeter
from loadtests.results import Run
from loadtests.stack import BenchStack
from loadtests.workloads.traffic import FullSpeed, connecting, ids_for
from service.domain.ids import uuid7

_ROWS_A_COMMIT, _COMMITS_A_SECOND = 200, 100
_RELAYED_A_SECOND = 300

_INSERT = """
INSERT INTO bench_floor
SELECT * FROM unnest(%b::uuid[], %b::int8[], %b::uuid[], %b::text[], %b::uuid[], %b::bytea[], %b::text[],
                     %b::timestamptz[])
"""


class Floors:
    """Echo of our traffic with nothing stored, and bare multi-row inserts, in turns; made by `floors`."""

    def __init__(
        self,
        speed: FullSpeed,
        connection: psycopg.AsyncConnection[Any],
        postgresql: int,
        relay_p50_ms: float,
        *,
        seconds: float,
    ) -> None:
        self._speed = speed
        self._connection = connection
        self._meter = CpuMeter({"postgresql": postgresql})
        self._relay_p50_ms = relay_p50_ms
        self._seconds = seconds
        self._unsettled = 0
        self._batches = 0
        self._insert_s = self._insert_cpu_s = 0.0

    async def echo(self) -> None:
        """A turn of saturation's load against the responder."""
        self._unsettled += not await self._speed.turn(self._seconds)

    async def insert(self) -> None:
        """A turn of inserts: rows like those of `message`, with its keys; a commit each 200."""
        count = round(_COMMITS_A_SECOND * self._seconds)
        batches = [_rows(number) for number in range(self._batches, self._batches + count)]
        cursor = self._connection.cursor(binary=True)
        self._meter.start()
        started = perf_counter()
        for batch in batches:
            await cursor.execute(_INSERT, batch)
        self._insert_cpu_s += self._meter.stop()["postgresql"]
        self._insert_s += perf_counter() - started
        self._batches += count

    def run(self) -> Run:
        """What all turns measured."""
        rows = self._batches * _ROWS_A_COMMIT
        cpu_us, insert_us = self._speed.cpu_us(), self._insert_cpu_s / rows * 1e6
        return Run(
            workload="floors",
            figures={
                "relay_p50_ms": self._relay_p50_ms,
                "echo_per_second": self._speed.delivered / self._speed.seconds,
                "echo_broker_us": cpu_us["broker"],
                "echo_responder_us": cpu_us["responder"],
                "echo_driver_us": cpu_us["driver"],
                "insert_rows_per_second": rows / self._insert_s,
                "insert_postgresql_us": insert_us,
                "floor_cpu_us": cpu_us["broker"] + cpu_us["responder"] + insert_us,
            },
            checks={"echo_unsettled": self._unsettled},
        )


@asynccontextmanager
async def floors(
    stack: BenchStack, *, pairs: int, window: int, seconds: float, turns: int
) -> AsyncIterator[Floors]:
    """Sets up what turns of so many seconds need, and measures the relay by the broker alone."""
    marks = Marks()
    async with (
        echo(stack) as end,
        await psycopg.AsyncConnection.connect(
            stack.database_url, autocommit=True, prepare_threshold=0
        ) as connection,
    ):
        relay_p50_ms = await _relay(stack, end.websocket_port, round(_RELAYED_A_SECOND * seconds * turns))
        population = await populate(
            pairs,
            connect=connecting(stack, port=end.websocket_port),
            # And one turn to warm up.
            ids=ids_for((turns + 1) * seconds),
            marks=marks,
            prefix="floor",
        )
        marking = asyncio.create_task(marks.run(), name="marks")
        await connection.execute("CREATE TABLE bench_floor (LIKE message INCLUDING ALL)")
        try:
            await FullSpeed(population, end.processes, window=window).turn(seconds)
            speed = FullSpeed(population, end.processes, window=window)
            yield Floors(speed, connection, stack.processes["postgresql"], relay_p50_ms, seconds=seconds)
        finally:
            await connection.execute("DROP TABLE bench_floor")
            marking.cancel()
            population.close()


async def _relay(stack: BenchStack, port: int, count: int) -> float:
    """From one client through the broker to another, one message at a time: median in milliseconds."""
    arrived = asyncio.Event()
    receiver = Link(lambda _packet: arrived.set())
    user = "floor-relay"
    await receiver.open(LOOPBACK, port, user=user, device="receiver", token=stack.token(user))
    sender = Link(lambda _packet: None)
    # Only the service may publish events.
    await sender.open(
        LOOPBACK,
        port,
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
    return median(times) * 1_000


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
