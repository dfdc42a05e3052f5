"""Tells the service that this device is there: on connecting, every 20 s, and on leaving."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from messaging_client.background import Background
from messaging_client.commands import AUTOMATIC, presence_command
from messaging_client.errors import LinkLost
from messaging_client.events import PresenceState
from messaging_client.link import Link
from messaging_client.options import MessagingClientOptions


class Presence:
    """The presence of one device; each MQTT session has its own id."""

    def __init__(self, options: MessagingClientOptions, background: Background) -> None:
        self._options = options
        self._background = background
        self._state = PresenceState.ONLINE
        self._changed = asyncio.Event()
        self._link: Link | None = None
        self._left = False

    def connected(self, link: Link) -> None:
        """A new session began; the one before is over, even if its will is never heard."""
        before, self._link = self._link, link
        self._background.start(self._serve(link, before), "presence")

    def set(self, state: PresenceState) -> None:
        """What is told from now on."""
        self._state = state
        self._changed.set()

    async def leave(self) -> None:
        """Tells that this session ends, if there is a connection to tell it over."""
        self._left = True
        self._changed.set()
        link = self._link
        if link is None or link.lost.done():
            return
        # The will, or the end of the lease, tells it otherwise.
        with contextlib.suppress(LinkLost):
            await self._tell(link, PresenceState.OFFLINE, link.session_id)

    async def _serve(self, link: Link, before: Link | None) -> None:
        while not link.lost.done() and not self._left:
            self._changed.clear()
            # What fails comes again with the next heartbeat, or with the next connection.
            with contextlib.suppress(LinkLost):
                await self._tell(link, self._state, link.session_id)
                if before is not None:
                    await self._tell(link, PresenceState.OFFLINE, before.session_id)
                    before = None
            await self._wait(link)

    async def _wait(self, link: Link) -> None:
        """Until the state changes, the heartbeat is due, or the link is lost."""
        changed = asyncio.create_task(self._changed.wait())
        until: set[asyncio.Future[Any]] = {changed, link.lost}
        try:
            await asyncio.wait(
                until,
                timeout=self._options.heartbeat,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            changed.cancel()

    async def _tell(self, link: Link, state: PresenceState, session_id: str) -> None:
        await link.publish(
            self._options.command_topic("presence"),
            presence_command(state, session_id),
            correlation_data=AUTOMATIC,
        )
