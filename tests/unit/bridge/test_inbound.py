"""What comes in has one end, whatever happens on the way, and is counted before anything else."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any, cast
from uuid import uuid4

import mqtt5
import pytest

from bridge import inbound
from bridge.dead_letters import DeadLetters
from bridge.inbound import Inbound, RateLimits
from bridge.outbound import Outbound, Request
from bridge.publisher import Publisher
from bridge.session import Session
from bridge.topics import Topics
from service.domain.errors import ErrorCode, Rejected, Rejection
from service.use_cases.decide_commands import Command
from service.use_cases.send_message import SendCommand
from tests.asyncapi_schemas import validator
from tests.fakes import MemoryRateLimit
from tests.unit.bridge.wire import (
    PUBLISHER_OPTIONS,
    connected_session,
    deliveries,
    link_up,
    packets,
    published,
)

KEY = "0b0e7a1e-4c55-4f55-9e55-0a53a8b6f001"


class Broken:
    """Any collaborator, with a defect in every method."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"a defect near {name}")


class Pipeline:
    """Remembers what was submitted and answers nothing."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def submit(self, command: Command, ticket: Request) -> None:
        assert isinstance(command, SendCommand)
        self.texts.append(command.text)


class Door:
    """An `Inbound` on links whose broker is the test; beside the pipeline everything is broken."""

    def __init__(
        self,
        *,
        sends: MemoryRateLimit | None = None,
        commands: MemoryRateLimit | None = None,
        lane_limit: int = 100,
        pipeline: Any = None,
        sync: Any = None,
    ) -> None:
        self.session: Session = connected_session()
        self.publisher = Publisher(PUBLISHER_OPTIONS, self.session.acknowledge)
        link_up(self.publisher)
        topics = Topics("chat/v1")
        letters = DeadLetters(topics, [self.publisher])
        outbound = Outbound(
            topics, self.session, [self.publisher], lambda: None, letters, on_sent=lambda *_: None
        )
        self.writable = asyncio.Event()
        self.writable.set()
        self.pipeline = pipeline or Pipeline()
        broken = cast(Any, Broken())
        limits = RateLimits(sends=sends or MemoryRateLimit(), commands=commands or MemoryRateLimit())
        self._inbound = Inbound(
            topics,
            outbound,
            cast(Any, self.pipeline),
            sync or broken,
            broken,
            limits,
            letters,
            typing=broken,
            presence=broken,
            until_writable=self.writable.wait,
            lane_limit=lane_limit,
        )
        self._last_packet_id = 0

    def publish(self, topic: str, payload: bytes) -> None:
        """The broker delivers at QoS 1."""
        self._last_packet_id += 1
        packet = mqtt5.PublishPacket(
            f"chat/v1/{topic}", payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=self._last_packet_id
        )
        self._inbound.take(deliveries(self.session, packet.write()))

    def send(self, text: str, *, user: str = "alice") -> None:
        body = {"recipientId": "bob", "clientMessageId": KEY, "text": text}
        self.publish(f"users/{user}/commands/sendMessage", json.dumps(body).encode())

    def written(self) -> tuple[list[dict[str, Any]], list[int]]:
        """The errors that are written now, and the acknowledgements."""
        out = packets(self.session.data_to_send())
        errors = [json.loads(packet.payload) for packet in out if isinstance(packet, mqtt5.PublishPacket)]
        return errors, [packet.packet_id for packet in out if isinstance(packet, mqtt5.PubAckPacket)]

    def letters(self) -> list[dict[str, Any]]:
        """The data of the dead letters that are written now, each held to the contract."""
        found = []
        for packet in published(self.publisher):
            assert packet.topic == "chat/v1/platform/events/command.deadLettered"
            assert packet.qos == mqtt5.QoS.AT_LEAST_ONCE
            letter = json.loads(packet.payload)
            assert [error.message for error in validator("commandDeadLettered").iter_errors(letter)] == []
            found.append(letter["data"])
        return found


async def until(condition: Callable[[], bool]) -> None:
    """Lets the event loop turn until it holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def test_a_defect_is_answered_and_acknowledged_and_buried() -> None:
    door = Door(pipeline=Broken())
    door.send("canary")
    (body,), pubacks = door.written()
    assert (body["code"], body["retryable"], body["clientMessageId"]) == ("INTERNAL", True, KEY)
    assert pubacks == [1]
    (letter,) = door.letters()
    assert (letter["reason"], letter["command"], letter["userId"]) == ("INTERNAL", "sendMessage", "alice")
    assert letter["incidentId"] in body["message"]
    assert "canary" not in body["message"] + str(letter)


@pytest.mark.parametrize(
    ("topic", "payload", "expected"),
    [
        (
            "users/alice/commands/sendMessage",
            b'{"text":"canary","clientMessageId":"canary"}',
            {"reason": "INVALID_PAYLOAD", "userId": "alice", "command": "sendMessage"},
        ),
        (
            "users/alice/commands/sync",
            b"canary" * 6_000,
            {"reason": "PAYLOAD_TOO_LARGE", "userId": "alice", "command": "sync"},
        ),
        ("users/alice/commands/canary", b"canary", {"reason": "UNKNOWN_COMMAND", "userId": "alice"}),
        (
            "platform/events/connections.changed",
            b'{"data":"canary"}',
            {"reason": "INVALID_PAYLOAD", "event": "connections.changed"},
        ),
        ("elsewhere/canary", b"canary", {"reason": "UNKNOWN_COMMAND"}),
    ],
)
def test_what_cannot_be_processed_is_told_once_without_its_content(
    topic: str, payload: bytes, expected: dict[str, str]
) -> None:
    door = Door()
    door.publish(topic, payload)
    (letter,) = door.letters()
    digest = {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    assert letter == expected | digest
    assert door.written()[1] == [1]


def test_a_dead_letter_that_comes_back_makes_no_other_one() -> None:
    door = Door()
    door.publish("platform/events/command.deadLettered", b"not even JSON")
    assert door.letters() == []
    assert door.written() == ([], [1])


async def test_over_the_limit_a_command_is_refused_and_others_are_not() -> None:
    door = Door(sends=MemoryRateLimit(4, clock=lambda: 0.0))
    for number in range(6):
        door.send(str(number))
    door.send("of somebody else", user="carol")
    await until(lambda: len(door.pipeline.texts) == 5)
    assert [text for text in door.pipeline.texts if text != "of somebody else"] == ["0", "1", "2", "3"]
    errors, _ = door.written()
    assert [(error["code"], error["retryAfterMs"], error["clientMessageId"]) for error in errors] == [
        ("RATE_LIMITED", 10_000, KEY)
    ] * 2
    door.send("known to be refused")
    (error,), _ = door.written()
    assert (error["code"], error["retryable"]) == ("RATE_LIMITED", True)
    assert door.letters() == []


async def test_commands_behind_one_that_is_asked_for_keep_their_order() -> None:
    sends = MemoryRateLimit(2)
    sends.gate = asyncio.Event()
    door = Door(sends=sends)
    for text in ("quiet", "asked"):
        door.send(text)
    door.publish("users/alice/commands/nothing", b"{}")
    door.send("of somebody else", user="carol")
    assert door.pipeline.texts == ["quiet", "of somebody else"]
    assert door.written() == ([], [])
    sends.gate.set()
    await until(lambda: bool(door.session.out))
    assert door.pipeline.texts == ["quiet", "of somebody else", "asked"]
    assert door.written()[0][0]["code"] == "UNKNOWN_COMMAND"


async def test_a_full_lane_is_busy() -> None:
    sends = MemoryRateLimit(1)
    sends.gate = asyncio.Event()
    door = Door(sends=sends, lane_limit=2)
    for text in ("a", "b", "c"):
        door.send(text)
    (error,), _ = door.written()
    assert (error["code"], error["retryable"]) == ("BUSY", True)
    assert error["retryAfterMs"] > 0
    sends.gate.set()
    await until(lambda: len(door.session.out) > 0)
    assert door.pipeline.texts == ["a"]
    assert door.written()[0][0]["code"] == "RATE_LIMITED"


@pytest.mark.parametrize("users", [["alice"], ["alice", "bob", "carol"]])
async def test_syncs_beyond_what_may_wait_are_busy_until_one_is_answered(
    users: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbound, "_SYNCS_OF_ONE_USER" if len(users) == 1 else "_SYNCS", 2)
    gate = asyncio.Event()

    async def sync(*_: object, **__: object) -> None:
        await gate.wait()
        raise Rejected(ErrorCode.CONVERSATION_NOT_FOUND, "none")

    door = Door(sync=sync)

    def ask(number: int) -> None:
        body = {"conversationId": str(uuid4()), "afterSeq": 0}
        door.publish(f"users/{users[number % len(users)]}/commands/sync", json.dumps(body).encode())

    for number in range(3):
        ask(number)
    (error,), acknowledged = door.written()
    assert (error["code"], error["retryAfterMs"], len(acknowledged)) == ("BUSY", 1_000, 3)
    gate.set()
    await until(lambda: len(door.session.out) >= 2)
    assert [error["code"] for error in door.written()[0]] == ["CONVERSATION_NOT_FOUND"] * 2
    ask(0)
    await until(lambda: len(door.session.out) >= 2)
    assert [error["code"] for error in door.written()[0]] == ["CONVERSATION_NOT_FOUND"]


async def test_while_the_broker_takes_nothing_no_page_is_read_for_a_sync() -> None:
    asked: list[object] = []

    async def sync(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise Rejected(ErrorCode.CONVERSATION_NOT_FOUND, "none")

    door = Door(sync=sync)
    door.writable.clear()
    body = {"conversationId": str(uuid4()), "afterSeq": 0}
    door.publish("users/alice/commands/sync", json.dumps(body).encode())
    for _ in range(20):
        await asyncio.sleep(0)
    assert asked == []
    door.writable.set()
    await until(lambda: len(door.session.out) >= 2)
    assert len(asked) == 1


async def test_a_defect_in_counting_is_answered_and_the_lane_goes_on() -> None:
    sends = MemoryRateLimit(2)
    sends.failure = RuntimeError("defect")
    door = Door(sends=sends)
    for text in ("quiet", "asked", "behind"):
        door.send(text)
    await until(lambda: len(door.session.out) >= 2)
    assert [error["code"] for error in door.written()[0]] == ["INTERNAL", "INTERNAL"]
    assert door.pipeline.texts == ["quiet"]


async def test_garbage_and_unknown_commands_share_one_limit() -> None:
    door = Door(commands=MemoryRateLimit(2, clock=lambda: 0.0))
    for name in ("markAsRead", "sync", "typing", "canary"):
        door.publish(f"users/alice/commands/{name}", b"not JSON")
    await until(lambda: len(door.session.out) >= 4)
    codes = [ErrorCode(error["code"]) for error in door.written()[0]]
    assert codes == [ErrorCode.INVALID_PAYLOAD] * 2 + [ErrorCode.RATE_LIMITED] * 2
    assert len(door.letters()) == 2
    assert Rejection(codes[-1], "").retryable
