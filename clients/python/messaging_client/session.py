"""The parts of an open client, put together: what runs beside the application."""

from __future__ import annotations

import asyncio
import logging

from messaging_client.background import Background
from messaging_client.commands import AUTOMATIC
from messaging_client.connection import Connection
from messaging_client.decoding import decode_event
from messaging_client.errors import ClientClosed, MalformedEvent
from messaging_client.events import CommandError, Event, Position, SyncPage
from messaging_client.inbox import Inbox
from messaging_client.link import Delivery, Link
from messaging_client.options import MessagingClientOptions
from messaging_client.positions import HandledPositions
from messaging_client.presence import Presence
from messaging_client.receipts import DeliveredMarks
from messaging_client.repair import Repair
from messaging_client.requests import Requester
from messaging_client.sending import Outbox
from messaging_client.state_file import StateFile
from messaging_client.typing_signals import TypingSignals

_LOGGER = logging.getLogger("messaging_client")

_LEAVE_SECONDS = 2.0
"""How long a client that is being closed tries to say so."""


class Session:
    """From `start` to `close`; the connection's loop is `run`."""

    def __init__(self, options: MessagingClientOptions, file: StateFile | None) -> None:
        self._options = options
        self._file = file
        self.background = Background()
        self.connection = Connection(options, self._receive, self._connected)
        self.requester = Requester(options, self.connection)
        self.outbox = Outbox(self.requester, self.background, file)
        self.presence = Presence(options, self.background)
        self.typing = TypingSignals(options, self.connection, self.background)
        self._marks = DeliveredMarks(options, self.requester, self.background)
        self._positions = HandledPositions(file, self.background) if file and options.keep_positions else None
        self.inbox = Inbox(options.max_buffered_events, options.known_positions)
        self._repair = Repair(options, self.inbox, self.requester, self.background)
        self.inbox.on_gap = self._repair.start
        if options.mark_delivered:
            self.inbox.on_new_message = self._marks.note
            self.inbox.on_positions = self._check_marks

    async def start(self) -> None:
        """Takes up what an earlier run left."""
        if self._file is not None and self._options.keep_positions:
            for conversation_id, seq in (await self._file.positions()).items():
                self.inbox.begin(conversation_id, seq)
        await self.outbox.restore()

    def handled(self, event: Event) -> None:
        """The application is done with this event."""
        if self._positions is not None:
            self._positions.handled(event)

    async def say_goodbye(self) -> None:
        """Tells what is still to be told, as far as the connection allows it in a short time."""
        if self.connection.current is None:
            return
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._marks.flush()
                if self._options.presence:
                    await self.presence.leave()
        except (TimeoutError, ClientClosed):
            # The next marks cover these; the will, or the end of the lease, tells the rest.
            return

    async def close(self) -> None:
        """Ends every task and the file."""
        await self.background.close()
        if self._positions is not None:
            await self._positions.flush()
        if self._file is not None:
            await self._file.close()

    def _check_marks(self, conversation_id: str, positions: tuple[Position, ...]) -> None:
        for position in positions:
            if position.user_id == self._options.user_id:
                self._marks.check(conversation_id, position.delivered_seq)

    def _connected(self, link: Link) -> None:
        if self._options.presence:
            self.presence.connected(link)
        if self._options.collect_events:
            self._repair.connected(link)

    def _receive(self, delivery: Delivery) -> None:
        if self._options.on_payload is not None:
            self._options.on_payload(delivery.event, delivery.payload)
        try:
            event = decode_event(delivery.event, delivery.payload, user_id=self._options.user_id)
        except MalformedEvent as error:
            _LOGGER.warning("ignored an event: %s", error)
            return
        awaited = self.requester.answers.offer(event, delivery.correlation_data)
        if awaited and isinstance(event, SyncPage):
            # Whoever asked for it takes it in.
            return
        about = delivery.correlation_data or b""
        if isinstance(event, CommandError) and about.startswith(AUTOMATIC):
            self._refused(event, about.removeprefix(AUTOMATIC).decode("ascii", "replace"))
            return
        if self._options.collect_events:
            self.inbox.take(event)

    def _refused(self, error: CommandError, conversation_id: str) -> None:
        _LOGGER.warning("the service refused a %s: %s", error.command, error.code)
        if error.retryable and error.command == "markAsDelivered":
            self._marks.repeat(conversation_id, (error.retry_after_ms or 0) / 1000)
