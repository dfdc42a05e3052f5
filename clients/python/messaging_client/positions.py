"""Remembers, in the state file, how far the application has read; written once a second at the most."""

from __future__ import annotations

import asyncio

from messaging_client.background import Background
from messaging_client.events import Event, MessageSent, NewMessage, OtherChange
from messaging_client.state_file import StateFile

_WRITE_EVERY_SECONDS = 1.0


class HandledPositions:
    """Collects positions and writes them together."""

    def __init__(self, file: StateFile, background: Background) -> None:
        self._file = file
        self._background = background
        self._unwritten: dict[str, int] = {}
        self._writing = False

    def handled(self, event: Event) -> None:
        """The application is done with this event."""
        if not isinstance(event, NewMessage | MessageSent | OtherChange):
            return
        self._unwritten[event.conversation_id] = event.seq
        if not self._writing:
            self._writing = True
            self._background.start(self._write_soon(), "positions")

    async def flush(self) -> None:
        """Returns when all positions so far are on the disk."""
        unwritten, self._unwritten = self._unwritten, {}
        if unwritten:
            await self._file.save_positions(unwritten)

    async def _write_soon(self) -> None:
        try:
            await asyncio.sleep(_WRITE_EVERY_SECONDS)
            await self.flush()
        finally:
            self._writing = False
