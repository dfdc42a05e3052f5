"""An MQTT connection that hides nothing: every reason code, every refusal, every close.

Every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

DEADLINE_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A PUBLISH that the client received."""

    topic: str
    payload: bytes
    correlation_data: bytes | None = None
    user_properties: Sequence[tuple[str, str]] = ()


class Properties(TypedDict, total=False):
    """What a publication may have beside its payload."""

    correlation_data: bytes
    user_properties: list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker shall publish when the connection breaks."""

    topic: str
    payload: bytes = b"will"
    retain: bool = False
    delay: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """The fields of a CONNECT that matter here."""

    client_id: str
    password: str | None
    username: str | None = None
    will: Will | None = None
    clean: bool = True
    session_expiry: int = 0


class ClosedError(Exception):
    """The broker ended the connection; `reason` is that of its DISCONNECT packet, if it sent one."""

    def __init__(self, reason: int | None) -> None:
        super().__init__(f"closed by the broker, reason {reason}")
        self.reason = reason


class RawClient(ABC):
    """One network connection to the broker."""

    #: What the broker answers to a CONNECT it refuses.
    refused: int
    #: What it answers to a filter it refuses.
    refused_filter: int

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._last_packet_id = 0
        self._received: list[Message] = []
        self.session_present = False

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, port: int) -> AsyncIterator[RawClient]:
        """Connects to the port on loopback, and breaks the connection on leaving."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        client = cls(reader, writer)
        try:
            yield client
        finally:
            await client.abort()

    @abstractmethod
    async def connect(self, login: Login) -> int:
        """Logs in and returns the reason code of the CONNACK."""

    @abstractmethod
    async def subscribe(self, *filters: str) -> list[int]:
        """Returns what the broker granted for each filter."""

    @abstractmethod
    async def publish(
        self,
        topic: str,
        payload: bytes = b"{}",
        *,
        retain: bool = False,
        **properties: Unpack[Properties],
    ) -> int:
        """Publishes with QoS 1; returns the reason code of the PUBACK, 0 in MQTT 3.1.1, which has none.

        MQTT 3.1.1 has no properties either.
        """

    @abstractmethod
    def _disconnect_reason(self, packet: bytes) -> int | None:
        """The reason, where the packet is a DISCONNECT that has one."""

    @abstractmethod
    def _message(self, packet: bytes) -> tuple[Message, bytes]:
        """What a PUBLISH packet says, and what to answer."""

    async def receive(self) -> Message:
        """The next message, acknowledged."""
        while not self._received:
            self._keep(await self._read())
        return self._received.pop(0)

    async def ping(self) -> None:
        """Returns when the broker has answered."""
        self._writer.write(b"\xc0\x00")
        await self._answer(0xD0)

    async def wait_closed(self, *, deadline: float = DEADLINE_SECONDS) -> int | None:
        """Waits until the broker closes the connection; returns the reason it gave, if any."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                while True:
                    try:
                        self._keep(await self._read())
                    except ClosedError as closed:
                        return closed.reason
        raise AssertionError(f"still connected after {deadline} s")

    async def disconnect(self) -> None:
        """Leaves politely: the will is forgotten."""
        self._writer.write(b"\xe0\x00")
        await self.abort()

    async def abort(self) -> None:
        """Breaks the connection."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def _next_packet_id(self) -> int:
        self._last_packet_id += 1
        return self._last_packet_id

    def _keep(self, packet: bytes) -> None:
        if packet[0] & 0xF0 == 0x30:
            message, answer = self._message(packet)
            self._writer.write(answer)
            self._received.append(message)

    async def _answer(self, kind: int) -> bytes:
        """The next packet of the kind; keeps the messages that come before."""
        while True:
            packet = await self._read()
            if packet[0] & 0xF0 == kind:
                return packet
            self._keep(packet)

    async def _read(self) -> bytes:
        """The next packet, as it came.

        Raises:
            ClosedError: there is none any more.
            TimeoutError: nothing came in time.
        """
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                packet = await self._read_frame()
        except (asyncio.IncompleteReadError, ConnectionError):
            raise ClosedError(None) from None
        if packet[0] == 0xE0:
            raise ClosedError(self._disconnect_reason(packet))
        return packet

    async def _read_frame(self) -> bytes:
        header = await self._reader.readexactly(2)
        length, shift = header[1] & 0x7F, 7
        while header[-1] & 0x80:
            header += await self._reader.readexactly(1)
            length |= (header[-1] & 0x7F) << shift
            shift += 7
        return header + await self._reader.readexactly(length)
