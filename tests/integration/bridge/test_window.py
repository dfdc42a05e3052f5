"""What the service has not acknowledged is bounded, whatever the broker makes of the receive maximum."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.mosquitto import JwtOptions, MosquittoServer
from devstack.ports import free_port
from tests.conftest import MintToken
from tests.integration.bridge.conftest import DEADLINE_S, Bridge, RunBridge
from tests.integration.broker.mqtt5_client import TOO_MUCH, Mqtt5Client
from tests.integration.broker.raw_client import Login

WINDOW = 200
MAY_WAIT = 300
BETWEEN_STAMPS = 128
SEND = "chat/v1/users/alice/commands/sendMessage"


@pytest.fixture
def narrow(tmp_path: Path, jwt_options: JwtOptions) -> Iterator[MosquittoServer]:
    """A broker that lets few commands wait."""
    broker = MosquittoServer(
        tmp_path / "narrow", free_port(), free_port(), jwt=jwt_options, limits={"waiting_commands": MAY_WAIT}
    )
    broker.start()
    yield broker
    broker.stop()


async def acknowledge_next(bridge: Bridge) -> None:
    bridge.session.acknowledge(await bridge.take())
    bridge.links.flush()


async def test_who_is_slow_to_acknowledge_is_not_given_ever_more(
    narrow: MosquittoServer, run_bridge: RunBridge, token: MintToken
) -> None:
    """For one acknowledgement Mosquitto 2.0 lets a whole window go, over and over."""
    rounds = 100
    async with (
        run_bridge(port=narrow.mqtt_port, receive_maximum=WINDOW) as bridge,
        Mqtt5Client.open(narrow.mqtt_port) as alice,
    ):
        login = Login(client_id="alice:web", password=token("alice"))
        assert await alice.connect(login) == 0
        accepted = 0
        for _ in range(rounds):
            while (code := await alice.publish(SEND)) == 0:
                accepted += 1
                assert accepted <= WINDOW + MAY_WAIT + 2 * BETWEEN_STAMPS + 2 * rounds
            assert code in TOO_MUCH
            await acknowledge_next(bridge)
        # All that was accepted comes, and then there is room again.
        for _ in range(accepted - rounds):
            await acknowledge_next(bridge)
        async with asyncio.timeout(DEADLINE_S):
            while await alice.publish(SEND):
                await asyncio.sleep(0.01)


async def test_a_broker_that_has_pubacks_to_read_is_told_of_messages_later(
    run_bridge: RunBridge, mosquitto_server: MosquittoServer, token: MintToken
) -> None:
    """Each event sets off further commands: Mosquitto 2.0 would take them, and leave the PUBACKs unread."""
    window = 6
    async with (
        run_bridge(receive_maximum=window) as bridge,
        Mqtt5Client.open(mosquitto_server.mqtt_port) as alice,
    ):
        assert await alice.connect(Login(client_id="alice:web", password=token("alice"))) == 0
        await alice.subscribe("chat/v1/users/alice/events/+")
        taken = []
        for _ in range(window // 2 + 2):
            assert await alice.publish(SEND) == 0
            taken.append(await bridge.take())
        for delivery in taken[:-1]:
            bridge.session.acknowledge(delivery)
        assert bridge.session.is_ahead
        bridge.tell("alice", b"held", publisher=0, delivery=taken[-1])
        # What no command brings back must leave before its PUBACK does.
        bridge.tell("alice", b"at once", publisher=1)
        assert bridge.publishers[0].out
        assert not bridge.publishers[1].out
        assert (await alice.receive()).payload == b"at once"
        assert (await alice.receive()).payload == b"held"
        assert not bridge.session.is_ahead
