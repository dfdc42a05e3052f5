"""A process of its own for one user who sends as fast as the broker reads, so that the load's driver is free.

It reads from standard input one line of JSON, each user's token; writes a line when it floods; floods until
standard input ends; and then writes what became of it, as a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from time import perf_counter

import uvloop

from devstack.ports import LOOPBACK
from loadtests.driver.chatter import BY_BROKER, Chatter, populate
from loadtests.driver.link import Link
from loadtests.driver.packets import Ids

FLOODING = "flooding"
_TOGETHER = 20
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
    undone: int
    """Not answered, or accepted and not delivered, or answered twice, or with another error."""


async def flood(port: int, prefix: str, tokens: Mapping[str, str]) -> Flooded:
    """The first of a pair floods until standard input ends; then all has `_PATIENCE_S` to be answered."""

    async def connect(link: Link, user: str) -> None:
        await link.open(LOOPBACK, port, user=user, device="bench", token=tokens[user])

    population = await populate(1, connect=connect, ids=Ids(200_000), prefix=prefix)
    flooder, ledger = population.chatters[0], population.ledger
    flooder.gives_up = True
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read), name="end of standard input")
    print(FLOODING, flush=True)
    started = perf_counter()
    await _send_all_it_takes(flooder, ended)
    seconds = perf_counter() - started
    await population.settled(_PATIENCE_S)
    population.close()
    return Flooded(
        seconds=seconds,
        sent=ledger.sent,
        limited=ledger.refused["RATE_LIMITED"],
        stopped=ledger.refused[BY_BROKER],
        refused=ledger.refused.total(),
        refused_untimed=ledger.refused_untimed,
        undone=sum(len({*each.unanswered, *each.flying}) for each in population.chatters)
        + ledger.duplicates
        + ledger.errors,
    )


async def _send_all_it_takes(flooder: Chatter, ended: asyncio.Task[str]) -> None:
    while not ended.done():
        while not flooder.link.is_held_up and not flooder.link.lost:
            flooder.send_together(_TOGETHER)
            await asyncio.sleep(0)
            if ended.done():
                return
        await asyncio.sleep(0.001)


def main() -> int:
    """Floods for as long as it may."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.flooder", description=__doc__)
    parser.add_argument("port", type=int, help="where the broker speaks MQTT over WebSocket")
    parser.add_argument("prefix", help="of the two users' ids")
    arguments = parser.parse_args()
    tokens = json.loads(sys.stdin.readline())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        flooded = runner.run(flood(arguments.port, arguments.prefix, tokens))
    print(json.dumps(asdict(flooded)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
