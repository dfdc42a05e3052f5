"""One device's MQTT 5 connection, over WebSocket or plain TCP, without any opinion on its contents."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import mqtt5

from devstack.ports import LOOPBACK
from loadtests.driver.websocket import FrameReader, WebSocketClosed, binary_frame, upgrade_request

_HEAD_END = b"\r\n\r\n"
_PINGREQ = b"\xc0\x00"
_KEEP_ALIVE_S = 10
OPEN_WITHIN_S = 3.0
"""Connecting, logging in and subscribing; a client gives up then and tries again."""
PING_AFTER_S = 3.0
DEAD_AFTER_S = 7.0
"""A link on which nothing came for so long, pings included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Who connects, and to what it listens."""

    client_id: str
    username: str
    token: str
    subscribe: str | None
    session_expiry_s: int = 0
    """Over 0: the broker keeps the session, and the next connection takes it up."""


class DeviceLink(asyncio.Protocol):
    """Made with `open`. `on_publish` gets every delivery, and then it is acknowledged."""

    def __init__(
        self,
        on_publish: Callable[[mqtt5.PublishPacket], None],
        *,
        websocket: bool = True,
    ) -> None:
        self._on_publish = on_publish
        self._frames = FrameReader() if websocket else None
        self._head = b""
        self._upgraded = not websocket
        self._rest = b""
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[mqtt5.ConnAckPacket | mqtt5.SubAckPacket | None] | None = None
        self._packet_id = 1
        self._confirmations: dict[int, asyncio.Future[None]] = {}
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = loop.create_future()
        """Done when the connection has ended, for whatever reason."""
        self.heard_at = self.wrote_at = loop.time()
        self.failure: Exception | None = None
        """What `on_publish` raised: a defect of the client."""

    async def open(self, port: int, login: Login, *, host: str = LOOPBACK) -> bool:
        """Connects, logs in, subscribes; whether the broker had kept the session.

        Raises `OSError` (`ConnectionRefusedError` when the broker says no) or `TimeoutError`.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(OPEN_WITHIN_S):
                await loop.create_connection(lambda: self, host, port)
                if not self._upgraded:
                    await self._ask(upgrade_request(host, port), raw=True)
                return await self._log_in(login)
        except BaseException:
            self.abort()
            raise

    async def _log_in(self, login: Login) -> bool:
        connect = mqtt5.ConnectPacket(
            login.client_id,
            username=login.username,
            password=login.token.encode(),
            clean_start=not login.session_expiry_s,
            session_expiry_interval=login.session_expiry_s,
            keep_alive=_KEEP_ALIVE_S,
            receive_max=1_000,
        )
        connected = await self._ask(connect.write())
        if not isinstance(connected, mqtt5.ConnAckPacket) or connected.reason_code.value:
            raise ConnectionRefusedError("CONNECT was refused")
        if login.subscribe is not None:
            filters = [mqtt5.TopicFilter(login.subscribe, max_qos=mqtt5.QoS.AT_LEAST_ONCE)]
            granted = await self._ask(mqtt5.SubscribePacket(self.next_packet_id(), filters).write())
            codes: Sequence[object] = getattr(granted, "reason_codes", ())
            if list(codes) != [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]:
                raise ConnectionRefusedError("SUBSCRIBE was refused")
        return connected.session_present

    def next_packet_id(self) -> int:
        """The packet id for the next packet that needs one."""
        self._packet_id = self._packet_id % 65_535 + 1
        return self._packet_id

    def publish(self, topic: str, payload: bytes) -> int:
        """Sends at QoS 1; returns the packet id."""
        packet_id = self.next_packet_id()
        packet = mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id)
        self._write(packet.write())
        return packet_id

    async def publish_and_wait(self, topic: str, payload: bytes) -> None:
        """The same; returns with the broker's PUBACK, raises `ConnectionError` when the link ends first."""
        packet_id = self.publish(topic, payload)
        confirmed = self._confirmations[packet_id] = asyncio.get_running_loop().create_future()
        await asyncio.wait((confirmed, self.closed), return_when=asyncio.FIRST_COMPLETED)
        if not confirmed.done():
            raise ConnectionError("the link ended before the broker confirmed")

    def tick(self) -> None:
        """Pings when it was silent, and ends a link that is dead."""
        now = asyncio.get_running_loop().time()
        if now - self.heard_at > DEAD_AFTER_S:
            self.abort()
        elif now - max(self.wrote_at, self.heard_at) > PING_AFTER_S:
            self._write(_PINGREQ)

    def abort(self) -> None:
        """Ends the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        # uvloop's transports have the interface without the base class.
        self._transport = cast(asyncio.Transport, transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if not self.closed.done():
            self.closed.set_result(None)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("closed while it was opened"))

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self.heard_at = asyncio.get_running_loop().time()
        if not self._upgraded:
            data = self._read_head(data)
        if data and self._upgraded:
            try:
                self._read_packets(self._frames.read(data) if self._frames else data)
            except WebSocketClosed:
                self.abort()
            except Exception as error:
                self.failure = error
                self.abort()
        if self._out and self._transport is not None:
            self._write(b"".join(self._out))
        self._out.clear()

    def _read_head(self, data: bytes) -> bytes:
        """Takes in the answer to the upgrade; returns what came behind it."""
        self._head += data
        head, found, rest = self._head.partition(_HEAD_END)
        if not found or self._answer is None:
            return b""
        if not head.startswith(b"HTTP/1.1 101"):
            self._answer.set_exception(ConnectionRefusedError("no WebSocket"))
            return b""
        self._upgraded = True
        self._answer.set_result(None)
        return rest

    def _read_packets(self, data: bytes) -> None:
        stream = self._rest + data
        view, offset, end = memoryview(stream), 0, len(stream)
        while offset < end:
            try:
                packet, size = mqtt5.read(view[offset:])
            except IndexError:
                break  # Not whole yet.
            offset += size
            match packet:
                case mqtt5.PublishPacket():
                    self._on_publish(packet)
                    if packet.packet_id is not None:
                        self._out.append(b"\x40\x02" + packet.packet_id.to_bytes(2, "big"))
                case mqtt5.PubAckPacket():
                    self._settle(packet.packet_id)
                case mqtt5.ConnAckPacket() | mqtt5.SubAckPacket() if self._answer is not None:
                    if not self._answer.done():
                        self._answer.set_result(packet)
        self._rest = stream[offset:]

    def _write(self, packet: bytes, *, raw: bool = False) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self.wrote_at = asyncio.get_running_loop().time()
        self._transport.write(packet if raw or self._frames is None else binary_frame(packet))

    def _settle(self, packet_id: int) -> None:
        confirmed = self._confirmations.pop(packet_id, None)
        if confirmed is not None and not confirmed.done():
            confirmed.set_result(None)

    async def _ask(
        self, packet: bytes, *, raw: bool = False
    ) -> mqtt5.ConnAckPacket | mqtt5.SubAckPacket | None:
        self._answer = asyncio.get_running_loop().create_future()
        self._write(packet, raw=raw)
        try:
            return await self._answer
        finally:
            self._answer = None
