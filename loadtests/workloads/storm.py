"""Storm: everybody is cut off, misses something, comes back at once and catches up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from uuid import uuid4

import mqtt5

from loadtests.driver.chatter import Chatter, populate, until
from loadtests.driver.link import Link
from loadtests.driver.packets import CommandTemplate, Ids
from loadtests.processes import CpuMeter
from loadtests.results import Run, Scale
from loadtests.stack import BenchStack
from loadtests.workloads.traffic import Books, connecting

PAIRS = 1_000
_MISSED = 3
"""Messages that each of a pair misses."""
_OPENING = 2
"""Messages of each conversation before: one from each side."""
_PATIENCE_S = 60.0


async def run(stack: BenchStack, scale: Scale) -> Run:
    """2,000 clients reconnect at once and resync; from the first connect to the last complete history."""
    pairs = 10 if scale.smoke else PAIRS
    books = Books(stack)
    await books.open()
    population = await populate(pairs, connect=connecting(stack), ids=Ids(0), prefix="storm")
    population.close()
    await _write_meanwhile(stack, population.chatters[::2])
    returning = [Returning(chatter) for chatter in population.chatters]
    meter = CpuMeter(stack.processes)
    meter.start()
    started = perf_counter()
    await asyncio.gather(*(each.come_back(stack) for each in returning))
    await until(lambda: all(each.is_consistent for each in returning), _PATIENCE_S)
    seconds, cpu = perf_counter() - started, meter.stop()
    population.ledger.sent += pairs * _MISSED
    checks = await books.close(population)
    for each in returning:
        each.link.close()
    # That the connections were cut is what this is about.
    del checks["links_lost"]
    return Run(
        workload="storm",
        figures={"consistent_after_s": seconds},
        cpu_us={role: used / len(returning) * 1e6 for role, used in cpu.items()},
        checks={
            **checks,
            "refused": sum(each.refused for each in returning),
            "errors": sum(each.errors for each in returning),
            "inconsistent": sum(not each.is_consistent for each in returning),
        },
    )


async def _write_meanwhile(stack: BenchStack, authors: Sequence[Chatter]) -> None:
    """Another device of each author sends what all the others miss."""
    for start in range(0, len(authors), 50):
        await asyncio.gather(*(_write(stack, author) for author in authors[start : start + 50]))


async def _write(stack: BenchStack, author: Chatter) -> None:
    answered = 0

    def on_publish(packet: mqtt5.PublishPacket) -> None:
        nonlocal answered
        answered += packet.topic.endswith("/messageSent")

    link = Link(on_publish)
    await connecting(stack, device="other")(link, author.user)
    payload = json.dumps(
        {"conversationId": author.conversation_id, "clientMessageId": "{id}", "text": "meanwhile"}
    )
    command = CommandTemplate(author.user, "sendMessage", payload)
    for _ in range(_MISSED):
        link.write(command.packet(link.next_packet_id(), str(uuid4()).encode()))
    if not await until(lambda: answered == _MISSED, 30.0):
        raise RuntimeError(f"{author.user} got {answered} of {_MISSED} answers")
    link.close()


@dataclass(slots=True)
class Returning:
    """A client that comes back: connects, subscribes, and asks for all after what it has."""

    chatter: Chatter
    link: Link = field(init=False)
    seqs: list[int] = field(default_factory=list)
    errors: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self.link = Link(self._on_publish)

    @property
    def is_consistent(self) -> bool:
        """Whether it has everything that it missed, once and in order."""
        return self.seqs == list(range(_OPENING + 1, _OPENING + _MISSED + 1))

    async def come_back(self, stack: BenchStack) -> None:
        """Connects and asks; the answer comes later."""
        try:
            await connecting(stack)(self.link, self.chatter.user)
        except (OSError, TimeoutError):
            self.refused += 1
            return
        payload = {"conversationId": self.chatter.conversation_id, "afterSeq": _OPENING}
        packet = mqtt5.PublishPacket(
            f"chat/v1/users/{self.chatter.user}/commands/sync",
            json.dumps(payload).encode(),
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            packet_id=self.link.next_packet_id(),
        )
        self.link.write(packet.write())

    def _on_publish(self, packet: mqtt5.PublishPacket) -> None:
        event = packet.topic.rpartition("/")[2]
        if event == "syncPage":
            self.seqs += [change["seq"] for change in json.loads(packet.payload)["changes"]]
        elif event == "error":
            self.errors += 1
