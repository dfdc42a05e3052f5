"""The bridge's links share one fate, and lose nothing that they were given."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from bridge.session import Delivery
from devstack.mosquitto import MosquittoServer
from service.service_token import SERVICE_USER
from service.use_cases.lease import LeaseLost
from tests.conftest import MintToken
from tests.integration.bridge.conftest import DEADLINE_S, PUBLISHERS, RunBridge, User
from tests.integration.broker.mqtt5_client import Mqtt5Client
from tests.integration.broker.raw_client import Login
from tests.tcp_proxy import tcp_proxy

SESSION = PUBLISHERS
"""The session is connected last."""


def said(delivery: Delivery) -> tuple[bytes, bool]:
    return delivery.payload, delivery.is_redelivery


@pytest.mark.parametrize("way", ["tcp", "unix socket"])
async def test_all_links_come_up_and_carry(
    way: str, mosquitto_server: MosquittoServer, run_bridge: RunBridge, user: User
) -> None:
    path = mosquitto_server.socket_path if way == "unix socket" else None
    assert way == "tcp" or path is not None
    async with run_bridge(socket_path=path) as bridge:
        assert bridge.sessions_lost == 1
        assert all(publisher.connected for publisher in bridge.publishers)
        for number in range(PUBLISHERS):
            await user.command(b"command %d" % number)
            delivery = await bridge.take()
            assert said(delivery) == (b"command %d" % number, False)
            assert not bridge.links.is_idle
            bridge.tell(user.user_id, b"event %d" % number, publisher=number, delivery=delivery)
            assert await user.hears() == b"event %d" % number
        await asyncio.wait_for(bridge.links.drain(), 10)
        assert bridge.links.is_idle


@pytest.mark.parametrize("lost", [*range(PUBLISHERS), SESSION])
async def test_with_one_link_all_are_made_again_and_unconfirmed_commands_come_back(
    lost: int, mosquitto_server: MosquittoServer, run_bridge: RunBridge, user: User
) -> None:
    async with tcp_proxy(mosquitto_server.mqtt_port) as proxy, run_bridge(port=proxy.listen_port) as bridge:
        await user.command(b"confirmed")
        bridge.tell(user.user_id, b"1", publisher=0, delivery=await bridge.take())
        assert await user.hears() == b"1"
        await user.command(b"unconfirmed")
        delivery = await bridge.take()
        proxy.hold_answers()
        bridge.tell(user.user_id, b"2", publisher=1, delivery=delivery)
        # The broker has it, but did not get to say so.
        assert await user.hears() == b"2"
        proxy.cut(lost)
        await bridge.lost()
        proxy.release_answers()
        again = await bridge.take()
        assert said(again) == (b"unconfirmed", True)
        assert bridge.sessions_lost == 1
        bridge.tell(user.user_id, b"2", publisher=1, delivery=again)
        assert await user.hears() == b"2"
        for number in range(PUBLISHERS):
            bridge.tell(user.user_id, b"after", publisher=number)
            assert await user.hears() == b"after"
        await asyncio.wait_for(bridge.links.drain(), 10)


@pytest.mark.parametrize("taken", [0, PUBLISHERS - 1])
async def test_links_of_which_a_client_id_was_taken_over_come_back(
    taken: int,
    mosquitto_server: MosquittoServer,
    run_bridge: RunBridge,
    client_id: str,
    token: MintToken,
    user: User,
) -> None:
    async with run_bridge() as bridge, Mqtt5Client.open(mosquitto_server.mqtt_port) as intruder:
        await user.command(b"unanswered")
        assert said(await bridge.take()) == (b"unanswered", False)
        password = token(SERVICE_USER, role="service")
        login = Login(client_id=f"{client_id}.{taken}", password=password)
        assert await intruder.connect(login) == 0
        # The intruder loses the id again.
        await intruder.wait_closed()
        again = await bridge.take()
        assert said(again) == (b"unanswered", True)
        for number in range(PUBLISHERS):
            bridge.tell(user.user_id, b"%d" % number, publisher=number)
            assert await user.hears() == b"%d" % number


async def test_what_no_command_brings_back_is_published_again(
    mosquitto_server: MosquittoServer, run_bridge: RunBridge, user: User
) -> None:
    async with tcp_proxy(mosquitto_server.mqtt_port) as proxy, run_bridge(port=proxy.listen_port) as bridge:
        proxy.hold_answers()
        bridge.tell(user.user_id, b"presence", publisher=1)
        assert await user.hears() == b"presence"
        proxy.cut(0)
        await bridge.lost()
        proxy.release_answers()
        assert await user.hears() == b"presence"


async def test_draining_waits_for_confirmations_and_leaves_the_rest_to_the_next_start(
    mosquitto_server: MosquittoServer, run_bridge: RunBridge, user: User
) -> None:
    async with tcp_proxy(mosquitto_server.mqtt_port) as proxy, run_bridge(port=proxy.listen_port) as bridge:
        await user.command(b"taken")
        delivery = await bridge.take()
        proxy.hold_answers()
        draining = asyncio.create_task(bridge.links.drain())
        bridge.tell(user.user_id, b"event", delivery=delivery)
        assert await user.hears() == b"event"
        await user.command(b"too late")
        assert not draining.done()
        assert not bridge.links.is_idle
        proxy.release_answers()
        await asyncio.wait_for(draining, 10)
        assert bridge.session.unacknowledged == 0
    async with run_bridge() as successor:
        assert successor.sessions_lost == 0
        # What was taken is acknowledged: it does not come again.
        assert (await successor.take()).payload == b"too late"


@pytest.mark.parametrize("is_answered", [False, True])
async def test_draining_does_not_wait_for_commands_of_a_link_that_is_lost(
    is_answered: bool, mosquitto_server: MosquittoServer, run_bridge: RunBridge, user: User
) -> None:
    async with AsyncExitStack() as network:
        proxy = await network.enter_async_context(tcp_proxy(mosquitto_server.mqtt_port))
        async with run_bridge(port=proxy.listen_port) as bridge:
            await user.command(b"taken")
            delivery = await bridge.take()
            if is_answered:
                proxy.hold_answers()
                bridge.tell(user.user_id, b"unconfirmed", delivery=delivery)
                assert await user.hears() == b"unconfirmed"
            draining = asyncio.create_task(bridge.links.drain())
            # The broker cannot be reached any more.
            await network.aclose()
            await asyncio.wait_for(draining, 10)
            bridge.session.acknowledge(delivery)
            assert bridge.links.is_idle
    async with run_bridge() as successor:
        assert said(await successor.take()) == (b"taken", True)


async def test_without_the_lease_no_link_is_made_and_those_there_are_stay(
    run_bridge: RunBridge, mosquitto_server: MosquittoServer
) -> None:
    """Another instance may have connected with our client id, and ours would take its place."""
    demanded = 0

    def refuse() -> None:
        nonlocal demanded
        demanded += 1
        raise LeaseLost("told to be")

    async with tcp_proxy(mosquitto_server.mqtt_port) as proxy, run_bridge(port=proxy.listen_port) as bridge:
        assert bridge.running is not None
        bridge.demand_lease = refuse
        assert bridge.links.is_ready
        assert demanded == 0
        proxy.cut(0)
        with pytest.raises(LeaseLost):
            await asyncio.wait_for(bridge.running, DEADLINE_S)
        assert demanded == 1
        assert not any(link.connected for link in (*bridge.publishers, bridge.session))
