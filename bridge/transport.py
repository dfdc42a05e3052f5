"""The links to the broker: connects them, keeps them alive, and starts over when one is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from bridge.connection import Connected, Connection, Pong, ProtocolError, Refused
from bridge.publisher import Publisher
from bridge.session import Delivery, Session, Subscribed
from bridge.socket import LinkLost, LinkSocket
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
    socket_path: Path | None = None
    """The broker's unix socket; in its place host and port are not used."""
    username: str
    token: Callable[[], str]
    """Asked for a fresh JWT before every connection."""
    filters: Sequence[str]
    demand_lease: Callable[[], None] = lambda: None
    """Called before every connection, which would take the place of another instance's: raises
    `LeaseLost` when none may be made, and that ends `run`."""
    jitter: Callable[[float, float], float] = field(default=random.uniform)


class BrokerLinks:
    """Keeps one `Session` and its `Publisher`s connected for as long as `run` runs.

    They share one fate: when one link is lost, all are made again, publishers
    first. Commands come in only while their consequences can go out, and what
    a lost link has swallowed comes again with the session's deliveries.

    `on_deliveries` gets all deliveries of one socket read at once; whatever
    it queues is written together when it returns. `on_session_lost` is told
    when the broker has forgotten the session.
    """

    def __init__(
        self,
        session: Session,
        publishers: Sequence[Publisher],
        options: LinkOptions,
        *,
        on_deliveries: Callable[[Sequence[Delivery]], None],
        on_session_lost: Callable[[], None],
    ) -> None:
        self._session = session
        self._publishers = publishers
        self._options = options
        self._on_deliveries = on_deliveries
        self._on_session_lost = on_session_lost
        self._sockets: dict[Connection, LinkSocket] = {}
        # The session is the last one, whatever is done with all of them.
        self._ready: dict[Connection, asyncio.Event] = {
            connection: asyncio.Event() for connection in (*publishers, session)
        }
        self._idle = asyncio.Event()
        self._reading = False
        self._closing = False

    @property
    def is_ready(self) -> bool:
        """Whether commands arrive: connected and subscribed."""
        return self._ready[self._session].is_set()

    @property
    def is_idle(self) -> bool:
        """Whether every command that was taken is acknowledged, and every publication confirmed."""
        return self._session.is_idle and all(publisher.is_idle for publisher in self._publishers)

    async def run(self) -> None:
        """Connects, and connects again after every loss, with jittered back-off; until `close`.

        Cancelled, it cuts all links off as they are.
        """
        delay = _FIRST_DELAY_S
        while not self._closing:
            started = asyncio.get_running_loop().time()
            try:
                await self._one_round()
            except (OSError, TimeoutError, ProtocolError, LinkLost) as error:
                if self._closing:
                    return
                _log.warning("broker_link_lost", reason=str(error) or type(error).__name__)
            finally:
                BROKER_CONNECTED.set(0)
            if self.is_ready:
                BROKER_RECONNECTS.inc()
            # A link that ends as soon as it is ready (another instance with our client id,
            # a packet that breaks it) must not be made again and again without a pause.
            if asyncio.get_running_loop().time() - started > _LONGEST_DELAY_S:
                delay = 0.0
            for ready in self._ready.values():
                ready.clear()
            await asyncio.sleep(self._options.jitter(delay / 2, delay))
            delay = min(max(delay * 2, _FIRST_DELAY_S), _LONGEST_DELAY_S)

    def flush(self) -> None:
        """Writes what is queued, one write a link; within a read, at its end."""
        if self._reading:
            return
        # Each message lets a user write on: who reads PUBACKs more slowly would fall ever further behind.
        is_ahead = self._session.is_ahead
        # Publications leave before the PUBACKs that may follow from them.
        for connection in self._ready:
            if is_ahead and isinstance(connection, Publisher) and connection.may_wait:
                continue
            if connection.out and connection in self._sockets:
                self._sockets[connection].write(connection.data_to_send())
        if self.is_idle:
            self._idle.set()

    async def until_writable(self) -> None:
        """Returns when the broker takes what the session says, or there is no link to it."""
        socket = self._sockets.get(self._session)
        if socket is not None:
            await socket.until_writable()

    async def drain(self) -> None:
        """Takes no more commands; returns when the broker has the answers to all that were taken."""
        self._session.drain()
        while not self.is_idle:
            self._idle.clear()
            await self._idle.wait()

    async def close(self) -> None:
        """Says goodbye to the broker, keeping the session, and closes the sockets."""
        self._closing = True
        self._ready[self._session].clear()
        for connection in self._ready:
            connection.disconnect()
        self.flush()
        await asyncio.gather(*(socket.close() for socket in self._sockets.values()))

    async def _one_round(self) -> None:
        """From the first connection to the first loss, which it raises."""
        try:
            for connection in self._ready:
                await self._open(connection)
            BROKER_CONNECTED.set(1)
            _log.info("broker_link_ready", host=self._options.host, port=self._options.port)
            await self._keep_alive()
        finally:
            for connection, socket in self._sockets.items():
                connection.link_lost()
                socket.abort()
            self._sockets = {}
            if self.is_idle:
                self._idle.set()

    async def _open(self, connection: Connection) -> None:
        loop, options = asyncio.get_running_loop(), self._options

        def new_socket() -> LinkSocket:
            return LinkSocket(lambda data: self._on_data(connection, data))

        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            if options.socket_path is not None:
                _, socket = await loop.create_unix_connection(new_socket, str(options.socket_path))
            else:
                _, socket = await loop.create_connection(new_socket, options.host, options.port)
            self._sockets[connection] = socket
            options.demand_lease()
            connection.connect(options.username, options.token().encode())
            self.flush()
            await self._until_ready(connection, socket)

    async def _until_ready(self, connection: Connection, socket: LinkSocket) -> None:
        """Waits until the link can be used; raises what ended it if that comes first."""
        ready = self._ready[connection]
        waiter = asyncio.create_task(ready.wait())
        try:
            await asyncio.wait((waiter, socket.closed), return_when=asyncio.FIRST_COMPLETED)
            if not ready.is_set():
                socket.closed.result()
        finally:
            waiter.cancel()

    async def _keep_alive(self) -> None:
        """Pings twice per keep-alive interval; a link that is silent for one is dead."""
        interval = self._session.keep_alive_s / 2
        sockets = list(self._sockets.values())
        while True:
            heard = [socket.reads for socket in sockets]
            for connection in self._ready:
                connection.ping()
            self.flush()
            await asyncio.wait(
                [socket.closed for socket in sockets], timeout=interval, return_when=asyncio.FIRST_COMPLETED
            )
            for socket in sockets:
                if socket.closed.done():
                    socket.closed.result()
            if any(socket.reads == before for socket, before in zip(sockets, heard, strict=True)):
                raise LinkLost("the broker is silent")

    def _on_data(self, connection: Connection, data: bytes) -> None:
        """Everything one socket read brought; runs in the event loop, never waits."""
        deliveries: list[Delivery] = []
        self._reading = True
        try:
            for event in connection.receive(data):
                if type(event) is Delivery:
                    deliveries.append(event)
                else:
                    self._on_control(connection, event)
            if deliveries:
                self._on_deliveries(deliveries)
        finally:
            self._reading = False
        self.flush()

    def _on_control(self, connection: Connection, event: object) -> None:
        match event:
            case Connected() if connection is not self._session:
                self._ready[connection].set()
            case Connected(session_present):
                if not session_present:
                    self._on_session_lost()
                self._session.subscribe(self._options.filters)
            case Subscribed():
                self._ready[connection].set()
            case Refused("publish", reason):
                # Our own topics and sizes: a mistake in the broker's rules, and lost events.
                PUBLICATIONS_REFUSED.inc()
                _log.error("publication_refused", reason=reason)
            case Refused(step, reason):
                raise LinkLost(f"the broker refused: {step}, {reason}")
            case Pong():
                pass
