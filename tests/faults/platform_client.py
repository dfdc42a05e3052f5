"""The platform's side of the broker: tells of changed connections, hears dead letters."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from uuid import uuid4

import mqtt5

from tests.faults.clients import TokenSource
from tests.faults.ledger import Ledger
from tests.faults.link import DeviceLink, Login

_USER = "platform-of-the-faults"
_TOPICS = "chat/v1/platform/events"
_PUBACK_WITHIN_S = 2.0


class PlatformClient:
    """Stays connected while `run` runs; searches everything it hears for canary words."""

    def __init__(
        self, ledger: Ledger, tokens: TokenSource, chance: random.Random, port: Callable[[], int]
    ) -> None:
        self.heard: Counter[str] = Counter()
        """Events by type."""
        self._ledger = ledger
        self._tokens = tokens
        self._chance = chance
        self._port = port
        self._link: DeviceLink | None = None
        self._connected = asyncio.Event()

    async def run(self) -> None:
        """Connects again and again, until cancelled."""
        while True:
            link = DeviceLink(self._on_publish, websocket=False)
            login = Login(
                client_id=f"{_USER}:1",
                username=_USER,
                token=self._tokens.mint(_USER, role="platform"),
                subscribe=f"{_TOPICS}/+",
                session_expiry_s=600,
            )
            try:
                await link.open(self._port(), login)
                self._link = link
                self._connected.set()
                while not link.closed.done():
                    link.tick()
                    await asyncio.wait([link.closed], timeout=1.0)
            except (OSError, TimeoutError):
                pass  # The broker is away: part of the game.
            finally:
                self._connected.clear()
                self._link = None
                link.abort()
            await asyncio.sleep(self._chance.uniform(0.1, 0.5))

    async def connections_changed(self, user: str, other: str) -> float:
        """Publishes `connections.changed`, again until the broker has it.

        Returns when, by the ledger's clock, the publication that counts was begun.
        """
        event = {
            "specversion": "1.0",
            "id": str(uuid4()),
            "source": "/connections",
            "type": "connections.changed",
            "data": {"userIdA": user, "userIdB": other},
        }
        while True:
            await self._connected.wait()
            assert self._link is not None
            began = self._ledger.now()
            try:
                async with asyncio.timeout(_PUBACK_WITHIN_S):
                    await self._link.publish_and_wait(
                        f"{_TOPICS}/connections.changed", json.dumps(event).encode()
                    )
                return began
            except (ConnectionError, TimeoutError):
                await asyncio.sleep(0.1)

    def _on_publish(self, packet: mqtt5.PublishPacket) -> None:
        kind = packet.topic.rpartition("/")[2]
        self.heard[kind] += 1
        self._ledger.leaks(f"the platform event {kind}", packet.payload)
