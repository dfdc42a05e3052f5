"""A process of its own for one user who sends as fast as the broker reads, so that the load's driver is free.

It reads from standard input one line of JSON, each user's token; writes a line when it floods; floods until
standard input ends; and then writes what became of it, as a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from time import perf_counter

import uvloop

from devstack.ports import LOOPBACK
from loadtests.driver.chatter import BY_BROKER, Chatter, Population, populate, until
from loadtests.driver.link import Link
from loadtests.driver.packets import Ids

FLOODING = "flooding"
_TOGETHER = 20
_PAUSE_S = 0.05
"""Between two attempts to connect."""
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Flooded:
    """What became of a flood, from its first message to its last."""

    seconds: float
    sent: int
    limited: int
    """Refused with RATE_LIMITED."""
    stopped: int
    """Refused by the broker, which did not pass them on."""
    refused: int
    """By whomever, whatever the code."""
    refused_untimed: int
    disconnected: int
    """How often the broker ended the connection."""
    kept_out: int
    """How often it did not accept another one."""
    cut_off: int
    """Not answered when the connection ended: stored or not."""
    accepted: int
    undone: int
    """Not answered, or accepted and not delivered, or answered twice, or with another error."""


def together(floods: Sequence[Flooded]) -> Flooded:
    """Several floods as one."""
    return Flooded(
        **{each.name: sum(getattr(flood, each.name) for flood in floods) for each in fields(Flooded)}
    )


class Flooder:
    """The first of a pair, who connects again whenever the broker has ended the connection."""

    def __init__(self, port: int, prefix: str, tokens: Mapping[str, str]) -> None:
        self._port, self._prefix, self._tokens = port, prefix, tokens
        self._disconnected = self._kept_out = 0

    async def flood(self) -> Flooded:
        """Floods until standard input ends; then all has `_PATIENCE_S` to be answered."""
        population = await populate(1, connect=self._connect, ids=Ids(200_000), prefix=self._prefix)
        flooder, ledger = population.chatters[0], population.ledger
        flooder.gives_up = True
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read), name="end of standard input")
        print(FLOODING, flush=True)
        started = perf_counter()
        while not ended.done():
            await self._send_all_it_takes(flooder, ended)
            if flooder.link.lost:
                self._disconnected += 1
                await self._connect_again(flooder, ended)
        seconds = perf_counter() - started
        await until(lambda: not open_at(population), _PATIENCE_S)
        population.close()
        return Flooded(
            seconds=seconds,
            sent=ledger.sent,
            limited=ledger.refused["RATE_LIMITED"],
            stopped=ledger.refused[BY_BROKER],
            refused=ledger.refused.total(),
            refused_untimed=ledger.refused_untimed,
            disconnected=self._disconnected,
            kept_out=self._kept_out,
            cut_off=len(flooder.cut_off),
            accepted=ledger.answered,
            undone=open_at(population) + ledger.duplicates + ledger.errors,
        )

    async def _connect(self, link: Link, user: str) -> None:
        await link.open(LOOPBACK, self._port, user=user, device="bench", token=self._tokens[user])

    async def _connect_again(self, flooder: Chatter, ended: asyncio.Task[str]) -> None:
        while not ended.done():
            try:
                flooder.link = flooder.new_link()
                await self._connect(flooder.link, flooder.user)
                return
            except OSError:
                self._kept_out += 1
                await asyncio.sleep(_PAUSE_S)

    async def _send_all_it_takes(self, flooder: Chatter, ended: asyncio.Task[str]) -> None:
        while not ended.done() and not flooder.link.lost:
            if flooder.link.is_held_up:
                await asyncio.sleep(0.001)
                continue
            flooder.send_together(_TOGETHER)
            await asyncio.sleep(0)


def open_at(population: Population) -> int:
    """Messages that are not answered, or not delivered; without those that a lost link left open."""
    return sum(len({*each.unanswered, *each.flying} - each.cut_off) for each in population.chatters)


def main() -> int:
    """Floods for as long as it may."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.flooder", description=__doc__)
    parser.add_argument("port", type=int, help="where the broker speaks MQTT over WebSocket")
    parser.add_argument("prefix", help="of the two users' ids")
    arguments = parser.parse_args()
    tokens = json.loads(sys.stdin.readline())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        flooded = runner.run(Flooder(arguments.port, arguments.prefix, tokens).flood())
    print(json.dumps(asdict(flooded)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
