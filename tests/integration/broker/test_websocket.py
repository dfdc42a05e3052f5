"""Users come over WebSocket: the same rules hold there."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import aiomqtt
import pytest

from devstack.mosquitto import MosquittoServer
from tests.conftest import MintToken
from tests.integration.broker.conftest import Enter
from tests.integration.broker.mqtt5_client import NOT_AUTHORIZED
from tests.integration.broker.mqtt311_client import FAILURE
from tests.integration.broker.raw_client import DEADLINE_SECONDS

PROTOCOLS = [aiomqtt.ProtocolVersion.V5, aiomqtt.ProtocolVersion.V311]
NEARLY_OVER = -3


def browser(
    broker: MosquittoServer,
    password: str,
    *,
    client_id: str = "alice:browser",
    protocol: aiomqtt.ProtocolVersion = aiomqtt.ProtocolVersion.V5,
) -> aiomqtt.Client:
    """A client such as a browser's."""
    return aiomqtt.Client(
        "127.0.0.1",
        broker.websocket_port,
        identifier=client_id,
        username="alice",
        password=password,
        transport="websockets",
        websocket_path="/mqtt",
        protocol=protocol,
        timeout=DEADLINE_SECONDS,
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_user_sends_commands_and_receives_events(
    broker: MosquittoServer, token: MintToken, enter: Enter, protocol: aiomqtt.ProtocolVersion
) -> None:
    service = await enter("messaging-service", role="service")
    await service.subscribe("chat/v1/users/+/commands/+")
    async with browser(broker, token("alice"), protocol=protocol) as alice:
        await alice.subscribe("chat/v1/users/alice/events/+", qos=1)
        await alice.publish("chat/v1/users/alice/commands/sendMessage", b"hello", qos=1)
        assert (await service.receive()).payload == b"hello"
        await service.publish("chat/v1/users/alice/events/messageSent", b"sent")
        async with asyncio.timeout(DEADLINE_SECONDS):
            message = await anext(aiter(alice.messages))
        assert message.payload == b"sent"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("topic_filter", ["#", "chat/v1/users/bob/events/+", "$SYS/#"])
async def test_a_filter_of_others_is_refused(
    broker: MosquittoServer, token: MintToken, protocol: aiomqtt.ProtocolVersion, topic_filter: str
) -> None:
    async with browser(broker, token("alice"), protocol=protocol) as alice:
        granted = await alice.subscribe(topic_filter, qos=1)
        assert [code if isinstance(code, int) else code.value for code in granted] == [
            NOT_AUTHORIZED if protocol is aiomqtt.ProtocolVersion.V5 else FAILURE
        ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_without_a_good_token_is_refused(
    broker: MosquittoServer, token: MintToken, protocol: aiomqtt.ProtocolVersion
) -> None:
    for password in ["", "not a token", token("bob"), token("alice", expires_in=-60)]:
        with pytest.raises(aiomqtt.MqttError, match=r"(?i)not authori[sz]ed"):
            async with browser(broker, password, protocol=protocol):
                pass


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_session_ends_with_its_token(
    broker: MosquittoServer, token: MintToken, protocol: aiomqtt.ProtocolVersion
) -> None:
    with pytest.raises(aiomqtt.MqttError):
        async with (
            browser(broker, token("alice", expires_in=NEARLY_OVER), protocol=protocol) as alice,
            asyncio.timeout(DEADLINE_SECONDS),
        ):
            await anext(aiter(alice.messages))


async def test_a_takeover_with_a_longer_token_outlives_the_first_one(
    broker: MosquittoServer, token: MintToken, enter: Enter
) -> None:
    service = await enter("messaging-service", role="service")
    async with AsyncExitStack() as ended:
        # Leaving a client that was taken over raises.
        ended.push(lambda kind, *_: kind is not None and issubclass(kind, aiomqtt.MqttError))
        await ended.enter_async_context(browser(broker, token("alice", expires_in=NEARLY_OVER)))
        later = await enter("bob", expires_in=NEARLY_OVER + 1)
        async with browser(broker, token("alice")) as second:
            await second.subscribe("chat/v1/users/alice/events/+", qos=1)
            await later.wait_closed()
            await service.publish("chat/v1/users/alice/events/x", b"still here")
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert (await anext(aiter(second.messages))).payload == b"still here"


async def test_a_takeover_with_a_shorter_token_ends_with_that(
    broker: MosquittoServer, token: MintToken
) -> None:
    async with AsyncExitStack() as ended:
        ended.push(lambda kind, *_: kind is not None and issubclass(kind, aiomqtt.MqttError))
        await ended.enter_async_context(browser(broker, token("alice")))
        second = await ended.enter_async_context(browser(broker, token("alice", expires_in=NEARLY_OVER)))
        with pytest.raises(aiomqtt.MqttError):
            async with asyncio.timeout(DEADLINE_SECONDS):
                await anext(aiter(second.messages))
