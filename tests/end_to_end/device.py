"""A plain MQTT client of one user: publishes anything, holds every event to the contract."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.asyncapi_schemas import promised_qos, validate_event

PATIENCE_S = 20.0
"""How long a test waits for what must come."""


@dataclass(frozen=True, slots=True)
class Received:
    """One event as it came."""

    name: str
    payload: dict[str, Any]
    correlation_data: bytes | None
    qos: int = 1
    expires_in_s: int | None = None


class Device:
    """What one user's device sent and received."""

    def __init__(self, user_id: str, client: aiomqtt.Client) -> None:
        self.user_id = user_id
        self.received: list[Received] = []
        self._client = client
        self._changed = asyncio.Condition()
        self._read = 0

    async def publish(
        self, command: str, payload: bytes, *, correlation_data: bytes | None = None, qos: int = 1
    ) -> None:
        """Publishes; at QoS 1 it returns with the broker's PUBACK."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if correlation_data is not None:
            properties.CorrelationData = correlation_data
        topic = f"chat/v1/users/{self.user_id}/commands/{command}"
        await self._client.publish(topic, payload, qos=qos, properties=properties)

    async def send(self, text: str, **fields: object) -> str:
        """Publishes a `sendMessage` without waiting for its answer; returns its `clientMessageId`."""
        key = str(fields.pop("clientMessageId", uuid4()))
        body = {"clientMessageId": key, "text": text, **fields}
        await self.publish("sendMessage", json.dumps(body).encode(), correlation_data=key.encode())
        return key

    async def next(self, name: str | None = None) -> Received:
        """The next event not yet taken by `next`, which must be of that name."""
        event: Received = await self.until(lambda events: len(events) > self._read and events[self._read])
        self._read += 1
        assert name is None or event.name == name, event
        return event

    async def until(self, condition: Callable[[list[Received]], Any]) -> Any:
        """Waits until `condition` holds for all events so far, and returns its value."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            while not (value := condition(self.received)):
                await self._changed.wait()
            return value

    def of(self, name: str) -> list[dict[str, Any]]:
        """Payloads of all events of that name so far."""
        return [event.payload for event in self.received if event.name == name]

    async def collect(self) -> None:
        """Takes in events until cancelled."""
        async for message in self._client.messages:
            name = message.topic.value.rsplit("/", 1)[1]
            assert isinstance(message.payload, bytes)
            payload = json.loads(message.payload)
            validate_event(name, payload)
            assert message.qos >= promised_qos(name), name
            correlation = getattr(message.properties, "CorrelationData", None)
            async with self._changed:
                expires_in = getattr(message.properties, "MessageExpiryInterval", None)
                self.received.append(Received(name, payload, correlation, message.qos, expires_in))
                self._changed.notify_all()


@asynccontextmanager
async def device(
    port: int, user_id: str, token: str, *, device_id: str = "test", settings: Mapping[str, Any] | None = None
) -> AsyncIterator[Device]:
    """A connected and subscribed device; an event that breaks the contract fails the test."""
    async with aiomqtt.Client(
        "127.0.0.1",
        port,
        identifier=f"{user_id}:{device_id}",
        username=user_id,
        password=token,
        protocol=aiomqtt.ProtocolVersion.V5,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        max_inflight_messages=1_000,
        **(settings or {}),
    ) as client:
        await client.subscribe(f"chat/v1/users/{user_id}/events/+", qos=1)
        made = Device(user_id, client)
        collecting = asyncio.create_task(made.collect())
        try:
            yield made
        finally:
            collecting.cancel()
            outcome = await asyncio.gather(collecting, return_exceptions=True)
        if not isinstance(outcome[0], asyncio.CancelledError):
            raise AssertionError("the device stopped listening") from outcome[0]
