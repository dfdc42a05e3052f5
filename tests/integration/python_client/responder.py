"""Plays the service for the Python client's tests: a plain MQTT client with a script."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from service.domain.ids import UserId, conversation_id_for, uuid7
from tests.asyncapi_schemas import validate_event


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Acknowledge, this many times."""

    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Say nothing, as if the answer was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Answer with an error."""

    code: str
    retryable: bool
    retry_after_ms: int | None = None
    names_the_message: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A command as it came."""

    user: str
    command: str
    payload: bytes
    at: float
    """Seconds of the event loop's clock."""

    @property
    def fields(self) -> dict[str, Any]:
        """The payload's JSON."""
        fields: dict[str, Any] = json.loads(self.payload)
        return fields


class Responder:
    """Answers commands as `script` says, one entry a command; then acknowledges all."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._stored: dict[tuple[str, str], dict[str, Any]] = {}
        self._seq: dict[str, int] = {}
        self.script: deque[Answered | Dropped | Refused] = deque()
        self.received: list[Received] = []
        self.arrived = asyncio.Condition()
        self.ended = asyncio.Event()
        """The broker is gone."""

    async def wait_for(self, count: int) -> None:
        """Returns when `count` commands have come."""
        async with asyncio.timeout(20), self.arrived:
            await self.arrived.wait_for(lambda: len(self.received) >= count)

    async def run(self) -> None:
        """Until the connection ends or the task is cancelled."""
        try:
            await self._serve()
        except aiomqtt.MqttError:
            self.ended.set()

    async def _serve(self) -> None:
        async for message in self._client.messages:
            levels = message.topic.value.split("/")
            command = Received(
                user=levels[3],
                command=levels[5],
                payload=bytes(message.payload),
                at=asyncio.get_running_loop().time(),
            )
            async with self.arrived:
                self.received.append(command)
                self.arrived.notify_all()
            correlation = getattr(message.properties, "CorrelationData", None)
            await self._answer(command, correlation, self.script.popleft() if self.script else Answered())

    async def publish(
        self, user: str, event: str, payload: dict[str, Any], correlation: bytes | None
    ) -> None:
        """Publishes an event that keeps to `docs/asyncapi.yaml`."""
        validate_event(event, payload)
        properties = None
        if correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = correlation
        topic = f"chat/v1/users/{user}/events/{event}"
        await self._client.publish(topic, json.dumps(payload), qos=1, properties=properties)

    async def _answer(
        self, command: Received, correlation: bytes | None, answer: Answered | Dropped | Refused
    ) -> None:
        if isinstance(answer, Refused):
            error: dict[str, Any] = {
                "code": answer.code,
                "message": "because the script says so",
                "retryable": answer.retryable,
                "command": command.command,
            }
            if answer.retry_after_ms is not None:
                error["retryAfterMs"] = answer.retry_after_ms
            if answer.names_the_message:
                error["clientMessageId"] = command.fields["clientMessageId"]
            await self.publish(command.user, "error", error, correlation)
        if isinstance(answer, Answered):
            stored = self._store(command.user, command.fields)
            for _ in range(answer.times):
                await self.publish(command.user, "messageSent", stored, correlation)
                if "recipientId" in command.fields:
                    await self.publish(command.fields["recipientId"], "newMessage", stored, None)

    def _store(self, sender: str, fields: dict[str, Any]) -> dict[str, Any]:
        key = (sender, fields["clientMessageId"])
        if key not in self._stored:
            conversation = fields.get("conversationId") or str(
                conversation_id_for("direct", (UserId(sender), UserId(fields["recipientId"])))
            )
            self._seq[conversation] = self._seq.get(conversation, 0) + 1
            now = datetime.now(UTC)
            self._stored[key] = {
                "messageId": str(uuid7(int(now.timestamp() * 1e9))),
                "conversationId": conversation,
                "seq": self._seq[conversation],
                "senderId": sender,
                "text": fields["text"],
                "timestamp": now.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z",
                "clientMessageId": fields["clientMessageId"],
            }
        return self._stored[key]


@asynccontextmanager
async def running_responder(port: int, token: str) -> AsyncIterator[Responder]:
    """A responder on the broker at this port, as long as the block runs."""
    async with aiomqtt.Client(
        "127.0.0.1",
        port,
        username="messaging-service",
        password=token,
        identifier=f"messaging-service:{uuid.uuid4().hex}",
        protocol=aiomqtt.ProtocolVersion.V5,
    ) as client:
        await client.subscribe("chat/v1/users/+/commands/+", qos=1)
        responder = Responder(client)
        running = asyncio.create_task(responder.run())
        try:
            yield responder
        finally:
            running.cancel()
            await asyncio.wait({running})
