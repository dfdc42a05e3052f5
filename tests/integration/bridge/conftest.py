"""The bridge's links to a real broker, with the test in the place of the use cases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest
import pytest_asyncio

from bridge.connection import ConnectOptions
from bridge.publisher import Publisher
from bridge.session import Delivery, Session
from bridge.topics import Topics
from bridge.transport import BrokerLinks, LinkOptions
from devstack.mosquitto import TOPIC_ROOT, MosquittoServer
from devstack.ports import LOOPBACK
from service.service_token import SERVICE_USER
from tests.conftest import MintToken
from tests.integration.broker.mqtt5_client import Mqtt5Client
from tests.integration.broker.raw_client import Login, Message, RawClient

TOPICS = Topics(TOPIC_ROOT)
PUBLISHERS = 3
DEADLINE_S = 20.0


class Bridge:
    """Session, publishers and links, wired as in the service."""

    def __init__(self, client_id: str, options: LinkOptions, receive_maximum: int) -> None:
        self.client_id = client_id
        session_options = ConnectOptions(
            client_id=client_id, session_expiry_s=60, receive_maximum=receive_maximum
        )
        self.session = Session(session_options, backlog_topic="chat/v1/service/backlog")
        self.publishers = [
            Publisher(ConnectOptions(client_id=f"{client_id}.{number}"), self.session.acknowledge)
            for number in range(PUBLISHERS)
        ]
        self.links = BrokerLinks(
            self.session,
            self.publishers,
            options,
            on_deliveries=self._on_deliveries,
            on_session_lost=self._on_session_lost,
        )
        self.sessions_lost = 0
        self.demand_lease: Callable[[], None] = lambda: None
        self.running: asyncio.Task[None] | None = None
        self._taken: asyncio.Queue[Delivery] = asyncio.Queue()

    def _on_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._taken.put_nowait(delivery)

    def _on_session_lost(self) -> None:
        self.sessions_lost += 1

    async def ready(self) -> None:
        """Waits until commands arrive."""
        async with asyncio.timeout(DEADLINE_S):
            while not self.links.is_ready:
                await asyncio.sleep(0.01)

    async def lost(self) -> None:
        """Waits until no link is left."""
        async with asyncio.timeout(DEADLINE_S):
            while any(link.connected for link in (*self.publishers, self.session)):
                await asyncio.sleep(0.01)

    async def take(self) -> Delivery:
        """The next command."""
        return await asyncio.wait_for(self._taken.get(), DEADLINE_S)

    def tell(self, user: str, body: bytes, *, publisher: int = 0, delivery: Delivery | None = None) -> None:
        """Publishes to the user; with a delivery, that one is acknowledged when it is confirmed."""
        topic = f"{TOPIC_ROOT}/users/{user}/events/newMessage"
        assert self.publishers[publisher].publish(topic, body, on_behalf_of=delivery)
        self.links.flush()


class RunBridge(Protocol):
    """Runs links with one client id, for as long as a block lasts."""

    def __call__(
        self, *, port: int | None = None, socket_path: Path | None = None, receive_maximum: int = 65_535
    ) -> AbstractAsyncContextManager[Bridge]:
        """Connects to the broker itself unless told otherwise; ready when the block begins."""


@pytest.fixture
def client_id() -> str:
    """The session's id: one that the broker does not know yet."""
    return f"{SERVICE_USER}:{uuid4().hex}"


@pytest.fixture
def run_bridge(mosquitto_server: MosquittoServer, token: MintToken, client_id: str) -> RunBridge:
    """Runs the links of one service instance."""

    @asynccontextmanager
    async def run(
        *, port: int | None = None, socket_path: Path | None = None, receive_maximum: int = 65_535
    ) -> AsyncIterator[Bridge]:
        options = LinkOptions(
            host=LOOPBACK,
            port=port or mosquitto_server.mqtt_port,
            socket_path=socket_path,
            username=SERVICE_USER,
            token=partial(token, SERVICE_USER, role="service"),
            filters=(TOPICS.command_filter, TOPICS.platform_filter),
            demand_lease=lambda: bridge.demand_lease(),
        )
        bridge = Bridge(client_id, options, receive_maximum)
        bridge.running = running = asyncio.create_task(bridge.links.run())
        try:
            await bridge.ready()
            yield bridge
        finally:
            await bridge.links.close()
            if not running.done():
                await asyncio.wait_for(running, DEADLINE_S)

    return run


@dataclass(frozen=True, slots=True)
class User:
    """A user with one connection of its own to the broker."""

    user_id: str
    client: RawClient

    async def command(self, body: bytes) -> None:
        """Sends a command; returns when the broker has it."""
        topic = f"{TOPIC_ROOT}/users/{self.user_id}/commands/sendMessage"
        assert await self.client.publish(topic, body) == 0

    async def hears(self) -> bytes:
        """The payload of the next event."""
        message: Message = await self.client.receive()
        return message.payload


@pytest_asyncio.fixture
async def user(mosquitto_server: MosquittoServer, token: MintToken) -> AsyncIterator[User]:
    """A user who hears its events."""
    user_id = f"user-{uuid4().hex}"
    async with Mqtt5Client.open(mosquitto_server.mqtt_port) as client:
        login = Login(client_id=f"{user_id}:web", password=token(user_id))
        assert await client.connect(login) == 0
        assert await client.subscribe(f"{TOPIC_ROOT}/users/{user_id}/events/+") == [1]
        yield User(user_id, client)
