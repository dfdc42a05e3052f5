"""How long a session lasts: to the end of its token, and over a restart of the broker."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from devstack.mosquitto import JwtOptions, MosquittoServer
from tests.conftest import MintToken
from tests.integration.broker.conftest import Enter, MakeBroker
from tests.integration.broker.mqtt5_client import Mqtt5Client
from tests.integration.broker.mqtt311_client import Mqtt311Client
from tests.integration.broker.raw_client import DEADLINE_SECONDS, ClosedError, Login, RawClient, Will

KINDS: list[type[RawClient]] = [Mqtt5Client, Mqtt311Client]
ADMINISTRATIVE_ACTION = 0x98
#: A token that expired three seconds ago is good for two more.
NEARLY_OVER = -3
COMMAND = "chat/v1/users/alice/commands/sendMessage"


def end_of(kind: type[RawClient]) -> int | None:
    """The reason a client hears when its token ends; MQTT 3.1.1 has no word for it."""
    return ADMINISTRATIVE_ACTION if kind is Mqtt5Client else None


async def with_each_kind(scenario: Callable[[type[RawClient]], Awaitable[None]]) -> None:
    """At the same time, because each waits for seconds."""
    await asyncio.gather(*(scenario(kind) for kind in KINDS))


async def test_a_session_ends_with_its_token(enter: Enter, broker: MosquittoServer) -> None:
    async def scenario(kind: type[RawClient], session_expiry: int) -> None:
        device = f"{kind.__name__}-{session_expiry}"
        client = await enter(
            "alice", device=device, kind=kind, expires_in=NEARLY_OVER, session_expiry=session_expiry
        )
        assert await client.publish(COMMAND) < 0x80
        assert await client.wait_closed() == end_of(kind)
        assert f"disconnecting client alice:{device}: its token has expired" in broker.log_file.read_text()

    await asyncio.gather(*(scenario(kind, session_expiry) for kind in KINDS for session_expiry in (0, 60)))


async def test_sessions_end_in_the_order_of_their_tokens(enter: Enter, broker: MosquittoServer) -> None:
    seconds = [3, 1, 2, 4, 1, 3, 2, 4]
    clients = [
        await enter("order", device=f"{i}-{second}", expires_in=second - 5)
        for i, second in enumerate(seconds)
    ]
    for client in clients:
        await client.wait_closed()
    ended = [
        int(line.split("disconnecting client order:")[1].split(":")[0].split("-")[1])
        for line in broker.log_file.read_text().splitlines()
        if "disconnecting client order:" in line
    ]
    assert ended == sorted(seconds)


async def test_the_will_is_sent_when_the_token_ends(enter: Enter) -> None:
    service = await enter("messaging-service", role="service")
    await service.subscribe("chat/v1/users/+/commands/+")
    client = await enter("alice", expires_in=NEARLY_OVER, will=Will(topic=COMMAND, payload=b"gone"))
    await client.wait_closed()
    assert (await service.receive()).payload == b"gone"


async def test_a_takeover_with_a_longer_token_outlives_the_first_one(enter: Enter) -> None:
    async def scenario(kind: type[RawClient]) -> None:
        device = kind.__name__
        first = await enter("alice", device=device, kind=kind, expires_in=NEARLY_OVER)
        later = await enter("bob", device=device, expires_in=NEARLY_OVER + 1)
        second = await enter("alice", device=device, kind=kind)
        await first.wait_closed()
        # The first one's token is over when bob's, a second longer, is.
        await later.wait_closed()
        await second.ping()

    await with_each_kind(scenario)


async def test_a_takeover_with_a_shorter_token_ends_with_that(enter: Enter) -> None:
    async def scenario(kind: type[RawClient]) -> None:
        device = kind.__name__
        first = await enter("alice", device=device, kind=kind)
        second = await enter("alice", device=device, kind=kind, expires_in=NEARLY_OVER)
        # The end of the first connection, which the plugin hears of now, is not the end of the second.
        await first.wait_closed()
        assert await second.wait_closed() == end_of(kind)

    await with_each_kind(scenario)


async def test_a_client_that_left_and_came_back_is_not_ended_with_its_old_token(enter: Enter) -> None:
    async def scenario(kind: type[RawClient]) -> None:
        device = kind.__name__
        first = await enter(
            "alice", device=device, kind=kind, expires_in=NEARLY_OVER, session_expiry=60, clean=False
        )
        later = await enter("bob", device=device, expires_in=NEARLY_OVER + 1)
        await first.disconnect()
        second = await enter("alice", device=device, kind=kind, session_expiry=60, clean=False)
        await later.wait_closed()
        await second.ping()

    await with_each_kind(scenario)


async def test_a_session_waits_for_its_client_though_the_token_ends_meanwhile(
    enter: Enter, broker: MosquittoServer
) -> None:
    async def scenario(kind: type[RawClient]) -> None:
        user = kind.__name__
        alice = await enter(user, kind=kind, expires_in=NEARLY_OVER, session_expiry=60, clean=False)
        await alice.subscribe(f"chat/v1/users/{user}/events/+")
        later = await enter("bob", device=user, expires_in=NEARLY_OVER + 1)
        await alice.abort()
        await later.wait_closed()
        assert f"disconnecting client {user}:web" not in broker.log_file.read_text()

        service = await enter("messaging-service", device=user, role="service")
        await service.publish(f"chat/v1/users/{user}/events/newMessage", b"while away")
        alice = await enter(user, kind=kind, session_expiry=60, clean=False)
        assert alice.session_present
        assert (await alice.receive()).payload == b"while away"

    await with_each_kind(scenario)


@pytest.mark.parametrize(
    "topic_filter",
    [
        "chat/v1/users/+/commands/+",
        "$share/g/chat/v1/users/+/commands/+",
    ],
)
async def test_a_persistent_session_keeps_its_subscriptions_when_its_token_ends(
    enter: Enter, make_broker: MakeBroker, jwt_options: JwtOptions, topic_filter: str
) -> None:
    broker = make_broker(jwt_options)
    broker.start()

    async def bridge(expires_in: float) -> RawClient:
        return await enter(
            "messaging-service",
            role="service",
            device="bridge",
            broker=broker,
            expires_in=expires_in,
            session_expiry=60,
            clean=False,
        )

    service = await bridge(NEARLY_OVER)
    await service.subscribe(topic_filter)
    await service.wait_closed()
    alice = await enter("alice", broker=broker)
    await alice.publish(COMMAND, b"while away")
    service = await bridge(3600)
    assert service.session_present
    assert (await service.receive()).payload == b"while away"


async def test_a_stranger_cannot_end_another_session(
    enter: Enter, broker: MosquittoServer, token: MintToken
) -> None:
    alice = await enter("alice", session_expiry=60)
    await alice.subscribe("chat/v1/users/alice/events/+")
    for password in [
        token("mallory"),
        token("alice", expires_in=-60),
        token("alice", device="phone"),
        token("alice", role="admin"),
        "not a token",
        None,
    ]:
        async with Mqtt5Client.open(broker.mqtt_port) as mallory:
            login = Login(client_id="alice:web", password=password, username="alice")
            assert await mallory.connect(login) == Mqtt5Client.refused
    await alice.ping()


async def test_a_session_does_not_hand_messages_to_a_bearer_of_another_role(enter: Enter) -> None:
    service = await enter("messaging-service", role="service", session_expiry=60)
    await service.subscribe("chat/v1/users/+/commands/+")
    await service.abort()
    alice = await enter("alice")
    await alice.publish(COMMAND, b"for the service")

    user = await enter("messaging-service", clean=False, session_expiry=60)
    await alice.publish(COMMAND, b"for the service too")
    await user.subscribe("chat/v1/users/messaging-service/events/+")
    other = await enter("messaging-service", device="other", role="service")
    await other.publish("chat/v1/users/messaging-service/events/x", b"for the user")
    assert (await user.receive()).payload == b"for the user"


@pytest.mark.parametrize("kind", KINDS)
async def test_queued_messages_survive_a_restart(
    enter: Enter, make_broker: MakeBroker, jwt_options: JwtOptions, kind: type[RawClient]
) -> None:
    broker = make_broker(jwt_options)
    broker.start()

    async def bridge() -> RawClient:
        return await enter(
            "messaging-service",
            role="service",
            device="bridge",
            kind=kind,
            broker=broker,
            session_expiry=3600,
            clean=False,
        )

    service = await bridge()
    await service.subscribe("chat/v1/users/+/commands/+")
    await service.abort()
    alice = await enter("alice", broker=broker)
    for i in range(3):
        await alice.publish(COMMAND, b"%d" % i)

    broker.restart()
    alice = await enter("alice", broker=broker)
    # Queueing for a client that is away is checked, though it has not logged in since the restart.
    await alice.publish(COMMAND, b"3")
    service = await bridge()
    assert service.session_present
    assert [(await service.receive()).payload for _ in range(4)] == [b"0", b"1", b"2", b"3"]


async def test_a_reload_of_the_configuration_ends_no_session(
    enter: Enter, make_broker: MakeBroker, jwt_options: JwtOptions
) -> None:
    broker = make_broker(jwt_options)
    broker.start()
    alice = await enter("alice", broker=broker)
    service = await enter("messaging-service", role="service", broker=broker)
    await alice.subscribe("chat/v1/users/alice/events/+")
    os.kill(broker.pid, signal.SIGHUP)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while "Reloading config." not in broker.log_file.read_text():
            await alice.ping()
    await alice.ping()
    await service.publish("chat/v1/users/alice/events/x", b"still here")
    assert (await alice.receive()).payload == b"still here"


async def test_a_broker_that_is_stopped_says_so(
    enter: Enter, make_broker: MakeBroker, jwt_options: JwtOptions
) -> None:
    broker = make_broker(jwt_options)
    broker.start()
    alice = await enter("alice", broker=broker)
    broker.stop()
    assert broker.exit_code == 0
    with pytest.raises(ClosedError):
        await alice.ping()
