"""From deliveries to use cases: whose command it is, which one, and whether it is well-formed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from bridge.outbound import Outbound, Request
from bridge.payloads import ConnectionsChangedEvent, SendMessagePayload, correlation_of, parse
from bridge.session import Delivery
from bridge.topics import CONNECTIONS_CHANGED, CommandTopic, PlatformTopic, Topics
from service.domain.errors import ErrorCode, Rejected, Rejection
from service.domain.ids import ClientMessageId, ConversationId, UserId
from service.metrics import PLATFORM_EVENTS
from service.use_cases.ports import ConnectionDirectory
from service.use_cases.send_message import SendCommand, SendMessage

_log = structlog.get_logger(__name__)


class Inbound:
    """Takes all deliveries of one socket read; every one gets exactly one end."""

    def __init__(
        self,
        topics: Topics,
        outbound: Outbound,
        send_message: SendMessage[Request],
        connections: ConnectionDirectory,
    ) -> None:
        self._topics = topics
        self._outbound = outbound
        self._send_message = send_message
        self._connections = connections
        self._tasks: set[asyncio.Task[None]] = set()
        self._commands: dict[str, Callable[[UserId, Delivery], None]] = {"sendMessage": self._on_send_message}

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Hands every delivery on; never waits."""
        for delivery in deliveries:
            topic = self._topics.parse(delivery.topic)
            match topic:
                case CommandTopic(user_id, command):
                    self._on_command(user_id, command, delivery)
                case PlatformTopic(event_type):
                    self._on_platform_event(event_type, delivery)
                case None:
                    # The subscriptions admit no other topic from a valid user id.
                    _log.warning("delivery_outside_protocol", bytes=len(delivery.payload))
                    self._outbound.acknowledge(delivery)

    def _on_command(self, user_id: UserId, command: str, delivery: Delivery) -> None:
        handler = self._commands.get(command)
        if handler is None:
            rejection = Rejection(ErrorCode.UNKNOWN_COMMAND, "no such command")
        else:
            try:
                handler(user_id, delivery)
                return
            except Rejected as error:
                rejection = error.rejection
        request = Request(
            delivery=delivery,
            user_id=user_id,
            command=command,
            correlation=correlation_of(delivery.payload),
        )
        self._outbound.deliver([(request, rejection)])

    def _on_send_message(self, user_id: UserId, delivery: Delivery) -> None:
        payload = parse(SendMessagePayload, delivery.payload)
        target: ConversationId | str
        if payload.conversation_id is not None:
            target = ConversationId(payload.conversation_id)
        else:
            assert payload.recipient_id is not None
            target = payload.recipient_id
        correlation = {"clientMessageId": str(payload.client_message_id)}
        if payload.request_id is not None:
            correlation["requestId"] = payload.request_id
        request = Request(delivery=delivery, user_id=user_id, command="sendMessage", correlation=correlation)
        command = SendCommand(
            sender_id=user_id,
            target=target,
            client_message_id=ClientMessageId(payload.client_message_id),
            text=payload.text,
        )
        self._send_message.submit(command, request)

    def _on_platform_event(self, event_type: str, delivery: Delivery) -> None:
        """A platform event is acknowledged when its effect is there."""
        if event_type != CONNECTIONS_CHANGED:
            PLATFORM_EVENTS.labels("ignored").inc()
            self._outbound.acknowledge(delivery)
            return
        try:
            event = parse(ConnectionsChangedEvent, delivery.payload)
        except Rejected as error:
            PLATFORM_EVENTS.labels("malformed").inc()
            _log.error("platform_event_malformed", type=event_type, reason=error.rejection.message)
            self._outbound.acknowledge(delivery)
            return
        task = asyncio.create_task(self._forget(event, delivery), name="connections-changed")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forget(self, event: ConnectionsChangedEvent, delivery: Delivery) -> None:
        await self._connections.forget(UserId(event.data.user_id_a), UserId(event.data.user_id_b))
        PLATFORM_EVENTS.labels("applied").inc()
        _log.info("connection_invalidated", event_id=event.id)
        self._outbound.acknowledge(delivery)
