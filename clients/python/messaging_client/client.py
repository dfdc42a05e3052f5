"""The client: what applications use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from messaging_client.commands import encode_command
from messaging_client.errors import ClientClosed
from messaging_client.events import (
    Event,
    MessageRead,
    MessageSent,
    PreferencesChanged,
    PresenceState,
    SyncPage,
)
from messaging_client.inbox import EventStream
from messaging_client.options import MessagingClientOptions, Status
from messaging_client.sending import place_of
from messaging_client.session import Session
from messaging_client.state_file import StateFile

_LOGGER = logging.getLogger("messaging_client")


class MessagingClient:
    """One device of one user, connected as long as its `async with` block runs.

    Entering does not wait for the broker (`wait_connected` does): a client may
    start offline, and what it sends then goes out once it is connected. To be
    used from one event loop.

    Commands raise `CommandRejected` when the service refuses for good,
    `ClientClosed` when the client is closed and, where they take a `timeout`
    (seconds), `TimeoutError`; after the last two a command may have taken
    effect all the same. Those that have an answer are repeated, across
    reconnects, until it comes.
    """

    def __init__(self, options: MessagingClientOptions) -> None:
        self._options = options
        self._session: Session | None = None
        self._running: asyncio.Task[None] | None = None
        self._streams: list[EventStream] = []
        self._closed = False

    async def __aenter__(self) -> Self:
        """Raises `ValueError` or `sqlite3.Error` when the state file cannot be used."""
        if self._session is not None:
            raise RuntimeError("a client is used once; make another one")
        file = None
        if self._options.state_file is not None:
            file = StateFile(self._options.state_file, self._options.client_id)
            await file.open()
        self._session = Session(self._options, file)
        await self._session.start()
        name = f"messaging-client {self._options.client_id}"
        self._running = asyncio.create_task(self._session.connection.run(), name=name)
        self._running.add_done_callback(self._stopped)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._running is not None
        assert self._session is not None
        try:
            if not self._running.done():
                await self._session.say_goodbye()
        finally:
            self._running.cancel()
            # Disconnects on its way out, which the broker's session needs.
            await asyncio.wait({self._running})
            self._stopped(self._running)
            if exc is None:
                for stream in self._streams:
                    stream.handled_last()
            await self._session.close()
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
        return Status.CONNECTING if self._session is None else self._session.connection.status

    async def wait_connected(self) -> None:
        """Returns once the client is connected and subscribed; raises `ClientClosed`."""
        await self._open.connection.link()

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

        The same `client_message_id` (a fresh one by default) is sent again
        until the service answers. Messages of one conversation go one at a
        time, in the order of the calls. With a state file the message is sent
        even when the caller stops waiting or the application ends.

        Raises `ValueError` for arguments that cannot be sent at all, and
        `sqlite3.Error` for what the state file cannot take.
        """
        session = self._open
        if (recipient_id is None) == (conversation_id is None):
            raise ValueError("give either recipient_id or conversation_id")
        key = uuid4() if client_message_id is None else UUID(str(client_message_id))
        conversation = None if conversation_id is None else str(conversation_id)
        began = asyncio.get_running_loop().time()
        place = place_of(recipient_id=recipient_id, conversation_id=conversation)
        typed_in = session.outbox.lanes.conversation_at(place)
        if typed_in is not None:
            session.typing.sent(typed_in, began_before=began)
        async with asyncio.timeout(timeout):
            sent = await session.outbox.send(
                text, recipient_id=recipient_id, conversation_id=conversation, client_message_id=key
            )
        session.typing.sent(sent.conversation_id, began_before=began)
        return sent

    async def mark_as_delivered(
        self, conversation_id: str | UUID, message_id: str | UUID, *, timeout: float | None = None
    ) -> None:
        """Marks all up to and including this message as delivered; returns when the broker has the mark.

        Done by itself for new messages (`mark_delivered`). Has no answer: a
        refusal comes as `CommandError` in `events()`.
        """
        fields = {"conversationId": str(conversation_id), "messageId": str(message_id)}
        async with asyncio.timeout(timeout):
            await self._open.requester.publish("markAsDelivered", encode_command(fields))

    async def mark_as_read(
        self, conversation_id: str | UUID, message_id: str | UUID, *, timeout: float | None = None
    ) -> MessageRead:
        """Marks all up to and including this message as read; returns the position that holds now."""
        async with asyncio.timeout(timeout):
            return await self._open.outbox.mark_as_read(str(conversation_id), str(message_id))

    async def set_typing(self, conversation_id: str | UUID, is_typing: bool) -> None:
        """Tells that the user is typing, and goes on telling it until switched off or a message is sent.

        Best effort: told to nobody while there is no connection.
        """
        if is_typing:
            self._open.typing.begin(str(conversation_id))
        else:
            await self._open.typing.end(str(conversation_id))

    def set_presence(self, state: PresenceState) -> None:
        """Shows the user as online (the default) or away on this device, from now on."""
        if state is PresenceState.OFFLINE:
            raise ValueError("a client is offline when it is closed")
        if not self._options.presence:
            raise RuntimeError("this client was made with presence=False")
        self._open.presence.set(state)

    async def set_preferences(
        self,
        *,
        read_receipts: bool | None = None,
        invisible: bool | None = None,
        timeout: float | None = None,
    ) -> PreferencesChanged:
        """Changes what is given, for all devices of the user; returns all preferences."""
        given = {"readReceipts": read_receipts, "invisible": invisible}
        fields = {name: value for name, value in given.items() if value is not None}
        if not fields:
            raise ValueError("give at least one preference")
        async with asyncio.timeout(timeout):
            return await self._open.requester.ask("setPreferences", fields, PreferencesChanged)

    async def sync(
        self, conversation_id: str | UUID, after_seq: int = 0, *, limit: int | None = None
    ) -> AsyncIterator[SyncPage]:
        """Everything after a position, page by page up to the newest change.

        `events()` needs no help of this kind: it repairs itself.
        """
        while True:
            fields: dict[str, Any] = {"conversationId": str(conversation_id), "afterSeq": after_seq}
            if limit is not None:
                fields["limit"] = limit
            page = await self._open.requester.ask("sync", fields, SyncPage)
            yield page
            if page.complete:
                return
            after_seq = page.last_seq

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
        link = await self._open.connection.link()
        body = payload if isinstance(payload, bytes) else encode_command(payload)
        topic = self._options.command_topic(command)
        await link.publish(topic, body, qos=qos, retain=retain, correlation_data=correlation_data)

    def events(self) -> AsyncIterator[Event]:
        """All events since the client was entered; ends when the client is closed.

        Messages of a conversation come in the order of their `seq`, each once
        and none left out; receipts never go back. Each event is read by one
        reader, and counts as handled when that reader asks for the next one.
        """
        if not self._options.collect_events:
            raise RuntimeError("this client was made with collect_events=False")
        if self._session is None:
            raise ClientClosed("the client is not open")
        stream = EventStream(self._session.inbox, self._session.handled)
        if self._options.keep_positions:
            self._streams.append(stream)
        return stream

    @property
    def _open(self) -> Session:
        if self._session is None or self._closed:
            raise ClientClosed("the client is not open")
        return self._session

    def _stopped(self, _: asyncio.Task[None]) -> None:
        """Nothing more will come: lets all who wait go."""
        if self._closed or self._session is None:
            return
        self._closed = True
        self._session.connection.close()
        self._session.requester.close()
        self._session.inbox.end()
