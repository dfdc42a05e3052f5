"""How often a user may connect: each time may leave a will behind, which no limit for commands counts."""

from __future__ import annotations

import asyncio

import pytest

from devstack.mosquitto import JwtOptions, MosquittoServer
from tests.conftest import MintToken
from tests.integration.broker.conftest import Enter, MakeBroker
from tests.integration.broker.mqtt5_client import CONNECTION_RATE_EXCEEDED, NOT_AUTHORIZED, Mqtt5Client
from tests.integration.broker.raw_client import Login

AT_ONCE = 2_000


@pytest.fixture
def own_broker(make_broker: MakeBroker, jwt_options: JwtOptions) -> MosquittoServer:
    """A broker to which nobody else connects."""
    broker = make_broker(jwt_options)
    broker.start()
    return broker


async def test_who_connects_without_an_end_is_kept_out_and_nobody_else(
    enter: Enter, own_broker: MosquittoServer, token: MintToken
) -> None:
    password = token("alice")

    async def connect(device: str) -> int:
        async with Mqtt5Client.open(own_broker.mqtt_port) as client:
            return await client.connect(Login(client_id=f"alice:{device}", password=password))

    codes = [await connect(f"{number % 3}") for number in range(AT_ONCE)]
    assert all(code == 0 for code in codes)
    async with asyncio.timeout(60):
        while (code := await connect("more")) == 0:
            pass
    assert code in (NOT_AUTHORIZED, CONNECTION_RATE_EXCEEDED)
    await enter("bob", broker=own_broker)
