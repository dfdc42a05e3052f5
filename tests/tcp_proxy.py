"""A TCP proxy whose answers a test can hold back, and whose connections it can cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

LOOPBACK = "127.0.0.1"


class TcpProxy:
    """Forwards to `port`; while `hold_answers` is on, what the server says stays here."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = asyncio.Event()
        self._open.set()
        self._connections: list[set[asyncio.Task[None]]] = []
        self.listen_port = 0
        self.round_trips = 0
        """How often a client spoke first or after an answer."""
        self._is_answered = True

    def hold_answers(self) -> None:
        """From now on nothing of the server's reaches the client."""
        self._open.clear()

    def release_answers(self) -> None:
        """Lets through what was held, and all that follows."""
        self._open.set()

    def cut(self, number: int) -> None:
        """Ends one of the open connections, oldest first; what is held of it is lost."""
        for task in self._connections[number]:
            task.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries one connection until either side ends it."""
        server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self._port)
        ways = {
            asyncio.create_task(self._pump(reader, server_writer, self._ask)),
            asyncio.create_task(self._pump(server_reader, writer, self._answer)),
        }
        self._connections.append(ways)
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.remove(ways)
            for task in ways:
                task.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
            server_writer.close()

    async def _ask(self) -> None:
        self.round_trips += self._is_answered
        self._is_answered = False

    async def _answer(self) -> None:
        self._is_answered = True
        await self._open.wait()

    @staticmethod
    async def _pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_data: Callable[[], Awaitable[None]]
    ) -> None:
        while data := await reader.read(65_536):
            await on_data()
            writer.write(data)
            await writer.drain()

    def close(self) -> None:
        """Ends every connection."""
        for number in range(len(self._connections)):
            self.cut(number)


@asynccontextmanager
async def tcp_proxy(port: int) -> AsyncIterator[TcpProxy]:
    """A proxy before `port`, listening on `listen_port`, for as long as the block runs."""
    proxy = TcpProxy(port)
    server = await asyncio.start_server(proxy.serve, LOOPBACK, 0)
    proxy.listen_port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.close()
