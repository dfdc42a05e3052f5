"""The Python client on a real Mosquitto: it comes back by itself, loses nothing and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack.mosquitto import JwtOptions, MosquittoServer
from devstack.ports import free_port
from messaging_client import (
    ClientClosed,
    LinkLost,
    MessageSent,
    MessagingClient,
    NewMessage,
    Status,
    StatusChange,
)
from tests.asyncapi_schemas import validate_event
from tests.conftest import MintToken
from tests.faults.proxy import Direction, FaultProxy
from tests.integration.python_client.conftest import MakeOptions, take
from tests.integration.python_client.responder import Dropped, Responder, running_responder

User = Callable[[str], str]


class Statuses:
    """Remembers what the status callback was told."""

    def __init__(self) -> None:
        self.changes: list[StatusChange] = []
        self._told = asyncio.Event()

    def __call__(self, change: StatusChange) -> None:
        self.changes.append(change)
        self._told.set()

    @property
    def names(self) -> list[Status]:
        return [change.status for change in self.changes]

    async def wait_for(self, status: Status, count: int = 1) -> None:
        async with asyncio.timeout(20):
            while self.names.count(status) < count:
                self._told.clear()
                await self._told.wait()


@pytest.fixture
def own_mosquitto(tmp_path: Path, jwt_options: JwtOptions) -> Iterator[MosquittoServer]:
    """A broker that the test may kill."""
    server = MosquittoServer(tmp_path / "mosquitto", free_port(), free_port(), jwt=jwt_options)
    server.start()
    yield server
    server.stop()


async def test_an_unanswered_send_goes_on_after_the_broker_lost_everything(
    own_mosquitto: MosquittoServer, options: MakeOptions, token: MintToken, user: User
) -> None:
    statuses = Statuses()
    service_token = token("messaging-service", role="service")
    port = own_mosquitto.mqtt_port
    async with MessagingClient(options(user("alice"), port=port, on_status=statuses)) as alice:
        async with running_responder(port, service_token) as before:
            before.script.append(Dropped())
            sending = asyncio.create_task(alice.send("hello", recipient_id=user("bob")))
            await before.wait_for(1)
            own_mosquitto.kill()
            await before.ended.wait()
        await statuses.wait_for(Status.RECONNECTING, 2)
        own_mosquitto.forget_everything()
        await asyncio.to_thread(own_mosquitto.start)
        async with running_responder(port, service_token) as after:
            async with asyncio.timeout(20):
                sent = await sending
            assert after.received[0].payload == before.received[0].payload
    assert sent.text == "hello"
    assert statuses.names[0] is Status.CONNECTED
    assert statuses.names[-2:] == [Status.CONNECTED, Status.CLOSED]


async def test_a_client_may_start_before_the_broker(
    own_mosquitto: MosquittoServer, options: MakeOptions, token: MintToken, user: User
) -> None:
    own_mosquitto.stop()
    statuses = Statuses()
    async with MessagingClient(
        options(user("alice"), port=own_mosquitto.mqtt_port, on_status=statuses)
    ) as alice:
        sending = asyncio.create_task(alice.send("hello", recipient_id=user("bob")))
        await statuses.wait_for(Status.RECONNECTING)
        await asyncio.to_thread(own_mosquitto.start)
        service_token = token("messaging-service", role="service")
        async with running_responder(own_mosquitto.mqtt_port, service_token), asyncio.timeout(20):
            assert (await sending).text == "hello"
    assert all(change.reason for change in statuses.changes if change.status is Status.RECONNECTING)


async def test_refused_and_failing_tokens_do_not_make_the_client_give_up(
    options: MakeOptions, token: MintToken, user: User
) -> None:
    asked = 0

    async def moody_token() -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ConnectionError("the identity provider is down")
        return "no.valid.token" if asked <= 3 else token(user("alice"))

    statuses = Statuses()
    async with MessagingClient(options(user("alice"), token=moody_token, on_status=statuses)) as alice:
        async with asyncio.timeout(20):
            await alice.wait_connected()
        assert alice.status is Status.CONNECTED
    reasons = [change.reason or "" for change in statuses.changes if change.status is Status.RECONNECTING]
    assert asked == 4
    assert "ConnectionError" in reasons[0]
    assert all("authori" in reason.lower() for reason in reasons[1:])
    assert not any("no.valid.token" in reason for reason in reasons)


async def test_tokens_are_replaced_before_they_expire_and_nothing_is_lost(
    options: MakeOptions, responder: Responder, token: MintToken, user: User
) -> None:
    asked = 0

    async def short_token() -> str:
        nonlocal asked
        asked += 1
        return token(user("bob"), expires_in=4)

    statuses = Statuses()
    async with (
        MessagingClient(options(user("alice"))) as alice,
        MessagingClient(options(user("bob"), token=short_token, on_status=statuses)) as bob,
    ):
        await bob.wait_connected()
        sent: list[MessageSent] = []
        async with asyncio.timeout(60):
            while asked < 3:
                sent.append(await alice.send(str(len(sent)), recipient_id=user("bob")))
        received = await take(bob, len(sent))
    assert [event.seq for event in received if isinstance(event, NewMessage)] == [one.seq for one in sent]
    assert set(statuses.names) == {Status.CONNECTED, Status.CLOSED}


async def test_a_link_that_takes_nothing_when_its_token_is_replaced_is_given_up(
    mosquitto_server: MosquittoServer,
    options: MakeOptions,
    responder: Responder,
    token: MintToken,
    user: User,
) -> None:
    ahead = 3_600.0
    lifetimes = iter([ahead + 2])

    async def one_short_token() -> str:
        return token(user("alice"), expires_in=next(lifetimes, 2 * ahead))

    statuses = Statuses()
    changes: dict[str, Any] = {
        "token": one_short_token,
        # For the client alone the first token is about to expire: the broker does not end the link.
        "clock": lambda: time.time() + ahead,
        "connect_timeout": 0.5,
        "on_status": statuses,
    }
    async with (
        FaultProxy(mosquitto_server.mqtt_port) as proxy,
        MessagingClient(options(user("alice"), port=proxy.listen_port, **changes)) as alice,
    ):
        await alice.wait_connected()
        proxy.hold(Direction.TO_SERVER)
        with pytest.raises(LinkLost):
            await alice.publish_command("sendMessage", bytes(16_000_000))
        await statuses.wait_for(Status.RECONNECTING)
        proxy.reset()
        proxy.heal()
        async with asyncio.timeout(20):
            assert (await alice.send("hello", recipient_id=user("bob"))).text == "hello"
    assert statuses.names[-2:] == [Status.CONNECTED, Status.CLOSED]


async def test_events_of_a_short_absence_arrive_on_return(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    async with MessagingClient(options(user("alice"))) as alice:
        async with MessagingClient(options(user("bob"))) as bob:
            await bob.wait_connected()
        sent = [await alice.send(str(number), recipient_id=user("bob")) for number in range(5)]
        async with MessagingClient(options(user("bob"))) as bob:
            received = await take(bob, 5)
    assert [event.text for event in received if isinstance(event, NewMessage)] == [one.text for one in sent]


async def test_a_client_that_was_taken_over_comes_back(options: MakeOptions, user: User) -> None:
    statuses = Statuses()
    async with MessagingClient(options(user("alice"), on_status=statuses)) as first:
        await first.wait_connected()
        async with MessagingClient(options(user("alice"))) as second:
            await second.wait_connected()
            await statuses.wait_for(Status.RECONNECTING)
        await statuses.wait_for(Status.CONNECTED, 2)


async def test_closing_ends_sends_and_events_and_leaves_no_task(options: MakeOptions, user: User) -> None:
    statuses = Statuses()
    before = asyncio.all_tasks()
    async with MessagingClient(options(user("alice"), on_status=statuses)) as alice:
        await alice.wait_connected()
        # No service is there to answer.
        sends = [asyncio.create_task(alice.send(str(n), recipient_id=user("bob"))) for n in range(3)]
        reading = asyncio.create_task(anext(alice.events(), None))
        await alice.publish_command("sendMessage", b"a round trip, so that the first send is on its way")
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        assert await reading is None
    assert [type(outcome) for outcome in outcomes] == [ClientClosed] * 3
    assert [event async for event in alice.events()] == []
    assert statuses.names[-1] is Status.CLOSED
    with pytest.raises(ClientClosed):
        await alice.send("late", recipient_id=user("bob"))
    with pytest.raises(ClientClosed):
        await alice.publish_command("sendMessage", b"{}")
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("after_attempts", [0, 2])
async def test_a_server_that_never_answers_holds_neither_sockets_nor_tasks(
    after_attempts: int, options: MakeOptions, user: User
) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    before = asyncio.all_tasks()
    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    statuses = Statuses()
    silent: dict[str, Any] = {"port": port, "connect_timeout": 0.3, "on_status": statuses}
    async with MessagingClient(options(user("alice"), **silent)) as alice:
        if after_attempts:
            await statuses.wait_for(Status.RECONNECTING, after_attempts)
        assert alice.status is not Status.CONNECTED
    server.close()
    # The server's side of each connection ends when the client's socket is closed.
    left = asyncio.all_tasks() - before
    if left:
        _, left = await asyncio.wait(left, timeout=10)
    assert left == set()


async def test_payloads_can_be_watched_and_a_watcher_that_objects_is_heard(
    options: MakeOptions, responder: Responder, user: User
) -> None:
    seen: list[str] = []

    def watch(event: str, payload: bytes) -> None:
        validate_event(event, json.loads(payload))
        seen.append(event)

    async with MessagingClient(options(user("alice"), on_payload=watch)) as alice:
        await alice.send("hello", recipient_id=user("bob"))
    assert seen == ["messageSent"]

    def object_to_all(event: str, payload: bytes) -> None:
        raise AssertionError("objection")

    with pytest.raises((AssertionError, ClientClosed)):
        async with MessagingClient(options(user("alice"), on_payload=object_to_all)) as alice:
            await alice.send("hello", recipient_id=user("bob"))
