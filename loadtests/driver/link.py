"""One device: MQTT 5 over a WebSocket, with as little work for each packet as possible."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

import mqtt5

from loadtests.driver.websocket import FrameReader, WebSocketClosed, binary_frame, upgrade_request

_HEAD_END = b"\r\n\r\n"
_KEEP_ALIVE_S = 600
_RECEIVE_MAXIMUM = 1_000
_CONNECT_SECONDS = 60.0
_HELD_UP_BYTES = 64 * 1024

OnPublish = Callable[[mqtt5.PublishPacket], None]


class Link(asyncio.Protocol):
    """A connected device; everything that one read calls for leaves in one write.

    `on_publish` gets every delivery; the PUBACK is written by itself.
    """

    def __init__(self, on_publish: OnPublish) -> None:
        self._on_publish = on_publish
        self._frames = FrameReader()
        self._upgraded = False
        self._head = b""
        self._rest = b""
        self._out: list[bytes] = []
        self._reading = False
        self._transport: asyncio.Transport | None = None
        self._opening: asyncio.Future[mqtt5.ConnAckPacket | mqtt5.SubAckPacket | None] | None = None
        self.packet_id = 0
        self.on_refused: Callable[[int], None] = lambda _packet_id: None
        """Gets the packet id of every publication that the broker does not take."""
        self.lost = False
        """Whether the connection ended without `close`."""

    async def open(
        self, host: str, port: int, *, user: str, device: str, token: str, subscribe: bool = True
    ) -> None:
        """Connects, authenticates, and subscribes to the user's events unless told not to.

        Raises `ConnectionRefusedError` when the broker refuses, `OSError` and `TimeoutError` when it
        does not answer.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_CONNECT_SECONDS):
            await loop.create_connection(lambda: self, host, port)
            await self._answer_to(upgrade_request(host, port))
            connect = mqtt5.ConnectPacket(
                client_id=f"{user}:{device}",
                username=user,
                password=token.encode(),
                clean_start=True,
                keep_alive=_KEEP_ALIVE_S,
                receive_max=_RECEIVE_MAXIMUM,
            )
            answer = await self._answer_to(binary_frame(connect.write()))
            code = getattr(answer, "reason_code", None)
            if code != mqtt5.ConnAckReasonCode.SUCCESS:
                raise ConnectionRefusedError(f"CONNECT of {user}: {code}")
            if subscribe:
                await self._subscribe(f"chat/v1/users/{user}/events/+")

    async def _subscribe(self, topic_filter: str) -> None:
        filters = [mqtt5.TopicFilter(topic_filter, max_qos=mqtt5.QoS.AT_LEAST_ONCE)]
        answer = await self._answer_to(
            binary_frame(mqtt5.SubscribePacket(self.next_packet_id(), filters).write())
        )
        granted: Sequence[object] = getattr(answer, "reason_codes", ())
        if list(granted) != [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]:
            raise ConnectionRefusedError(f"SUBSCRIBE to {topic_filter}: {granted}")

    def next_packet_id(self) -> int:
        """The packet id of the next publication at QoS 1."""
        self.packet_id = self.packet_id % 65_535 + 1
        return self.packet_id

    def write(self, packet: bytes) -> None:
        """Sends an MQTT packet; within a read, together with all others at its end."""
        if self._reading:
            self._out.append(packet)
        elif self._transport is not None:
            self._transport.write(binary_frame(packet))

    @property
    def is_held_up(self) -> bool:
        """Whether the broker reads more slowly than is written: much waits in this process already."""
        return self._transport is not None and self._transport.get_write_buffer_size() > _HELD_UP_BYTES

    def close(self) -> None:
        """Ends the connection without a word, as a client does that loses its network."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        # uvloop's transports have the interface without the base class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self.lost = self._transport is not None
        self._transport = None
        if self._opening is not None and not self._opening.done():
            self._opening.set_exception(exc or ConnectionResetError("closed while it was opened"))

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if not self._upgraded:
            self._on_head(data)
            return
        try:
            stream = self._frames.read(data)
        except WebSocketClosed:
            if self._transport is not None:
                self._transport.close()
            return
        if self._rest:
            stream = self._rest + stream
        self._reading = True
        offset, end = 0, len(stream)
        view = memoryview(stream)
        while offset < end:
            try:
                packet, size = mqtt5.read(view[offset:])
            except IndexError:
                break  # Not whole yet.
            offset += size
            if type(packet) is mqtt5.PublishPacket:
                if packet.packet_id is not None:
                    # PUBACK (3.4), success.
                    self._out.append(b"\x40\x02" + packet.packet_id.to_bytes(2, "big"))
                self._on_publish(packet)
            elif type(packet) is mqtt5.PubAckPacket:
                if packet.reason_code.value >= 0x80:
                    self.on_refused(packet.packet_id)
            else:
                self._on_control(packet)
        self._rest = stream[offset:]
        self._reading = False
        self._flush()

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            frame = binary_frame(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            if self._frames.pongs:
                frame += b"".join(self._frames.pongs)
                self._frames.pongs.clear()
            self._transport.write(frame)
        self._out.clear()

    def _on_head(self, data: bytes) -> None:
        self._head += data
        head, found, rest = self._head.partition(_HEAD_END)
        if not found or self._opening is None:
            return
        if not head.startswith(b"HTTP/1.1 101"):
            self._opening.set_exception(ConnectionRefusedError(head.split(b"\r\n")[0].decode("latin-1")))
            return
        self._upgraded = True
        self._opening.set_result(None)
        if rest:
            self.data_received(rest)

    def _on_control(self, packet: object) -> None:
        if isinstance(packet, mqtt5.ConnAckPacket | mqtt5.SubAckPacket) and self._opening is not None:
            self._opening.set_result(packet)

    async def _answer_to(self, data: bytes) -> mqtt5.ConnAckPacket | mqtt5.SubAckPacket | None:
        assert self._transport is not None
        self._opening = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        try:
            return await self._opening
        finally:
            self._opening = None
