"""How much of one user's flood the broker lets through, and that it is nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

import pytest

from devstack.mosquitto import JwtOptions, MosquittoServer
from tests.integration.broker.conftest import Enter, MakeBroker
from tests.integration.broker.mqtt5_client import NOT_AUTHORIZED

ATTEMPTS = 50


def with_rate(per_second: int) -> Callable[[str], str]:
    """Adds the option to the others of the plugin."""
    option = f"plugin_opt_commands_per_second {per_second}"
    return lambda text: text.replace("\nplugin_opt_jwt_", f"\n{option}\nplugin_opt_jwt_", 1)


@pytest.fixture
def strict(make_broker: MakeBroker, jwt_options: JwtOptions) -> MosquittoServer:
    """A broker that lets a user publish once a second, and twice at once."""
    broker = make_broker(jwt_options, edit=with_rate(1))
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
    assert set(codes) == {0, NOT_AUTHORIZED}
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
    broker = make_broker(jwt_options, edit=with_rate(0))
    broker.start()
    service = await enter("messaging-service", role="service", broker=broker)
    await service.subscribe("chat/v1/users/+/commands/+")
    alice = await enter("alice", broker=broker)
    codes = {await alice.publish("chat/v1/users/alice/commands/sendMessage") for _ in range(ATTEMPTS)}
    assert codes == {0}
