"""Two instances on one Mosquitto: one is active, and whatever becomes of it, the other takes its place."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import grpc
import psycopg
import pytest

from devstack.connections_service import ConnectionsDirectory
from devstack.mosquitto import MosquittoServer
from devstack.ports import free_port
from devstack.postgresql import PostgreSQLServer
from devstack.python_server import Surroundings
from proto.messaging.v1 import messaging_pb2, messaging_pb2_grpc
from tests.conftest import MintToken
from tests.end_to_end.conftest import running
from tests.end_to_end.device import device
from tests.end_to_end.presence import LEASE_S, heartbeats, sees
from tests.end_to_end.stack import Service, new_service
from tests.end_to_end.traffic import Traffic, traffic

TAKEOVER_S = 5.0
"""Within which a standby must be active."""

PAIRS = [(f"writer-{number}", f"reader-{number}") for number in range(4)]


@dataclass
class Pair:
    """Two instances; which one is active is up to them."""

    services: tuple[Service, Service]
    database_url: str

    async def active(self, *, within_s: float = 20.0) -> tuple[Service, Service]:
        """The active instance and the other one, as soon as there is an active one."""
        async with asyncio.timeout(within_s):
            while True:
                for one, other in (self.services, self.services[::-1]):
                    if one.process.is_running and await role(one) == "active":
                        return one, other
                await asyncio.sleep(0.02)

    def epoch(self) -> int:
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute("SELECT epoch FROM lease WHERE name = 'messaging-service:bridge'")
            (epoch,) = row.fetchone() or (0,)
        return int(epoch)


async def role(service: Service) -> str | None:
    """As what the instance serves; None while it does not."""
    body = await asyncio.to_thread(service.get, "/readyz")
    return None if body is None else str(json.loads(body)["role"])


async def becomes(service: Service, wanted: str, *, within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while await role(service) != wanted:
            await asyncio.sleep(0.02)


def log(service: Service) -> str:
    return service.process.log_file.read_text()


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESSAGING_PRESENCE_LEASE_S", str(LEASE_S))


@pytest.fixture(autouse=True)
def _room_for_a_takeover(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is written during a takeover may wait: what is refused comes back out of its order."""
    monkeypatch.setenv("MESSAGING_WAITING_LIMIT", "8192")


@pytest.fixture
async def pair(
    tmp_path: Path, surroundings: Surroundings, connections: tuple[ConnectionsDirectory, int]
) -> AsyncIterator[Pair]:
    for writer, reader in PAIRS:
        connections[0].connect(writer, reader)
    async with AsyncExitStack() as stack:
        services = (new_service(tmp_path / "one", surroundings), new_service(tmp_path / "two", surroundings))
        for service in services:
            await stack.enter_async_context(running(service.process))
        yield Pair(services, surroundings.database_url)


@pytest.fixture
async def load(pair: Pair, broker: MosquittoServer, token: MintToken) -> AsyncIterator[Traffic]:
    await pair.active()
    async with traffic(broker.mqtt_port, token, PAIRS) as made:
        await made.goes_on()
        yield made


async def test_both_are_ready_and_one_is_active(pair: Pair) -> None:
    active, standby = await pair.active()
    assert await role(standby) == "standby"
    for service, held in ((active, 1.0), (standby, 0.0)):
        metrics = (await asyncio.to_thread(service.get, "/metrics") or "").splitlines()
        assert f"messaging_lease_held {held}" in metrics
        assert f"messaging_lease_acquisitions_total {held}" in metrics
        assert f"messaging_broker_connected {held}" in metrics
    assert pair.epoch() == 1


async def test_a_killed_one_is_followed_with_nothing_lost_and_in_order(pair: Pair, load: Traffic) -> None:
    for kills in range(1, 4):
        active, standby = await pair.active()
        active.process.kill()
        await becomes(standby, "active", within_s=TAKEOVER_S)
        assert pair.epoch() == kills + 1
        await load.goes_on()
        await asyncio.to_thread(active.process.start)
        await becomes(active, "standby")
    await load.verify(pair.services[0].grpc_target)


async def test_a_stopped_one_is_fenced_and_stands_by(pair: Pair, load: Traffic, token: MintToken) -> None:
    active, standby = await pair.active()
    os.kill(active.process.pid, signal.SIGSTOP)
    try:
        await becomes(standby, "active", within_s=TAKEOVER_S)
        await load.goes_on()
        await load.pause()
        delivered, stored = load.delivered, await asyncio.to_thread(rows, pair.database_url)
    finally:
        os.kill(active.process.pid, signal.SIGCONT)
    await becomes(active, "standby")
    assert "lease_lost" in log(active)
    assert load.delivered == delivered
    assert await asyncio.to_thread(rows, pair.database_url) == stored
    load.resume()
    await load.goes_on()
    await asyncio.to_thread(standby.process.stop)
    await becomes(active, "active", within_s=TAKEOVER_S)
    await load.goes_on()
    await load.verify(active.grpc_target)
    assert pair.epoch() == 3


def rows(database_url: str) -> list[tuple[object, ...]]:
    """Everything that commands change."""
    with psycopg.connect(database_url) as connection:
        return connection.execute(
            "SELECT count(*), max(id::text), (SELECT sum(last_seq) FROM conversation),"
            " (SELECT sum(delivered_seq + read_seq) FROM participant), (SELECT count(*) FROM receipt),"
            " (SELECT count(*) FROM preference WHERE invisible) FROM message"
        ).fetchall()


async def test_a_command_that_a_stopped_one_still_has_undoes_nothing(
    pair: Pair, broker: MosquittoServer, token: MintToken
) -> None:
    """Its socket holds a command that the other instance was sent again, and that was taken back since."""
    active, standby = await pair.active()
    async with device(broker.mqtt_port, "alice", token("alice")) as alice:
        os.kill(active.process.pid, signal.SIGSTOP)
        try:
            await alice.publish("setPreferences", b'{"invisible": true}')
            assert (await alice.next("preferencesChanged")).payload["invisible"] is True
            await alice.publish("setPreferences", b'{"invisible": false}')
            assert (await alice.next("preferencesChanged")).payload["invisible"] is False
            before = await asyncio.to_thread(rows, pair.database_url)
        finally:
            os.kill(active.process.pid, signal.SIGCONT)
        await becomes(active, "standby")
        assert await role(standby) == "active"
        assert await asyncio.to_thread(rows, pair.database_url) == before
        assert len(alice.received) == 2


async def test_a_choice_made_at_the_standby_takes_effect(
    pair: Pair, broker: MosquittoServer, token: MintToken
) -> None:
    _, standby = await pair.active()
    await becomes(standby, "standby")
    async with (
        device(broker.mqtt_port, "alice", token("alice")) as alice,
        device(broker.mqtt_port, "bob", token("bob")) as bob,
        grpc.aio.insecure_channel(standby.grpc_target) as channel,
    ):
        await alice.send("hello", recipientId="bob")
        await alice.next("messageSent")
        async with heartbeats(bob), heartbeats(alice):
            await sees(bob, "online")
            await messaging_pb2_grpc.MessagingServiceStub(channel).SetPreferences(
                messaging_pb2.SetPreferencesRequest(invisible=True),
                metadata=(("authorization", f"Bearer {token('alice')}"),),
                timeout=5,
            )
            await sees(bob, "online", "offline")


async def test_a_rolling_restart_loses_no_message_and_no_order(pair: Pair, load: Traffic) -> None:
    for _ in range(2):
        active, standby = await pair.active()
        await asyncio.to_thread(active.process.stop)
        assert active.process.exit_code == 0
        await becomes(standby, "active", within_s=TAKEOVER_S)
        await load.goes_on()
        await asyncio.to_thread(active.process.start)
        await becomes(active, "standby")
    active, standby = await pair.active()
    await asyncio.to_thread(standby.process.stop)
    assert standby.process.exit_code == 0
    await load.goes_on()
    await load.verify(active.grpc_target)
    for service in pair.services:
        assert "shutdown_grace_exceeded" not in log(service)
        assert "lease_lost" not in log(service)


async def test_the_lease_comes_back_with_the_database(
    tmp_path: Path,
    broker: MosquittoServer,
    surroundings: Surroundings,
    connections: tuple[ConnectionsDirectory, int],
    token: MintToken,
    servers_folder: Path,
) -> None:
    database = PostgreSQLServer(servers_folder / f"own-{uuid4().hex}", free_port())
    await asyncio.to_thread(database.start)
    database.create_database("own")
    own = replace(surroundings, database_url=database.url("own"))
    services = (new_service(tmp_path / "one", own), new_service(tmp_path / "two", own))
    try:
        async with running(services[0].process), running(services[1].process):
            pair = Pair(services, own.database_url)
            await pair.active()
            async with (
                device(broker.mqtt_port, "alice", token("alice")) as alice,
                device(broker.mqtt_port, "bob", token("bob")) as bob,
            ):
                await alice.send("before", recipientId="bob")
                await alice.next("messageSent")
                before = pair.epoch()
                await asyncio.to_thread(database.kill)
                key = await alice.send("meanwhile", recipientId="bob")
                error = (await alice.next("error")).payload
                assert (error["code"], error["retryable"]) == ("STORAGE_UNAVAILABLE", True)
                await asyncio.to_thread(database.start)
                async with asyncio.timeout(10):
                    while await asyncio.to_thread(pair.epoch) == before:
                        await asyncio.sleep(0.02)
                await pair.active()
                await alice.send("meanwhile", recipientId="bob", clientMessageId=key)
                await alice.next("messageSent")
                await bob.until(lambda events: [event.payload["seq"] for event in events] == [1, 2])
                _, standby = await pair.active()
                await becomes(standby, "standby")
    finally:
        await asyncio.to_thread(database.stop)
