"""What a driver's user makes of refusals: given up where that is wanted, errors elsewhere, never both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import mqtt5
import pytest

from devstack.ports import LOOPBACK
from loadtests.driver.chatter import BY_BROKER, Chatter, Ledger, until
from loadtests.driver.packets import Ids

Answers = Callable[[mqtt5.PublishPacket], Sequence[mqtt5.Packet]]


async def frame_of(reader: asyncio.StreamReader) -> bytes:
    """The payload of a client's frame, whose mask is zero."""
    size = (await reader.readexactly(2))[1] & 0x7F
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    await reader.readexactly(4)
    return await reader.readexactly(size)


def answers_to(packet: mqtt5.Packet, answers: Answers) -> Sequence[mqtt5.Packet]:
    if isinstance(packet, mqtt5.ConnectPacket):
        return [mqtt5.ConnAckPacket()]
    if isinstance(packet, mqtt5.SubscribePacket):
        return [mqtt5.SubAckPacket(packet.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE])]
    assert isinstance(packet, mqtt5.PublishPacket)
    return answers(packet)


@asynccontextmanager
async def talking_to(answers: Answers) -> AsyncIterator[tuple[Chatter, Ledger]]:
    """Somebody who is connected to a broker that answers every message so, and what is counted."""
    ledger = Ledger()
    stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        try:
            while True:
                data = memoryview(await frame_of(reader))
                while data:
                    packet, size = mqtt5.read(data)
                    data = data[size:]
                    for answer in answers_to(packet, answers):
                        content = answer.write()
                        head = bytes((0x82, 126)) + len(content).to_bytes(2, "big")
                        writer.write(head + content)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            stopped.set_result(None)
        except Exception as error:
            stopped.set_exception(error)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    alice, bob = (Chatter(user, Ids(0), ledger, None) for user in ("alice", "bob"))
    alice.meet(bob)
    try:
        port = server.sockets[0].getsockname()[1]
        await alice.link.open(LOOPBACK, port, user="alice", device="test", token="token")
        yield alice, ledger
    finally:
        alice.link.close()
        await stopped
        server.close()


def refusing(**changes: object) -> Answers:
    """Answers every message with an error."""

    def answers(packet: mqtt5.PublishPacket) -> Sequence[mqtt5.Packet]:
        error = {"code": "BUSY", "message": "", "command": "sendMessage", "retryAfterMs": 5, **changes}
        error["clientMessageId"] = json.loads(packet.payload)["clientMessageId"]
        topic = "chat/v1/users/alice/events/error"
        return [mqtt5.PublishPacket(topic, json.dumps(error).encode())]

    return answers


def stopping(packet: mqtt5.PublishPacket) -> Sequence[mqtt5.Packet]:
    """Takes no message."""
    assert packet.packet_id is not None
    return [mqtt5.PubAckPacket(packet.packet_id, reason_code=mqtt5.PubAckReasonCode.NOT_AUTHORIZED)]


@pytest.mark.parametrize(
    ("answers", "refused", "untimed"),
    [
        (refusing(), {"BUSY": 3}, 0),
        (refusing(code="RATE_LIMITED"), {"RATE_LIMITED": 3}, 0),
        (refusing(retryAfterMs=0), {"BUSY": 3}, 3),
        (stopping, {BY_BROKER: 3}, 0),
    ],
)
async def test_who_gives_up_has_nothing_open(answers: Answers, refused: dict[str, int], untimed: int) -> None:
    async with talking_to(answers) as (chatter, ledger):
        chatter.gives_up = True
        chatter.send_together(3)
        assert await until(lambda: not chatter.unanswered, 5)
        assert (dict(ledger.refused), ledger.refused_untimed) == (refused, untimed)
        assert (ledger.sent, ledger.errors, ledger.duplicates) == (3, 0, 0)
        assert not chatter.flying


@pytest.mark.parametrize(
    ("answers", "gives_up"),
    [
        (refusing(), False),
        (stopping, False),
        (refusing(code="STORAGE_UNAVAILABLE"), True),
        (refusing(command="markAsRead"), True),
    ],
)
async def test_any_other_refusal_is_an_error(answers: Answers, gives_up: bool) -> None:
    async with talking_to(answers) as (chatter, ledger):
        chatter.gives_up = gives_up
        chatter.send()
        assert await until(lambda: ledger.errors == 1, 5)
        assert len(chatter.unanswered) == len(chatter.flying) == 1
        assert not ledger.refused


async def test_a_second_refusal_of_a_message_is_a_duplicate() -> None:
    def twice(packet: mqtt5.PublishPacket) -> Sequence[mqtt5.Packet]:
        return [*refusing()(packet), *refusing()(packet)]

    async with talking_to(twice) as (chatter, ledger):
        chatter.gives_up = True
        chatter.send()
        assert await until(lambda: ledger.duplicates == 1, 5)
        assert ledger.refused.total() == 1
