"""What every MQTT 5.0 link to the broker has in common, without I/O: bytes in, events and bytes out.

Section numbers are those of the MQTT 5.0 specification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mqtt5


class ProtocolError(Exception):
    """The broker sent something that MQTT 5.0 does not allow here; the link must go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """What CONNECT says (3.1); times in seconds."""

    client_id: str
    receive_maximum: int = 65_535
    """PUBLISH packets that may wait for their PUBACK at once: the back-pressure."""
    session_expiry_s: int = 0
    """How long the broker keeps the session without a link; with 0 every link starts clean."""
    keep_alive_s: int = 15
    maximum_packet_bytes: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Connected:
    """CONNACK accepted the link; without `session_present` the broker has forgotten us."""

    session_present: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker refused the connection, a subscription or a publication, or ended the link, and why."""

    step: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pong:
    """The broker answered a ping."""


class Connection:
    """One link after the other of one client id: connects, pings, publishes at QoS 0.

    A kind of link adds what its broker may send to `handlers`; what a handler
    returns is an event for who reads the socket.
    """

    def __init__(self, options: ConnectOptions) -> None:
        self._options = options
        self._buffer = b""
        self.connected = False
        """Whether CONNACK was received on a link that is not lost yet."""
        self.out: list[bytes] = []
        """Whole packets, to be written."""
        self.handlers: dict[type, Callable[..., object | None]] = {
            mqtt5.ConnAckPacket: self.on_connack,
            mqtt5.PingRespPacket: lambda _packet: Pong(),
            mqtt5.DisconnectPacket: lambda packet: Refused("disconnect", reason_name(packet.reason_code)),
        }

    @property
    def keep_alive_s(self) -> int:
        """Longest silence on our side that the broker accepts, in seconds."""
        return self._options.keep_alive_s

    def connect(self, username: str, password: bytes) -> None:
        """Starts a new link: forgets what was read and not written on the one before, queues CONNECT."""
        self.connected = False
        self._buffer = b""
        options = self._options
        packet = mqtt5.ConnectPacket(
            client_id=options.client_id,
            username=username,
            password=password,
            clean_start=options.session_expiry_s == 0,
            keep_alive=options.keep_alive_s,
            session_expiry_interval=options.session_expiry_s,
            receive_max=options.receive_maximum,
            max_packet_size=options.maximum_packet_bytes,
        )
        self.out = [packet.write()]

    def on_connack(self, packet: mqtt5.ConnAckPacket) -> object:
        """Takes the broker's answer to CONNECT."""
        if packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            return Refused("connect", reason_name(packet.reason_code))
        self.connected = True
        return Connected(packet.session_present)

    def ping(self) -> None:
        """Queues PINGREQ; `Pong` follows."""
        self.out.append(mqtt5.PingReqPacket().write())

    def disconnect(self) -> None:
        """Queues DISCONNECT; the broker keeps the session until it expires."""
        if self.connected:
            self.out.append(mqtt5.DisconnectPacket().write())
        self.connected = False

    def link_lost(self) -> None:
        """The socket is gone: nothing can be written until the next `connect`."""
        self.connected = False
        self.out.clear()

    def data_to_send(self) -> bytes:
        """Everything queued since the last call, to be written in one go."""
        if not self.out:
            return b""
        data = self.out[0] if len(self.out) == 1 else b"".join(self.out)
        self.out.clear()
        return data

    def receive(self, data: bytes) -> list[object]:
        """Decodes all whole packets of a socket read; a broken rest waits for the next one.

        Raises `ProtocolError` on what is no MQTT 5.0 or does not belong here.
        """
        if self._buffer:
            data = self._buffer + data
        events: list[object] = []
        view = memoryview(data)
        offset, end = 0, len(data)
        handlers = self.handlers
        try:
            while offset < end:
                try:
                    packet, size = mqtt5.read(view[offset:])
                except IndexError:
                    break  # The codec's word for "the packet is not whole yet".
                offset += size
                handler = handlers.get(type(packet))
                if handler is None:
                    raise ProtocolError(f"unexpected {type(packet).__name__}")
                event = handler(packet)
                if event is not None:
                    events.append(event)
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        self._buffer = data[offset:]
        return events


def reason_name(code: object) -> str:
    """The specification's name of a reason code, in lower case."""
    return str(getattr(code, "name", code)).lower()
