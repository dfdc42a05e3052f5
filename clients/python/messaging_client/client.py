"""The client: what applications use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from messaging_client.connection import Connection
from messaging_client.duplicates import SeenMessages
from messaging_client.errors import ClientClosed, MalformedEvent
from messaging_client.events import Event, MessageSent, NewMessage, decode_event
from messaging_client.link import Delivery
from messaging_client.options import MessagingClientOptions, Status
from messaging_client.sending import Sender, encode_command

_LOGGER = logging.getLogger("messaging_client")


class MessagingClient:
    """One device of one user, connected as long as its `async with` block runs.

    Entering does not wait for the broker (`wait_connected` does): a client may
    start offline, and what it sends then goes out once it is connected. To be
    used from one event loop.
    """

    def __init__(self, options: MessagingClientOptions) -> None:
        self._options = options
        self._seen = SeenMessages()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._running: asyncio.Task[None] | None = None
        self._connection = Connection(options, self._receive)
        self._sender: Sender | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        if self._running is not None:
            raise RuntimeError("a client is used once; make another one")
        self._sender = Sender(self._options, self._connection)
        name = f"messaging-client {self._options.client_id}"
        self._running = asyncio.create_task(self._connection.run(), name=name)
        self._running.add_done_callback(self._stopped)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._running is not None
        self._running.cancel()
        # Disconnects on its way out, which the broker's session needs.
        await asyncio.wait({self._running})
        self._stopped(self._running)
        if self._running.cancelled():
            return
        # It ended by itself: a defect of this package.
        defect = self._running.exception()
        if exc is None and defect is not None:
            raise defect
        _LOGGER.error("the client failed", exc_info=defect)

    @property
    def status(self) -> Status:
        """Where the client stands with the broker now."""
        return self._connection.status

    async def wait_connected(self) -> None:
        """Returns once the client is connected and subscribed; raises `ClientClosed`."""
        await self._connection.link()

    async def send(
        self,
        text: str,
        *,
        recipient_id: str | None = None,
        conversation_id: str | UUID | None = None,
        client_message_id: str | UUID | None = None,
        timeout: float | None = None,
    ) -> MessageSent:
        """Sends a text message, by one of recipient and conversation; returns once it is durable.

        The same `client_message_id` (a fresh one by default) is sent again,
        across reconnects, until the service answers. Messages of one
        conversation go one at a time, in the order of the calls.

        Raises `CommandRejected` when the service refuses for good, `TimeoutError`
        when `timeout` (seconds) is over and `ClientClosed` when the client is
        closed; after these two the message may have been stored all the same.
        Raises `ValueError` for arguments that cannot be sent at all.
        """
        if self._sender is None or self._closed:
            raise ClientClosed("the client is not open")
        if (recipient_id is None) == (conversation_id is None):
            raise ValueError("give either recipient_id or conversation_id")
        key = uuid4() if client_message_id is None else UUID(str(client_message_id))
        async with asyncio.timeout(timeout):
            return await self._sender.send(
                text,
                recipient_id=recipient_id,
                conversation_id=None if conversation_id is None else str(conversation_id),
                client_message_id=key,
            )

    async def publish_command(
        self,
        command: str,
        payload: bytes | Mapping[str, Any],
        *,
        qos: int = 1,
        retain: bool = False,
        correlation_data: bytes | None = None,
    ) -> None:
        """Publishes any payload once, as it is; the answer, if any, comes in `events()`.

        For commands that this client has no method for, and for tests. Raises
        `LinkLost` when the connection ends before the PUBACK.
        """
        link = await self._connection.link()
        body = payload if isinstance(payload, bytes) else encode_command(dict(payload))
        topic = self._options.command_topic(command)
        await link.publish(topic, body, qos=qos, retain=retain, correlation_data=correlation_data)

    def events(self) -> AsyncIterator[Event]:
        """All events since the client was entered, without duplicates; ends when the client is closed.

        Events wait without limit until they are read, each by one reader.
        """
        if not self._options.collect_events:
            raise RuntimeError("this client was made with collect_events=False")
        return _EventStream(self._events)

    def _receive(self, delivery: Delivery) -> None:
        if self._options.on_payload is not None:
            self._options.on_payload(delivery.event, delivery.payload)
        try:
            event = decode_event(delivery.event, delivery.payload)
        except MalformedEvent as error:
            _LOGGER.warning("ignored an event: %s", error)
            return
        if self._sender is not None:
            self._sender.answers.offer(event, delivery.correlation_data)
        if not self._options.collect_events:
            return
        # The sender's copy and the recipient's never meet on one device: one pair, one message.
        match event:
            case MessageSent() | NewMessage() if not self._seen.is_new(event.conversation_id, event.seq):
                return
        self._events.put_nowait(event)

    def _stopped(self, _: asyncio.Task[None]) -> None:
        """Nothing more will come: lets all who wait go."""
        if self._closed:
            return
        self._closed = True
        self._connection.close()
        if self._sender is not None:
            self._sender.close()
        self._events.put_nowait(None)


class _EventStream(AsyncIterator[Event]):
    """Reads the queue up to the None that ends it."""

    def __init__(self, events: asyncio.Queue[Event | None]) -> None:
        self._events = events

    async def __anext__(self) -> Event:
        event = await self._events.get()
        if event is None:
            # Left for other readers, and for reading on after the end.
            self._events.put_nowait(None)
            raise StopAsyncIteration
        return event
