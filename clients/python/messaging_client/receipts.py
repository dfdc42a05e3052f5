"""Tells the service, by itself, which messages this device has."""

from __future__ import annotations

import asyncio

from messaging_client.background import Background
from messaging_client.commands import AUTOMATIC, encode_command
from messaging_client.errors import ClientClosed
from messaging_client.events import NewMessage
from messaging_client.options import MessagingClientOptions
from messaging_client.requests import Requester

_REPEAT_ATTEMPT = 3
"""Marks are not urgent: their pauses are those of a later attempt."""


class DeliveredMarks:
    """Marks the newest message of each conversation, some milliseconds after it came."""

    def __init__(self, options: MessagingClientOptions, requester: Requester, background: Background) -> None:
        self._options = options
        self._requester = requester
        self._background = background
        self._unmarked: dict[str, str] = {}
        """By conversation, the newest message that the broker has no mark of."""
        self._latest: dict[str, tuple[int, str]] = {}
        self._flushing = False

    def note(self, message: NewMessage) -> None:
        """This message came in its turn; marks are cumulative, so it stands for all before it."""
        self._latest[message.conversation_id] = (message.seq, message.message_id)
        self._mark(message.conversation_id)

    def check(self, conversation_id: str, delivered_seq: int) -> None:
        """The service believes this device's user to be here: a mark may have been lost."""
        seq, _ = self._latest.get(conversation_id, (0, ""))
        if seq > delivered_seq:
            self._mark(conversation_id)

    def repeat(self, conversation_id: str, at_least: float) -> None:
        """A mark was refused for now: the newest one is tried again, `at_least` seconds later."""
        if conversation_id in self._latest:
            pause = self._options.retry.delay(_REPEAT_ATTEMPT, self._options.jitter, at_least=at_least)
            self._background.start(self._repeat_after(conversation_id, pause), "repeat a mark")

    async def _repeat_after(self, conversation_id: str, pause: float) -> None:
        await asyncio.sleep(pause)
        self._mark(conversation_id)

    def _mark(self, conversation_id: str) -> None:
        self._unmarked[conversation_id] = self._latest[conversation_id][1]
        if not self._flushing:
            self._flushing = True
            self._background.start(self._flush_soon(), "delivered marks")

    async def flush(self) -> None:
        """Marks what waits; returns when the broker has the marks."""
        while self._unmarked:
            conversation_id, message_id = next(iter(self._unmarked.items()))
            fields = {"conversationId": conversation_id, "messageId": message_id}
            await self._requester.publish(
                "markAsDelivered",
                encode_command(fields),
                correlation_data=AUTOMATIC + conversation_id.encode(),
            )
            if self._unmarked.get(conversation_id) == message_id:
                del self._unmarked[conversation_id]

    async def _flush_soon(self) -> None:
        try:
            await asyncio.sleep(self._options.mark_delivered_delay)
            await self.flush()
        except ClientClosed:
            return
        finally:
            self._flushing = False
