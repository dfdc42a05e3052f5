"""Overload: three times of what is possible is offered, and what becomes of the possible."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from time import perf_counter

from loadtests.driver.chatter import Chatter, Marks, Population, populate
from loadtests.driver.packets import Ids
from loadtests.processes import CpuMeter, resident_bytes
from loadtests.results import Run, Scale
from loadtests.stack import BenchStack
from loadtests.workloads.saturation import PAIRS, WINDOW
from loadtests.workloads.traffic import Books, connecting, latency_figures, write_at

TIMES = 3
"""Of the peak's rate that is offered."""
STEADY_RATE = 300.0
_TICK_S = 0.05
"""Each user sends what is due at once, as a client does that empties its outbox: a dozen messages a write.

With shorter ticks most of what is lost is the driver's, which has the same two cores as all servers.
"""
_MOST_TOGETHER = 100
_SLICE_S = 0.5
_PATIENCE_S = 60.0
_MIB = 1024 * 1024


_ROUNDS = 3
"""Of peak and overload, in turn: what changes about the machine from one minute to the next is in both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    """Seconds of each phase."""

    steady: float = 4.0
    warm_up: float = 1.0
    peak: float = 4.0
    overload: float = 5.0


async def run(stack: BenchStack, scale: Scale) -> Run:
    """200 users: as fast as they are answered, three times as fast whatever is answered, then at ease.

    The peak is measured before and after each overload, and all of them together are held against it.
    """
    rounds, times = (
        (1, _Times(steady=0.5, warm_up=0.2, peak=0.5, overload=1.0)) if scale.smoke else (_ROUNDS, _Times())
    )
    books = Books(stack)
    await books.open()
    marks = Marks()
    population = await populate(
        5 if scale.smoke else PAIRS,
        connect=connecting(stack),
        ids=Ids(0 if scale.smoke else 1_500_000),
        marks=marks,
        prefix="overload",
    )
    marking = asyncio.create_task(marks.run(), name="marks")
    before_ms = await _latency(population, times.steady)
    await _peak(population, times)  # The first one is lower: everything is new to everybody.
    memory = {role: resident_bytes(stack.processes[role]) for role in ("broker", "service")}
    peaks = [await _peak(population, times)]
    overloads: list[_Overload] = []
    recovered: list[float] = []
    for _ in range(rounds):
        overloads.append(await _overload(population, TIMES * peaks[-1], times, CpuMeter(stack.processes)))
        recovered.append(await _recovery(population, 2 * before_ms))
        await population.settled(_PATIENCE_S)
        peaks.append(await _peak(population, times))
    checks = await books.close(population, seconds=_PATIENCE_S)
    grown = {role: (resident_bytes(stack.processes[role]) - before) / _MIB for role, before in memory.items()}
    marking.cancel()
    population.close()
    peak = fmean(peaks)
    offered = fmean(each.offered for each in overloads)
    goodput = fmean(each.goodput for each in overloads)
    return Run(
        workload="overload",
        figures={
            "peak_per_second": peak,
            "offered_per_second": offered,
            "offered_ratio": offered / peak,
            "goodput_per_second": goodput,
            "goodput_ratio": goodput / peak,
            "busy_per_second": fmean(each.busy for each in overloads),
            "busy_events_per_second": fmean(each.told for each in overloads),
            "recovered_after_s": max(recovered),
            "broker_growth_mib": grown["broker"],
            "service_growth_mib": grown["service"],
        },
        cpu_us={role: fmean(each.cpu_us[role] for each in overloads) for role in overloads[0].cpu_us},
        checks={**checks, "refused_untimed": population.ledger.refused_untimed},
    )


async def _latency(population: Population, seconds: float) -> float:
    """The median at the steady rate, in milliseconds."""
    population.ledger.latencies.clear()
    await write_at(STEADY_RATE, population.chatters, seconds)
    return latency_figures(population.ledger.latencies)["p50_ms"]


async def _peak(population: Population, times: _Times) -> float:
    """Messages a second that are answered and delivered when everybody waits for answers."""
    for chatter in population.chatters:
        chatter.gives_up = False
        chatter.window = WINDOW
        chatter.send_together(WINDOW)
    await asyncio.sleep(times.warm_up)
    count = _Count(population)
    await asyncio.sleep(times.peak)
    peak = count.goodput()
    for chatter in population.chatters:
        chatter.window = 0
    await population.settled()
    return peak


@dataclass(frozen=True, slots=True, kw_only=True)
class _Overload:
    """By the second, but for the CPU time, which is for each message that was accepted."""

    offered: float
    goodput: float
    busy: float
    """Refused, by the service or by the broker in its place."""
    told: float
    """Refusals by the broker of which an event told, beside the PUBACK."""
    cpu_us: dict[str, float]


async def _overload(population: Population, rate: float, times: _Times, meter: CpuMeter) -> _Overload:
    for chatter in population.chatters:
        chatter.gives_up = True
    offering = asyncio.create_task(
        _offer(rate, population.chatters, times.warm_up + times.overload), name="offering"
    )
    await asyncio.sleep(times.warm_up)
    count = _Count(population)
    meter.start()
    await offering
    goodput, cpu = count.goodput(), meter.stop()
    return _Overload(
        offered=count.sent(),
        goodput=goodput,
        busy=count.refused(),
        told=count.told(),
        cpu_us={role: used / max(goodput * count.seconds, 1) * 1e6 for role, used in cpu.items()},
    )


async def _offer(rate: float, chatters: Sequence[Chatter], seconds: float) -> None:
    """Lets each send at its share of the rate, whatever is answered.

    What a connection does not take because the broker does not read it is not offered, then or later.
    """
    share, started = rate / len(chatters), perf_counter()
    # Not all of them in the same tick.
    sent = [number / len(chatters) - 1 for number in range(len(chatters))]
    while (now := perf_counter() - started) < seconds:
        for number, chatter in enumerate(chatters):
            due = int(now * share - sent[number])
            if due <= 0:
                continue
            sent[number] += due
            if not chatter.link.is_held_up:
                chatter.send_together(min(due, _MOST_TOGETHER))
        await asyncio.sleep(max(0.0, _TICK_S - (perf_counter() - started - now)))


async def _recovery(population: Population, bound_ms: float) -> float:
    """Seconds until the steady traffic of half a second is all accepted, and its median below the bound."""
    started, ledger = perf_counter(), population.ledger
    while (passed := perf_counter() - started) < _PATIENCE_S:
        refused, sent = ledger.refused.total(), ledger.sent
        median_ms = await _latency(population, _SLICE_S)
        is_whole = len(ledger.latencies) >= 0.9 * (ledger.sent - sent)
        if is_whole and ledger.refused.total() == refused and median_ms < bound_ms:
            return passed
    return passed


class _Count:
    """What happened since it was made, by the second; the clock stops with the first question."""

    def __init__(self, population: Population) -> None:
        self._ledger = ledger = population.ledger
        self._before = (ledger.sent, ledger.answered, ledger.delivered, ledger.refused.total())
        self._told_before = ledger.told_by_broker
        self._started = perf_counter()
        self.seconds = 0.0

    def sent(self) -> float:
        """Messages that were sent."""
        return (self._ledger.sent - self._before[0]) / self._stopped()

    def goodput(self) -> float:
        """Messages that were answered and delivered."""
        answered, delivered = self._before[1:3]
        return min(self._ledger.answered - answered, self._ledger.delivered - delivered) / self._stopped()

    def refused(self) -> float:
        """Messages that were refused."""
        return (self._ledger.refused.total() - self._before[3]) / self._stopped()

    def told(self) -> float:
        """Refusals by the broker of which an event told."""
        return (self._ledger.told_by_broker - self._told_before) / self._stopped()

    def _stopped(self) -> float:
        self.seconds = self.seconds or perf_counter() - self._started
        return self.seconds
