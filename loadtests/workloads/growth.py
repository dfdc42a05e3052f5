"""Growth: what a message costs when there is more of everything, at one and the same rate."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from time import perf_counter

import mqtt5

from loadtests import seeding
from loadtests.database import count_messages
from loadtests.driver.chatter import until
from loadtests.driver.link import Link
from loadtests.driver.packets import CommandTemplate, Ids
from loadtests.processes import DRIVER, CpuMeter
from loadtests.results import Run, Scale
from loadtests.stack import BenchStack
from loadtests.workloads.traffic import connecting
from service.domain.ids import UserId, conversation_id_for

SENDERS, CONVERSATIONS = 500, 10_000
RATE = 5_000.0
"""Messages a second: the processors are busy. At rates that let them sleep between messages, what a
message costs says more about their waking up than about it."""
_SETTLING_S = 20.0
"""Among all conversations: what is asked about each of them from time to time has become even by then."""
_STORED = seeding.Seed(messages=5_000_000, conversations=5_000)
_STORED_IN_SMOKE = seeding.Seed(messages=2_000, conversations=20)
_UNDER_WAY = 400
"""Messages without an answer, after which no other one is sent. While PostgreSQL pauses, as it may after
millions of rows, more of one user would be refused."""
_TEXT = "Growth is what this message is about; there are many more of its kind and they all say the same."


async def run(stack: BenchStack, scale: Scale) -> Run:
    """CPU of all servers by message at `RATE`, 1,000 connections; needs a stack of its own.

    The stored messages, the conversations in use and the senders grow, one at a time.
    """
    seconds = 0.5 if scale.smoke else 6.0
    before = await count_messages(stack.database_url)
    crowd = Crowd(10 if scale.smoke else SENDERS, 40 if scale.smoke else CONVERSATIONS)
    await crowd.connect(stack)
    await crowd.open_conversations()
    one_each = crowd.rooms[: crowd.senders]
    cpu: dict[str, float] = {}

    async def measure(name: str, rooms: Sequence[Room], *, warm_up: float = seconds / 3) -> None:
        await crowd.write(rooms, warm_up)
        cpu[name] = await crowd.cpu_us(stack, rooms, seconds)

    await measure("few_stored", one_each)
    await measure("10_conversations", crowd.rooms[:10])
    settling = 0.5 if scale.smoke else _SETTLING_S
    await measure("10000_conversations", crowd.rooms, warm_up=settling)
    await measure("1_sender", [room for room in crowd.rooms if room.sender == 0])
    await measure("500_senders", one_each)
    stored = await count_messages(stack.database_url) - before
    seed = _STORED_IN_SMOKE if scale.smoke else _STORED
    await seeding.ensure(stack.database_url, seed)
    await measure("5_million_stored", one_each)
    final = await count_messages(stack.database_url) - before - seed.messages
    crowd.close()
    growth = {
        "stored_growth_percent": cpu["5_million_stored"] / cpu["few_stored"] * 100 - 100,
        "conversations_growth_percent": cpu["10000_conversations"] / cpu["10_conversations"] * 100 - 100,
        "senders_growth_percent": cpu["500_senders"] / cpu["1_sender"] * 100 - 100,
    }
    return Run(
        workload="growth",
        figures={
            **{f"{name}_cpu_us": value for name, value in cpu.items()},
            **growth,
            "worst_growth_percent": max(growth.values()),
            "stored_before_messages": float(stored),
        },
        checks={
            "undelivered": len(crowd.flying),
            "unanswered": len(crowd.unanswered),
            "duplicates": crowd.duplicates,
            "errors": crowd.errors,
            "not_in_postgresql": abs(final - crowd.sent),
        },
    )


class Room:
    """A conversation, and the command with which its sender writes in it."""

    def __init__(self, sender: int, recipient: int) -> None:
        self.sender = sender
        first, second = sorted((_user(sender), _user(recipient)))
        text = {"clientMessageId": "{id}", "text": _TEXT}
        place = {"conversationId": str(conversation_id_for("direct", (first, second)))}
        self.opening = self._command({"recipientId": _user(recipient)} | text)
        self.command = self._command(place | text)

    def _command(self, payload: dict[str, str]) -> CommandTemplate:
        return CommandTemplate(_user(self.sender), "sendMessage", json.dumps(payload, separators=(",", ":")))


class Crowd:
    """Senders and as many recipients, all connected, and conversations between them."""

    def __init__(self, senders: int, conversations: int) -> None:
        self.senders = senders
        self.rooms = [
            Room(number % senders, senders + (number + number // senders) % senders)
            for number in range(conversations)
        ]
        self.links = [Link(self._on_publish) for _ in range(2 * senders)]
        self.flying: set[bytes] = set()
        self.unanswered: set[bytes] = set()
        self.sent = self.delivered = self.duplicates = self.errors = 0
        self._ids = Ids(0)
        self._chosen = random.Random(3)

    async def connect(self, stack: BenchStack) -> None:
        """Connects everybody."""
        connect = connecting(stack)
        for start in range(0, len(self.links), 50):
            some = enumerate(self.links[start : start + 50], start)
            await asyncio.gather(*(connect(link, _user(number)) for number, link in some))

    async def open_conversations(self) -> None:
        """Sends the first message in each, at a moderate rate."""
        for start in range(0, len(self.rooms), 100):
            for room in self.rooms[start : start + 100]:
                self._send(room, room.opening)
            await self._settled()

    async def write(self, rooms: Sequence[Room], seconds: float) -> int:
        """Writes in random ones of these conversations, evenly at `RATE`; how many were delivered."""
        delivered, sent, started = self.delivered, 0, perf_counter()
        while (now := perf_counter() - started) < seconds:
            while sent < int(now * RATE) and len(self.unanswered) < _UNDER_WAY:
                room = self._chosen.choice(rooms)
                self._send(room, room.command)
                sent += 1
            await asyncio.sleep(0.002)
        await self._settled()
        return self.delivered - delivered

    async def cpu_us(self, stack: BenchStack, rooms: Sequence[Room], seconds: float) -> float:
        """The same, and what a message costs all servers together."""
        meter = CpuMeter(stack.processes)
        meter.start()
        delivered = await self.write(rooms, seconds)
        cpu = meter.stop()
        return (sum(cpu.values()) - cpu[DRIVER]) / delivered * 1e6

    def close(self) -> None:
        """Cuts all connections."""
        for link in self.links:
            link.close()

    async def _settled(self) -> None:
        if not await until(lambda: not self.flying and not self.unanswered, 30.0):
            raise RuntimeError(
                f"{len(self.flying)} messages were not delivered within 30 s, {self.errors} errors"
            )

    def _send(self, room: Room, command: CommandTemplate) -> None:
        uuid, link = self._ids.take(), self.links[room.sender]
        self.sent += 1
        self.flying.add(uuid)
        self.unanswered.add(uuid)
        link.write(command.packet(link.next_packet_id(), uuid))

    def _on_publish(self, packet: mqtt5.PublishPacket) -> None:
        event, uuid = packet.topic.rpartition("/")[2], packet.payload[-38:-2]
        if event == "newMessage" and uuid in self.flying:
            self.flying.discard(uuid)
            self.delivered += 1
        elif event == "messageSent" and uuid in self.unanswered:
            self.unanswered.discard(uuid)
        elif event in ("newMessage", "messageSent"):
            self.duplicates += 1
        else:
            self.errors += event == "error"


def _user(number: int) -> UserId:
    return UserId(f"growth-{number:05}")
