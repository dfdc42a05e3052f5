"""The MQTT session, driven by bytes alone."""

from __future__ import annotations

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.session import (
    Connected,
    Delivery,
    ProtocolError,
    Refused,
    Session,
    SessionOptions,
    Subscribed,
)

OPTIONS = SessionOptions(
    client_id="messaging-service:bridge", receive_maximum=100, session_expiry_s=60, keep_alive_s=10
)


def packets(data: bytes) -> list[mqtt5.Packet]:
    """Everything that `data` holds, decoded."""
    found = []
    while data:
        packet, size = mqtt5.read(memoryview(data))
        found.append(packet)
        data = data[size:]
    return found


def connected_session(receive_max: int = 65_535) -> Session:
    session = Session(OPTIONS)
    session.connect("messaging-service", b"token")
    session.data_to_send()
    session.receive(mqtt5.ConnAckPacket(receive_max=receive_max).write())
    return session


def publish(packet_id: int, payload: bytes = b"{}") -> bytes:
    return mqtt5.PublishPacket("t", payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id).write()


def deliveries(session: Session, data: bytes) -> list[Delivery]:
    return [event for event in session.receive(data) if isinstance(event, Delivery)]


def test_connect_asks_for_a_persistent_session_and_bounded_intake() -> None:
    session = Session(OPTIONS)
    session.connect("messaging-service", b"token")
    (packet,) = packets(session.data_to_send())
    assert isinstance(packet, mqtt5.ConnectPacket)
    assert (packet.clean_start, packet.session_expiry_interval, packet.receive_max) == (False, 60, 100)
    assert (packet.username, packet.password) == ("messaging-service", b"token")


def test_connack_tells_whether_the_broker_knows_the_session() -> None:
    session = Session(OPTIONS)
    session.connect("u", b"t")
    assert session.receive(mqtt5.ConnAckPacket(session_present=True).write()) == [Connected(True)]


def test_a_refused_connection_names_the_reason() -> None:
    session = Session(OPTIONS)
    session.connect("u", b"t")
    refusal = mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED)
    assert session.receive(refusal.write()) == [Refused("connect", "not_authorized")]


def test_a_refused_subscription_names_the_reason() -> None:
    session = connected_session()
    session.subscribe(["a/+"])
    (packet,) = packets(session.data_to_send())
    assert isinstance(packet, mqtt5.SubscribePacket)
    assert packet.topic_filters[0].max_qos == mqtt5.QoS.AT_LEAST_ONCE
    refusal = mqtt5.SubAckPacket(packet.packet_id, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED])
    assert session.receive(refusal.write()) == [Refused("subscribe", "not_authorized")]


def test_a_granted_subscription_is_reported() -> None:
    session = connected_session()
    session.subscribe(["a/+"])
    (packet,) = packets(session.data_to_send())
    assert isinstance(packet, mqtt5.SubscribePacket)
    grant = mqtt5.SubAckPacket(packet.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE])
    assert session.receive(grant.write()) == [Subscribed()]


@given(cuts=st.lists(st.integers(min_value=1, max_value=40), max_size=60))
def test_packets_are_found_however_the_socket_slices_them(cuts: list[int]) -> None:
    session = connected_session()
    stream = b"".join(publish(number, b"x" * number) for number in range(1, 20))
    found: list[Delivery] = []
    for cut in cuts:
        found += deliveries(session, stream[:cut])
        stream = stream[cut:]
    found += deliveries(session, stream)
    assert [delivery.packet_id for delivery in found] == list(range(1, 20))
    assert [len(delivery.payload) for delivery in found] == list(range(1, 20))


@given(order=st.permutations(range(8)))
def test_pubacks_leave_in_arrival_order_whatever_finishes_first(order: list[int]) -> None:
    session = connected_session()
    received = deliveries(session, b"".join(publish(number) for number in range(11, 19)))
    acknowledged: list[int] = []
    for position, index in enumerate(order):
        session.acknowledge(received[index])
        acknowledged += [
            p.packet_id for p in packets(session.data_to_send()) if isinstance(p, mqtt5.PubAckPacket)
        ]
        done = set(order[: position + 1])
        prefix = next((i for i in range(8) if i not in done), 8)
        assert acknowledged == list(range(11, 11 + prefix))


def test_a_puback_never_overtakes_the_publications_before_it() -> None:
    session = connected_session(receive_max=1)
    (delivery,) = deliveries(session, publish(7))
    session.publish("a", b"1")
    session.publish("b", b"2")
    session.acknowledge(delivery)
    (first,) = packets(session.data_to_send())
    assert isinstance(first, mqtt5.PublishPacket)
    assert session.data_to_send() == b""
    session.receive(mqtt5.PubAckPacket(first.packet_id or 0).write())
    second, puback = packets(session.data_to_send())
    assert isinstance(second, mqtt5.PublishPacket)
    assert second.topic == "b"
    assert isinstance(puback, mqtt5.PubAckPacket)
    assert puback.packet_id == 7


def test_the_brokers_receive_window_is_never_exceeded() -> None:
    session = connected_session(receive_max=3)
    for number in range(10):
        session.publish("t", str(number).encode())
    written = [
        packet for packet in packets(session.data_to_send()) if isinstance(packet, mqtt5.PublishPacket)
    ]
    total = len(written)
    while written:
        assert len(written) <= 3
        packet = written.pop(0)
        session.receive(mqtt5.PubAckPacket(packet.packet_id or 0).write())
        fresh = [p for p in packets(session.data_to_send()) if isinstance(p, mqtt5.PublishPacket)]
        written += fresh
        total += len(fresh)
    assert total == 10
    assert session.is_idle


def test_deliveries_of_a_lost_link_are_not_acknowledged_on_the_next() -> None:
    session = connected_session()
    (old,) = deliveries(session, publish(1))
    session.link_lost()
    session.connect("u", b"t")
    session.receive(mqtt5.ConnAckPacket(session_present=True).write())
    session.data_to_send()
    (again,) = deliveries(session, publish(1))
    session.acknowledge(old)
    assert session.data_to_send() == b""
    session.acknowledge(again)
    assert len(packets(session.data_to_send())) == 1


def test_unconfirmed_publications_are_resent_with_dup_when_the_session_is_present() -> None:
    session = connected_session()
    session.publish("a", b"1")
    (before,) = packets(session.data_to_send())
    session.link_lost()
    session.connect("u", b"t")
    session.data_to_send()
    session.receive(mqtt5.ConnAckPacket(session_present=True).write())
    (after,) = packets(session.data_to_send())
    assert isinstance(before, mqtt5.PublishPacket)
    assert isinstance(after, mqtt5.PublishPacket)
    assert (after.duplicate, after.packet_id, after.payload) == (True, before.packet_id, b"1")


def test_unconfirmed_publications_are_forgotten_with_the_session() -> None:
    session = connected_session()
    session.publish("a", b"1")
    session.link_lost()
    session.connect("u", b"t")
    session.data_to_send()
    session.receive(mqtt5.ConnAckPacket(session_present=False).write())
    assert session.data_to_send() == b""
    assert session.is_idle


def test_packet_ids_in_flight_are_not_given_out_again() -> None:
    session = connected_session()
    session.publish("kept", b"")
    for _ in range(70_000):
        session.publish("t", b"")
        sent = packets(session.data_to_send())[-1]
        assert isinstance(sent, mqtt5.PublishPacket)
        assert sent.packet_id != 1 or sent.topic == "kept"
        session.receive(mqtt5.PubAckPacket(sent.packet_id or 0).write())


def test_a_draining_session_leaves_further_deliveries_to_the_next_link() -> None:
    session = connected_session()
    (taken,) = deliveries(session, publish(1))
    session.drain()
    assert deliveries(session, publish(2)) == []
    session.acknowledge(taken)
    (puback,) = packets(session.data_to_send())
    assert isinstance(puback, mqtt5.PubAckPacket)
    assert puback.packet_id == 1
    assert session.is_idle


@pytest.mark.parametrize("data", [b"\x00\x00", b"\x30\xff\xff\xff\xff\x01", mqtt5.PingReqPacket().write()])
def test_what_does_not_belong_here_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        connected_session().receive(data)


def test_qos_0_passes_by_the_receive_window_and_is_never_sent_again() -> None:
    session = connected_session(receive_max=1)
    session.publish("events/a", b"1")
    session.publish("events/a", b"2")
    session.publish("events/typing", b"3", qos=0, message_expiry_s=6)
    first, signal = packets(session.data_to_send())
    assert isinstance(first, mqtt5.PublishPacket)
    assert isinstance(signal, mqtt5.PublishPacket)
    assert (signal.payload, signal.qos, signal.packet_id) == (b"3", mqtt5.QoS.AT_MOST_ONCE, None)
    assert signal.message_expiry_interval == 6
    session.link_lost()
    session.publish("events/typing", b"4", qos=0)
    session.connect("messaging-service", b"token")
    session.data_to_send()
    session.receive(mqtt5.ConnAckPacket(session_present=True).write())
    (again,) = packets(session.data_to_send())
    assert isinstance(again, mqtt5.PublishPacket)
    assert again.payload == b"1"


@pytest.mark.parametrize("qos", [0, 1])
def test_publishing_says_whether_there_is_a_link(qos: int) -> None:
    session = Session(OPTIONS)
    session.connect("u", b"t")
    assert not session.publish("events/a", b"1", qos=qos)
    session.receive(mqtt5.ConnAckPacket().write())
    assert session.publish("events/a", b"1", qos=qos)
    session.link_lost()
    assert not session.publish("events/a", b"1", qos=qos)
