"""The session's socket: connects, keeps alive, and starts over when the link is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import structlog

from bridge.session import (
    Connected,
    Delivery,
    Event,
    Pong,
    ProtocolError,
    Refused,
    Session,
    Subscribed,
)
from service.metrics import BROKER_CONNECTED, BROKER_RECONNECTS, PUBLICATIONS_REFUSED

_log = structlog.get_logger(__name__)

_CONNECT_TIMEOUT_S = 5.0
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """Where the broker is and who we are there."""

    host: str
    port: int
    username: str
    token: Callable[[], str]
    """Asked for a fresh JWT before every connection."""
    filters: Sequence[str]
    jitter: Callable[[float, float], float] = field(default=random.uniform)


class BrokerLink:
    """Keeps one `Session` connected to its broker for as long as `run` runs.

    `on_deliveries` gets all deliveries of one socket read at once; whatever
    it queues in the session is written together when it returns.
    `on_session_lost` is told when the broker has forgotten the session.
    """

    def __init__(
        self,
        session: Session,
        options: LinkOptions,
        *,
        on_deliveries: Callable[[Sequence[Delivery]], None],
        on_session_lost: Callable[[], None],
    ) -> None:
        self.session = session
        self._options = options
        self._on_deliveries = on_deliveries
        self._on_session_lost = on_session_lost
        self._socket: _Socket | None = None
        self._ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._reading = False
        self._closing = False

    @property
    def is_ready(self) -> bool:
        """Whether commands arrive: connected and subscribed."""
        return self._ready.is_set()

    async def run(self) -> None:
        """Connects, and connects again after every loss, with jittered back-off; until `close`."""
        delay = _FIRST_DELAY_S
        while not self._closing:
            started = asyncio.get_running_loop().time()
            try:
                await self._one_link()
            except (OSError, TimeoutError, ProtocolError, LinkLost) as error:
                if self._closing:
                    return
                _log.warning("broker_link_lost", reason=str(error) or type(error).__name__)
            if self._ready.is_set():
                BROKER_RECONNECTS.inc()
            # A link that ends as soon as it is ready (another instance with our client id,
            # a packet that breaks it) must not be made again and again without a pause.
            if asyncio.get_running_loop().time() - started > _LONGEST_DELAY_S:
                delay = 0.0
            self._ready.clear()
            BROKER_CONNECTED.set(0)
            await asyncio.sleep(self._options.jitter(delay / 2, delay))
            delay = min(max(delay * 2, _FIRST_DELAY_S), _LONGEST_DELAY_S)

    def flush(self) -> None:
        """Writes what the session has queued, all in one write; within a read, at its end."""
        if self._reading:
            return
        data = self.session.data_to_send()
        if data and self._socket is not None:
            self._socket.write(data)
        if self.session.is_idle:
            self._idle.set()

    async def drain(self) -> None:
        """Takes no more commands; returns when the broker has the answers to all that were taken."""
        self.session.drain()
        while not self.session.is_idle:
            self._idle.clear()
            await self._idle.wait()

    async def close(self) -> None:
        """Says goodbye to the broker, keeping the session, and closes the socket."""
        self._closing = True
        self._ready.clear()
        self.session.disconnect()
        self.flush()
        if self._socket is not None:
            await self._socket.close()

    async def _one_link(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            _, socket = await loop.create_connection(
                lambda: _Socket(self._on_data), self._options.host, self._options.port
            )
        self._socket = socket
        try:
            self.session.connect(self._options.username, self._options.token().encode())
            self.flush()
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await socket.until(self._ready)
            _log.info("broker_link_ready", host=self._options.host, port=self._options.port)
            await self._keep_alive(socket)
        finally:
            self._socket = None
            self.session.link_lost()
            socket.abort()

    async def _keep_alive(self, socket: _Socket) -> None:
        """Pings twice per keep-alive interval; a link that is silent for one is dead."""
        interval = self.session.keep_alive_s / 2
        while True:
            heard = socket.reads
            self.session.ping()
            self.flush()
            await asyncio.wait((socket.closed,), timeout=interval)
            if socket.closed.done():
                socket.closed.result()
            if socket.reads == heard:
                raise LinkLost("the broker is silent")

    def _on_data(self, data: bytes) -> None:
        """Everything one socket read brought; runs in the event loop, never waits."""
        deliveries: list[Delivery] = []
        self._reading = True
        try:
            for event in self.session.receive(data):
                if type(event) is Delivery:
                    deliveries.append(event)
                else:
                    self._on_control(event)
            if deliveries:
                self._on_deliveries(deliveries)
        finally:
            self._reading = False
        self.flush()

    def _on_control(self, event: Event) -> None:
        match event:
            case Connected(session_present):
                if not session_present:
                    self._on_session_lost()
                self.session.subscribe(self._options.filters)
            case Subscribed():
                self._ready.set()
                BROKER_CONNECTED.set(1)
            case Refused("publish", reason):
                # Our own topics and sizes: a mistake in the broker's rules, and lost events.
                PUBLICATIONS_REFUSED.inc()
                _log.error("publication_refused", reason=reason)
            case Refused(step, reason):
                raise LinkLost(f"the broker refused: {step}, {reason}")
            case Pong() | Delivery():
                pass


class LinkLost(Exception):
    """The link to the broker is gone, or must go, and why."""


class _Socket(asyncio.Protocol):
    """The asyncio side of one link; an error in reading ends the link with that error."""

    def __init__(self, on_data: Callable[[bytes], None]) -> None:
        self._on_data = on_data
        self._transport: asyncio.Transport | None = None
        self.reads = 0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends with the reason for the end of the link, always an exception."""
        # Nobody needs to ask for the reason of an end that was wanted.
        self.closed.add_done_callback(lambda closed: closed.exception())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface without the base class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.reads += 1
        try:
            self._on_data(data)
        except Exception as error:
            if not self.closed.done():
                self.closed.set_exception(error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_exception(exc or LinkLost("the broker closed the connection"))

    def pause_writing(self) -> None:
        # Who cannot be answered is not read from: the broker then holds the rest.
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def until(self, event: asyncio.Event) -> None:
        """Waits for `event`; raises what ended the link if that comes first."""
        waiter = asyncio.create_task(event.wait())
        try:
            await asyncio.wait((waiter, self.closed), return_when=asyncio.FIRST_COMPLETED)
            if not event.is_set():
                self.closed.result()
        finally:
            waiter.cancel()

    async def close(self) -> None:
        """Closes after what was written has left; returns when it is closed."""
        if self._transport is not None:
            self._transport.close()
        await asyncio.wait((self.closed,))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
