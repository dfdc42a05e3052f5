"""uvicorn's HTTP protocol, with an end to connections whose clients do nothing."""

from __future__ import annotations

import asyncio
import socket
import sys

from uvicorn.protocols.http.h11_impl import H11Protocol


class DeadlineProtocol(H11Protocol):
    """Closes a connection when the headers of its next request are not complete in time.

    The time is uvicorn's `timeout_keep_alive`, in seconds. uvicorn itself applies it only between an answer
    and the next byte: a connection that sends nothing, or a byte now and then, would keep its descriptor
    for ever. A client that takes nothing of its answer is cut off after as long (on Linux).

    On h11, the one implementation among our packages, rather than on whichever is installed.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """The first request has as long as those after an answer, for which uvicorn starts the timer."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        if sys.platform == "linux":
            # Counts while the peer's window is closed, too, and goes on after `close()`.
            transport.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self.timeout_keep_alive * 1000
            )

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, which however stops the timer at any byte; `handle_events` stops it at a request."""
        self.conn.receive_data(data)
        self.handle_events()
