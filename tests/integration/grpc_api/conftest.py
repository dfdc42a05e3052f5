"""A real gRPC server over a real PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import psycopg
import pytest

from service.cache.presence import RedisPresence
from service.grpc_api.authentication import TokenVerifier
from service.grpc_api.messaging_service import MessagingService
from service.grpc_api.server import GrpcServer, ServerOptions
from service.storage.batches import CommitConnections, PostgresBatchWriter
from service.storage.conversations import PostgresConversationRepository
from service.storage.database import Database
from service.storage.preferences import PostgresPreferences
from service.storage.presence import PostgresCounterparts, PostgresLastSeen
from service.storage.reads import PostgresConversationReader
from service.storage.receipts import PostgresReceiptReader
from service.use_cases.authorize import Authorize
from service.use_cases.get_conversation import GetConversation
from service.use_cases.get_history import GetHistory
from service.use_cases.get_message_receipts import GetMessageReceipts
from service.use_cases.get_preferences import GetPreferences
from service.use_cases.get_presence import GetPresence
from service.use_cases.list_conversations import ListConversations
from service.use_cases.open_conversation import OpenConversation
from service.use_cases.ports import ConnectionDirectory, ConversationReader, ConversationRepository, RateLimit
from service.use_cases.presence_ports import PresenceStore
from service.use_cases.set_preferences import SetPreferences
from service.use_cases.sync_conversation import SyncConversation
from tests.conftest import MintToken
from tests.contract.conversation_reader.seeding import PostgresSeed
from tests.fakes import MemoryRateLimit
from tests.integration.grpc_api.client import AUDIENCE, Client, connect
from tests.leases import FENCE
from tests.unit.use_cases.connected_pairs import ConnectedPairs


def messaging_service(
    conversations: ConversationRepository,
    reader: ConversationReader,
    connections: ConnectionDirectory,
    database: Database,
    presence: PresenceStore,
    writes: RateLimit | None = None,
) -> MessagingService:
    """The servicer over any adapters of what is read often, and PostgreSQL for the rest."""
    authorize = Authorize(conversations, connections, time.time_ns)
    preferences = PostgresPreferences(database)
    return MessagingService(
        get_history=GetHistory(conversations, reader),
        list_conversations=ListConversations(reader),
        get_conversation=GetConversation(reader),
        open_conversation=OpenConversation(authorize, reader),
        get_message_receipts=GetMessageReceipts(authorize, PostgresReceiptReader(database)),
        sync_conversation=SyncConversation(authorize, reader),
        get_presence=GetPresence(
            presence, PostgresCounterparts(database), connections, PostgresLastSeen(database)
        ),
        get_preferences=GetPreferences(preferences),
        set_preferences=SetPreferences(preferences, on_change=lambda user: None),
        writes=writes or MemoryRateLimit(),
    )


@pytest.fixture
def verifier(jwt_secret: str) -> TokenVerifier:
    return TokenVerifier(algorithm="HS256", key=jwt_secret, audience=AUDIENCE)


@pytest.fixture
def server_options() -> ServerOptions:
    """Modules override it to serve in another way."""
    return ServerOptions(host="127.0.0.1", port=0)


@pytest.fixture
def connections() -> ConnectedPairs:
    return ConnectedPairs(("alice", "bob"), ("bob", "carol"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, size=4)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def presence(redis_url: str) -> AsyncIterator[RedisPresence]:
    store = RedisPresence(redis_url, lease=60)
    yield store
    await store.aclose()


@pytest.fixture
def writes() -> RateLimit:
    """Modules override it to have a limit that can be reached."""
    return MemoryRateLimit()


@pytest.fixture
def service(
    database: Database, connections: ConnectedPairs, presence: RedisPresence, writes: RateLimit
) -> MessagingService:
    return messaging_service(
        PostgresConversationRepository(database),
        PostgresConversationReader(database),
        connections,
        database,
        presence,
        writes,
    )


@pytest.fixture
def writer(database: Database) -> PostgresBatchWriter:
    """What marks go through, as in the service."""
    return PostgresBatchWriter(CommitConnections(database), FENCE)


@pytest.fixture
async def seed(database_url: str) -> AsyncIterator[PostgresSeed]:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        yield PostgresSeed(connection)


@pytest.fixture
async def server(
    service: MessagingService, verifier: TokenVerifier, server_options: ServerOptions
) -> AsyncIterator[tuple[GrpcServer, int]]:
    """The server and its port."""
    server = GrpcServer(service, verifier, server_options)
    port = await server.start()
    yield server, port
    await server.stop(0)


@pytest.fixture
async def client(server: tuple[GrpcServer, int], token: MintToken) -> AsyncIterator[Client]:
    async with connect(server[1], token) as client:
        yield client
