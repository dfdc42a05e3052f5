"""What a client that is let in may publish and subscribe to."""

from __future__ import annotations

import json

import pytest

from devstack.mosquitto import JwtOptions
from tests.integration.broker.access_table import (
    MAY_NOT_PUBLISH,
    MAY_NOT_SUBSCRIBE,
    MAY_PUBLISH,
    MAY_SUBSCRIBE,
    NOBODY_PUBLISHES,
    NOBODY_SUBSCRIBES,
    SUBJECTS,
    rows,
    rows_and_for_all,
)
from tests.integration.broker.conftest import Enter, MakeBroker
from tests.integration.broker.mqtt5_client import NOT_AUTHORIZED, Mqtt5Client
from tests.integration.broker.mqtt311_client import FAILURE, BridgeClient, Mqtt311Client
from tests.integration.broker.raw_client import ClosedError, RawClient

KINDS: list[type[RawClient]] = [Mqtt5Client, Mqtt311Client]
RETAIN_NOT_SUPPORTED = 0x9A
PAYLOAD_LIMIT = 262_144
PACKET_TOO_LARGE = 0x95


@pytest.mark.parametrize(("role", "topic"), rows(MAY_PUBLISH))
async def test_a_role_may_publish_to_its_topics(enter: Enter, role: str, topic: str) -> None:
    client = await enter(SUBJECTS[role], role=role)
    assert await client.publish(topic) < 0x80


@pytest.mark.parametrize(("role", "topic"), rows_and_for_all(MAY_NOT_PUBLISH, NOBODY_PUBLISHES))
async def test_a_role_may_publish_nowhere_else(enter: Enter, role: str, topic: str) -> None:
    client = await enter(SUBJECTS[role], role=role)
    assert await client.publish(topic) == NOT_AUTHORIZED
    # The session goes on.
    assert await client.publish(MAY_PUBLISH[role][0]) < 0x80


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("role", "topic_filter"), rows(MAY_SUBSCRIBE))
async def test_a_role_may_subscribe_to_its_filters(
    enter: Enter, kind: type[RawClient], role: str, topic_filter: str
) -> None:
    client = await enter(SUBJECTS[role], role=role, kind=kind)
    assert await client.subscribe(topic_filter) == [1]


@pytest.mark.parametrize("kind", [*KINDS, BridgeClient])
@pytest.mark.parametrize(("role", "topic_filter"), rows_and_for_all(MAY_NOT_SUBSCRIBE, NOBODY_SUBSCRIBES))
async def test_other_filters_are_refused_at_once(
    enter: Enter, kind: type[RawClient], role: str, topic_filter: str
) -> None:
    client = await enter(SUBJECTS[role], role=role, kind=kind)
    good = MAY_SUBSCRIBE[role][0]
    assert await client.subscribe(topic_filter, good) == [kind.refused_filter, 1]


@pytest.mark.parametrize(
    "topic_filter",
    [
        "$share//chat/v1/users/+/commands/+",
        "$share/g",
        "$share/g/",
        "$share/+/chat/v1/users/+/commands/+",
        "#/x",
    ],
)
async def test_a_malformed_filter_is_refused_or_ends_the_session(enter: Enter, topic_filter: str) -> None:
    client = await enter("messaging-service", role="service", kind=Mqtt311Client)
    try:
        granted = await client.subscribe(topic_filter)
    except ClosedError:
        granted = [FAILURE]
    assert granted == [FAILURE]


async def test_without_a_role_a_client_is_a_user(enter: Enter) -> None:
    client = await enter("messaging-service")
    assert await client.subscribe("chat/v1/users/+/commands/+") == [NOT_AUTHORIZED]
    assert await client.publish("chat/v1/users/alice/events/newMessage") == NOT_AUTHORIZED
    assert await client.subscribe("chat/v1/users/messaging-service/events/+") == [1]


@pytest.mark.parametrize("kind", KINDS)
async def test_commands_and_events_reach_those_they_are_for(enter: Enter, kind: type[RawClient]) -> None:
    service = await enter("messaging-service", role="service", kind=kind)
    alice = await enter("alice", kind=kind)
    phone = await enter("alice", device="phone", kind=kind)
    bob = await enter("bob", kind=kind)
    await service.subscribe("chat/v1/users/+/commands/+")
    await alice.subscribe("chat/v1/users/alice/events/+")
    await phone.subscribe("chat/v1/users/alice/events/newMessage")
    await bob.subscribe("chat/v1/users/bob/events/+")

    await alice.publish("chat/v1/users/alice/commands/sendMessage", b"command")
    command = await service.receive()
    assert (command.topic, command.payload) == ("chat/v1/users/alice/commands/sendMessage", b"command")

    await service.publish("chat/v1/users/alice/events/newMessage", b"for alice")
    await service.publish("chat/v1/users/bob/events/newMessage", b"for bob")
    assert [(await client.receive()).payload for client in (alice, phone, bob)] == [
        b"for alice",
        b"for alice",
        b"for bob",
    ]


async def test_platform_events_reach_service_and_platform(enter: Enter) -> None:
    people = await enter("people", role="platform")
    service = await enter("messaging-service", role="service")
    watcher = await enter("watcher", role="platform")
    await service.subscribe("chat/v1/platform/events/connections.changed")
    await watcher.subscribe("chat/v1/platform/events/+")
    await people.publish("chat/v1/platform/events/connections.changed", b"changed")
    assert [(await client.receive()).payload for client in (service, watcher)] == [b"changed"] * 2


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_refused_is_delivered_to_nobody(enter: Enter, kind: type[RawClient]) -> None:
    service = await enter("messaging-service", role="service")
    bob = await enter("bob")
    await service.subscribe("chat/v1/users/+/commands/+", "chat/v1/platform/events/+")
    await bob.subscribe("chat/v1/users/bob/events/+")
    mallory = await enter("mallory", kind=kind)
    for topic in [
        "chat/v1/users/bob/commands/sendMessage",
        "chat/v1/users/bob/events/newMessage",
        "chat/v1/platform/events/connections.changed",
    ]:
        await mallory.publish(topic, b"forged")
    await mallory.publish("chat/v1/users/mallory/commands/sendMessage", b"mine")
    await service.publish("chat/v1/users/bob/events/newMessage", b"true")
    assert (await service.receive()).payload == b"mine"
    assert (await bob.receive()).payload == b"true"


async def test_an_unsubscribed_filter_delivers_nothing_more(enter: Enter) -> None:
    service = await enter("messaging-service", role="service")
    alice = await enter("alice")
    assert isinstance(alice, Mqtt5Client)
    await alice.subscribe("chat/v1/users/alice/events/+")
    assert await alice.unsubscribe("chat/v1/users/alice/events/+") == [0]
    await alice.subscribe("chat/v1/users/alice/events/last")
    await service.publish("chat/v1/users/alice/events/newMessage", b"unwanted")
    await service.publish("chat/v1/users/alice/events/last", b"wanted")
    assert (await alice.receive()).payload == b"wanted"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_retained_message_ends_the_session_and_is_delivered_to_nobody(
    enter: Enter, kind: type[RawClient]
) -> None:
    alice = await enter("alice", kind=kind)
    with pytest.raises(ClosedError) as refusal:
        await alice.publish("chat/v1/users/alice/commands/sendMessage", b"retained", retain=True)
    assert refusal.value.reason == (RETAIN_NOT_SUPPORTED if kind is Mqtt5Client else None)

    service = await enter("messaging-service", role="service")
    await service.subscribe("chat/v1/users/+/commands/+")
    alice = await enter("alice", kind=kind)
    await alice.publish("chat/v1/users/alice/commands/sendMessage", b"not retained")
    assert (await service.receive()).payload == b"not retained"


@pytest.mark.parametrize(("role", "topic"), rows({role: topics[:1] for role, topics in MAY_PUBLISH.items()}))
async def test_the_plugin_refuses_retain_where_the_broker_does_not(
    make_broker: MakeBroker, jwt_options: JwtOptions, enter: Enter, role: str, topic: str
) -> None:
    lenient = make_broker(
        jwt_options, edit=lambda text: text.replace("retain_available false", "retain_available true")
    )
    lenient.start()
    client = await enter(SUBJECTS[role], role=role, broker=lenient)
    assert await client.publish(topic, retain=True) == NOT_AUTHORIZED
    assert await client.publish(topic) < 0x80


async def test_a_payload_over_the_limit_is_refused_and_the_session_goes_on(enter: Enter) -> None:
    service = await enter("messaging-service", role="service")
    await service.subscribe("chat/v1/users/+/commands/+")
    alice = await enter("alice")
    command = "chat/v1/users/alice/commands/sendMessage"
    assert await alice.publish(command, b"x" * (PAYLOAD_LIMIT + 1)) == PACKET_TOO_LARGE
    assert await alice.publish(command, b"x" * PAYLOAD_LIMIT) == 0
    assert len((await service.receive()).payload) == PAYLOAD_LIMIT


async def test_the_topic_root_is_configurable(
    make_broker: MakeBroker, jwt_options: JwtOptions, enter: Enter
) -> None:
    other = make_broker(jwt_options, topic_root="acme/chat/v7")
    other.start()
    alice = await enter("alice", broker=other)
    assert await alice.publish("acme/chat/v7/users/alice/commands/sendMessage") < 0x80
    assert await alice.publish("chat/v1/users/alice/commands/sendMessage") == NOT_AUTHORIZED
    assert await alice.subscribe("acme/chat/v7/users/alice/events/+") == [1]
    assert await alice.subscribe("chat/v1/users/alice/events/+") == [NOT_AUTHORIZED]


async def test_refusals_are_logged_with_client_id_and_topic(
    enter: Enter, make_broker: MakeBroker, jwt_options: JwtOptions
) -> None:
    broker = make_broker(jwt_options)
    broker.start()
    mallory = await enter("mallory", broker=broker)
    await mallory.publish("chat/v1/users/bob/commands/sendMessage", json.dumps({"text": "secret"}).encode())
    await mallory.subscribe("$SYS/#")
    log = broker.log_tail()
    assert "refused client mallory:web to publish to chat/v1/users/bob/commands/sendMessage\n" in log
    assert "refused client mallory:web to subscribe to $SYS/#" in log
    assert "secret" not in log
