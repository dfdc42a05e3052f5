"""Devices that are here, and such that vanish."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import groupby
from typing import Any

from service.cancellation import notice_cancellation
from tests.end_to_end.device import Device
from tests.integration.broker.mqtt5_client import Mqtt5Client
from tests.integration.broker.raw_client import Login, Will

LEASE_S = 2.0


def command(state: str, session: str) -> bytes:
    return json.dumps({"state": state, "sessionId": session}).encode()


async def say(device: Device, state: str, session: str) -> None:
    await device.publish("presence", command(state, session))


@asynccontextmanager
async def heartbeats(device: Device, *, session: str = "test") -> AsyncIterator[None]:
    """The device is online, and says so again and again, while the block runs."""

    async def beat() -> None:
        while True:
            await say(device, "online", session)
            # The client waits with `asyncio.wait_for`.
            notice_cancellation()
            await asyncio.sleep(LEASE_S / 4)

    await say(device, "online", session)
    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating


@asynccontextmanager
async def visitor(
    port: int, user: str, token: str, *, session: str, device_id: str = "visitor", has_will: bool = True
) -> AsyncIterator[Mqtt5Client]:
    """A device that comes online once; its connection breaks when the block ends."""
    topic = f"chat/v1/users/{user}/commands/presence"
    will = Will(topic=topic, payload=command("offline", session)) if has_will else None
    async with Mqtt5Client.open(port) as client:
        assert isinstance(client, Mqtt5Client)
        login = Login(client_id=f"{user}:{device_id}", username=user, password=token, will=will)
        assert await client.connect(login) == 0
        assert await client.publish(topic, command("online", session)) == 0
        yield client


async def sees(device: Device, *states: str, user: str = "alice") -> dict[str, Any]:
    """Waits until the device was told exactly these states of the user since the start; the last event.

    The same state twice in a row counts once.
    """

    def told(_events: object) -> list[dict[str, Any]] | None:
        events = [event for event in device.of("presence") if event["userId"] == user]
        # A newcomer may hear twice of who comes at the same moment.
        seen = [state for state, _ in groupby(event["state"] for event in events)]
        assert seen == list(states)[: len(seen)], seen
        return events if len(seen) == len(states) else None

    events: list[dict[str, Any]] = await device.until(told)
    return events[-1]
