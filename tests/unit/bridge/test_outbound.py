"""What a batch's results become on the wire, and when its commands are acknowledged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import mqtt5
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from bridge.dead_letters import DeadLetters
from bridge.outbound import Outbound, Request
from bridge.publisher import Publisher
from bridge.session import Session
from bridge.topics import Topics
from service.domain.errors import ErrorCode, Rejection
from service.domain.ids import ClientMessageId, ConversationId, MessageId, UserId
from service.domain.message import Message
from service.domain.receipts import Mark, Position
from service.use_cases.commit_commands import Result
from service.use_cases.mark_position import Marked
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

ALICE, BOB, CAROL = (UserId(name) for name in ("alice", "bob", "carol"))
REFUSAL = Rejection(ErrorCode.NOT_CONNECTED, "no")


class Wire:
    """An `Outbound` on links whose broker is the test."""

    def __init__(self, publishers: int = 2) -> None:
        self.session: Session = connected_session()
        self.publishers = [Publisher(PUBLISHER_OPTIONS, self.session.acknowledge) for _ in range(publishers)]
        for publisher in self.publishers:
            link_up(publisher)
        topics = Topics("chat/v1")
        self.outbound = Outbound(
            topics,
            self.session,
            self.publishers,
            lambda: None,
            DeadLetters(topics, self.publishers),
            on_sent=lambda *_: None,
        )
        self._last_packet_id = 0

    def request(
        self,
        payload: bytes = b"{}",
        *,
        name: str = "sendMessage",
        user: UserId = ALICE,
        is_redelivery: bool = False,
    ) -> Request:
        """A command that has just been delivered."""
        self._last_packet_id += 1
        (delivery,) = deliveries(
            self.session, command(self._last_packet_id, payload, duplicate=is_redelivery)
        )
        return Request(delivery, user, name)

    def deliver(self, *results: Result) -> None:
        """Each result answers a command of its own, in one batch."""
        self.outbound.deliver([(self.request(), result) for result in results])

    def pubacks(self) -> list[int]:
        """The acknowledgements among what the session writes now."""
        written = packets(self.session.data_to_send())
        return [packet.packet_id for packet in written if isinstance(packet, mqtt5.PubAckPacket)]


def sent(seq: int = 1, recipient: UserId = BOB, conversation: int = 0) -> Sent:
    message = Message(
        id=MessageId(UUID(int=seq)),
        conversation_id=ConversationId(UUID(int=conversation)),
        seq=seq,
        sender_id=ALICE,
        client_message_id=ClientMessageId(UUID(int=seq)),
        text="hello",
        created_at=datetime.now(UTC),
    )
    return Sent(message=message, recipient_id=recipient)


def marked(*, moved: bool, visible: bool = True) -> Marked:
    """Bob has read what Alice wrote, and may have hidden that."""
    mark = Mark(
        conversation_id=ConversationId(UUID(int=0)),
        user_id=BOB,
        message_id=MessageId(UUID(int=1)),
        is_read=True,
    )
    position = Position(
        message_id=mark.message_id,
        seq=1,
        reached_at=datetime.now(UTC),
        moved=moved,
        moved_delivered=moved,
        visible=visible,
    )
    return Marked(mark=mark, position=position, counterpart_id=ALICE)


def events(packets: Sequence[mqtt5.PublishPacket]) -> list[tuple[str, int]]:
    return [(packet.topic.removeprefix("chat/v1/users/"), int(packet.qos)) for packet in packets]


def _to(user: UserId, packets: Sequence[mqtt5.PublishPacket]) -> list[mqtt5.PublishPacket]:
    return [packet for packet in packets if f"/{user}/" in packet.topic]


def test_what_is_said_in_a_conversation_keeps_its_order_on_one_link() -> None:
    wire = Wire(publishers=4)
    wire.deliver(sent(seq=1), sent(recipient=CAROL, seq=9, conversation=1), sent(seq=2))
    told = {
        number: [(topic, json.loads(each.payload)["seq"]) for each in written for topic, _ in events([each])]
        for number, publisher in enumerate(wire.publishers)
        if (written := published(publisher))
    }
    assert told == {
        0: [
            (f"{user}/events/{event}", seq)
            for seq in (1, 2)
            for user, event in (("bob", "newMessage"), ("alice", "messageSent"))
        ],
        1: [("carol/events/newMessage", 9), ("alice/events/messageSent", 9)],
    }
    assert wire.session.data_to_send() == b""


def test_a_message_is_told_at_qos_1_and_its_answer_at_qos_0() -> None:
    wire = Wire(publishers=1)
    wire.deliver(sent())
    assert events(published(wire.publishers[0])) == [
        ("bob/events/newMessage", 1),
        ("alice/events/messageSent", 0),
    ]


def test_a_command_is_acknowledged_when_its_message_is_confirmed() -> None:
    wire = Wire(publishers=1)
    wire.deliver(sent(seq=1), sent(seq=2))
    first, second = _to(BOB, published(wire.publishers[0]))
    assert wire.pubacks() == []
    confirm(wire.publishers[0], first)
    assert wire.pubacks() == [1]
    confirm(wire.publishers[0], second)
    assert wire.pubacks() == [2]


def test_a_refusal_is_told_before_its_acknowledgement_and_waits_for_nobody() -> None:
    wire = Wire()
    wire.deliver(REFUSAL, sent())
    error, puback = packets(wire.session.data_to_send())
    assert isinstance(error, mqtt5.PublishPacket)
    assert events([error]) == [("alice/events/error", 0)]
    assert isinstance(puback, mqtt5.PubAckPacket)
    assert puback.packet_id == 1


def test_a_refusal_behind_an_unconfirmed_message_is_told_at_once_and_acknowledged_in_its_turn() -> None:
    wire = Wire(publishers=1)
    wire.deliver(sent(), REFUSAL)
    assert events(published(wire.session)) == [("alice/events/error", 0)]
    confirm(wire.publishers[0], published(wire.publishers[0])[0])
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
    confirm(wire.publishers[0], published(wire.publishers[0])[0])
    assert wire.pubacks() == [1]


@pytest.mark.parametrize("is_redelivery", [False, True])
@pytest.mark.parametrize(("visible", "event"), [(True, "messageRead"), (False, "messageDelivered")])
def test_a_mark_that_moves_nothing_is_told_to_the_reader_only_unless_it_is_redelivered(
    is_redelivery: bool, visible: bool, event: str
) -> None:
    wire = Wire()
    for moved in (True, False):
        request = wire.request(name="markAsRead", user=BOB, is_redelivery=is_redelivery)
        wire.outbound.deliver([(request, marked(moved=moved, visible=visible))])
        to_alice = [(f"alice/events/{event}", 0)] if moved or is_redelivery else []
        assert events(published(wire.session)) == [("bob/events/messageRead", 0), *to_alice]


@pytest.mark.parametrize(
    ("code", "may_be_done"),
    [(ErrorCode.STORAGE_UNAVAILABLE, True), (ErrorCode.INTERNAL, True), (ErrorCode.BUSY, False)],
)
async def test_a_mark_that_an_error_left_open_is_told_to_both_sides_when_it_is_made_again(
    code: ErrorCode, may_be_done: bool
) -> None:
    wire = Wire()
    refused = wire.request(name="markAsRead", user=BOB)
    wire.outbound.deliver([(refused, Rejection(code, "no", 1))])
    published(wire.session)
    again = wire.request(name="markAsRead", user=BOB)
    wire.outbound.deliver([(again, marked(moved=False))])
    told = ["bob", "alice"] if may_be_done else ["bob"]
    assert events(published(wire.session)) == [(f"{user}/events/messageRead", 0) for user in told]


@pytest.mark.parametrize(
    ("code", "is_dead"),
    [
        (code, code.value in {"INVALID_PAYLOAD", "PAYLOAD_TOO_LARGE", "UNKNOWN_COMMAND", "INTERNAL"})
        for code in ErrorCode
        if code.value not in {"RATE_LIMITED", "BUSY"}
    ],
)
async def test_what_fails_by_its_content_becomes_one_dead_letter(code: ErrorCode, is_dead: bool) -> None:
    wire = Wire(publishers=1)
    wire.outbound.deliver([(wire.request(), Rejection(code, "why"))])
    letters = [packet.topic for packet in published(wire.publishers[0])]
    assert letters == ["chat/v1/platform/events/command.deadLettered"] * is_dead
    assert events(published(wire.session)) == [("alice/events/error", 0)]


def refused(command: str, code: str) -> float:
    labels = {"command": command, "outcome": code}
    return REGISTRY.get_sample_value("messaging_commands_total", labels) or 0.0


async def test_refusals_in_numbers_are_all_counted_and_answered_and_logged_in_one_line_a_code() -> None:
    wire = Wire(publishers=1)
    before = refused("sendMessage", "BUSY"), refused("unknown", "RATE_LIMITED")
    busy, limited, outage = (
        Rejection(ErrorCode[name], "later", 5) for name in ("BUSY", "RATE_LIMITED", "STORAGE_UNAVAILABLE")
    )
    with capture_logs() as logs:
        for user in (ALICE, BOB, ALICE):
            wire.outbound.deliver([(wire.request(user=user), busy)])
        wire.outbound.deliver([(wire.request(name="canary"), limited), (wire.request(), REFUSAL)])
        wire.outbound.deliver([(wire.request(), outage), (wire.request(), outage)])
        async with asyncio.timeout(10):
            while len(logs) < 4:
                await asyncio.sleep(0.01)
    assert [(line["event"], line["code"]) for line in logs] == [
        ("command_rejected", "NOT_CONNECTED"),
        ("commands_refused", "BUSY"),
        ("commands_refused", "RATE_LIMITED"),
        ("commands_refused", "STORAGE_UNAVAILABLE"),
    ]
    assert [(line["count"], line["users"]) for line in logs[1:]] == [(3, 2), (1, 1), (2, 1)]
    assert "canary" not in str(logs)
    assert (refused("sendMessage", "BUSY"), refused("unknown", "RATE_LIMITED")) == (
        before[0] + 3,
        before[1] + 1,
    )
    written = packets(wire.session.data_to_send())
    assert len([packet for packet in written if isinstance(packet, mqtt5.PublishPacket)]) == 7
    assert len([packet for packet in written if isinstance(packet, mqtt5.PubAckPacket)]) == 7
    assert published(wire.publishers[0]) == []
