"""The session that takes commands: persistent, acknowledged by hand and in order; without I/O.

Section numbers are those of the MQTT 5.0 specification.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import mqtt5

from bridge.connection import Connection, ConnectOptions, Pong, ProtocolError, Refused, reason_name

_SUBSCRIBE_ID = 1
"""No other packet of ours carries an id: publications here are at QoS 0."""
_STAMP = "backlog"
"""User property by which the broker's plugin marks a command now and then, to hear when it has come in."""
_LONGEST_STAMP = 47
_PINGS_A_WINDOW = 32
"""So often, while a receive maximum of PUBACKs is written, the broker is asked whether it has read them."""


# Not frozen, as all that is made once for every command: that would cost three times as much.
@dataclass(slots=True, eq=False)
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
class Subscribed:
    """SUBACK granted every filter."""


class Session(Connection):
    """The state of one session across its links.

    What goes out keeps its order: a PUBACK that is asked for after a
    publication on the same link is written after it.

    A stamp of the broker's plugin is said back on `backlog_topic` as soon as it is read: so the
    plugin knows how much waits for this session, and refuses what is too much. A broker may let
    more go than the receive maximum; what is beyond it waits, too, and its stamp with it.

    A broker reads in order, and Mosquitto 2.0 one packet of a link at a time, however many wait. So every
    few PUBACKs a ping follows them: its answer says that they have been read (see `is_ahead`).
    """

    def __init__(self, options: ConnectOptions, *, backlog_topic: str) -> None:
        super().__init__(options)
        self._backlog_topic = backlog_topic
        self._link = 0
        self._draining = False
        self._unacknowledged: deque[Delivery] = deque()
        self._acknowledged = 0
        """PUBACKs of all links."""
        self._held_stamps: deque[tuple[int, str]] = deque()
        """Those that came beyond the receive maximum, each with the number of PUBACKs that it waits for."""
        self._most_unread = max(1, options.receive_maximum // 2)
        self._ping_every = max(1, options.receive_maximum // _PINGS_A_WINDOW)
        self._pings: deque[int] = deque()
        """For each ping without an answer, the number of PUBACKs before it."""
        self._read = 0
        """PUBACKs before the newest ping that was answered."""
        self.handlers |= {
            mqtt5.PublishPacket: self._on_publish,
            mqtt5.SubAckPacket: self._on_suback,
            mqtt5.PingRespPacket: self._on_pong,
        }

    @property
    def unacknowledged(self) -> int:
        """Deliveries of this link whose PUBACK is not written yet."""
        return len(self._unacknowledged)

    @property
    def is_ahead(self) -> bool:
        """Whether the broker has yet to read so many PUBACKs that messages should wait for them.

        They fill the receive maximum as commands do that wait for their PUBACK: half of it is for them.
        """
        return self._acknowledged - self._read > self._most_unread

    @property
    def is_idle(self) -> bool:
        """Whether every delivery is acknowledged, and that is written."""
        return not (self._unacknowledged or self.out)

    def ping(self) -> None:
        """See `Connection.ping`."""
        super().ping()
        self._pings.append(self._acknowledged)

    def link_lost(self) -> None:
        """See `Connection.link_lost`.

        Deliveries of the link can no longer be acknowledged; the broker sends them again (4.4).
        """
        super().link_lost()
        self._link += 1
        self._unacknowledged.clear()
        self._held_stamps.clear()
        self._pings.clear()
        self._read = self._acknowledged

    def subscribe(self, filters: Sequence[str]) -> None:
        """Queues one SUBSCRIBE at QoS 1 for all filters; `Subscribed` or `Refused` follows.

        Retained messages are not asked for: a retained command would come
        back with every new session.
        """
        topic_filters = [
            mqtt5.TopicFilter(
                pattern,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain_handling=mqtt5.RetainHandling.SEND_NEVER,
            )
            for pattern in filters
        ]
        self.out.append(mqtt5.SubscribePacket(_SUBSCRIBE_ID, topic_filters).write())

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        message_expiry_s: int | None = None,
        correlation_data: bytes | None = None,
    ) -> None:
        """Queues a PUBLISH at QoS 0, in order; dropped while there is no link.

        That loses nothing which its receiver does not notice: a command that is not
        answered is sent again, positions and presence are told again by what follows.
        """
        if self.connected:
            packet = mqtt5.PublishPacket(
                topic, payload, message_expiry_interval=message_expiry_s, correlation_data=correlation_data
            )
            self.out.append(packet.write())

    def acknowledge(self, delivery: Delivery) -> None:
        """Marks a delivery as done and queues every PUBACK that is due, in arrival order (4.6.0-2)."""
        if delivery.packet_id is None or delivery.link != self._link:
            return
        delivery.acknowledged = True
        waiting = self._unacknowledged
        while waiting and waiting[0].acknowledged:
            packet_id = waiting.popleft().packet_id
            assert packet_id is not None
            self.out.append(mqtt5.PubAckPacket(packet_id).write())
            self._acknowledged += 1
        pinged = self._pings[-1] if self._pings else self._read
        if self._acknowledged - pinged >= self._ping_every:
            self.ping()
        held = self._held_stamps
        while held and held[0][0] <= self._acknowledged:
            self._say_back(held.popleft()[1])

    def drain(self) -> None:
        """Takes no more deliveries: unacknowledged, they stay with the broker for the next link."""
        self._draining = True

    def _on_publish(self, packet: mqtt5.PublishPacket) -> Delivery | None:
        if self._draining:
            return None
        delivery = Delivery(
            packet.topic,
            packet.payload,
            packet.correlation_data,
            packet.packet_id,
            self._link,
            packet.duplicate,
        )
        if packet.packet_id is not None:
            self._unacknowledged.append(delivery)
        if packet.user_properties:
            self._take_stamp(packet.user_properties, delivery)
        return delivery

    def _take_stamp(self, properties: Sequence[tuple[str, str]], delivery: Delivery) -> None:
        """At most one publication for a command, whoever has put what into it."""
        stamps = [value for name, value in properties if name == _STAMP]
        if not stamps or len(stamps[-1]) > _LONGEST_STAMP:
            return
        beyond = len(self._unacknowledged) - self._options.receive_maximum
        # What is never acknowledged waits for nothing, and the plugin counts it by itself.
        if delivery.packet_id is not None and beyond > 0:
            self._held_stamps.append((self._acknowledged + beyond, stamps[-1]))
        else:
            self._say_back(stamps[-1])

    def _say_back(self, stamp: str) -> None:
        self.publish(self._backlog_topic, stamp.encode())

    def _on_pong(self, _packet: mqtt5.PingRespPacket) -> Pong:
        if not self._pings:
            raise ProtocolError("PINGRESP for no PINGREQ")
        self._read = self._pings.popleft()
        return Pong()

    def _on_suback(self, packet: mqtt5.SubAckPacket) -> object:
        if packet.packet_id != _SUBSCRIBE_ID:
            raise ProtocolError("SUBACK for no SUBSCRIBE")
        for code in packet.reason_codes:
            if code != mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE:
                return Refused("subscribe", reason_name(code))
        return Subscribed()
