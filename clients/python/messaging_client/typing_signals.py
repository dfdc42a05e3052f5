"""Tells that the user is typing, again and again while it goes on; nothing of it is kept or repeated."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from messaging_client.background import Background
from messaging_client.commands import AUTOMATIC, encode_command
from messaging_client.connection import Connection
from messaging_client.errors import LinkLost
from messaging_client.options import MessagingClientOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signal:
    task: asyncio.Task[None]
    since: float


class TypingSignals:
    """In which conversations the user is typing."""

    def __init__(
        self, options: MessagingClientOptions, connection: Connection, background: Background
    ) -> None:
        self._options = options
        self._connection = connection
        self._background = background
        self._on: dict[str, _Signal] = {}

    def begin(self, conversation_id: str) -> None:
        """Tells it now and refreshes it until `end` or `sent`."""
        if conversation_id in self._on:
            return
        task = self._background.start(self._refresh(conversation_id), "typing")
        if task is not None:
            self._on[conversation_id] = _Signal(task=task, since=asyncio.get_running_loop().time())

    async def end(self, conversation_id: str) -> None:
        """Tells that the user stopped, if it was told to type."""
        if self._stop(conversation_id):
            await self._tell(conversation_id, False)

    def sent(self, conversation_id: str, *, began_before: float) -> None:
        """A message was sent: the service clears the signal itself; what began later goes on."""
        signal = self._on.get(conversation_id)
        if signal is not None and signal.since <= began_before:
            self._stop(conversation_id)

    def _stop(self, conversation_id: str) -> bool:
        signal = self._on.pop(conversation_id, None)
        if signal is None:
            return False
        signal.task.cancel()
        return True

    async def _refresh(self, conversation_id: str) -> None:
        while True:
            await self._tell(conversation_id, True)
            await asyncio.sleep(self._options.typing_refresh)

    async def _tell(self, conversation_id: str, is_typing: bool) -> None:
        link = self._connection.current
        if link is None:
            return
        payload = encode_command({"conversationId": conversation_id, "isTyping": is_typing})
        try:
            await link.publish(
                self._options.command_topic("typing"), payload, qos=0, correlation_data=AUTOMATIC
            )
        except LinkLost:
            # A signal that comes late would be wrong: it is not repeated.
            return
