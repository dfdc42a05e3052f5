"""A TCP proxy that does to connections what networks do."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Mapping
from enum import Flag
from functools import partial
from types import TracebackType

from devstack.ports import LOOPBACK, free_port
from tests.faults.proxy_frames import (
    PREFACE,
    DropRule,
    HttpClientFrames,
    HttpServerFrames,
    Kind,
    MqttFrames,
)
from tests.faults.proxy_stream import Conditions, ResetDue, Slicing, Stream

__all__ = ["Direction", "FaultProxy", "Kind"]

_BACKLOG = 1024
_MQTT_CONNECT = b"\x10"
_SEGMENT_BYTES = 1_448
"""As on Ethernet. With loopback's 64 KiB, a small window makes the kernel wait for timers."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: what is not sent yet is thrown away and the peer gets an RST."""


class Direction(Flag):
    """Whose bytes a fault befalls."""

    TO_SERVER = 1
    TO_CLIENT = 2
    BOTH = 3


class _Connection:
    """One client's connection and the one that is made for it."""

    def __init__(self, client: socket.socket, conditions: Mapping[Direction, Conditions]) -> None:
        self._client = client
        self._server = socket.socket()
        self._server.setblocking(False)
        self._server.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
        for end in (self._client, self._server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._conditions = conditions
        self._has_ended = False
        up, down = Direction.TO_SERVER, Direction.TO_CLIENT
        self.streams = {
            up: Stream(self._client, self._server, conditions[up]),
            down: Stream(self._server, self._client, conditions[down]),
        }

    async def carry(self, target_port: int) -> None:
        """Returns when both sides have ended, or either is lost; to be closed then."""
        try:
            await asyncio.get_running_loop().sock_connect(self._server, (LOOPBACK, target_port))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.streams[Direction.TO_SERVER].run(self._on_first))
                tasks.create_task(self.streams[Direction.TO_CLIENT].run())
            self._has_ended = True
        except* (OSError, ResetDue):
            # Said to the side that is left by `close`.
            pass

    def close(self) -> None:
        """Closes both sides; with an RST unless both have ended."""
        for end in (self._client, self._server):
            if not self._has_ended:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.close()

    def _on_first(self, data: bytes) -> None:
        """Tells the protocol by what the client says first."""
        up, down = self.streams[Direction.TO_SERVER], self.streams[Direction.TO_CLIENT]
        rules = {way: partial(_rule_of, conditions) for way, conditions in self._conditions.items()}
        if data.startswith(_MQTT_CONNECT):
            up.understand(MqttFrames(rules[Direction.TO_SERVER]))
            down.understand(MqttFrames(rules[Direction.TO_CLIENT]))
        elif data and PREFACE.startswith(data[: len(PREFACE)]):
            up.understand(HttpClientFrames())
            down.understand(HttpServerFrames(rules[Direction.TO_CLIENT], credit=up.inject))
        else:
            up.understand(None)
            down.understand(None)


def _rule_of(conditions: Conditions) -> DropRule | None:
    return conditions.drop


class FaultProxy:
    """Forwards a loopback port to another; an async context manager.

    Faults hold for open and new connections until `heal`, several at once if
    they are asked for; `reset_in` befalls open connections only, once. Clients
    must speak first, as those of MQTT, WebSocket, PostgreSQL, Redis and HTTP/2 do.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.listen_port = 0
        """Where clients connect; kept while connections are refused."""
        self._conditions = {way: Conditions() for way in (Direction.TO_SERVER, Direction.TO_CLIENT)}
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._failures: list[BaseException] = []
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the block of this context manager runs."""
        return self._listener is not None

    @property
    def open_connections(self) -> int:
        """Connections that are carried now."""
        return len(self._connections)

    @property
    def dropped(self) -> int:
        """What the present `drop_every` has taken so far."""
        rules = {id(each.drop): each.drop for each in self._conditions.values() if each.drop is not None}
        return sum(rule.dropped for rule in rules.values())

    async def __aenter__(self) -> FaultProxy:
        # Bound by number: only then the port stays ours while nobody listens.
        self.listen_port = free_port()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
        self._listener.setblocking(False)
        self._listener.bind((LOOPBACK, self.listen_port))
        self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._refuse()
        self.reset()
        await asyncio.gather(*self._connections.values(), return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._failures:
            raise BaseExceptionGroup("the proxy itself has failed", self._failures)

    def cut(self) -> None:
        """Resets all connections and refuses new ones."""
        self._refuse()
        self.reset()

    def reset(self) -> None:
        """Resets all connections; new ones are welcome."""
        for task in self._connections.values():
            task.cancel()

    def reset_in(self, n: int, direction: Direction = Direction.BOTH) -> None:
        """Resets each open connection when it has carried `n` (at least 1) more bytes that way."""
        for connection in self._connections:
            for way in direction:
                connection.streams[way].reset_in(n)

    def hold(self, direction: Direction = Direction.BOTH) -> None:
        """Nothing passes, nothing is lost: as when packets are lost and TCP sends them again later."""
        for way in direction:
            self._conditions[way].open.clear()

    def black_hole(self, direction: Direction = Direction.BOTH) -> None:
        """Swallows what is said and how it ends; connections with such a hole are reset by `heal`."""
        for way in direction:
            self._conditions[way].swallows = True

    def delay(
        self,
        mean_s: float,
        jitter_s: float,
        *,
        chance: random.Random,
        direction: Direction = Direction.BOTH,
    ) -> None:
        """Everything comes `mean_s` later, give or take up to `jitter_s`, in order."""
        if jitter_s > mean_s:
            raise ValueError("nothing comes before it was sent")
        for way in direction:
            self._conditions[way].lateness = lambda: chance.uniform(mean_s - jitter_s, mean_s + jitter_s)

    def slice(self, n: int, direction: Direction = Direction.BOTH, *, writes_per_s: float = 10_000.0) -> None:
        """Writes `n` bytes at a time, of all connections together at most so often each way.

        What comes beyond that passes whole.
        """
        for way in direction:
            self._conditions[way].slicing = Slicing(n, writes_per_s)

    def rate(self, bytes_per_s: float, direction: Direction = Direction.BOTH) -> None:
        """Each connection carries no more than this, and hardly anything waits here: the sender feels it."""
        for way in direction:
            self._conditions[way].bytes_per_s = bytes_per_s
        for connection in self._connections:
            for way in direction:
                connection.streams[way].shrink_buffer()

    def drop_every(self, n: int, kind: Kind, direction: Direction = Direction.BOTH) -> None:
        """Every `n`th of the kind is lost, counted over all connections of a direction.

        The rest of the connection does not suffer: neither MQTT's nor HTTP/2's framing, header
        compression or windows. gRPC answers go to the client, whatever the direction.
        """
        for way in direction:
            self._conditions[way].drop = DropRule(kind, n)

    def heal(self) -> None:
        """A plain proxy again; what was held passes, what was late comes when it was to come."""
        were_slow = [way for way, each in self._conditions.items() if each.bytes_per_s is not None]
        for conditions in self._conditions.values():
            conditions.heal()
        for connection, task in self._connections.items():
            if any(stream.has_hole for stream in connection.streams.values()):
                task.cancel()
            for stream in connection.streams.values():
                stream.reset_in(None)
            for way in were_slow:
                connection.streams[way].restore_buffer()
        self._listen()

    def _listen(self) -> None:
        if self._accepting is None:
            assert self._listener is not None
            self._listener.listen(_BACKLOG)
            self._accepting = asyncio.create_task(self._accept(self._listener), name="fault-proxy")

    def _refuse(self) -> None:
        if self._accepting is not None:
            assert self._listener is not None
            self._accepting.cancel()
            self._accepting = None
            # Linux: nobody listens any more, and who waited in the queue is reset.
            self._listener.shutdown(socket.SHUT_RD)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            connection = _Connection(client, self._conditions)
            task = asyncio.create_task(connection.carry(self._target_port), name="fault-proxy-connection")
            self._connections[connection] = task
            task.add_done_callback(partial(self._on_end, connection))

    def _on_end(self, connection: _Connection, task: asyncio.Task[None]) -> None:
        del self._connections[connection]
        connection.close()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)
