"""One client session of MQTT 5.0, without I/O: bytes in, events and bytes out.

Only what the bridge needs: QoS 0 and 1, and acknowledgements by hand. Section
numbers are those of the MQTT 5.0 specification.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mqtt5

_DUP_FLAG = 0x08
_MAX_PACKET_ID = 65_535
_TAKEN = (mqtt5.PubAckReasonCode.SUCCESS, mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS)
_MAX_IN_FLIGHT = 65_000
"""Leaves packet ids free for SUBSCRIBE, whatever the broker's window is."""


class ProtocolError(Exception):
    """The broker sent something that MQTT 5.0 does not allow here; the link must go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What CONNECT says (3.1); times in seconds."""

    client_id: str
    receive_maximum: int
    """PUBLISH packets that may wait for `acknowledge` at once: the back-pressure."""
    session_expiry_s: int
    keep_alive_s: int = 15
    maximum_packet_bytes: int = 1024 * 1024


@dataclass(slots=True, kw_only=True, eq=False)
class Delivery:
    """A PUBLISH that the broker delivered; to be given to `acknowledge` once."""

    topic: str
    payload: bytes
    correlation_data: bytes | None
    packet_id: int | None
    """None at QoS 0, where there is nothing to acknowledge."""
    link: int
    is_redelivery: bool
    """The broker may have delivered it before: what followed then may have been lost."""
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Connected:
    """CONNACK accepted the link; without `session_present` the broker has forgotten us."""

    session_present: bool


@dataclass(frozen=True, slots=True)
class Subscribed:
    """SUBACK granted every filter."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker refused the connection, a subscription or a publication, or ended the link, and why."""

    step: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pong:
    """The broker answered a ping."""


Event = Delivery | Connected | Subscribed | Refused | Pong


@dataclass(frozen=True, slots=True)
class _Publish:
    """A publication that waits for room in the broker's receive window."""

    topic: str
    payload: bytes
    message_expiry_s: int | None
    correlation_data: bytes | None


class Session:
    """The state of one session across its links.

    What goes out keeps its order: a PUBACK that is asked for after a
    publication is never written before it, even when the broker's receive
    window makes the publication wait. That is what lets a PUBACK mean "its
    consequences are with the broker".
    """

    def __init__(self, options: SessionOptions) -> None:
        self._options = options
        self._link = 0
        self._connected = False
        self._draining = False
        self._buffer = b""
        self._out: list[bytes] = []
        self._unacknowledged: deque[Delivery] = deque()
        self._in_flight: dict[int, bytes] = {}
        self._window = _MAX_IN_FLIGHT
        self._backlog: deque[_Publish | bytes] = deque()
        self._last_packet_id = 0
        self._subscribe_id: int | None = None
        self._handlers: dict[type, Callable[..., Event | None]] = {
            mqtt5.PublishPacket: self._on_publish,
            mqtt5.PubAckPacket: self._on_puback,
            mqtt5.ConnAckPacket: self._on_connack,
            mqtt5.SubAckPacket: self._on_suback,
            mqtt5.PingRespPacket: lambda _packet: Pong(),
            mqtt5.DisconnectPacket: lambda packet: Refused("disconnect", _reason(packet.reason_code)),
        }

    @property
    def keep_alive_s(self) -> int:
        """Longest silence on our side that the broker accepts, in seconds."""
        return self._options.keep_alive_s

    @property
    def unacknowledged(self) -> int:
        """Deliveries of this link whose PUBACK is not written yet."""
        return len(self._unacknowledged)

    @property
    def is_idle(self) -> bool:
        """Whether every delivery is acknowledged and the broker has confirmed every publication."""
        return not (self._unacknowledged or self._out or self._backlog or self._in_flight)

    def connect(self, username: str, password: bytes) -> None:
        """Starts a new link: forgets what belonged to the one before and queues CONNECT.

        Deliveries of an earlier link can no longer be acknowledged; the
        broker sends them again (4.4), and so it may with ours.
        """
        self._link += 1
        self._connected = False
        self._buffer = b""
        self._unacknowledged.clear()
        self._backlog.clear()
        options = self._options
        packet = mqtt5.ConnectPacket(
            client_id=options.client_id,
            username=username,
            password=password,
            clean_start=False,
            keep_alive=options.keep_alive_s,
            session_expiry_interval=options.session_expiry_s,
            receive_max=options.receive_maximum,
            max_packet_size=options.maximum_packet_bytes,
        )
        self._out = [packet.write()]

    def subscribe(self, filters: Sequence[str]) -> None:
        """Queues one SUBSCRIBE at QoS 1 for all filters; `Subscribed` or `Refused` follows.

        Retained messages are not asked for: a retained command would come
        back with every new session.
        """
        self._subscribe_id = self._next_packet_id()
        topic_filters = [
            mqtt5.TopicFilter(
                pattern,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain_handling=mqtt5.RetainHandling.SEND_NEVER,
            )
            for pattern in filters
        ]
        self._out.append(mqtt5.SubscribePacket(self._subscribe_id, topic_filters).write())

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        message_expiry_s: int | None = None,
        correlation_data: bytes | None = None,
    ) -> bool:
        """Queues a PUBLISH at QoS 1, in order; dropped, and False, while there is no link.

        A command's drop loses nothing: it is not acknowledged then, and comes again.
        At QoS 0 it passes by the receive window, and is neither confirmed nor sent again.
        """
        if not self._connected:
            return False
        if qos == 0:
            packet = mqtt5.PublishPacket(topic, payload, message_expiry_interval=message_expiry_s)
            self._out.append(packet.write())
            return True
        publication = _Publish(topic, payload, message_expiry_s, correlation_data)
        if self._backlog or len(self._in_flight) >= self._window:
            self._backlog.append(publication)
        else:
            self._write_publish(publication)
        return True

    def acknowledge(self, delivery: Delivery) -> None:
        """Marks a delivery as done and queues every PUBACK that is due, in arrival order (4.6.0-2)."""
        if delivery.packet_id is None or delivery.link != self._link:
            return
        delivery.acknowledged = True
        waiting = self._unacknowledged
        while waiting and waiting[0].acknowledged:
            packet_id = waiting.popleft().packet_id
            assert packet_id is not None
            packet = mqtt5.PubAckPacket(packet_id).write()
            if self._backlog:
                self._backlog.append(packet)
            else:
                self._out.append(packet)

    def drain(self) -> None:
        """Takes no more deliveries: unacknowledged, they stay with the broker for the next link."""
        self._draining = True

    def ping(self) -> None:
        """Queues PINGREQ; `Pong` follows."""
        self._out.append(mqtt5.PingReqPacket().write())

    def disconnect(self) -> None:
        """Queues DISCONNECT; the broker keeps the session until it expires."""
        if self._connected:
            self._out.append(mqtt5.DisconnectPacket().write())
        self._connected = False

    def link_lost(self) -> None:
        """The socket is gone: nothing can be written until the next `connect`."""
        self._connected = False
        self._out.clear()

    def data_to_send(self) -> bytes:
        """Everything queued since the last call, to be written in one go."""
        if not self._out:
            return b""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return data

    def receive(self, data: bytes) -> list[Event]:
        """Decodes all whole packets of a socket read; a broken rest waits for the next one.

        Raises `ProtocolError` on what is no MQTT 5.0 or does not belong here.
        """
        if self._buffer:
            data = self._buffer + data
        events: list[Event] = []
        view = memoryview(data)
        offset, end = 0, len(data)
        try:
            while offset < end:
                try:
                    packet, size = mqtt5.read(view[offset:])
                except IndexError:
                    break  # The codec's word for "the packet is not whole yet".
                offset += size
                handler = self._handlers.get(type(packet))
                if handler is None:
                    raise ProtocolError(f"unexpected {type(packet).__name__}")
                event = handler(packet)
                if event is not None:
                    events.append(event)
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        self._buffer = data[offset:]
        return events

    def _on_publish(self, packet: mqtt5.PublishPacket) -> Delivery | None:
        if self._draining:
            return None
        delivery = Delivery(
            topic=packet.topic,
            payload=packet.payload,
            correlation_data=packet.correlation_data,
            packet_id=packet.packet_id,
            link=self._link,
            is_redelivery=packet.duplicate,
        )
        if packet.packet_id is not None:
            self._unacknowledged.append(delivery)
        return delivery

    def _on_puback(self, packet: mqtt5.PubAckPacket) -> Event | None:
        self._in_flight.pop(packet.packet_id, None)
        while self._backlog:
            item = self._backlog[0]
            if isinstance(item, bytes):
                self._out.append(item)
            elif len(self._in_flight) < self._window:
                self._write_publish(item)
            else:
                break
            self._backlog.popleft()
        return None if packet.reason_code in _TAKEN else Refused("publish", _reason(packet.reason_code))

    def _on_connack(self, packet: mqtt5.ConnAckPacket) -> Event:
        if packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            return Refused("connect", _reason(packet.reason_code))
        self._connected = True
        self._window = min(packet.receive_max, _MAX_IN_FLIGHT)
        unconfirmed, self._in_flight = self._in_flight, {}
        if packet.session_present:
            # 4.4: resend what was not confirmed, under its old packet id.
            for packet_id, data in unconfirmed.items():
                self._in_flight[packet_id] = data
                self._out.append(bytes((data[0] | _DUP_FLAG,)) + data[1:])
        return Connected(packet.session_present)

    def _on_suback(self, packet: mqtt5.SubAckPacket) -> Event:
        if packet.packet_id != self._subscribe_id:
            raise ProtocolError("SUBACK for no SUBSCRIBE")
        self._subscribe_id = None
        for code in packet.reason_codes:
            if code != mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE:
                return Refused("subscribe", _reason(code))
        return Subscribed()

    def _write_publish(self, publication: _Publish) -> None:
        packet_id = self._next_packet_id()
        data = mqtt5.PublishPacket(
            publication.topic,
            publication.payload,
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            packet_id=packet_id,
            message_expiry_interval=publication.message_expiry_s,
            correlation_data=publication.correlation_data,
        ).write()
        self._in_flight[packet_id] = data
        self._out.append(data)

    def _next_packet_id(self) -> int:
        candidate = self._last_packet_id
        while True:
            candidate = candidate % _MAX_PACKET_ID + 1
            if candidate not in self._in_flight and candidate != self._subscribe_id:
                self._last_packet_id = candidate
                return candidate


def _reason(code: object) -> str:
    """The specification's name of a reason code, in lower case."""
    return str(getattr(code, "name", code)).lower()
