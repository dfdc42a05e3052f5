"""The broker's side of a link, played with bytes."""

from __future__ import annotations

import mqtt5

from bridge.connection import Connection, ConnectOptions
from bridge.publisher import Publisher
from bridge.session import Delivery, Session

OPTIONS = ConnectOptions(
    client_id="messaging-service:bridge", receive_maximum=100, session_expiry_s=60, keep_alive_s=10
)
BACKLOG_TOPIC = "chat/v1/service/backlog"
PONG = mqtt5.PingRespPacket().write()
PUBLISHER_OPTIONS = ConnectOptions(client_id="messaging-service:bridge.0")


def packets(data: bytes) -> list[mqtt5.Packet]:
    """Everything that `data` holds, decoded."""
    found = []
    while data:
        packet, size = mqtt5.read(memoryview(data))
        found.append(packet)
        data = data[size:]
    return found


def published(connection: Connection) -> list[mqtt5.PublishPacket]:
    """The publications among what is written now."""
    return [
        packet for packet in packets(connection.data_to_send()) if isinstance(packet, mqtt5.PublishPacket)
    ]


def link_up(connection: Connection, *, session_present: bool = False, receive_max: int = 65_535) -> None:
    """One CONNECT that is accepted; what follows from that is not written yet."""
    connection.connect("messaging-service", b"token")
    connection.data_to_send()
    connack = mqtt5.ConnAckPacket(session_present=session_present, receive_max=receive_max)
    connection.receive(connack.write())


def connected_session() -> Session:
    """A session with a link."""
    session = Session(OPTIONS, backlog_topic=BACKLOG_TOPIC)
    link_up(session)
    return session


class Confirmations(list[Delivery]):
    """The deliveries whose publications the broker has confirmed, in order."""


def connected_publisher(receive_max: int = 65_535) -> tuple[Publisher, Confirmations]:
    """A publisher with a link, and what is confirmed to it."""
    confirmed = Confirmations()
    publisher = Publisher(PUBLISHER_OPTIONS, confirmed.append)
    link_up(publisher, receive_max=receive_max)
    return publisher, confirmed


def command(packet_id: int, payload: bytes = b"{}", *, topic: str = "t", duplicate: bool = False) -> bytes:
    """A PUBLISH at QoS 1 from the broker."""
    return mqtt5.PublishPacket(
        topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id, duplicate=duplicate
    ).write()


def deliveries(session: Session, data: bytes) -> list[Delivery]:
    """What the session makes of `data`."""
    return [event for event in session.receive(data) if isinstance(event, Delivery)]


def delivery(packet_id: int = 1) -> Delivery:
    """A command that a session has delivered."""
    return Delivery("t", b"{}", None, packet_id, 1, False)


def confirm(publisher: Publisher, *publications: mqtt5.PublishPacket) -> None:
    """The broker's PUBACK for each of them."""
    for publication in publications:
        assert publication.packet_id is not None
        publisher.receive(mqtt5.PubAckPacket(publication.packet_id).write())
