"""What all links have in common, driven by bytes alone."""

from __future__ import annotations

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.connection import Connected, Connection, ConnectOptions, Pong, ProtocolError, Refused
from tests.unit.bridge.wire import OPTIONS, PONG, PUBLISHER_OPTIONS, link_up, packets


def connecting(options: ConnectOptions = OPTIONS) -> Connection:
    connection = Connection(options)
    connection.connect("messaging-service", b"token")
    return connection


@pytest.mark.parametrize(
    ("options", "expected"), [(OPTIONS, (False, 60, 100, 10)), (PUBLISHER_OPTIONS, (True, 0, 65_535, 15))]
)
def test_connect_says_what_the_options_say(
    options: ConnectOptions, expected: tuple[bool, int, int, int]
) -> None:
    (packet,) = packets(connecting(options).data_to_send())
    assert isinstance(packet, mqtt5.ConnectPacket)
    said = (packet.clean_start, packet.session_expiry_interval, packet.receive_max, packet.keep_alive)
    assert said == expected
    assert (packet.client_id, packet.username, packet.password) == (
        options.client_id,
        "messaging-service",
        b"token",
    )


def test_connack_tells_whether_the_broker_knows_the_session() -> None:
    for present in (True, False):
        connection = connecting()
        assert not connection.connected
        events = connection.receive(mqtt5.ConnAckPacket(session_present=present).write())
        assert events == [Connected(present)]
        assert connection.connected


def test_a_refused_connection_names_the_reason() -> None:
    connection = connecting()
    refusal = mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED)
    assert connection.receive(refusal.write()) == [Refused("connect", "not_authorized")]
    assert not connection.connected


def test_a_disconnect_of_the_brokers_names_the_reason() -> None:
    connection = connecting()
    link_up(connection)
    taken_over = mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER)
    assert connection.receive(taken_over.write()) == [Refused("disconnect", "session_taken_over")]


def test_a_ping_is_answered() -> None:
    connection = connecting()
    link_up(connection)
    connection.ping()
    assert connection.data_to_send() == mqtt5.PingReqPacket().write()
    assert connection.receive(PONG) == [Pong()]


@given(cuts=st.lists(st.integers(min_value=1, max_value=9), max_size=40))
def test_packets_are_found_however_the_socket_slices_them(cuts: list[int]) -> None:
    connection = connecting()
    stream = mqtt5.ConnAckPacket(session_present=True).write() + 6 * PONG
    found: list[object] = []
    for cut in cuts:
        found += connection.receive(stream[:cut])
        stream = stream[cut:]
    found += connection.receive(stream)
    assert found == [Connected(True), *(6 * [Pong()])]


def test_half_a_packet_of_a_lost_link_does_not_spoil_the_next() -> None:
    connection = connecting()
    connection.receive(mqtt5.ConnAckPacket().write()[:3])
    connection.link_lost()
    connection.connect("messaging-service", b"token")
    assert connection.receive(mqtt5.ConnAckPacket().write()) == [Connected(False)]


def test_nothing_that_was_queued_on_a_lost_link_is_written_to_the_next() -> None:
    connection = connecting()
    link_up(connection)
    connection.ping()
    connection.link_lost()
    assert connection.data_to_send() == b""
    connection.connect("messaging-service", b"token")
    assert [type(packet) for packet in packets(connection.data_to_send())] == [mqtt5.ConnectPacket]


def test_goodbye_is_said_once_and_only_on_a_link() -> None:
    connection = connecting()
    connection.data_to_send()
    connection.disconnect()
    assert connection.data_to_send() == b""
    link_up(connection)
    connection.disconnect()
    connection.disconnect()
    assert connection.data_to_send() == mqtt5.DisconnectPacket().write()
    assert not connection.connected


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x00\x00", id="no packet type"),
        pytest.param(b"\x30\xff\xff\xff\xff\x01", id="length of five bytes"),
        pytest.param(mqtt5.PingReqPacket().write(), id="a client's packet"),
        pytest.param(mqtt5.PublishPacket("t", b"{}").write(), id="what this kind of link did not ask for"),
    ],
)
def test_what_does_not_belong_here_is_a_protocol_error(data: bytes) -> None:
    connection = connecting()
    link_up(connection)
    with pytest.raises(ProtocolError):
        connection.receive(data)
