"""What several workloads share: connecting, writing at a given rate, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from devstack.ports import LOOPBACK
from loadtests.database import count_messages
from loadtests.driver.chatter import Chatter, Population
from loadtests.driver.link import Link
from loadtests.driver.packets import Ids
from loadtests.processes import CpuMeter
from loadtests.results import percentile
from loadtests.stack import BenchStack


def connecting(
    stack: BenchStack, device: str = "bench", *, port: int | None = None
) -> Callable[[Link, str], Awaitable[None]]:
    """Connects a user's device over WebSocket, with a token of its own: to the stack, or to this port."""

    async def connect(link: Link, user: str) -> None:
        await link.open(
            LOOPBACK, port or stack.websocket_port, user=user, device=device, token=stack.token(user)
        )

    return connect


@dataclass(slots=True)
class Pace:
    """How well a given rate was kept."""

    sent: int = 0
    latest_s: float = 0.0
    """The longest that a send came after its time: then the driver was too slow."""


async def write_at(
    rate: float, chatters: Sequence[Chatter], seconds: float, *, also: Callable[[Chatter], None] | None = None
) -> Pace:
    """Lets random chatters send `rate` messages a second, evenly; `also` is called with each before it."""
    pace, chosen, started = Pace(), random.Random(1), perf_counter()
    while (now := perf_counter() - started) < seconds:
        due = int(now * rate)
        while pace.sent < due:
            pace.latest_s = max(pace.latest_s, now - pace.sent / rate)
            chatter = chosen.choice(chatters)
            if also is not None:
                also(chatter)
            chatter.send()
            pace.sent += 1
        await asyncio.sleep(max(0.0, (pace.sent + 1) / rate - (perf_counter() - started)))
    return pace


def latency_figures(latencies: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile of times in seconds, in milliseconds."""
    ordered = sorted(latencies)
    return {"p50_ms": percentile(ordered, 0.5) * 1_000, "p99_ms": percentile(ordered, 0.99) * 1_000}


_FASTEST = 25_000
"""Messages a second that ids are made for in advance: to make them takes time, too."""
_BEFORE = 1 / 4
"""Of a turn's seconds: so much longer it goes on, before anything is measured."""


def ids_for(seconds: float) -> Ids:
    """Ids for turns at full speed of so many seconds in all."""
    return Ids(round(_FASTEST * seconds * (1 + _BEFORE)))


class FullSpeed:
    """Pairs who write to each other as fast as they are answered, in turns; sums up what they measured."""

    def __init__(self, population: Population, processes: Mapping[str, int], *, window: int) -> None:
        """Each user has `window` messages unanswered at a time; `processes` are ids by role."""
        self._population = population
        self._window = window
        self._meter = CpuMeter(processes)
        self.cpu: defaultdict[str, float] = defaultdict(float)
        """Seconds by role."""
        self.delivered = self.marked = 0
        self.seconds = 0.0
        self.latencies: list[float] = []

    async def turn(self, seconds: float) -> bool:
        """Lets them write: not measured for a quarter of `seconds`, and then measured for so long.

        Returns when all is answered and delivered; False if that did not come about.
        """
        chatters, ledger = self._population.chatters, self._population.ledger
        for chatter in chatters:
            chatter.window = self._window
            for _ in range(self._window):
                chatter.send()
        await asyncio.sleep(seconds * _BEFORE)
        self._meter.start()
        delivered, marked, started = ledger.delivered, ledger.marked, perf_counter()
        ledger.latencies.clear()
        await asyncio.sleep(seconds)
        for role, used in self._meter.stop().items():
            self.cpu[role] += used
        self.seconds += perf_counter() - started
        self.delivered += ledger.delivered - delivered
        self.marked += ledger.marked - marked
        self.latencies += ledger.latencies
        for chatter in chatters:
            chatter.window = 0
        return await self._population.settled()

    def cpu_us(self) -> dict[str, float]:
        """Microseconds for each message by role."""
        return {role: used / max(self.delivered, 1) * 1e6 for role, used in self.cpu.items()}


class Books:
    """Holds what was sent, answered, delivered and stored against each other."""

    def __init__(self, stack: BenchStack) -> None:
        self._database_url = stack.database_url
        self._before = 0

    async def open(self) -> None:
        """Notes what is stored before the run."""
        self._before = await count_messages(self._database_url)

    async def close(
        self, population: Population, *, seconds: float = 30.0, without: Sequence[str] = ()
    ) -> dict[str, int]:
        """Waits until all is answered and delivered, and counts what must be zero after any run.

        `without`: users beside the population, whose conversations do not count.
        """
        is_settled = await population.settled(seconds)
        stored = await count_messages(self._database_url, without=without) - self._before
        ledger = population.ledger
        accepted = ledger.sent - ledger.refused.total()
        return {
            "unanswered": sum(len(chatter.unanswered) for chatter in population.chatters),
            "undelivered": sum(len(chatter.flying) for chatter in population.chatters),
            "duplicates": ledger.duplicates,
            "errors": ledger.errors,
            "wrong": ledger.wrong,
            "not_in_postgresql": abs(accepted - stored),
            "links_lost": sum(chatter.link.lost for chatter in population.chatters),
            "unsettled": int(not is_settled),
        }
