"""A link that only publishes: at QoS 1, in order, confirmed; without I/O.

Section numbers are those of the MQTT 5.0 specification.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import mqtt5

from bridge.connection import Connection, ConnectOptions, ProtocolError, Refused, reason_name
from bridge.session import Delivery

_MAX_PACKET_ID = 65_535
_TAKEN = (mqtt5.PubAckReasonCode.SUCCESS, mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS)
_AT_MOST_ONCE, _AT_LEAST_ONCE = mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE


class _Publication(NamedTuple):
    """A publication that waits for room in the broker's receive window, or that may have to be made again."""

    topic: str
    payload: bytes
    qos: int
    message_expiry_s: int | None
    correlation_data: bytes | None
    on_behalf_of: Delivery | None


class Publisher(Connection):
    """Publishes, and gives the delivery behind a publication to `on_confirmed` when the broker has it.

    Publications on behalf of a delivery are forgotten with the link: the
    command comes again. All others are made again on the next link.

    The broker confirms in order (4.6.0-2). A PUBACK that it left out ends the link: the
    command would stay unacknowledged, and with it all behind it until the window is full.
    """

    def __init__(self, options: ConnectOptions, on_confirmed: Callable[[Delivery], None]) -> None:
        super().__init__(options)
        self._on_confirmed = on_confirmed
        self._in_flight: deque[Delivery | _Publication] = deque()
        """Waits for its PUBACK; where there is a delivery behind it, that is all that is still needed."""
        self._oldest_packet_id = 1
        """Of what is in flight; the others' follow it."""
        self._backlog: deque[_Publication] = deque()
        self._window = _MAX_PACKET_ID
        self.may_wait = True
        """Whether nothing is lost by not writing what is queued: its commands are not acknowledged before."""
        self.handlers[mqtt5.PubAckPacket] = self._on_puback

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits for a confirmation that can still come, or to be made again."""
        return not (self._in_flight or self._backlog or self.out)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        message_expiry_s: int | None = None,
        correlation_data: bytes | None = None,
        on_behalf_of: Delivery | None = None,
    ) -> bool:
        """Queues a PUBLISH, in order; dropped, and False, while there is no link."""
        if not self.connected:
            return False
        if self._backlog or len(self._in_flight) >= self._window:
            self._backlog.append(
                _Publication(topic, payload, qos, message_expiry_s, correlation_data, on_behalf_of)
            )
        else:
            self._write(topic, payload, qos, message_expiry_s, correlation_data, on_behalf_of)
        return True

    def ping(self) -> None:
        """See `Connection.ping`."""
        super().ping()
        self.may_wait = False

    def data_to_send(self) -> bytes:
        """See `Connection.data_to_send`."""
        self.may_wait = True
        return super().data_to_send()

    def link_lost(self) -> None:
        """See `Connection.link_lost`."""
        super().link_lost()
        unconfirmed = (*self._in_flight, *self._backlog)
        self._in_flight.clear()
        self._backlog = deque(
            each
            for each in unconfirmed
            if isinstance(each, _Publication) and each.on_behalf_of is None and each.qos
        )

    def on_connack(self, packet: mqtt5.ConnAckPacket) -> object:
        """See `Connection.on_connack`."""
        event = super().on_connack(packet)
        if self.connected:
            self._window = min(packet.receive_max, _MAX_PACKET_ID)
            self._work_off()
        return event

    def _on_puback(self, packet: mqtt5.PubAckPacket) -> object | None:
        if not self._in_flight or packet.packet_id != self._oldest_packet_id:
            raise ProtocolError("PUBACK out of order")
        confirmed = self._in_flight.popleft()
        self._oldest_packet_id = packet.packet_id % _MAX_PACKET_ID + 1
        if self._backlog:
            self._work_off()
        if type(confirmed) is Delivery:
            # Refused or not: it would be refused again.
            self._on_confirmed(confirmed)
        return None if packet.reason_code in _TAKEN else Refused("publish", reason_name(packet.reason_code))

    def _work_off(self) -> None:
        while self._backlog and len(self._in_flight) < self._window:
            self._write(*self._backlog.popleft())

    def _write(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        message_expiry_s: int | None,
        correlation_data: bytes | None,
        on_behalf_of: Delivery | None,
    ) -> None:
        packet_id = None
        if qos:
            packet_id = (self._oldest_packet_id + len(self._in_flight) - 1) % _MAX_PACKET_ID + 1
            self._in_flight.append(
                on_behalf_of or _Publication(topic, payload, qos, message_expiry_s, correlation_data, None)
            )
            if on_behalf_of is None:
                self.may_wait = False
        packet = mqtt5.PublishPacket(
            topic,
            payload,
            qos=_AT_LEAST_ONCE if qos else _AT_MOST_ONCE,
            packet_id=packet_id,
            message_expiry_interval=message_expiry_s,
            correlation_data=correlation_data,
        )
        self.out.append(packet.write())


def publisher_of(publishers: Sequence[Publisher], key: str | int) -> Publisher:
    """The one link for all that has this key, a conversation's number or a user: it arrives in its order."""
    return publishers[hash(key) % len(publishers)]
