"""The session that takes commands, driven by bytes alone."""

from __future__ import annotations

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.connection import Connected, ConnectOptions, Pong, ProtocolError, Refused
from bridge.session import Delivery, Session, Subscribed
from tests.unit.bridge.wire import (
    BACKLOG_TOPIC,
    OPTIONS,
    PONG,
    command,
    connected_session,
    deliveries,
    link_up,
    packets,
    published,
)


def subscribe(session: Session) -> mqtt5.SubscribePacket:
    session.subscribe(["a/+", "b/+"])
    (packet,) = packets(session.data_to_send())
    assert isinstance(packet, mqtt5.SubscribePacket)
    return packet


def pubacks(session: Session) -> list[int]:
    return [
        packet.packet_id
        for packet in packets(session.data_to_send())
        if isinstance(packet, mqtt5.PubAckPacket)
    ]


def test_commands_are_asked_for_at_qos_1_and_without_retained_ones() -> None:
    packet = subscribe(connected_session())
    assert [each.pattern for each in packet.topic_filters] == ["a/+", "b/+"]
    for each in packet.topic_filters:
        assert each.max_qos == mqtt5.QoS.AT_LEAST_ONCE
        assert each.retain_handling == mqtt5.RetainHandling.SEND_NEVER


def test_a_subscription_is_granted_when_every_filter_is() -> None:
    granted, refused = (
        mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE,
        mqtt5.SubAckReasonCode.NOT_AUTHORIZED,
    )
    for second, expected in ((granted, Subscribed()), (refused, Refused("subscribe", "not_authorized"))):
        session = connected_session()
        packet = subscribe(session)
        suback = mqtt5.SubAckPacket(packet.packet_id, [granted, second])
        assert session.receive(suback.write()) == [expected]


def test_an_answer_to_no_subscription_is_a_protocol_error() -> None:
    session = connected_session()
    packet = subscribe(session)
    granted = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]
    with pytest.raises(ProtocolError):
        session.receive(mqtt5.SubAckPacket(packet.packet_id + 1, granted).write())


def test_a_delivery_has_what_an_answer_needs() -> None:
    session = connected_session()
    packet = mqtt5.PublishPacket(
        "chat/v1/users/alice/commands/sync",
        b'{"a":1}',
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        packet_id=9,
        duplicate=True,
        correlation_data=b"42",
    )
    (received,) = deliveries(session, packet.write())
    assert (received.topic, received.payload) == ("chat/v1/users/alice/commands/sync", b'{"a":1}')
    assert (received.correlation_data, received.packet_id, received.is_redelivery) == (b"42", 9, True)


@given(cuts=st.lists(st.integers(min_value=1, max_value=40), max_size=60))
def test_deliveries_are_found_however_the_socket_slices_them(cuts: list[int]) -> None:
    session = connected_session()
    stream = b"".join(command(number, b"x" * number) for number in range(1, 20))
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
    received = deliveries(session, b"".join(command(number) for number in range(11, 19)))
    acknowledged: list[int] = []
    for position, index in enumerate(order):
        session.acknowledge(received[index])
        acknowledged += pubacks(session)
        done = set(order[: position + 1])
        prefix = next((i for i in range(8) if i not in done), 8)
        assert acknowledged == list(range(11, 11 + prefix))
        assert session.unacknowledged == 8 - prefix


def test_a_puback_is_written_after_the_publications_before_it() -> None:
    session = connected_session()
    (received,) = deliveries(session, command(7))
    session.publish("a", b"1")
    session.publish("b", b"2")
    session.acknowledge(received)
    first, second, puback = packets(session.data_to_send())
    assert isinstance(first, mqtt5.PublishPacket)
    assert isinstance(second, mqtt5.PublishPacket)
    assert (first.topic, second.topic) == ("a", "b")
    assert isinstance(puback, mqtt5.PubAckPacket)
    assert puback.packet_id == 7


def test_publications_are_at_qos_0_with_what_they_were_given() -> None:
    session = connected_session()
    session.publish("a", b"1", message_expiry_s=6, correlation_data=b"42")
    (packet,) = packets(session.data_to_send())
    assert isinstance(packet, mqtt5.PublishPacket)
    assert (packet.qos, packet.packet_id) == (mqtt5.QoS.AT_MOST_ONCE, None)
    assert (packet.message_expiry_interval, packet.correlation_data) == (6, b"42")
    assert session.is_idle


def test_publications_without_a_link_are_dropped() -> None:
    session = Session(OPTIONS, backlog_topic=BACKLOG_TOPIC)
    session.publish("a", b"never")
    session.connect("messaging-service", b"token")
    session.publish("a", b"too early")
    session.data_to_send()
    session.receive(mqtt5.ConnAckPacket().write())
    session.publish("a", b"1")
    session.link_lost()
    session.publish("a", b"too late")
    session.connect("messaging-service", b"token")
    assert [type(packet) for packet in packets(session.data_to_send())] == [mqtt5.ConnectPacket]
    session.receive(mqtt5.ConnAckPacket(session_present=True).write())
    assert session.data_to_send() == b""


def test_a_delivery_at_qos_0_calls_for_no_puback() -> None:
    session = connected_session()
    (received,) = deliveries(session, mqtt5.PublishPacket("t", b"{}").write())
    assert session.is_idle
    session.acknowledge(received)
    assert session.data_to_send() == b""


def test_deliveries_of_a_lost_link_are_not_acknowledged_on_the_next() -> None:
    session = connected_session()
    (old,) = deliveries(session, command(1))
    session.link_lost()
    assert session.is_idle
    session.acknowledge(old)
    assert session.is_idle
    link_up(session, session_present=True)
    (again,) = deliveries(session, command(1, duplicate=True))
    session.acknowledge(old)
    assert session.data_to_send() == b""
    session.acknowledge(again)
    assert pubacks(session) == [1]


def test_a_new_link_begins_with_connect_alone() -> None:
    session = connected_session()
    (received,) = deliveries(session, command(1))
    session.acknowledge(received)
    session.connect("messaging-service", b"token")
    (packet,) = packets(session.data_to_send())
    assert isinstance(packet, mqtt5.ConnectPacket)
    assert session.receive(mqtt5.ConnAckPacket(session_present=True).write()) == [Connected(True)]


def test_a_draining_session_leaves_further_deliveries_to_the_next_link() -> None:
    session = connected_session()
    (taken,) = deliveries(session, command(1))
    session.drain()
    assert deliveries(session, command(2)) == []
    assert not session.is_idle
    session.acknowledge(taken)
    assert pubacks(session) == [1]
    assert session.is_idle


def stamped(packet_id: int | None, *properties: tuple[str, str]) -> bytes:
    """A command as the broker's plugin marks it, at QoS 1 if it has a packet id."""
    return mqtt5.PublishPacket(
        "chat/v1/users/alice/commands/typing",
        b"{}",
        qos=mqtt5.QoS.AT_MOST_ONCE if packet_id is None else mqtt5.QoS.AT_LEAST_ONCE,
        packet_id=packet_id,
        user_properties=list(properties),
    ).write()


def said_back(session: Session) -> list[bytes]:
    said = published(session)
    assert all((packet.topic, packet.qos) == (BACKLOG_TOPIC, mqtt5.QoS.AT_MOST_ONCE) for packet in said)
    return [packet.payload for packet in said]


def test_a_stamp_of_the_broker_is_said_back_at_once() -> None:
    session = connected_session()
    for number, properties in enumerate(
        (
            [("backlog", "9f-128")],
            [],
            [("trace", "7"), ("backlog", ""), ("backlog", "9f-256")],
            [("backlog", "9f-256"), ("backlog", "x" * 48)],
        ),
        start=1,
    ):
        assert len(session.receive(stamped(number, *properties))) == 1
    assert said_back(session) == [b"9f-128", b"9f-256"]
    assert session.unacknowledged == 4


def test_a_stamp_beyond_the_window_is_said_back_when_acknowledgements_have_come_near() -> None:
    session = connected_session()
    window = OPTIONS.receive_maximum
    taken = [
        delivery
        for number in range(1, window + 11)
        for delivery in deliveries(session, stamped(number, ("backlog", f"9f-{number}")))
    ]
    assert said_back(session)[-1] == b"9f-%d" % window
    for number, delivery in enumerate(taken[:9], start=window + 1):
        session.acknowledge(delivery)
        assert said_back(session) == [b"9f-%d" % number]
    # What is never acknowledged waits for nothing.
    session.receive(stamped(None, ("backlog", "a0-128")))
    assert said_back(session) == [b"a0-128"]
    for delivery in taken[9:]:
        session.acknowledge(delivery)
    assert said_back(session) == [b"9f-%d" % (window + 10)]


def test_a_stamp_that_was_held_is_forgotten_with_its_link() -> None:
    session = connected_session()
    for number in range(1, OPTIONS.receive_maximum + 1):
        session.receive(command(number))
    session.receive(stamped(OPTIONS.receive_maximum + 1, ("backlog", "9f-128")))
    session.link_lost()
    link_up(session, session_present=True)
    (again,) = deliveries(session, command(1, duplicate=True))
    session.acknowledge(again)
    assert said_back(session) == []


def acknowledge(session: Session, count: int) -> None:
    """So many commands come and are done."""
    for number in range(1, count + 1):
        for delivery in deliveries(session, command(number)):
            session.acknowledge(delivery)


def pings(session: Session) -> int:
    return sum(isinstance(packet, mqtt5.PingReqPacket) for packet in packets(session.data_to_send()))


def test_a_ping_follows_every_few_pubacks() -> None:
    session = connected_session()
    acknowledge(session, 7)
    kinds = [type(packet) for packet in packets(session.data_to_send())]
    three, ping = [mqtt5.PubAckPacket] * 3, mqtt5.PingReqPacket
    assert kinds == [*three, ping, *three, ping, mqtt5.PubAckPacket]


def test_half_a_window_of_pubacks_may_be_unread() -> None:
    session = connected_session()
    acknowledge(session, OPTIONS.receive_maximum // 2)
    assert not session.is_ahead
    acknowledge(session, 1)
    assert session.is_ahead
    assert session.receive(PONG) == [Pong()]
    assert not session.is_ahead


@given(st.integers(1, 65_535), st.lists(st.integers(1, 100), max_size=20))
def test_a_broker_that_has_answered_every_ping_is_never_behind(window: int, batches: list[int]) -> None:
    options = ConnectOptions(client_id="a", receive_maximum=window, session_expiry_s=60)
    session = Session(options, backlog_topic=BACKLOG_TOPIC)
    link_up(session)
    for count in batches:
        acknowledge(session, count)
        session.receive(PONG * pings(session))
        assert not session.is_ahead


def test_pubacks_of_a_lost_link_are_not_waited_for() -> None:
    session = connected_session()
    acknowledge(session, OPTIONS.receive_maximum)
    session.link_lost()
    link_up(session)
    assert not session.is_ahead
    acknowledge(session, OPTIONS.receive_maximum // 2 + 1)
    assert session.is_ahead


def test_an_answer_to_no_ping_is_a_protocol_error() -> None:
    session = connected_session()
    session.ping()
    session.receive(PONG)
    with pytest.raises(ProtocolError):
        session.receive(PONG)
