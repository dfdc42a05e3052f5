"""How much of one user's flood the broker lets through, and that it is nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from time import monotonic

import aiomqtt
import pytest

from devstack.mosquitto import JwtOptions, MosquittoServer
from devstack.ports import LOOPBACK
from tests.conftest import MintToken
from tests.integration.broker.conftest import Enter, MakeBroker
from tests.integration.broker.mqtt5_client import (
    CONNECTION_RATE_EXCEEDED,
    NOT_AUTHORIZED,
    TOO_MUCH,
    Mqtt5Client,
)
from tests.integration.broker.raw_client import ClosedError, Login, RawClient

ATTEMPTS = 50
FLOOD = 3_000
"""More than the broker reads of one user whom it refuses."""
HELD_S = 10


@pytest.fixture
def strict(make_broker: MakeBroker, jwt_options: JwtOptions) -> MosquittoServer:
    """A broker that lets a user publish once a second, and twice at once."""
    broker = make_broker(jwt_options, limits={"commands_per_second": 1})
    broker.start()
    return broker


async def test_a_flood_is_not_passed_on_and_everybody_else_passes(
    enter: Enter, strict: MosquittoServer
) -> None:
    service = await enter("messaging-service", role="service", broker=strict)
    await service.subscribe("chat/v1/users/+/commands/+")
    devices = [await enter("alice", device=name, broker=strict) for name in ("web", "phone")]
    bob = await enter("bob", broker=strict)
    started = monotonic()
    codes = [
        await devices[number % 2].publish("chat/v1/users/alice/commands/sendMessage", str(number).encode())
        for number in range(ATTEMPTS)
    ]
    taken = [str(number).encode() for number, code in enumerate(codes) if code == 0]
    assert taken[:2] == [b"0", b"1"]
    assert len(taken) <= 3 + monotonic() - started
    assert 0 in codes
    assert set(codes) - {0} <= TOO_MUCH
    assert await bob.publish("chat/v1/users/bob/commands/sendMessage", b"of bob") == 0
    received = [(await service.receive()).payload for _ in range(len(taken) + 1)]
    assert received == [*taken, b"of bob"]


async def test_after_a_while_the_user_is_welcome_again(enter: Enter, strict: MosquittoServer) -> None:
    service = await enter("messaging-service", role="service", broker=strict)
    await service.subscribe("chat/v1/users/+/commands/+")
    alice = await enter("alice", broker=strict)

    async def send() -> int:
        return await alice.publish("chat/v1/users/alice/commands/sendMessage")

    while await send() == 0:
        pass
    async with asyncio.timeout(10):
        while await send() != 0:
            await asyncio.sleep(0.05)


async def test_the_service_is_not_limited(enter: Enter, strict: MosquittoServer) -> None:
    service = await enter("messaging-service", role="service", broker=strict)
    alice = await enter("alice", broker=strict)
    await alice.subscribe("chat/v1/users/alice/events/+")
    codes = {await service.publish("chat/v1/users/alice/events/newMessage") for _ in range(ATTEMPTS)}
    assert codes == {0}


async def test_nobody_is_limited_where_the_option_says_so(
    enter: Enter, make_broker: MakeBroker, jwt_options: JwtOptions
) -> None:
    broker = make_broker(jwt_options, limits={"commands_per_second": 0})
    broker.start()
    service = await enter("messaging-service", role="service", broker=broker)
    await service.subscribe("chat/v1/users/+/commands/+")
    alice = await enter("alice", broker=broker)
    codes = {await alice.publish("chat/v1/users/alice/commands/sendMessage") for _ in range(ATTEMPTS)}
    assert codes == {0}


async def test_who_is_refused_hears_of_it_as_from_the_service(enter: Enter, strict: MosquittoServer) -> None:
    service = await enter("messaging-service", role="service", broker=strict)
    await service.subscribe("chat/v1/users/+/commands/+")
    alice, bob = [await enter(user, broker=strict) for user in ("alice", "bob")]
    for user, device in (("alice", alice), ("bob", bob)):
        await device.subscribe(f"chat/v1/users/{user}/events/+")
    for number in range(ATTEMPTS):
        await alice.publish(
            "chat/v1/users/alice/commands/sendMessage", correlation_data=f"message-{number}".encode()
        )
    told = [await alice.receive() for _ in range(4)]
    # The first ones: of the others only their PUBACKs tell.
    assert [message.correlation_data for message in told] == [
        f"message-{number}".encode() for number in range(2, 6)
    ]
    for message in told:
        assert message.topic == "chat/v1/users/alice/events/error"
        error = json.loads(message.payload)
        assert 500 <= error.pop("retryAfterMs") <= 2_500
        assert error == {
            "code": "RATE_LIMITED",
            "message": "refused by the broker",
            "retryable": True,
            "command": "sendMessage",
        }
    await bob.publish("chat/v1/users/bob/commands/sendMessage")
    await bob.ping()
    await service.publish("chat/v1/users/bob/events/newMessage")
    assert (await bob.receive()).topic == "chat/v1/users/bob/events/newMessage"


@pytest.mark.parametrize("command", ['x"y', "x" * 33, "sendMessage\\", "é"])
async def test_a_command_with_a_name_of_the_clients_own_is_not_repeated(
    enter: Enter, strict: MosquittoServer, command: str
) -> None:
    alice = await enter("alice", broker=strict)
    await alice.subscribe("chat/v1/users/alice/events/+")
    while await alice.publish(f"chat/v1/users/alice/commands/{command}") not in TOO_MUCH:
        pass
    assert json.loads((await alice.receive()).payload)["command"] == "unknown"


async def test_a_flood_that_does_not_end_is_cut_off_for_a_while(
    enter: Enter, strict: MosquittoServer, token: MintToken
) -> None:
    service = await enter("messaging-service", role="service", broker=strict)
    await service.subscribe("chat/v1/users/+/commands/+")
    web = await enter("alice", broker=strict)
    phone = await enter("alice", device="phone", broker=strict)

    async def flood() -> None:
        for _ in range(FLOOD):
            await web.publish("chat/v1/users/alice/commands/sendMessage")

    with pytest.raises(ClosedError):
        await flood()
    # Another device of the user may listen and not publish, and no new one gets in.
    await phone.ping()
    with pytest.raises(ClosedError):
        await phone.publish("chat/v1/users/alice/commands/sendMessage")
    login = Login(client_id="alice:tablet", password=token("alice"))
    async with Mqtt5Client.open(strict.mqtt_port) as tablet:
        assert await tablet.connect(login) in (NOT_AUTHORIZED, CONNECTION_RATE_EXCEEDED)
    bob = await enter("bob", broker=strict)
    assert await bob.publish("chat/v1/users/bob/commands/sendMessage", b"of bob") == 0
    while (await service.receive()).payload != b"of bob":
        pass
    async with asyncio.timeout(HELD_S + 5):
        while True:
            async with Mqtt5Client.open(strict.mqtt_port) as again:
                if await again.connect(login) == 0:
                    break
            await asyncio.sleep(0.1)


async def test_a_flood_over_websocket_is_cut_off_too(
    enter: Enter, strict: MosquittoServer, token: MintToken
) -> None:
    service = await enter("messaging-service", role="service", broker=strict)
    await service.subscribe("chat/v1/users/+/commands/+")
    alice = aiomqtt.Client(
        LOOPBACK,
        strict.websocket_port,
        identifier="alice:browser",
        username="alice",
        password=token("alice"),
        transport="websockets",
        protocol=aiomqtt.ProtocolVersion.V5,
        timeout=3,
    )

    async def flood() -> None:
        async with alice:
            for _ in range(FLOOD):
                await alice.publish("chat/v1/users/alice/commands/sendMessage", b"{}", qos=1)

    with pytest.raises(aiomqtt.MqttError):
        await flood()
    assert "disconnecting client alice:browser" in strict.log_file.read_text()


async def test_a_flood_to_where_the_user_may_not_publish_is_cut_off_too(
    enter: Enter, strict: MosquittoServer
) -> None:
    alice = await enter("alice", broker=strict)

    async def flood() -> None:
        for _ in range(FLOOD):
            assert await alice.publish("chat/v1/users/bob/commands/sendMessage") == NOT_AUTHORIZED

    with pytest.raises(ClosedError):
        await flood()
    assert strict.log_file.read_text().count("refused client alice:web") <= 600


async def subscribe_for_ever(device: RawClient, *filters: str) -> None:
    while True:
        await device.subscribe(*filters)


async def unsubscribe_for_ever(device: Mqtt5Client, *filters: str) -> None:
    while True:
        await device.unsubscribe(*filters)


async def test_who_subscribes_without_an_end_is_disconnected_and_nobody_else(
    enter: Enter, strict: MosquittoServer
) -> None:
    """A packet of filters is one piece of work for the broker, and each is compared with all before it."""
    alice, phone = [await enter("alice", device=name, broker=strict) for name in ("web", "phone")]
    bob = await enter("bob", broker=strict)
    names = ("".join(letters) for letters in itertools.product("abcdefghij", repeat=4))
    filters = [f"chat/v1/users/alice/events/{name}" for name in names]
    assert set(await alice.subscribe(*filters[:200])) == {1}
    with pytest.raises(ClosedError):
        await alice.subscribe(*filters)
    # All devices of the user are counted together.
    with pytest.raises(ClosedError):
        await subscribe_for_ever(phone, "chat/v1/users/alice/events/+")
    assert set(await bob.subscribe("chat/v1/users/bob/events/+")) == {1}
    # And a moment later it is welcome again.
    async with asyncio.timeout(10):
        codes: list[int] = []
        while not codes:
            tablet = await enter("alice", device="tablet", broker=strict)
            with contextlib.suppress(ClosedError):
                codes = await tablet.subscribe("chat/v1/users/alice/events/+")
    assert codes == [1]


async def test_refused_and_undone_subscriptions_count_as_well(enter: Enter, strict: MosquittoServer) -> None:
    alice, bob = [await enter(user, broker=strict) for user in ("alice", "bob")]
    assert isinstance(bob, Mqtt5Client)
    with pytest.raises(ClosedError):
        await subscribe_for_ever(alice, *["chat/v1/users/alice/events/#"] * 100)
    with pytest.raises(ClosedError):
        await unsubscribe_for_ever(bob, *["chat/v1/users/bob/events/+"] * 100)
