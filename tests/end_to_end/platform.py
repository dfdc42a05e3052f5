"""The platform's side of the broker: publishes events as the connections product would."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import aiomqtt

from tests.conftest import MintToken
from tests.end_to_end.stack import Stack


@asynccontextmanager
async def platform(stack: Stack, token: MintToken) -> AsyncIterator[Callable[[object], Awaitable[None]]]:
    """Yields a function that publishes `connections.changed` with the given data."""
    async with aiomqtt.Client(
        "127.0.0.1",
        stack.mosquitto.mqtt_port,
        identifier="connections-product:1",
        username="connections-product",
        password=token("connections-product", role="platform"),
        protocol=aiomqtt.ProtocolVersion.V5,
    ) as client:

        async def publish(data: object) -> None:
            event = {
                "specversion": "1.0",
                "id": str(uuid4()),
                "source": "/connections",
                "type": "connections.changed",
                "data": data,
            }
            topic = "chat/v1/platform/events/connections.changed"
            await client.publish(topic, json.dumps(event), qos=1)

        yield publish
