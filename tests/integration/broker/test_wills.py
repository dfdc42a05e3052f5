"""A will is a message like any other: it goes where its client may publish, or nowhere."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from devstack.mosquitto import JwtOptions, MosquittoServer
from tests.conftest import MintToken
from tests.integration.broker.conftest import Enter, MakeBroker
from tests.integration.broker.mqtt5_client import Mqtt5Client
from tests.integration.broker.mqtt311_client import Mqtt311Client
from tests.integration.broker.raw_client import ClosedError, Login, RawClient, Will

KINDS: list[type[RawClient]] = [Mqtt5Client, Mqtt311Client]
RETAIN_NOT_SUPPORTED = 0x9A
OWN_COMMAND = "chat/v1/users/alice/commands/leave"

FOREIGN_TOPICS = [
    "chat/v1/users/bob/commands/leave",
    "chat/v1/users/alice/events/x",
    "chat/v1/users/bob/events/x",
    "chat/v1/users/alice/commands/leave/now",
    "chat/v1/platform/events/connections.changed",
    "$SYS/broker/connection/x/state",
]


async def observers(enter: Enter, broker: MosquittoServer) -> list[RawClient]:
    """Everybody whom the will of alice could reach."""
    service = await enter("messaging-service", role="service", broker=broker)
    await service.subscribe("chat/v1/users/+/commands/+", "chat/v1/platform/events/+")
    phone = await enter("alice", device="phone", broker=broker)
    await phone.subscribe("chat/v1/users/alice/events/+")
    bob = await enter("bob", broker=broker)
    await bob.subscribe("chat/v1/users/bob/events/+")
    return [service, phone, bob]


async def assert_nobody_heard_of_it(
    enter: Enter, kind: type[RawClient], everybody: Sequence[RawClient]
) -> None:
    """What comes first to each of `observers` is from after the will."""
    service, _phone, _bob = everybody
    # The broker has dealt with the old connection, and its will, before it accepts this one.
    alice = await enter("alice", kind=kind)
    await alice.publish(OWN_COMMAND, b"after the will")
    await service.publish("chat/v1/users/alice/events/x", b"after the will")
    await service.publish("chat/v1/users/bob/events/x", b"after the will")
    for observer in everybody:
        assert (await observer.receive()).payload == b"after the will"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_will_to_an_own_command_is_sent(
    enter: Enter, broker: MosquittoServer, kind: type[RawClient]
) -> None:
    service, *_ = await observers(enter, broker)
    alice = await enter("alice", kind=kind, will=Will(topic=OWN_COMMAND, payload=b"gone"))
    await alice.abort()
    received = await service.receive()
    assert (received.topic, received.payload) == (OWN_COMMAND, b"gone")


async def test_a_delayed_will_is_sent(enter: Enter, broker: MosquittoServer) -> None:
    service, *_ = await observers(enter, broker)
    will = Will(topic=OWN_COMMAND, payload=b"gone", delay=1)
    alice = await enter("alice", will=will, session_expiry=60)
    await alice.abort()
    assert (await service.receive()).payload == b"gone"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("topic", FOREIGN_TOPICS)
async def test_a_will_elsewhere_is_never_sent(
    enter: Enter, broker: MosquittoServer, kind: type[RawClient], topic: str
) -> None:
    everybody = await observers(enter, broker)
    alice = await enter("alice", kind=kind, will=Will(topic=topic, payload=b"forged"))
    await alice.abort()
    await assert_nobody_heard_of_it(enter, kind, everybody)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("username", ["service:messaging-service", "user:bob"])
async def test_the_will_of_who_is_refused_is_never_sent(
    enter: Enter, broker: MosquittoServer, kind: type[RawClient], username: str
) -> None:
    everybody = await observers(enter, broker)
    for topic in (*FOREIGN_TOPICS, OWN_COMMAND):
        will = Will(topic=topic, payload=b"forged")
        login = Login(client_id="alice:web", password="no token", username=username, will=will)
        async with kind.open(broker.mqtt_port) as client:
            assert await client.connect(login) == kind.refused
            await client.abort()
    await assert_nobody_heard_of_it(enter, kind, everybody)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_retained_will_is_refused_at_connect(
    broker: MosquittoServer, token: MintToken, kind: type[RawClient]
) -> None:
    login = Login(client_id="alice:web", password=token("alice"), will=Will(topic=OWN_COMMAND, retain=True))
    async with kind.open(broker.mqtt_port) as client:
        if kind is Mqtt5Client:
            assert await client.connect(login) == RETAIN_NOT_SUPPORTED
        else:
            with pytest.raises(ClosedError):
                await client.connect(login)


async def test_the_plugin_stops_a_retained_will_where_the_broker_does_not(
    make_broker: MakeBroker, jwt_options: JwtOptions, enter: Enter
) -> None:
    lenient = make_broker(
        jwt_options, edit=lambda text: text.replace("retain_available false", "retain_available true")
    )
    lenient.start()
    service, *_ = await observers(enter, lenient)
    will = Will(topic=OWN_COMMAND, payload=b"retained", retain=True)
    alice = await enter("alice", broker=lenient, will=will)
    await alice.abort()
    alice = await enter("alice", broker=lenient)
    await alice.publish(OWN_COMMAND, b"after the will")
    assert (await service.receive()).payload == b"after the will"
