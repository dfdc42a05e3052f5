"""Several instances of the service behind one gateway."""

from __future__ import annotations

from contextlib import AsyncExitStack

from tests.conftest import MintToken
from tests.integration.gateway.conftest import OpenGateway
from tests.integration.gateway.in_memory_messaging import running_service

CONVERSATIONS = "/api/conversations"


async def test_calls_go_round_all_instances_and_past_one_that_has_ended(
    open_gateway: OpenGateway, jwt_secret: str, token: MintToken
) -> None:
    alice = {"Authorization": f"Bearer {token('alice')}"}
    async with AsyncExitStack() as staying, AsyncExitStack() as leaving:
        first = await staying.enter_async_context(running_service(jwt_secret))
        second = await leaving.enter_async_context(running_service(jwt_secret))
        target = f"ipv4:{first.target},{second.target}"
        gateway = await staying.enter_async_context(open_gateway(grpc_target=target))
        asked = 0
        # The second instance may be connected later than the first one.
        while not (first.messaging.requests and second.messaging.requests):
            asked += 1
            assert (await gateway.get(CONVERSATIONS, headers=alice)).status_code == 200
            assert asked < 1_000
        await leaving.aclose()
        before = len(first.messaging.requests)
        for _ in range(10):
            assert (await gateway.get(CONVERSATIONS, headers=alice)).status_code == 200
        assert len(first.messaging.requests) == before + 10
