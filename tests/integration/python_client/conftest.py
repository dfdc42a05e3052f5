"""Clients of one test's own users on the session's Mosquitto, and the responder that answers them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import pytest

from devstack.mosquitto import MosquittoServer
from messaging_client import Backoff, Event, MessagingClient, MessagingClientOptions
from tests.conftest import MintToken
from tests.integration.python_client.responder import Responder, running_responder

FAST = Backoff(initial=0.05, maximum=0.2)


class MakeOptions(Protocol):
    """Options of a client that retries fast; keyword arguments replace the defaults."""

    def __call__(self, user: str, **changes: Any) -> MessagingClientOptions:
        """For this user, on a device of its own."""


@pytest.fixture
def user() -> Callable[[str], str]:
    """Makes names that no other test uses: the broker keeps sessions by them."""
    suffix = uuid.uuid4().hex[:8]
    return lambda name: f"{name}-{suffix}"


@pytest.fixture
def options(mosquitto_server: MosquittoServer, token: MintToken) -> MakeOptions:
    """Makes options for the session's Mosquitto."""

    def make(user: str, **changes: Any) -> MessagingClientOptions:
        async def fresh() -> str:
            return token(user)

        defaults: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": mosquitto_server.mqtt_port,
            "user_id": user,
            "device_id": "test",
            "token": fresh,
            "reconnect": FAST,
            "retry": FAST,
            "answer_wait": Backoff(initial=0.6, maximum=0.6),
        }
        return MessagingClientOptions(**(defaults | changes))

    return make


@pytest.fixture
async def responder(mosquitto_server: MosquittoServer, token: MintToken) -> AsyncIterator[Responder]:
    """The service's part."""
    service_token = token("messaging-service", role="service")
    async with running_responder(mosquitto_server.mqtt_port, service_token) as running:
        yield running


async def take(client: MessagingClient, count: int) -> list[Event]:
    """The next events, all within 20 s."""
    events = client.events()
    async with asyncio.timeout(20):
        return [await anext(events) for _ in range(count)]
