"""What waits for the service is bounded, and who is refused for it hears of it at once."""

from __future__ import annotations

import asyncio
import json

import pytest

from devstack.mosquitto import JwtOptions, MosquittoServer
from tests.integration.broker.conftest import Enter, MakeBroker
from tests.integration.broker.mqtt5_client import NOT_AUTHORIZED, TOO_MUCH, Mqtt5Client
from tests.integration.broker.raw_client import RawClient

LIMIT = 300
STAMP_EVERY = 128
QOS_NOT_SUPPORTED = 0x9B
BACKLOG = "chat/v1/service/backlog"
NOBODY_HEARS_IT = {0, 0x10}
"""PUBACK of what the broker takes, the second one where nobody has subscribed to it."""


@pytest.fixture
def narrow(make_broker: MakeBroker, jwt_options: JwtOptions) -> MosquittoServer:
    """A broker that lets few commands wait."""
    broker = make_broker(jwt_options, limits={"waiting_commands": LIMIT})
    broker.start()
    return broker


async def sends(device: RawClient, user: str, count: int, command: str = "sendMessage") -> list[int]:
    """Publishes commands; returns the reason codes of the PUBACKs."""
    return [await device.publish(f"chat/v1/users/{user}/commands/{command}") for _ in range(count)]


async def stamps(service: RawClient, commands: int) -> list[str]:
    """Takes that many commands; returns the stamps among them."""
    taken = [await service.receive() for _ in range(commands)]
    return [value for each in taken for name, value in each.user_properties if name == "backlog"]


async def says_back(service: RawClient, stamp: str) -> None:
    assert await service.publish(BACKLOG, stamp.encode()) in NOBODY_HEARS_IT


async def have_known_backlog(service: RawClient, device: RawClient, user: str) -> None:
    """From here on it is known how much waits: nothing."""
    await sends(device, user, STAMP_EVERY)
    (stamp,) = await stamps(service, STAMP_EVERY)
    await says_back(service, stamp)


async def test_a_service_that_says_nothing_back_is_let_alone(enter: Enter, narrow: MosquittoServer) -> None:
    service = await enter("messaging-service", role="service", broker=narrow)
    await service.subscribe("chat/v1/users/+/commands/+")
    alice = await enter("alice", broker=narrow)
    assert set(await sends(alice, "alice", 3 * LIMIT)) == {0}
    assert len(await stamps(service, 3 * LIMIT)) == 3 * LIMIT // STAMP_EVERY


async def test_what_is_too_much_is_refused_where_it_comes_in(enter: Enter, narrow: MosquittoServer) -> None:
    service = await enter("messaging-service", role="service", broker=narrow)
    await service.subscribe("chat/v1/users/+/commands/+")
    alice, bob = [await enter(user, broker=narrow) for user in ("alice", "bob")]
    await alice.subscribe("chat/v1/users/alice/events/+")
    await have_known_backlog(service, bob, "bob")
    assert set(await sends(bob, "bob", LIMIT)) == {0}
    topic = "chat/v1/users/alice/commands/sendMessage"
    assert await alice.publish(topic, correlation_data=b"too much") in TOO_MUCH
    told = await alice.receive()
    assert (told.topic, told.correlation_data) == ("chat/v1/users/alice/events/error", b"too much")
    error = json.loads(told.payload)
    assert 100 <= error.pop("retryAfterMs") <= 15_000
    assert error == {
        "code": "BUSY",
        "message": "refused by the broker",
        "retryable": True,
        "command": "sendMessage",
    }
    # What is cheap, and is not sent again when it is lost, has as much room again.
    assert set(await sends(alice, "alice", LIMIT, "markAsRead")) == {0}
    assert set(await sends(alice, "alice", 5, "markAsRead")) <= TOO_MUCH
    # The service comes on, and there is room again.
    *_, last = await stamps(service, 2 * LIMIT)
    await says_back(service, last)
    assert await alice.publish(topic) == 0


async def test_signals_pass_by_the_queue_and_say_nothing_about_it(
    enter: Enter, narrow: MosquittoServer
) -> None:
    service = await enter("messaging-service", role="service", broker=narrow)
    await service.subscribe("chat/v1/users/+/commands/+")
    alice = await enter("alice", broker=narrow)
    assert isinstance(alice, Mqtt5Client)
    for _ in range(STAMP_EVERY):
        alice.signal("chat/v1/users/alice/commands/typing")
    (stamp,) = await stamps(service, STAMP_EVERY)
    await says_back(service, stamp)
    # No service has said back a stamp of what waits at QoS 1.
    assert set(await sends(alice, "alice", 3 * LIMIT)) == {0}
    # And of the signals it is known how many wait.
    for _ in range(4 * LIMIT):
        alice.signal("chat/v1/users/alice/commands/typing")
    await alice.ping()
    await service.ping()
    taken = [await service.receive() for _ in range(3 * LIMIT + 2 * LIMIT)]
    assert [each.topic for each in taken].count("chat/v1/users/alice/commands/typing") == 2 * LIMIT


async def test_what_might_never_be_passed_on_is_not_taken(enter: Enter, narrow: MosquittoServer) -> None:
    alice = await enter("alice", broker=narrow)
    assert isinstance(alice, Mqtt5Client)
    alice.begin_exactly_once("chat/v1/users/alice/commands/sendMessage")
    assert await alice.wait_closed() == QOS_NOT_SUPPORTED


async def test_stamps_that_are_lost_block_nobody_for_good(enter: Enter, narrow: MosquittoServer) -> None:
    service = await enter("messaging-service", role="service", broker=narrow)
    await service.subscribe("chat/v1/users/+/commands/+")
    alice = await enter("alice", broker=narrow)
    await have_known_backlog(service, alice, "alice")
    await sends(alice, "alice", LIMIT)
    # The service reads them and says nothing back.
    await stamps(service, LIMIT)
    async with asyncio.timeout(10):
        while (await sends(alice, "alice", 1))[0]:
            await asyncio.sleep(0.05)
    (stamp,) = await stamps(service, 1)
    await says_back(service, stamp)
    assert set(await sends(alice, "alice", LIMIT)) == {0}


async def test_another_service_may_be_one_that_says_nothing_back(
    enter: Enter, narrow: MosquittoServer
) -> None:
    service = await enter("messaging-service", role="service", broker=narrow)
    await service.subscribe("chat/v1/users/+/commands/+")
    alice = await enter("alice", broker=narrow)
    await have_known_backlog(service, alice, "alice")
    assert not set(await sends(alice, "alice", LIMIT)) - {0}
    assert set(await sends(alice, "alice", 1)) <= TOO_MUCH
    await enter("messaging-service", role="service", device="other", broker=narrow)
    assert set(await sends(alice, "alice", LIMIT)) == {0}


async def test_no_client_can_forge_a_stamp(enter: Enter, narrow: MosquittoServer) -> None:
    service = await enter("messaging-service", role="service", broker=narrow)
    await service.subscribe("chat/v1/users/+/commands/+")
    alice = await enter("alice", broker=narrow)
    topic = "chat/v1/users/alice/commands/typing"
    for properties in ([("backlog", "1-1")], [("", ""), ("trace", "x"), ("backlog", "")]):
        assert await alice.publish(topic, user_properties=properties) == NOT_AUTHORIZED
    assert await alice.publish(topic, b"mine", user_properties=[("trace", "x"), ("", "y")]) == 0
    received = await service.receive()
    assert (received.payload, list(received.user_properties)) == (b"mine", [("trace", "x"), ("", "y")])
    # What the service says back and is no stamp changes nothing.
    await says_back(service, "1-1")
    assert set(await sends(alice, "alice", 2 * LIMIT)) == {0}


async def test_without_a_limit_nothing_is_stamped(
    enter: Enter, make_broker: MakeBroker, jwt_options: JwtOptions
) -> None:
    broker = make_broker(jwt_options, limits={"waiting_commands": 0})
    broker.start()
    service = await enter("messaging-service", role="service", broker=broker)
    await service.subscribe("chat/v1/users/+/commands/+")
    alice = await enter("alice", broker=broker)
    assert set(await sends(alice, "alice", LIMIT)) == {0}
    assert await stamps(service, LIMIT) == []
