"""A link that only publishes, driven by bytes alone."""

from __future__ import annotations

from collections import deque

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.connection import ProtocolError, Refused
from bridge.publisher import Publisher
from tests.unit.bridge.wire import (
    PUBLISHER_OPTIONS,
    command,
    confirm,
    connected_publisher,
    delivery,
    link_up,
    packets,
    published,
)


def payloads(publications: list[mqtt5.PublishPacket]) -> list[bytes]:
    return [publication.payload for publication in publications]


def test_a_publication_is_at_qos_1_with_what_it_was_given() -> None:
    publisher, _ = connected_publisher()
    assert publisher.publish("a", b"1", message_expiry_s=60, correlation_data=b"42")
    (packet,) = published(publisher)
    assert (packet.topic, packet.payload, packet.qos) == ("a", b"1", mqtt5.QoS.AT_LEAST_ONCE)
    assert (packet.message_expiry_interval, packet.correlation_data) == (60, b"42")
    assert not packet.duplicate


def test_the_delivery_behind_a_publication_is_given_back_when_the_broker_has_it() -> None:
    publisher, confirmed = connected_publisher()
    first, second = delivery(1), delivery(2)
    publisher.publish("a", b"1", on_behalf_of=first)
    publisher.publish("a", b"nobody's")
    publisher.publish("a", b"2", on_behalf_of=second)
    one, other, two = published(publisher)
    assert confirmed == []
    confirm(publisher, one)
    assert confirmed == [first]
    confirm(publisher, other)
    assert confirmed == [first]
    assert not publisher.is_idle
    confirm(publisher, two)
    assert confirmed == [first, second]
    assert publisher.is_idle


def test_a_refused_publication_is_told_and_its_delivery_given_back() -> None:
    publisher, confirmed = connected_publisher()
    behind = delivery()
    publisher.publish("a", b"1", on_behalf_of=behind)
    (packet,) = published(publisher)
    assert packet.packet_id is not None
    refusal = mqtt5.PubAckPacket(packet.packet_id, reason_code=mqtt5.PubAckReasonCode.NOT_AUTHORIZED)
    assert publisher.receive(refusal.write()) == [Refused("publish", "not_authorized")]
    assert confirmed == [behind]
    assert publisher.is_idle


def test_that_nobody_listens_is_no_refusal() -> None:
    publisher, confirmed = connected_publisher()
    publisher.publish("a", b"1", on_behalf_of=delivery())
    (packet,) = published(publisher)
    assert packet.packet_id is not None
    puback = mqtt5.PubAckPacket(packet.packet_id, reason_code=mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS)
    assert publisher.receive(puback.write()) == []
    assert len(confirmed) == 1


def test_a_puback_for_nothing_ends_the_link() -> None:
    publisher, confirmed = connected_publisher()
    publisher.publish("a", b"1", on_behalf_of=delivery())
    (packet,) = published(publisher)
    confirm(publisher, packet)
    with pytest.raises(ProtocolError, match="order"):
        confirm(publisher, packet)
    assert len(confirmed) == 1


def test_a_puback_that_the_broker_left_out_ends_the_link_and_confirms_nothing() -> None:
    publisher, confirmed = connected_publisher()
    first, second = delivery(1), delivery(2)
    publisher.publish("a", b"nobody's")
    publisher.publish("a", b"1", on_behalf_of=first)
    publisher.publish("a", b"2", on_behalf_of=second)
    _, one, two = published(publisher)
    with pytest.raises(ProtocolError, match="order"):
        confirm(publisher, two)
    with pytest.raises(ProtocolError, match="order"):
        confirm(publisher, one)
    assert confirmed == []
    publisher.link_lost()
    link_up(publisher)
    (again,) = published(publisher)
    assert again.payload == b"nobody's"
    confirm(publisher, again)
    assert publisher.is_idle


@given(receive_max=st.integers(min_value=1, max_value=5), qualities=st.lists(st.sampled_from([0, 1])))
def test_everything_leaves_in_order_and_within_the_brokers_window(
    receive_max: int, qualities: list[int]
) -> None:
    publisher, _ = connected_publisher(receive_max)
    for number, qos in enumerate(qualities):
        assert publisher.publish("t", str(number).encode(), qos=qos)
    written = published(publisher)
    unconfirmed = [packet for packet in written if packet.packet_id is not None]
    while unconfirmed:
        assert len(unconfirmed) <= receive_max
        confirm(publisher, unconfirmed.pop(0))
        fresh = published(publisher)
        written += fresh
        unconfirmed += [packet for packet in fresh if packet.packet_id is not None]
    assert payloads(written) == [str(number).encode() for number in range(len(qualities))]
    assert publisher.is_idle


def test_qos_0_waits_behind_a_backlog_and_passes_by_a_full_window_otherwise() -> None:
    publisher, _ = connected_publisher(receive_max=1)
    publisher.publish("t", b"newMessage 1")
    publisher.publish("t", b"newMessage 2")
    publisher.publish("t", b"messageSent 3", qos=0)
    (first,) = published(publisher)
    assert first.payload == b"newMessage 1"
    confirm(publisher, first)
    second = published(publisher)
    assert payloads(second) == [b"newMessage 2"]
    confirm(publisher, second[0])
    (third,) = published(publisher)
    assert (third.payload, third.qos, third.packet_id) == (
        b"messageSent 3",
        mqtt5.QoS.AT_MOST_ONCE,
        None,
    )
    assert publisher.is_idle


def test_a_lost_link_leaves_nothing_to_wait_for_that_comes_again_with_a_command() -> None:
    publisher, confirmed = connected_publisher(receive_max=1)
    for number in (1, 2):
        publisher.publish("t", b"message", on_behalf_of=delivery(number))
    published(publisher)
    assert not publisher.is_idle
    publisher.link_lost()
    assert publisher.is_idle
    assert confirmed == []


def test_qos_0_is_confirmed_by_nobody_and_awaited_by_nobody() -> None:
    publisher, _ = connected_publisher()
    publisher.publish("t", b"1", qos=0)
    assert not publisher.is_idle
    assert payloads(published(publisher)) == [b"1"]
    assert publisher.is_idle


def test_a_new_link_repeats_what_was_unconfirmed_but_not_what_comes_again_with_a_command() -> None:
    publisher, confirmed = connected_publisher(receive_max=3)
    publisher.publish("t", b"confirmed")
    publisher.publish("t", b"presence 1")
    publisher.publish("t", b"message 1", on_behalf_of=delivery(1))
    publisher.publish("t", b"presence 2")
    publisher.publish("t", b"answer 2", qos=0)
    publisher.publish("t", b"message 2", on_behalf_of=delivery(2))
    publisher.publish("t", b"presence 3")
    confirm(publisher, published(publisher)[0])
    publisher.link_lost()
    assert not publisher.is_idle
    link_up(publisher)
    again = published(publisher)
    assert payloads(again) == [b"presence 1", b"presence 2", b"presence 3"]
    # The broker knows nothing of the old link: they are new to it.
    assert not any(packet.duplicate for packet in again)
    confirm(publisher, *again)
    assert confirmed == []
    assert publisher.is_idle


def test_what_was_unconfirmed_on_two_links_keeps_its_order_before_what_is_new() -> None:
    publisher, _ = connected_publisher()
    publisher.publish("t", b"1")
    publisher.publish("t", b"2")
    publisher.link_lost()
    link_up(publisher, receive_max=1)
    publisher.publish("t", b"3")
    assert payloads(published(publisher)) == [b"1"]
    publisher.link_lost()
    link_up(publisher)
    publisher.publish("t", b"4")
    assert payloads(published(publisher)) == [b"1", b"2", b"3", b"4"]


def test_the_new_links_window_is_the_one_that_counts() -> None:
    publisher, _ = connected_publisher(receive_max=5)
    for number in range(5):
        publisher.publish("t", str(number).encode())
    publisher.link_lost()
    link_up(publisher, receive_max=2)
    assert payloads(published(publisher)) == [b"0", b"1"]


def test_packet_ids_in_flight_are_not_given_out_again() -> None:
    publisher, _ = connected_publisher()
    in_flight: deque[mqtt5.PublishPacket] = deque()
    for number in range(150_000):
        publisher.publish("t", b"")
        in_flight += published(publisher)
        if number % 3 == 0 or len(in_flight) == 65_535:
            confirm(publisher, in_flight.popleft())
    assert len({packet.packet_id for packet in in_flight}) == len(in_flight) > 65_000


def test_publishing_without_a_link_is_refused() -> None:
    publisher = Publisher(PUBLISHER_OPTIONS, lambda _: None)
    for qos in (0, 1):
        assert not publisher.publish("a", b"never", qos=qos)
    publisher.connect("messaging-service", b"token")
    assert not publisher.publish("a", b"too early")
    assert [type(packet) for packet in packets(publisher.data_to_send())] == [mqtt5.ConnectPacket]
    publisher.receive(mqtt5.ConnAckPacket().write())
    assert publisher.publish("a", b"1")
    publisher.link_lost()
    assert not publisher.publish("a", b"too late")


def test_nothing_is_published_on_a_link_that_the_broker_refuses() -> None:
    publisher, _ = connected_publisher()
    publisher.publish("t", b"1")
    publisher.link_lost()
    publisher.connect("messaging-service", b"token")
    publisher.data_to_send()
    publisher.receive(mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.SERVER_BUSY).write())
    assert publisher.data_to_send() == b""
    publisher.link_lost()
    link_up(publisher)
    assert payloads(published(publisher)) == [b"1"]


def test_a_publisher_takes_no_commands() -> None:
    publisher, _ = connected_publisher()
    with pytest.raises(ProtocolError):
        publisher.receive(command(1))


def test_what_comes_again_with_its_command_may_wait_and_nothing_else() -> None:
    publisher, _ = connected_publisher()
    publisher.publish("a", b"message", on_behalf_of=delivery())
    publisher.publish("a", b"answer", qos=0)
    assert publisher.may_wait
    publisher.publish("a", b"dead letter")
    assert not publisher.may_wait
    publisher.data_to_send()
    assert publisher.may_wait
    publisher.ping()
    assert not publisher.may_wait
