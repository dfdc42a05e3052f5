"""What several workloads share: connecting, writing at a given rate, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from devstack.ports import LOOPBACK
from loadtests.database import count_messages
from loadtests.driver.chatter import Chatter, Population
from loadtests.driver.link import Link
from loadtests.results import percentile
from loadtests.stack import BenchStack


def connecting(stack: BenchStack, device: str = "bench") -> Callable[[Link, str], Awaitable[None]]:
    """Connects a user's device to the stack over WebSocket, with a token of its own."""

    async def connect(link: Link, user: str) -> None:
        await link.open(LOOPBACK, stack.websocket_port, user=user, device=device, token=stack.token(user))

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


class Books:
    """Holds what was sent, answered, delivered and stored against each other."""

    def __init__(self, stack: BenchStack) -> None:
        self._database_url = stack.database_url
        self._before = 0

    async def open(self) -> None:
        """Notes what is stored before the run."""
        self._before = await count_messages(self._database_url)

    async def close(
        self, population: Population, *, seconds: float = 30.0, stored_by_others: int = 0
    ) -> dict[str, int]:
        """Waits until all is answered and delivered, and counts what must be zero after any run."""
        is_settled = await population.settled(seconds)
        stored = await count_messages(self._database_url) - self._before - stored_by_others
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
