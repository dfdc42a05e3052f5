"""A device that a scenario drives itself: it publishes anything, and everything it is told is kept."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import mqtt5

from tests.faults.arena import Arena
from tests.faults.events import message_of
from tests.faults.ledger import Attempt, Message, Sent
from tests.faults.link import DeviceLink, Login
from tests.faults.profile import Profile

_TICK_S = 0.5
_links = itertools.count(1_000_000)
"""Beyond the numbers that users of the load give their own."""


class RawDevice:
    """One more device of a user of the load; made with `raw_device`. Its messages go into the ledger."""

    def __init__(self, arena: Arena, profile: Profile) -> None:
        self.profile = profile
        self.answers: dict[str, list[Message]] = defaultdict(list)
        """`messageSent` by key."""
        self.answered_at: dict[str, float] = {}
        """When the first of them came."""
        self.errors: list[dict[str, Any]] = []
        self._ledger = arena.ledger
        self._number = next(_links)
        self.link = DeviceLink(self._on_publish, websocket=False)

    def send(self, key: str, text: str) -> None:
        """One attempt to send a message to the user's peer."""
        user, peer = self.profile.user_id, self.profile.peer_id
        self._ledger.record(
            Attempt(
                at=self._ledger.now(),
                user=user,
                peer=peer,
                key=key,
                text=text,
                link=self._number,
                number=1,
            )
        )
        body = {"recipientId": peer, "clientMessageId": key, "text": text}
        self.publish("sendMessage", json.dumps(body, ensure_ascii=False).encode())

    def publish(self, command: str, payload: bytes) -> None:
        """Publishes any bytes as a command."""
        self.link.publish(self.profile.command_topic(command), payload)

    def _on_publish(self, packet: mqtt5.PublishPacket) -> None:
        name, payload = packet.topic.rpartition("/")[2], json.loads(packet.payload)
        self._ledger.leaks(
            f"{name} at {self.profile.user_id}",
            packet.payload,
            None if name == "error" else self.profile.canary,
        )
        if name == "messageSent":
            message = message_of(payload)
            self._ledger.record(Sent(at=self._ledger.now(), user=self.profile.user_id, message=message))
            self.answers[message.key].append(message)
            self.answered_at.setdefault(message.key, self._ledger.now())
        elif name == "error":
            self.errors.append(payload)


@asynccontextmanager
async def raw_device(arena: Arena, profile: Profile, device: str) -> AsyncIterator[RawDevice]:
    """A connected device of that user, by TCP; raises `OSError` or `TimeoutError` if it cannot connect."""
    made = RawDevice(arena, profile)
    login = Login(
        client_id=f"{profile.user_id}:{device}",
        username=profile.user_id,
        token=arena.token(profile.user_id),
        subscribe=profile.event_filter,
    )
    await made.link.open(arena.servers.mqtt_port, login)
    ticking = asyncio.create_task(_tick(made.link))
    try:
        yield made
    finally:
        ticking.cancel()
        made.link.abort()


async def _tick(link: DeviceLink) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        link.tick()
