"""Keeps a link to the broker: connects, renews the token, reconnects, never gives up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from messaging_client.errors import ClientClosed, LinkLost
from messaging_client.link import Delivery, Link, open_link
from messaging_client.options import MessagingClientOptions, Status, StatusChange
from messaging_client.tokens import expires_at, renewal_delay

_LOGGER = logging.getLogger("messaging_client")

_STABLE_SECONDS = 10.0
"""A link that lived shorter counts as a failed attempt: two clients with one id
would otherwise throw each other out without a pause."""


class Connection:
    """The current link, if there is one, and the loop that replaces it."""

    def __init__(
        self,
        options: MessagingClientOptions,
        deliver: Callable[[Delivery], None],
        connected: Callable[[Link], None],
    ) -> None:
        self._options = options
        self._deliver = deliver
        self._connected = connected
        self._link: Link | None = None
        self._up_since: float | None = None
        """On the event loop's clock, of the newest link; None before its subscription was answered."""
        self._closed = False
        self._changed = asyncio.Event()
        """Set while there is a link, and for good once closed."""
        self.status = Status.CONNECTING

    @property
    def current(self) -> Link | None:
        """The link, if there is one now."""
        return self._link

    async def link(self) -> Link:
        """The link, waiting until there is one; raises `ClientClosed`."""
        while True:
            if self._closed:
                raise ClientClosed("the client is closed")
            if self._link is not None:
                return self._link
            await self._changed.wait()

    def close(self) -> None:
        """Lets everybody who waits for a link go. The loop is ended by cancelling `run`."""
        self._closed = True
        self._changed.set()
        self._tell(Status.CLOSED)

    async def run(self) -> None:
        """Until cancelled. The pauses grow as long as no link lasts, however long each attempt takes."""
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            self._up_since = None
            reason = await self._serve_one_link()
            if reason is None:
                continue
            if self._up_since is not None and loop.time() - self._up_since >= _STABLE_SECONDS:
                attempt = 0
            self._tell(Status.RECONNECTING, reason)
            await asyncio.sleep(self._options.reconnect.delay(attempt, self._options.jitter))
            attempt += 1

    async def _serve_one_link(self) -> str | None:
        """Connects and delivers until the link ends; returns why, or None for a planned renewal."""
        try:
            token = await self._fresh_token()
            link = await open_link(self._options, token)
        except LinkLost as error:
            return str(error)
        # Reads from the start: a session that was kept delivers before the subscription is answered.
        reading = asyncio.create_task(self._read(link), name="messaging-client-read")
        try:
            reason = await self._until_end(link, reading, token)
        finally:
            await link.close()
            # Ends by itself once the link is closed and its last event was delivered.
            await asyncio.wait({reading})
        # Cancelled by the library when the link could not be closed in time: that one is lost all the same.
        if not reading.cancelled():
            reading.result()
        return reason

    async def _until_end(self, link: Link, reading: asyncio.Task[None], token: str) -> str | None:
        try:
            await link.subscribe(self._options.event_filter)
        except LinkLost as error:
            return str(error)
        if link.lost.done():
            # `_read` took it back before it was given.
            return "the connection ended"
        renewal = renewal_delay(
            expires_at(token), self._options.clock(), self._options.renewal_margin, self._options.jitter
        )
        self._link = link
        self._up_since = asyncio.get_running_loop().time()
        self._changed.set()
        self._connected(link)
        self._tell(Status.CONNECTED)
        await asyncio.wait({reading}, timeout=renewal)
        return "the connection ended" if reading.done() else None

    async def _read(self, link: Link) -> None:
        try:
            async for delivery in link.deliveries():
                self._deliver(delivery)
        finally:
            # In this order: who sees the link lost must not be given it again.
            self._link = None
            if not self._closed:
                self._changed.clear()
            link.mark_lost()

    async def _fresh_token(self) -> str:
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                return await self._options.token()
        except Exception as error:
            # Whatever the application's callback raises: it is asked again at the next attempt.
            raise LinkLost(f"no token: {type(error).__name__}") from error

    def _tell(self, status: Status, reason: str | None = None) -> None:
        if status is self.status and reason is None:
            return
        self.status = status
        if self._options.on_status is None:
            return
        try:
            self._options.on_status(StatusChange(status=status, reason=reason))
        except Exception:
            _LOGGER.exception("the status callback failed")
