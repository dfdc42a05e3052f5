"""More than can be served: explicit refusals, nothing lost or doubled, and normal again afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from devstack.connections_service import ConnectionsDirectory
from devstack.mosquitto import JwtOptions, MosquittoServer
from devstack.ports import free_port
from devstack.python_server import Surroundings
from tests.conftest import MintToken
from tests.end_to_end.conftest import running
from tests.end_to_end.device import Device, Received, device
from tests.end_to_end.stack import Service, Stack, new_service
from tests.tcp_proxy import tcp_proxy

WAITING = 20
FLOOD = 400
SENDS = 60


@pytest.fixture
def service_settings() -> Mapping[str, str]:
    return {
        "MESSAGING_SENDS_LIMIT": f"{SENDS} per 60 seconds",
        "MESSAGING_COMMANDS_LIMIT": "40 per 60 seconds",
    }


def stored(database_url: str) -> list[tuple[str, int, str]]:
    """Sender, position and text of everything in the database, in order."""
    with psycopg.connect(database_url) as connection:
        return connection.execute(
            "SELECT sender_id, seq, text FROM message ORDER BY conversation_id, seq"
        ).fetchall()


async def flood(sender: Device, texts: list[str]) -> dict[str, str]:
    """Publishes without waiting for any answer; returns each text by its key."""
    return {await sender.send(text, recipientId="bob"): text for text in texts}


def answers(sender: Device) -> dict[str, list[dict[str, Any]]]:
    """All that the sender was told of each message."""
    told: dict[str, list[dict[str, Any]]] = {}
    for event in sender.received:
        if event.name in {"messageSent", "error"}:
            told.setdefault(event.payload["clientMessageId"], []).append(event.payload)
    return told


def metric(service: Service, name: str) -> float:
    """The value of one sample of `/metrics`."""
    lines = (service.get("/metrics") or "").splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} ")), 0.0)


def log_lines(service: Service, event: str) -> list[dict[str, Any]]:
    lines = (
        json.loads(line) for line in service.process.log_file.read_text().splitlines() if line[:1] == "{"
    )
    return [line for line in lines if line["event"] == event]


async def test_what_cannot_be_committed_soon_is_refused_at_once_and_welcome_later(
    tmp_path: Path,
    broker: MosquittoServer,
    connections: tuple[ConnectionsDirectory, int],
    surroundings: Surroundings,
    token: MintToken,
) -> None:
    """The database answers nothing while the flood comes in, as one that is far too slow."""
    database_url = surroundings.database_url
    port = urlsplit(database_url).port
    assert port is not None
    connections[0].connect("carol", "bob")
    async with tcp_proxy(port) as proxy:
        behind_proxy = database_url.replace(f":{port}/", f":{proxy.listen_port}/")
        service = new_service(
            tmp_path,
            replace(surroundings, database_url=behind_proxy),
            {"MESSAGING_WAITING_LIMIT": str(WAITING)},
        )
        async with (
            running(service.process),
            device(broker.mqtt_port, "alice", token("alice")) as alice,
            device(broker.mqtt_port, "carol", token("carol")) as carol,
            device(broker.mqtt_port, "bob", token("bob")) as bob,
        ):
            for sender in (alice, carol):
                await sender.send("before", recipientId="bob")
                await sender.next("messageSent")
            proxy.hold_answers()
            of_alice, of_carol = await asyncio.gather(
                flood(alice, [f"alice {number}" for number in range(FLOOD)]),
                flood(carol, [f"carol {number}" for number in range(FLOOD)]),
            )
            # While nothing is committed all but what waits is refused, and one leaves room for the other.
            for sender in (alice, carol):
                await sender.until(lambda events: len(events) >= 1 + FLOOD - WAITING // 2)
                refusals = sender.of("error")
                assert {(error["code"], error["retryable"]) for error in refusals} == {("BUSY", True)}
                assert all(0 < error["retryAfterMs"] <= 15_000 for error in refusals)
                # How far apart depends on how fast the flood comes; that they differ does not.
                assert len({error["retryAfterMs"] for error in refusals}) > 1
            proxy.release_answers()
            await asyncio.gather(
                *(sender.until(lambda events: len(events) >= 1 + FLOOD) for sender in (alice, carol))
            )
            accepted = [
                of_alice.get(key) or of_carol[key]
                for sender in (alice, carol)
                for key, told in answers(sender).items()
                if "messageId" in told[0] and told[0]["text"] != "before"
            ]
            assert len(accepted) == WAITING
            assert {len(told) for sender in (alice, carol) for told in answers(sender).values()} == {1}
            rows = [(sender, text) for sender, _, text in stored(database_url) if text != "before"]
            assert [text for sender, text in rows if sender == "alice"] == accepted[: WAITING // 2]
            assert [text for sender, text in rows if sender == "carol"] == accepted[WAITING // 2 :]
            await _resend_in_turn(
                alice, {key: text for key, text in of_alice.items() if text not in accepted}
            )
            assert len(stored(database_url)) == 2 + WAITING + FLOOD - WAITING // 2
            await bob.until(lambda events: len(events) == 2 + WAITING + FLOOD - WAITING // 2)
            assert [event["seq"] for event in bob.of("newMessage") if event["senderId"] == "alice"] == list(
                range(1, FLOOD + 2)
            )
        refused = metric_of_log(log_lines(service, "commands_refused"), "BUSY")
        assert refused == 2 * (FLOOD - WAITING // 2)
        assert log_lines(service, "command_rejected") == []


def metric_of_log(lines: list[dict[str, Any]], code: str) -> int:
    """How many refusals the log tells of, in far fewer lines."""
    of_code = [line for line in lines if line["code"] == code]
    assert 0 < len(of_code) <= 20
    assert all(1 <= line["users"] <= 2 for line in of_code)
    return sum(int(line["count"]) for line in of_code)


async def _resend_in_turn(sender: Device, refused: dict[str, str]) -> None:
    """As a client does: each under its key, the next one when it is answered."""
    told = len(sender.received)
    for answered, (key, text) in enumerate(refused.items(), start=told + 1):
        await sender.send(text, recipientId="bob", clientMessageId=key)
        await sender.until(partial(_are, answered))
    assert {event.name for event in sender.received[told:]} == {"messageSent"}


def _is_accepted(key: str, events: list[Received]) -> bool:
    return events[-1].name == "messageSent" and events[-1].payload["clientMessageId"] == key


def _are(count: int, events: list[Received]) -> bool:
    return len(events) == count


async def test_by_default_the_window_holds_far_more_than_may_wait(
    tmp_path: Path,
    broker: MosquittoServer,
    connections: tuple[ConnectionsDirectory, int],
    surroundings: Surroundings,
    token: MintToken,
) -> None:
    """Refusals are read and answered behind a full waiting room, though no acknowledgement can leave."""
    users, each = ("alice", "carol", "erin"), 600
    database_url = surroundings.database_url
    port = urlsplit(database_url).port
    assert port is not None
    async with tcp_proxy(port) as proxy, AsyncExitStack() as opened:
        behind_proxy = database_url.replace(f":{port}/", f":{proxy.listen_port}/")
        service = new_service(tmp_path, replace(surroundings, database_url=behind_proxy))
        await opened.enter_async_context(running(service.process))
        senders = []
        for user in users:
            connections[0].connect(user, "bob")
            sender = await opened.enter_async_context(device(broker.mqtt_port, user, token(user)))
            await sender.send("before", recipientId="bob")
            await sender.next("messageSent")
            senders.append(sender)
        proxy.hold_answers()
        await asyncio.gather(*(flood(sender, [str(number) for number in range(each)]) for sender in senders))
        refused = len(users) * each - 1_024
        async with asyncio.timeout(5):
            while sum(len(sender.of("error")) for sender in senders) < refused:
                await asyncio.sleep(0.02)
        assert await asyncio.to_thread(metric, service, "messaging_waiting_messages") == 1_024
        assert await asyncio.to_thread(metric, service, "messaging_unacknowledged_commands") == 1_800
        proxy.release_answers()
        for sender in senders:
            await sender.until(lambda events: len(events) == 1 + each)
        assert await asyncio.to_thread(metric, service, "messaging_waiting_messages") == 0
        assert len(stored(database_url)) == len(users) + 1_024


async def test_what_waits_for_the_service_is_bounded_and_the_rest_refused_by_the_broker(
    tmp_path: Path,
    jwt_options: JwtOptions,
    connections: tuple[ConnectionsDirectory, int],
    surroundings: Surroundings,
    token: MintToken,
) -> None:
    """The service is stopped while far more is sent than may wait, and goes on."""
    limit, sent, between_stamps = 300, 1_000, 128
    broker = MosquittoServer(
        tmp_path / "bounded", free_port(), free_port(), jwt=jwt_options, limits={"waiting_commands": limit}
    )
    service = new_service(tmp_path, replace(surroundings, broker_port=broker.mqtt_port))
    async with (
        running(broker),
        running(service.process),
        device(broker.mqtt_port, "alice", token("alice")) as alice,
        device(broker.mqtt_port, "bob", token("bob")) as bob,
    ):
        opening = await alice.send("opening", recipientId="bob")
        await alice.next("messageSent")
        # So many that at least one carried a stamp, which the service has said back by its answer.
        texts = {opening: "opening"} | await flood(alice, [f"before {number}" for number in range(256)])
        await alice.until(lambda events: len(events) == 1 + 256)
        os.kill(service.process.pid, signal.SIGSTOP)
        try:
            during = [f"during {number}" for number in range(sent)]
            keys = [await alice.send(text, recipientId="bob") for text in during]
            refusals = await alice.until(lambda _: alice.of("error"))
        finally:
            os.kill(service.process.pid, signal.SIGCONT)
        texts |= dict(zip(keys, during, strict=True))
        assert {(error["code"], error["retryable"]) for error in refusals} == {("BUSY", True)}
        assert all(100 <= error["retryAfterMs"] <= 15_000 for error in refusals)
        assert all("clientMessageId" not in error for error in refusals)
        # Each names its command by the correlation data, as an answer of the service does.
        told = {event.correlation_data for event in alice.received if event.name == "error"}
        assert told <= {key.encode() for key in keys[limit - between_stamps :]}
        await alice.until(lambda _: len(alice.of("messageSent")) >= 1 + 256 + limit - between_stamps)
        accepted = {event["clientMessageId"] for event in alice.of("messageSent")}
        assert len(accepted) <= 1 + 256 + limit + between_stamps
        # What the broker did not take comes again, and everything is there once.
        for key in [key for key in texts if key not in accepted]:
            await alice.send(texts[key], recipientId="bob", clientMessageId=key)
            await alice.until(partial(_is_accepted, key))
        # One that was accepted meanwhile may come to Bob again.
        await bob.until(lambda _: len({event["messageId"] for event in bob.of("newMessage")}) == len(texts))
        assert sorted(text for _, _, text in stored(surroundings.database_url)) == sorted(texts.values())


async def test_a_user_that_floods_is_limited_and_nobody_else(stack: Stack, token: MintToken) -> None:
    stack.connections.connect("carol", "dave")
    port = stack.mosquitto.mqtt_port
    async with (
        device(port, "alice", token("alice")) as alice,
        device(port, "carol", token("carol")) as carol,
        device(port, "dave", token("dave")) as dave,
    ):
        keys = await flood(alice, [str(number) for number in range(FLOOD)])
        for number in range(10):
            await carol.send(f"meanwhile {number}", recipientId="dave")
            await carol.next("messageSent")
            assert (await dave.next("newMessage")).payload["seq"] == number + 1
        await alice.until(lambda events: len(events) >= FLOOD)
        told = answers(alice)
        assert told.keys() == keys.keys()
        assert {len(each) for each in told.values()} == {1}
        assert len(alice.of("messageSent")) == SENDS
        refusals = alice.of("error")
        assert {error["code"] for error in refusals} == {"RATE_LIMITED"}
        assert all(0 < error["retryAfterMs"] <= 60_500 and error["retryable"] for error in refusals)
        assert carol.of("error") == []
        texts = [
            text
            for sender, _, text in await asyncio.to_thread(stored, stack.database_url)
            if sender == "alice"
        ]
        assert texts == [str(number) for number in range(SENDS)]
        # What is in history already is refused for now, like the rest: it is to come again later.
        first = next(iter(keys))
        await alice.send("0", recipientId="bob", clientMessageId=first)
        again = await alice.until(lambda events: len(events) > FLOOD and events[FLOOD])
        assert (again.payload["code"], again.payload["retryable"]) == ("RATE_LIMITED", True)
        limited = 'messaging_commands_total{command="sendMessage",outcome="RATE_LIMITED"}'
        assert await asyncio.to_thread(metric, stack.service, limited) == FLOOD - SENDS + 1


async def test_a_flood_of_anything_else_is_limited_and_messages_still_go(
    stack: Stack, token: MintToken
) -> None:
    port = stack.mosquitto.mqtt_port
    async with (
        device(port, "alice", token("alice")) as alice,
        device(port, "bob", token("bob")) as bob,
    ):
        for number in range(100):
            await alice.publish(("sync", "markAsRead", "typing", f"nothing{number}")[number % 4], b"garbage")
        await alice.until(lambda events: len(events) >= 100)
        codes = Counter(error["code"] for error in alice.of("error"))
        assert codes == {"INVALID_PAYLOAD": 30, "UNKNOWN_COMMAND": 10, "RATE_LIMITED": 60}
        await alice.send("a message", recipientId="bob")
        assert (await bob.next("newMessage")).payload["text"] == "a message"
