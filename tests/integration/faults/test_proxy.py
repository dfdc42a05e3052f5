"""The fault proxy before a real socket: what passes, what does not, and how connections end."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from devstack.ports import LOOPBACK, free_port
from tests.faults.proxy import Direction, FaultProxy

PATIENCE_S = 10.0
MOMENT_S = 0.2
"""Long enough on loopback for what is not to come."""


class End(asyncio.Protocol):
    """One end of a connection: what it heard, in how many reads, and how the connection ended."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.reads = 0
        self.has_ended = False
        """Whether the other side said so."""
        self.error: Exception | None = None
        self._changed = asyncio.Event()
        self._lost = False
        self.transport: asyncio.Transport

    def say(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self.reads += 1
        self._changed.set()

    def eof_received(self) -> bool:
        self.has_ended = True
        self._changed.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self._lost = True
        self._changed.set()

    async def hears(self, data: bytes) -> None:
        """Waits until it has heard as much as `data` has, and holds it to that."""
        await self._until(lambda: len(self.heard) >= len(data) or self._lost)
        assert self.heard == data

    async def hears_the_end(self) -> None:
        await self._until(lambda: self.has_ended)

    async def is_reset(self) -> None:
        await self._until(lambda: self._lost)
        assert isinstance(self.error, ConnectionResetError)

    async def hears_nothing(self) -> None:
        before = self.reads
        await asyncio.sleep(MOMENT_S)
        assert self.reads == before
        assert not self._lost
        assert not self.has_ended

    async def hears_at_least(self, n: int) -> None:
        await self._until(lambda: len(self.heard) >= n)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Line:
    """A server behind a proxy, and connections to it."""

    def __init__(self, proxy: FaultProxy, accepted: asyncio.Queue[End]) -> None:
        self.proxy = proxy
        self._accepted = accepted

    async def connect(self) -> tuple[End, End]:
        """Client and server end; raises what connecting raises."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(End, LOOPBACK, self.proxy.listen_port)
        async with asyncio.timeout(PATIENCE_S):
            server = await self._accepted.get()
        return client, server

    async def talk(self) -> tuple[End, End]:
        """A connection over which each has heard the other."""
        client, server = await self.connect()
        client.say(b"?")
        await server.hears(b"?")
        server.say(b"!")
        await client.hears(b"!")
        for end in (client, server):
            end.heard.clear()
        return client, server


@asynccontextmanager
async def line() -> AsyncIterator[Line]:
    accepted: asyncio.Queue[End] = asyncio.Queue()

    class Accepted(End):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            accepted.put_nowait(self)

    server = await asyncio.get_running_loop().create_server(Accepted, LOOPBACK, 0)
    async with server, FaultProxy(server.sockets[0].getsockname()[1]) as proxy:
        yield Line(proxy, accepted)


@pytest_asyncio.fixture(name="line")
async def _line() -> AsyncIterator[Line]:
    async with line() as made:
        yield made


async def test_it_carries_everything_both_ways_and_the_end_of_each(line: Line) -> None:
    client, server = await line.connect()
    there, back = random.Random(1).randbytes(3_000_000), random.Random(2).randbytes(2_000_000)
    client.say(there)
    await server.hears(there)
    server.say(back)
    await client.hears(back)
    client.transport.write_eof()
    await server.hears_the_end()
    server.say(b"still here")
    await client.hears(back + b"still here")
    server.transport.write_eof()
    await client.hears_the_end()


async def test_a_server_that_does_not_run_and_one_that_resets_look_like_that() -> None:
    async with FaultProxy(free_port()) as proxy:
        _, client = await asyncio.get_running_loop().create_connection(End, LOOPBACK, proxy.listen_port)
        await client.is_reset()
        assert proxy.open_connections == 0
    async with line() as other:
        client, server = await other.talk()
        server.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )
        server.transport.abort()
        await client.is_reset()


async def test_a_cut_ends_all_connections_and_refuses_new_ones_until_healed(line: Line) -> None:
    ends = [end for _ in range(3) for end in await line.talk()]
    assert line.proxy.open_connections == 3
    line.proxy.cut()
    for end in ends:
        await end.is_reset()
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            await line.connect()
    line.proxy.heal()
    await line.talk()
    line.proxy.cut()
    line.proxy.heal()
    await line.talk()


@pytest.mark.parametrize("direction", list(Direction))
async def test_what_is_held_comes_later_and_whole(line: Line, direction: Direction) -> None:
    client, server = await line.talk()
    line.proxy.hold(direction)
    client.say(b"there")
    server.say(b"back")
    for end, other, way, text in (
        (server, client, Direction.TO_SERVER, b"there"),
        (client, server, Direction.TO_CLIENT, b"back"),
    ):
        if way in direction:
            other.say(b", more")
            await end.hears_nothing()
            line.proxy.heal()
            await end.hears(text + b", more")
            line.proxy.hold(direction)
        else:
            await end.hears(text)


async def test_who_writes_to_a_held_connection_feels_it(line: Line) -> None:
    client, server = await line.talk()
    line.proxy.hold(Direction.TO_SERVER)
    said = random.Random(3).randbytes(64_000_000)
    client.say(said)
    await server.hears_nothing()
    assert client.transport.get_write_buffer_size() > 48_000_000
    line.proxy.heal()
    await server.hears(said)


async def test_a_black_hole_swallows_and_its_connections_do_not_go_on_behind_a_gap(line: Line) -> None:
    client, server = await line.talk()
    line.proxy.black_hole()
    late, late_server = await line.connect()
    late.say(b"hello?")
    client.say(b"anybody?")
    client.transport.write_eof()
    server.say(b"there?")
    await server.hears_nothing()
    await client.hears_nothing()
    await late_server.hears_nothing()
    line.proxy.heal()
    for end in (client, server, late, late_server):
        await end.is_reset()
    await line.talk()


async def test_a_black_hole_one_way_lets_the_other_way_pass(line: Line) -> None:
    client, server = await line.talk()
    idle, idle_server = await line.talk()
    line.proxy.black_hole(Direction.TO_SERVER)
    client.say(b"swallowed")
    server.say(b"said")
    await client.hears(b"said")
    await server.hears_nothing()
    line.proxy.heal()
    await server.is_reset()
    idle.say(b"nothing of mine was swallowed")
    await idle_server.hears(b"nothing of mine was swallowed")


async def test_latency_keeps_the_order_and_does_not_add_up(line: Line) -> None:
    client, server = await line.talk()
    line.proxy.delay(0.2, 0.15, chance=random.Random(4))
    expected = b""
    started = time.monotonic()
    for number in range(50):
        client.say(b"%d " % number)
        expected += b"%d " % number
        # A read of the proxy's for each.
        await asyncio.sleep(0.001)
    await server.hears(expected)
    assert 0.05 <= time.monotonic() - started < 50 * 0.2 / 2
    line.proxy.heal()
    with pytest.raises(ValueError, match="before"):
        line.proxy.delay(0.1, 0.2, chance=random.Random(4))


async def test_slices_come_one_by_one(line: Line) -> None:
    client, server = await line.talk()
    line.proxy.slice(1)
    said = random.Random(5).randbytes(2_000)
    client.say(said)
    await server.hears(said)
    # The kernel may join two on their way.
    assert server.reads > len(said) / 3
    line.proxy.slice(1, writes_per_s=100)
    client.say(said)
    await server.hears(said + said)
    assert server.reads < len(said) + 100


@pytest.mark.parametrize("n", [1, 7, 100_000])
async def test_a_reset_comes_after_so_many_bytes(line: Line, n: int) -> None:
    client, server = await line.talk()
    line.proxy.reset_in(n, Direction.TO_CLIENT)
    later, later_server = await line.talk()
    said = random.Random(6).randbytes(200_000)
    client.say(b"may pass")
    await server.hears(b"may pass")
    server.say(said)
    await client.is_reset()
    await server.is_reset()
    assert client.heard == said[:n]
    later_server.say(said)
    await later.hears(said)


async def test_a_reset_that_is_not_due_yet_is_over_with_the_fault(line: Line) -> None:
    client, server = await line.talk()
    line.proxy.reset_in(100)
    line.proxy.heal()
    said = random.Random(6).randbytes(1_000)
    client.say(said)
    await server.hears(said)
    server.say(said)
    await client.hears(said)


async def test_a_slow_reader_gets_its_bytes_slowly_and_the_sender_feels_it(line: Line) -> None:
    client, server = await line.talk()
    line.proxy.rate(8_000, Direction.TO_CLIENT)
    small = server.transport.get_extra_info("socket")
    small.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    said = random.Random(7).randbytes(1_000_000)
    started = time.monotonic()
    server.say(said)
    await client.hears_at_least(4_000)
    assert time.monotonic() - started >= 0.4
    # What the proxy's side of the kernel had offered to take before, and hardly more.
    assert server.transport.get_write_buffer_size() > len(said) - 150_000
    client.say(b"not slow")
    await server.hears(b"not slow")
    fresh, fresh_server = await line.talk()
    fresh_server.say(b"x" * 800)
    started = time.monotonic()
    await fresh.hears(b"x" * 800)
    assert time.monotonic() - started >= 0.04
    line.proxy.heal()
    await client.hears(said)
