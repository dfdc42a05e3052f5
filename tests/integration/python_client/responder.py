"""Plays the service for the Python client's tests: a plain MQTT client with a script.

The script is about `sendMessage` and what it does not know; marks, sync and preferences are always
answered, signals only remembered.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
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


SIGNALS = frozenset({"presence", "typing", "markAsDelivered"})
BACKGROUND = SIGNALS | {"sync"}
"""What the client publishes of its own accord: not among `received`."""


class Responder:
    """Answers commands as `script` says, one entry a command; then acknowledges all."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._stored: dict[tuple[str, str], dict[str, Any]] = {}
        self.conversations: dict[str, list[dict[str, Any]]] = {}
        """Every message, in order: what `sync` tells."""
        self._participants: dict[str, tuple[str, str]] = {}
        self.page_size = 100
        self.unheard: set[int] = set()
        """No `newMessage` is published for these `seq`."""
        self.script: deque[Answered | Dropped | Refused] = deque()
        self.received: list[Received] = []
        self.background: list[Received] = []
        self.arrived = asyncio.Condition()
        self.ended = asyncio.Event()
        """The broker is gone."""

    async def wait_for(self, count: int) -> None:
        """Returns when `count` commands have come."""
        async with asyncio.timeout(20), self.arrived:
            await self.arrived.wait_for(lambda: len(self.received) >= count)

    async def wait_for_signal(self, condition: Callable[[list[Received]], bool]) -> None:
        """Returns when the condition holds for the background commands so far."""
        async with asyncio.timeout(20), self.arrived:
            await self.arrived.wait_for(lambda: condition(self.background))

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
                (self.background if command.command in BACKGROUND else self.received).append(command)
                self.arrived.notify_all()
            correlation = getattr(message.properties, "CorrelationData", None)
            if command.command in SIGNALS:
                continue
            if command.command == "sync":
                await self.publish(command.user, "syncPage", self._page(command.fields), correlation)
            else:
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
            elif "requestId" in command.fields:
                error["requestId"] = command.fields["requestId"]
            await self.publish(command.user, "error", error, correlation)
        if isinstance(answer, Answered) and command.command == "markAsRead":
            await self.publish(command.user, "messageRead", self._read(command), correlation)
        elif isinstance(answer, Answered):
            stored = self._store(command.user, command.fields)
            for _ in range(answer.times):
                await self.publish(command.user, "messageSent", stored, correlation)
                if "recipientId" in command.fields and stored["seq"] not in self.unheard:
                    await self.publish(command.fields["recipientId"], "newMessage", stored, None)

    def _store(self, sender: str, fields: dict[str, Any]) -> dict[str, Any]:
        key = (sender, fields["clientMessageId"])
        if key not in self._stored:
            conversation = fields.get("conversationId") or str(
                conversation_id_for("direct", (UserId(sender), UserId(fields["recipientId"])))
            )
            messages = self.conversations.setdefault(conversation, [])
            if "recipientId" in fields:
                self._participants[conversation] = (sender, fields["recipientId"])
            now = datetime.now(UTC)
            self._stored[key] = {
                "messageId": str(uuid7(int(now.timestamp() * 1e9))),
                "conversationId": conversation,
                "seq": len(messages) + 1,
                "senderId": sender,
                "text": fields["text"],
                "timestamp": now.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z",
                "clientMessageId": fields["clientMessageId"],
            }
            messages.append(self._stored[key])
        return self._stored[key]

    def _page(self, fields: dict[str, Any]) -> dict[str, Any]:
        messages = self.conversations.get(fields["conversationId"], [])
        after = fields["afterSeq"]
        changes = messages[after : after + self.page_size]
        return {
            "conversationId": fields["conversationId"],
            "afterSeq": after,
            "changes": [{"type": "message", **message} for message in changes],
            "positions": [
                {"userId": user, "deliveredSeq": 0, "readSeq": 0}
                for user in self._participants[fields["conversationId"]]
            ],
            "complete": after + len(changes) >= len(messages),
            "requestId": fields["requestId"],
        }

    def _read(self, command: Received) -> dict[str, Any]:
        fields = command.fields
        (message,) = (
            message
            for message in self.conversations[fields["conversationId"]]
            if message["messageId"] == fields["lastReadMessageId"]
        )
        return {
            "conversationId": fields["conversationId"],
            "messageId": message["messageId"],
            "seq": message["seq"],
            "userId": command.user,
            "readAt": message["timestamp"],
            "requestId": fields["requestId"],
        }


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
            # The client waits in `asyncio.wait_for`, and that of Python 3.11 may drop a cancellation.
            while not running.done():
                running.cancel()
                await asyncio.wait({running}, timeout=1)
