"""What was acknowledged survives; what was not is settled by the resend."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import grpc
import psycopg
import pytest

from devstack.connections_service import ConnectionsDirectory
from devstack.mosquitto import MosquittoServer
from devstack.ports import free_port
from devstack.postgresql import PostgreSQLServer
from devstack.python_server import Surroundings
from devstack.redis_server import RedisServer
from messaging_client import MessagingClient, MessagingClientOptions, NewMessage
from tests.conftest import MintToken
from tests.end_to_end.device import Device, Received, device
from tests.end_to_end.history import history
from tests.end_to_end.platform import platform
from tests.end_to_end.stack import Stack, new_service
from tests.tcp_proxy import tcp_proxy


def count(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT count(*) FROM message").fetchone()
    assert row is not None
    return int(row[0])


async def until_stored(database_url: str, expected: int) -> None:
    async with asyncio.timeout(20):
        while await asyncio.to_thread(count, database_url) < expected:
            await asyncio.sleep(0.02)


def texts(device: Device, name: str) -> list[str]:
    return [payload["text"] for payload in device.of(name)]


async def test_kill_between_commit_and_publish_loses_and_duplicates_nothing(
    tmp_path: Path, broker: MosquittoServer, surroundings: Surroundings, token: MintToken
) -> None:
    """The answer to the commit is held back, so the service dies exactly in between."""
    database_url = surroundings.database_url
    port = urlsplit(database_url).port
    assert port is not None
    async with tcp_proxy(port) as proxy:
        behind_proxy = database_url.replace(f":{port}/", f":{proxy.listen_port}/")
        service = new_service(tmp_path, replace(surroundings, database_url=behind_proxy))
        await asyncio.to_thread(service.process.start)
        async with (
            device(broker.mqtt_port, "alice", token("alice")) as alice,
            device(broker.mqtt_port, "bob", token("bob")) as bob,
        ):
            # Every database connection has prepared its statement before the answers stop.
            for number in range(6):
                await alice.send(f"before {number}", recipientId="bob")
                await alice.next("messageSent")
                await bob.next("newMessage")
            proxy.hold_answers()
            keys = [await alice.send(f"in between {number}", recipientId="bob") for number in range(5)]
            await until_stored(database_url, 7)
            service.process.kill()
            assert len(alice.received) == len(bob.received) == 6
            proxy.release_answers()
            await asyncio.to_thread(service.process.start)
            await bob.until(lambda events: len(events) >= 11)
            await alice.until(lambda events: len(events) >= 11)
            assert [event["clientMessageId"] for event in alice.of("messageSent")][6:] == keys
            assert [event["seq"] for event in bob.of("newMessage")] == list(range(1, 12))
            # A client that heard nothing would resend: same key, same row.
            await alice.send("in between 0", recipientId="bob", clientMessageId=keys[0])
            again = await alice.until(lambda events: len(events) >= 12 and events[11])
            assert again.payload == alice.of("messageSent")[6]
        assert await asyncio.to_thread(count, database_url) == 11
        await asyncio.to_thread(service.process.stop)


async def test_2000_messages_of_20_clients_are_in_one_order_live_and_in_history(
    stack: Stack, token: MintToken
) -> None:
    """Ten conversations, both sides writing at once, a hundred messages each."""
    pairs = [(f"left-{n}", f"right-{n}") for n in range(10)]
    for left, right in pairs:
        stack.connections.connect(left, right)
    clients: dict[str, MessagingClient] = {}
    live: dict[str, list[NewMessage]] = {}

    async def talk(user: str, other: str) -> None:
        client = clients[user]
        await client.wait_connected()
        await asyncio.gather(*(client.send(f"{user} {number}", recipient_id=other) for number in range(100)))

    async def listen(user: str) -> None:
        heard = live[user] = []
        async for event in clients[user].events():
            if isinstance(event, NewMessage):
                heard.append(event)
                if len(heard) == 100:
                    return

    async with asyncio.timeout(90):
        for user in (user for pair in pairs for user in pair):
            clients[user] = MessagingClient(options(stack, user, token))
            await clients[user].__aenter__()
        try:
            await asyncio.gather(
                *(talk(*pair) for pair in pairs),
                *(talk(*pair[::-1]) for pair in pairs),
                *(listen(user) for pair in pairs for user in pair),
            )
        finally:
            for client in clients.values():
                await client.__aexit__(None, None, None)
    assert count(stack.database_url) == 2_000
    for left, right in pairs:
        conversation_id = str(live[left][0].conversation_id)
        in_history = await history(stack.service.grpc_target, token(left), conversation_id)
        assert [message.seq for message in in_history] == list(range(1, 201))
        assert in_history == await history(stack.service.grpc_target, token(right), conversation_id)
        for user, other in ((left, right), (right, left)):
            from_other = [(m.seq, m.text) for m in in_history if m.sender_id == other]
            assert [(event.seq, event.text) for event in live[user]] == from_other
            assert [text for _, text in from_other] == [f"{other} {number}" for number in range(100)]


def options(stack: Stack, user: str, token: MintToken) -> MessagingClientOptions:
    async def fresh() -> str:
        return token(user)

    return MessagingClientOptions(
        host="127.0.0.1",
        port=stack.mosquitto.websocket_port,
        transport="websockets",
        user_id=user,
        device_id="phone",
        token=fresh,
    )


async def test_sigterm_under_load_finishes_cleanly_and_the_next_start_goes_on(
    stack: Stack, token: MintToken
) -> None:
    async with (
        device(stack.mosquitto.mqtt_port, "alice", token("alice")) as alice,
        device(stack.mosquitto.mqtt_port, "bob", token("bob")) as bob,
    ):
        sending = asyncio.create_task(_send_many(alice, 400))
        await bob.until(lambda events: len(events) >= 50)
        await asyncio.to_thread(stack.service.process.stop)
        assert stack.service.process.exit_code == 0
        log = stack.service.process.log_file.read_text()
        assert "service_stopped" in log
        assert "shutdown_grace_exceeded" not in log
        stored = await asyncio.to_thread(count, stack.database_url)
        # The broker has all the answers; how soon this client has read them is its own matter.
        await alice.until(lambda events: len(events) >= stored)
        assert len(alice.of("messageSent")) == stored
        await asyncio.to_thread(stack.service.process.start)
        await sending
        await bob.until(lambda events: len({event.payload["seq"] for event in events}) == 400)
        assert list(dict.fromkeys(texts(bob, "newMessage"))) == [str(number) for number in range(400)]
        assert count(stack.database_url) == 400


async def _send_many(sender: Device, number: int) -> None:
    for text in range(number):
        await sender.send(str(text), recipientId="bob")


async def test_a_restarted_broker_is_found_again(stack: Stack, token: MintToken) -> None:
    stack.mosquitto.kill()
    await asyncio.to_thread(stack.mosquitto.start)
    async with asyncio.timeout(20):
        while await asyncio.to_thread(stack.service.get, "/readyz") is None:
            await asyncio.sleep(0.05)
    async with (
        device(stack.mosquitto.mqtt_port, "alice", token("alice")) as alice,
        device(stack.mosquitto.mqtt_port, "bob", token("bob")) as bob,
    ):
        await alice.send("still here", recipientId="bob")
        await alice.next("messageSent")
        await bob.next("newMessage")


def _make_read_only(database: PostgreSQLServer, is_read_only: bool) -> None:
    """For all sessions, those that are there included: as a provider does when a disk is nearly full."""
    with psycopg.connect(database.url("postgres"), autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {is_read_only}")
        connection.execute("SELECT pg_reload_conf()")
    # A new session says what holds only when the postmaster has read it.
    while True:
        with psycopg.connect(database.url("postgres")) as connection:
            (setting,) = connection.execute("SHOW default_transaction_read_only").fetchone() or (None,)
        if setting == ("on" if is_read_only else "off"):
            return


@pytest.mark.parametrize("trouble", ["down", "read-only"])
async def test_a_database_that_takes_nothing_is_a_retryable_error_and_no_message(
    trouble: str,
    tmp_path: Path,
    broker: MosquittoServer,
    surroundings: Surroundings,
    token: MintToken,
    servers_folder: Path,
) -> None:
    database = PostgreSQLServer(servers_folder / f"own-{uuid4().hex}", free_port())
    database.start()
    database.create_database("own")
    service = new_service(tmp_path, replace(surroundings, database_url=database.url("own")))
    await asyncio.to_thread(service.process.start)
    try:
        async with (
            device(broker.mqtt_port, "alice", token("alice")) as alice,
            device(broker.mqtt_port, "bob", token("bob")) as bob,
        ):
            await alice.send("stored", recipientId="bob")
            await alice.next("messageSent")
            await bob.next("newMessage")
            if trouble == "down":
                database.kill()
            else:
                await asyncio.to_thread(_make_read_only, database, True)
            key = await alice.send("not yet", recipientId="bob")
            error = (await alice.next("error")).payload
            assert (error["code"], error["retryable"]) == ("STORAGE_UNAVAILABLE", True)
            assert error["retryAfterMs"] > 0
            if trouble == "down":
                assert await asyncio.to_thread(service.get, "/readyz") is None
                await asyncio.to_thread(database.start)
            else:
                await asyncio.to_thread(_make_read_only, database, False)
            await _resend_until_sent(alice, key)
            await bob.until(lambda events: [event.payload["seq"] for event in events] == [1, 2])
    finally:
        await asyncio.to_thread(service.process.stop)
        database.stop()


async def _resend_until_sent(alice: Device, key: str) -> None:
    async with asyncio.timeout(20):
        while True:
            await alice.send("not yet", recipientId="bob", clientMessageId=key)
            answer: Received = await alice.next()
            if answer.name == "messageSent":
                return
            await asyncio.sleep(answer.payload["retryAfterMs"] / 1000)


@pytest.mark.parametrize("stopped", ["redis", "connections"])
async def test_sending_fails_closed_and_only_where_it_must(
    tmp_path: Path,
    broker: MosquittoServer,
    connections: tuple[ConnectionsDirectory, int],
    surroundings: Surroundings,
    token: MintToken,
    servers_folder: Path,
    stopped: str,
) -> None:
    """Redis down: only slower. ConnectionsService down: known pairs go on, others must try again."""
    redis = RedisServer(servers_folder / f"redis-{uuid4().hex}", free_port())
    redis.start()
    service = new_service(tmp_path, replace(surroundings, redis_url=redis.url))
    await asyncio.to_thread(service.process.start)
    try:
        async with device(broker.mqtt_port, "bob", token("bob")) as bob:
            await bob.send("known pair", recipientId="alice")
            await bob.next("messageSent")
            if stopped == "redis":
                redis.kill()
            else:
                connections[0].failure = grpc.StatusCode.UNAVAILABLE
            await bob.send("known pair again", recipientId="alice")
            await bob.next("messageSent")
            await bob.send("unknown pair", recipientId="carol")
            answer = await bob.next()
            if stopped == "redis":
                assert answer.name == "messageSent"
            else:
                assert (answer.payload["code"], answer.payload["retryable"]) == (
                    "AUTHORIZATION_UNAVAILABLE",
                    True,
                )
    finally:
        await asyncio.to_thread(service.process.stop)
        redis.stop()


async def test_a_revoked_connection_stops_messages_with_the_invalidation_event(
    stack: Stack, token: MintToken
) -> None:
    async with (
        device(stack.mosquitto.mqtt_port, "alice", token("alice")) as alice,
        platform(stack, token) as publish,
    ):
        await alice.send("connected", recipientId="bob")
        await alice.next("messageSent")
        stack.connections.disconnect("alice", "bob")
        await publish({"userIdA": "bob", "userIdB": "alice", "areConnected": False})
        async with asyncio.timeout(1):
            while True:
                await alice.send("still?", recipientId="bob")
                answer = await alice.next()
                if answer.name == "error":
                    break
        assert answer.payload["code"] == "NOT_CONNECTED"
        stored = count(stack.database_url)
        await alice.send("still?", recipientId="bob")
        assert (await alice.next("error")).payload["code"] == "NOT_CONNECTED"
        assert count(stack.database_url) == stored


async def test_malformed_platform_events_are_dropped_and_logged(stack: Stack, token: MintToken) -> None:
    async with (
        device(stack.mosquitto.mqtt_port, "alice", token("alice")) as alice,
        platform(stack, token) as publish,
    ):
        await publish({"userIdA": "alice"})
        await publish(None)
        await alice.send("served", recipientId="bob")
        await alice.next("messageSent")
    assert stack.service.process.log_file.read_text().count("platform_event_malformed") == 2
