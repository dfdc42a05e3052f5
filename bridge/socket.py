"""The asyncio side of one link: whole reads in, whole writes out, and why it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast


class LinkLost(Exception):
    """The link to the broker is gone, or must go, and why."""


class LinkSocket(asyncio.Protocol):
    """One socket; an error in reading ends the link with that error."""

    def __init__(self, on_data: Callable[[bytes], None]) -> None:
        self._on_data = on_data
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.reads = 0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends with the reason for the end of the link, always an exception."""
        # Nobody needs to ask for the reason of an end that was wanted.
        self.closed.add_done_callback(lambda closed: closed.exception())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        # uvloop's transports have the interface without the base class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self.reads += 1
        try:
            self._on_data(data)
        except Exception as error:
            if not self.closed.done():
                self.closed.set_exception(error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if not self.closed.done():
            self.closed.set_exception(exc or LinkLost("the broker closed the connection"))
        self._writable.set()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        # Who cannot be answered is not read from: the broker then holds the rest.
        self._writable.clear()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._writable.set()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    async def until_writable(self) -> None:
        """Returns when the broker takes what is written, or the link has ended."""
        await self._writable.wait()

    def write(self, data: bytes) -> None:
        """Sends everything, in the background where the socket is full."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def close(self) -> None:
        """Closes after what was written has left; returns when it is closed."""
        if self._transport is not None:
            self._transport.close()
        await asyncio.wait((self.closed,))

    def abort(self) -> None:
        """Closes at once."""
        if self._transport is not None:
            self._transport.abort()
