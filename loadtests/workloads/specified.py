"""The specified load: ten minutes of everything that users do, and nothing may grow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from time import perf_counter

from devstack.ports import LOOPBACK
from loadtests.driver.chatter import Chatter, Marks, populate
from loadtests.driver.grpc_reader import GrpcReader
from loadtests.driver.packets import Ids
from loadtests.processes import CpuMeter, resident_bytes
from loadtests.results import Run, Scale, percentile
from loadtests.stack import BenchStack
from loadtests.workloads.traffic import Books, connecting, latency_figures, write_at
from proto.messaging.v1 import messaging_pb2 as pb

PAIRS, RATE, MINUTES = 500, 1_000.0, 10.0
WARM_UP_S = 60.0
_TYPING_SHARE = 0.25
_READS_EVERY = 4
_PAGES_PER_SECOND = 50.0
_PAGE_SIZE = 50
_READERS = 4
_SAMPLES_EVERY_S = 1.0
_GET_HISTORY = "/messaging.v1.MessagingService/GetMessageHistory"


async def run(stack: BenchStack, scale: Scale) -> Run:
    """1,000 connections, 1,000 messages a second, typing before a quarter of them, every fourth mark a read.

    Beside it 50 pages of history a second. Memory growth is between the medians of the first and the
    last tenth of the time after the warm-up.
    """
    warm_up, seconds = (0.3, 1.5) if scale.smoke else (WARM_UP_S, MINUTES * 60)
    books = Books(stack)
    await books.open()
    marks = Marks()
    population = await populate(
        5 if scale.smoke else PAIRS,
        connect=connecting(stack),
        ids=Ids(0 if scale.smoke else 50_000),
        marks=marks,
        prefix="specified",
    )
    for chatter in population.chatters:
        chatter.reads_every = _READS_EVERY
    chosen = random.Random(2)

    def type_first(chatter: Chatter) -> None:
        if chosen.random() < _TYPING_SHARE:
            chatter.type()

    ledger, pages = population.ledger, _Pages()
    beside = [asyncio.create_task(marks.run(), name="marks")]
    beside += await _reading(stack, population.chatters[:_READERS], pages)
    await write_at(RATE, population.chatters, warm_up, also=type_first)
    ledger.latencies.clear()
    pages.times.clear()
    memory = _Memory(stack)
    beside.append(asyncio.create_task(memory.run(), name="memory"))
    meter = CpuMeter(stack.processes)
    meter.start()
    pace = await write_at(RATE, population.chatters, seconds, also=type_first)
    cpu = meter.stop()
    latencies = latency_figures(ledger.latencies)
    checks = await books.close(population)
    for task in beside:
        task.cancel()
    population.close()
    return Run(
        workload="specified",
        figures={
            **latencies,
            "history_p99_ms": percentile(sorted(pages.times), 0.99) * 1_000,
            "pages_per_second": len(pages.times) / seconds,
            "typing_signals_per_second": ledger.typing / (seconds + warm_up),
            "memory_growth_percent": memory.growth_percent("service", "broker", "redis"),
            "service_mib": memory.newest("service") / 2**20,
            "broker_mib": memory.newest("broker") / 2**20,
            "latest_send_ms": pace.latest_s * 1_000,
        },
        cpu_us={role: used / pace.sent * 1e6 for role, used in cpu.items()},
        checks={**checks, "pages_failed": pages.failed},
    )


class _Pages:
    """What the readers of history have seen."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.failed = 0


async def _reading(stack: BenchStack, readers: Sequence[Chatter], pages: _Pages) -> list[asyncio.Task[None]]:
    """Starts readers who ask for the newest page of their conversation, evenly and for ever."""
    tasks = []
    for number, chatter in enumerate(readers):
        port = stack.grpc_ports[number % len(stack.grpc_ports)]
        reader = await GrpcReader.connect(LOOPBACK, port, _GET_HISTORY, stack.token(chatter.user))
        request = pb.GetMessageHistoryRequest(
            conversation_id=chatter.conversation_id, page_size=_PAGE_SIZE
        ).SerializeToString()
        tasks.append(asyncio.create_task(_read(reader, request, pages, number), name="history"))
    return tasks


async def _read(reader: GrpcReader, request: bytes, pages: _Pages, number: int) -> None:
    pause = _READERS / _PAGES_PER_SECOND
    await asyncio.sleep(pause * number / _READERS)
    try:
        while True:
            started = perf_counter()
            answer = await reader.call(request)
            pages.times.append(perf_counter() - started)
            pages.failed += not pb.GetMessageHistoryResponse.FromString(answer).messages
            await asyncio.sleep(max(0.0, pause - (perf_counter() - started)))
    finally:
        reader.close()


class _Memory:
    """Resident memory of the servers over time."""

    def __init__(self, stack: BenchStack) -> None:
        self._roles = {role: stack.processes[role] for role in ("service", "broker", "redis")}
        self._samples: dict[str, list[int]] = {role: [] for role in self._roles}

    async def run(self) -> None:
        """Takes a sample now and then, until it is cancelled."""
        while True:
            for role, pid in self._roles.items():
                self._samples[role].append(resident_bytes(pid))
            await asyncio.sleep(_SAMPLES_EVERY_S)

    def newest(self, role: str) -> int:
        """Bytes at the latest sample."""
        return self._samples[role][-1]

    def growth_percent(self, *roles: str) -> float:
        """How much more all roles together have in the last tenth of the time than in the first."""
        first = last = 0.0
        for role in roles:
            ordered = self._samples[role]
            tenth = max(1, len(ordered) // 10)
            first += percentile(sorted(ordered[:tenth]), 0.5)
            last += percentile(sorted(ordered[-tenth:]), 0.5)
        return (last - first) / first * 100
