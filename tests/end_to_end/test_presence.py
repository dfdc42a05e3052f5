"""Who is here, as counterparts are told: with goodbyes, wills, leases, and everything that breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from devstack.mosquitto import MosquittoServer
from devstack.ports import free_port
from devstack.python_server import Surroundings
from devstack.redis_server import RedisServer
from tests.conftest import MintToken
from tests.end_to_end.device import Device, device
from tests.end_to_end.presence import LEASE_S, heartbeats, say, sees, visitor
from tests.end_to_end.stack import Stack, new_service

REMEMBERED_S = 1.0
"""How long the service may believe in a connection without being told of its end."""


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESSAGING_CONNECTIONS_CACHE_LOCAL_S", str(REMEMBERED_S))
    monkeypatch.setenv("MESSAGING_PRESENCE_LEASE_S", str(LEASE_S))
    monkeypatch.setenv("MESSAGING_PRESENCE_SWEEP_S", "0.1")


async def acquaint(left: Device, right: Device) -> None:
    """Opens the conversation of the two."""
    await left.send("hello", recipientId=right.user_id)
    await left.until(lambda _: left.of("messageSent"))
    await right.until(lambda _: right.of("newMessage"))


@pytest_asyncio.fixture
async def bob(stack: Stack, token: MintToken) -> AsyncIterator[Device]:
    """Bob, online all the time, in conversation with Alice, who is not here yet."""
    port = stack.mosquitto.mqtt_port
    async with device(port, "bob", token("bob")) as bob:
        async with device(port, "alice", token("alice"), device_id="first") as alice:
            await acquaint(alice, bob)
        async with heartbeats(bob, session="bob"):
            yield bob


@pytest_asyncio.fixture
async def alice(stack: Stack, bob: Device, token: MintToken) -> AsyncIterator[Device]:
    """Alice's phone, which has said nothing yet."""
    async with device(stack.mosquitto.mqtt_port, "alice", token("alice")) as alice:
        yield alice


async def test_online_away_and_offline_are_told_as_they_happen(bob: Device, alice: Device) -> None:
    before = datetime.now(UTC)
    await say(alice, "online", "a1")
    assert (await sees(bob, "online"))["lastSeenAt"] is None
    await say(alice, "away", "a1")
    await sees(bob, "online", "away")
    await say(alice, "offline", "a1")
    left = await sees(bob, "online", "away", "offline")
    assert before <= datetime.fromisoformat(left["lastSeenAt"]) <= datetime.now(UTC)
    # The newcomer was told who was here already.
    assert {(event["userId"], event["state"]) for event in alice.of("presence")} == {("bob", "online")}


async def test_a_user_is_online_while_one_of_its_devices_is(
    stack: Stack, bob: Device, alice: Device, token: MintToken
) -> None:
    async with device(stack.mosquitto.mqtt_port, "alice", token("alice"), device_id="laptop") as laptop:
        await say(alice, "online", "phone")
        await sees(bob, "online")
        await say(laptop, "online", "laptop")
        await laptop.until(lambda _: laptop.of("presence"))
        await say(alice, "offline", "phone")
        await say(laptop, "away", "laptop")
        await sees(bob, "online", "away")
        await say(laptop, "offline", "laptop")
        await sees(bob, "online", "away", "offline")


async def test_a_broken_connection_is_told_by_the_will(stack: Stack, bob: Device, token: MintToken) -> None:
    async with visitor(stack.mosquitto.mqtt_port, "alice", token("alice"), session="a1"):
        await sees(bob, "online")
    async with asyncio.timeout(LEASE_S / 2):
        await sees(bob, "online", "offline")


async def test_the_will_of_a_replaced_session_changes_nothing(
    stack: Stack, bob: Device, alice: Device, token: MintToken
) -> None:
    async with heartbeats(alice, session="new"):
        await sees(bob, "online")
        async with visitor(stack.mosquitto.mqtt_port, "alice", token("alice"), session="old"):
            await alice.until(lambda _: len(alice.of("presence")) == 2)
        await say(alice, "offline", "old")
        await asyncio.sleep(1.5 * LEASE_S)
        await sees(bob, "online")
    await say(alice, "offline", "new")
    await sees(bob, "online", "offline")


async def test_a_device_that_falls_silent_is_offline_after_its_lease(
    stack: Stack, bob: Device, token: MintToken
) -> None:
    port = stack.mosquitto.mqtt_port
    async with visitor(port, "alice", token("alice"), session="a1", has_will=False):
        online_at = datetime.now(UTC)
        await sees(bob, "online")
        async with asyncio.timeout(2 * LEASE_S):
            left = await sees(bob, "online", "offline")
    # Seen last when it was heard of last.
    assert abs(datetime.fromisoformat(left["lastSeenAt"]) - online_at) < timedelta(seconds=LEASE_S / 2)


async def test_after_redis_lost_everything_the_silent_are_offline_and_the_others_stay(
    stack: Stack, bob: Device, alice: Device, token: MintToken, redis_url: str
) -> None:
    port = stack.mosquitto.mqtt_port
    async with device(port, "carol", token("carol")) as carol:
        await acquaint(carol, bob)
        async with heartbeats(carol, session="c1"):
            await sees(bob, "online", user="carol")
            async with visitor(port, "alice", token("alice"), session="a1", has_will=False):
                await sees(bob, "online")
                async with Redis.from_url(redis_url) as redis:
                    await redis.flushall()
                async with asyncio.timeout(2.5 * LEASE_S):
                    await sees(bob, "online", "offline")
            assert {event["state"] for event in bob.of("presence") if event["userId"] == "carol"} == {
                "online"
            }
            await say(alice, "online", "a2")
            await alice.until(lambda _: alice.of("presence"))
            await sees(bob, "online", "offline", "online")


async def test_who_left_while_the_service_was_dead_is_offline_within_the_lease(
    stack: Stack, bob: Device, alice: Device, token: MintToken
) -> None:
    port = stack.mosquitto.mqtt_port
    async with heartbeats(alice, session="a1"):
        await sees(bob, "online")
        async with visitor(port, "bob", token("bob"), session="b2", has_will=False):
            stack.service.process.kill()
    await asyncio.to_thread(stack.service.process.start)
    async with asyncio.timeout(2 * LEASE_S):
        await sees(bob, "online", "offline")
    await say(alice, "online", "a2")
    await sees(bob, "online", "offline", "online")


async def test_after_a_broker_crash_presence_is_right_within_the_lease(
    stack: Stack, token: MintToken
) -> None:
    """The wills died with the broker."""
    port = stack.mosquitto.mqtt_port
    async with (
        device(port, "alice", token("alice"), device_id="first") as alice,
        device(port, "bob", token("bob"), device_id="first") as bob,
    ):
        await acquaint(alice, bob)
    async with (
        visitor(port, "bob", token("bob"), session="b1"),
        visitor(port, "alice", token("alice"), session="a1"),
    ):
        stack.mosquitto.kill()
    await asyncio.to_thread(stack.mosquitto.start)
    async with device(port, "bob", token("bob")) as bob, heartbeats(bob, session="b2"):

        def alice_is_gone(_events: object) -> bool:
            told = [event["state"] for event in bob.of("presence")]
            return told[-1:] == ["offline"]

        async with asyncio.timeout(5 + 2 * LEASE_S):
            await bob.until(alice_is_gone)


async def test_who_is_not_connected_or_has_no_conversation_is_not_told(
    stack: Stack, bob: Device, alice: Device, token: MintToken
) -> None:
    port = stack.mosquitto.mqtt_port
    async with AsyncExitStack() as opened:
        carol = await opened.enter_async_context(device(port, "carol", token("carol")))
        await opened.enter_async_context(heartbeats(carol, session="c1"))
        stack.connections.connect("alice", "dave")
        dave = await opened.enter_async_context(device(port, "dave", token("dave")))
        await acquaint(alice, dave)
        stack.connections.disconnect("alice", "dave")
        async with Redis.from_url(stack.service.process.program.settings["MESSAGING_REDIS_URL"]) as redis:
            await redis.flushall()
        await asyncio.sleep(REMEMBERED_S + 0.5)
        await opened.enter_async_context(heartbeats(dave, session="d1"))
        await say(alice, "online", "a1")
        await sees(bob, "online")
        await say(alice, "offline", "a1")
        await sees(bob, "online", "offline")
        assert carol.of("presence") == dave.of("presence") == []


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"{}", b'{"state": "online"}', b'{"state": "here", "sessionId": "a"}',
     b'{"state": "online", "sessionId": ""}', b'{"state": "online", "sessionId": "a b"}'],
)  # fmt: skip
async def test_malformed_presence_is_one_error(stack: Stack, token: MintToken, payload: bytes) -> None:
    async with device(stack.mosquitto.mqtt_port, "alice", token("alice")) as alice:
        await alice.publish("presence", payload, correlation_data=b"c")
        error = await alice.next("error")
        assert (error.payload["code"], error.payload["command"]) == ("INVALID_PAYLOAD", "presence")
        assert error.correlation_data == b"c"
        await alice.send("still served", recipientId="bob")
        await alice.next("messageSent")


async def test_without_redis_messages_pass_and_presence_comes_back_with_it(
    tmp_path: Path,
    broker: MosquittoServer,
    surroundings: Surroundings,
    token: MintToken,
    servers_folder: Path,
) -> None:
    redis = RedisServer(servers_folder / f"redis-{uuid4().hex}", free_port())
    await asyncio.to_thread(redis.start)
    service = new_service(tmp_path, replace(surroundings, redis_url=redis.url))
    await asyncio.to_thread(service.process.start)
    try:
        async with (
            device(broker.mqtt_port, "alice", token("alice")) as alice,
            device(broker.mqtt_port, "bob", token("bob")) as bob,
        ):
            redis.kill()
            await acquaint(alice, bob)
            async with heartbeats(bob, session="b1"), heartbeats(alice, session="a1"):
                for number in range(20):
                    await alice.send(str(number), recipientId="bob")
                await alice.until(lambda _: len(alice.of("messageSent")) == 21)
                assert bob.of("presence") == []
                await asyncio.to_thread(redis.start)
                await bob.until(lambda _: bob.of("presence"))
        log = service.process.log_file.read_text()
        assert log.count("presence_store_failing") == 1
    finally:
        await asyncio.to_thread(service.process.stop)
        redis.stop()
