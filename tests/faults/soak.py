"""`python -m tests.faults.soak`: hours at half load; what the processes hold must stay flat.

The ledger is kept in memory and checked at the end, about 1.5 GB for a million messages.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from collections.abc import Sequence

from tests.faults.arena import Arena
from tests.faults.growth import Series, Trend, held_by
from tests.faults.runner import Options, run_arena
from tests.faults.scenario import Scenario

HALF_LOAD = 150.0
"""Messages per second: half of what the fault scenarios run under."""
_WARM_UP_SHARE = 0.2
"""Caches fill, pools open, tables get their statistics: not part of the line."""
_SAMPLES = 240


class Soak:
    """A scenario without a fault, which watches instead."""

    def __init__(self, seconds: float) -> None:
        self.trends: Sequence[Trend] = ()
        self._seconds = seconds

    def scenario(self) -> Scenario:
        """To be run as any other."""
        return Scenario(name="soak", run=self.run, fault="nothing, for a long time", alone=True)

    async def run(self, arena: Arena) -> None:
        """Samples until the time is over, and notes what grew."""
        await arena.pause(self._seconds * _WARM_UP_SHARE)
        series: dict[tuple[str, str], Series] = {}
        pause = self._seconds * (1 - _WARM_UP_SHARE) / _SAMPLES
        for _ in range(_SAMPLES):
            await self._sample(arena, series)
            await arena.pause(pause)
        if not any(quantity == "tasks" for _, quantity in series):
            raise RuntimeError("the service never told how many tasks it has")
        self.trends = [each.trend() for each in series.values()]
        for trend in self.trends:
            if trend.grows:
                arena.violate("soak", trend.line())

    async def _sample(self, arena: Arena, series: dict[tuple[str, str], Series]) -> None:
        now = arena.ledger.now()
        for server in arena.servers.all():
            held = dict(await asyncio.to_thread(held_by, server.pid))
            if server is arena.service.process:
                tasks = await arena.metric(arena.service, "messaging_tasks")
                if tasks is not None:
                    held["tasks"] = tasks
            for quantity, value in held.items():
                name = server.name
                series.setdefault((name, quantity), Series(name, quantity)).add(now, value)


def main() -> int:
    """Parses the arguments and soaks; exit code 1 when something grows or a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=HALF_LOAD, help="messages per second")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments = parser.parse_args()
    soak = Soak(arguments.hours * 3_600)
    options = Options(
        short=False, messages_per_second=arguments.rate, say=lambda line: print(line, flush=True)
    )
    print(f"seed {arguments.seed}, {arguments.hours:g} hours at {arguments.rate:g} messages/s", flush=True)
    finished = asyncio.run(run_arena([soak.scenario()], arguments.seed, options))
    print(finished.line())
    for trend in soak.trends:
        print(trend.line())
    return 1 if finished.failed else 0


if __name__ == "__main__":
    sys.exit(main())
