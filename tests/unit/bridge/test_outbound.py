"""What a batch's results become on the wire, and when its commands are acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import mqtt5

from bridge.outbound import Outbound, Request
from bridge.publisher import Publisher
from bridge.session import Session
from bridge.topics import Topics
from service.domain.errors import ErrorCode, Rejection
from service.domain.ids import ClientMessageId, ConversationId, MessageId, UserId
from service.domain.message import Message
from service.use_cases.commit_commands import Result
from service.use_cases.send_message import Sent
from tests.unit.bridge.wire import (
    PUBLISHER_OPTIONS,
    command,
    confirm,
    connected_session,
    deliveries,
    link_up,
    packets,
    published,
)

ALICE, BOB = UserId("alice"), UserId("bob")
REFUSAL = Rejection(ErrorCode.NOT_CONNECTED, "no")


class Wire:
    """An `Outbound` on links whose broker is the test."""

    def __init__(self, publishers: int = 2) -> None:
        self.session: Session = connected_session()
        self.publishers = [Publisher(PUBLISHER_OPTIONS, self.session.acknowledge) for _ in range(publishers)]
        for publisher in self.publishers:
            link_up(publisher)
        self.outbound = Outbound(
            Topics("chat/v1"), self.session, self.publishers, lambda: None, on_sent=lambda *_: None
        )
        self._last_packet_id = 0

    def request(self) -> Request:
        """A command that has just been delivered."""
        self._last_packet_id += 1
        (delivery,) = deliveries(self.session, command(self._last_packet_id))
        return Request(delivery, ALICE, "sendMessage")

    def deliver(self, *results: Result) -> None:
        """Each result answers a command of its own, in one batch."""
        self.outbound.deliver([(self.request(), result) for result in results])

    def pubacks(self) -> list[int]:
        """The acknowledgements among what the session writes now."""
        written = packets(self.session.data_to_send())
        return [packet.packet_id for packet in written if isinstance(packet, mqtt5.PubAckPacket)]


def sent(conversation: int = 0, seq: int = 1) -> Sent:
    message = Message(
        id=MessageId(UUID(int=seq)),
        conversation_id=ConversationId(UUID(int=conversation)),
        seq=seq,
        sender_id=ALICE,
        client_message_id=ClientMessageId(UUID(int=seq)),
        text="hello",
        created_at=datetime.now(UTC),
    )
    return Sent(message=message, recipient_id=BOB)


def events(packets: Sequence[mqtt5.PublishPacket]) -> list[tuple[str, int]]:
    return [(packet.topic.removeprefix("chat/v1/users/"), int(packet.qos)) for packet in packets]


def test_a_message_is_told_to_both_sides_over_the_link_of_its_conversation() -> None:
    wire = Wire()
    wire.deliver(sent(conversation=1, seq=1), sent(conversation=2), sent(conversation=1, seq=2))
    pair = [("alice/events/messageSent", 0), ("bob/events/newMessage", 1)]
    assert events(published(wire.publishers[0])) == pair
    assert events(published(wire.publishers[1])) == 2 * pair
    assert wire.session.data_to_send() == b""


def test_a_command_is_acknowledged_when_its_message_is_confirmed() -> None:
    wire = Wire()
    wire.deliver(sent(conversation=0), sent(conversation=1))
    first, second = (published(publisher)[1] for publisher in wire.publishers)
    confirm(wire.publishers[1], second)
    assert wire.pubacks() == []
    confirm(wire.publishers[0], first)
    assert wire.pubacks() == [1, 2]


def test_a_refusal_is_told_before_its_acknowledgement_and_waits_for_nobody() -> None:
    wire = Wire()
    wire.deliver(REFUSAL, sent())
    error, puback = packets(wire.session.data_to_send())
    assert isinstance(error, mqtt5.PublishPacket)
    assert events([error]) == [("alice/events/error", 0)]
    assert isinstance(puback, mqtt5.PubAckPacket)
    assert puback.packet_id == 1


def test_a_refusal_behind_an_unconfirmed_message_is_told_at_once_and_acknowledged_in_its_turn() -> None:
    wire = Wire()
    wire.deliver(sent(), REFUSAL)
    assert events(published(wire.session)) == [("alice/events/error", 0)]
    confirm(wire.publishers[0], published(wire.publishers[0])[1])
    assert wire.pubacks() == [1, 2]


def test_a_message_that_no_link_takes_leaves_its_command_to_the_next_link() -> None:
    wire = Wire(publishers=1)
    request = wire.request()
    for link in (wire.session, *wire.publishers):
        link.link_lost()
    wire.outbound.deliver([(request, sent())])
    link_up(wire.publishers[0])
    link_up(wire.session, session_present=True)
    assert published(wire.publishers[0]) == []
    assert wire.pubacks() == []
    (again,) = deliveries(wire.session, command(1, duplicate=True))
    wire.outbound.deliver([(Request(again, ALICE, "sendMessage"), sent())])
    confirm(wire.publishers[0], published(wire.publishers[0])[1])
    assert wire.pubacks() == [1]
