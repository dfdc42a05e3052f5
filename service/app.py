"""Puts the service together, runs it, and takes it down in order."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from bridge.connection import ConnectOptions
from bridge.inbound import Inbound
from bridge.outbound import Outbound, Request
from bridge.publisher import Publisher
from bridge.session import Delivery, Session
from bridge.signals import Signals
from bridge.topics import Topics
from bridge.transport import BrokerLinks, LinkOptions
from service.cache.connections import CachedConnections
from service.cache.presence import RedisPresence
from service.cache.redis_connections import RedisConnections
from service.domain.errors import Rejected
from service.grpc_api.authentication import TokenVerifier
from service.grpc_api.messaging_service import MessagingService
from service.grpc_api.server import GrpcServer, ServerOptions
from service.grpc_clients.connections import ConnectionsClient, open_channel
from service.metrics import TASKS
from service.operations_http import OperationsServer, operations_app
from service.service_token import SERVICE_USER, service_token_source
from service.settings import Environment, Settings
from service.storage.batches import PostgresBatchWriter
from service.storage.conversations import PostgresConversationRepository
from service.storage.database import BY_INDEX, Database
from service.storage.migrations import migrate
from service.storage.preferences import PostgresPreferences
from service.storage.presence import PostgresCounterparts, PostgresLastSeen
from service.storage.reads import PostgresConversationReader
from service.storage.receipts import PostgresReceiptReader
from service.use_cases.authorize import Authorize
from service.use_cases.commit_commands import CommitCommands
from service.use_cases.get_conversation import GetConversation
from service.use_cases.get_history import GetHistory
from service.use_cases.get_message_receipts import GetMessageReceipts
from service.use_cases.get_preferences import GetPreferences
from service.use_cases.get_presence import GetPresence
from service.use_cases.list_conversations import ListConversations
from service.use_cases.open_conversation import OpenConversation
from service.use_cases.relay_typing import RelayTyping
from service.use_cases.set_preferences import SetPreferences
from service.use_cases.sync_conversation import SyncConversation
from service.use_cases.tell_presence import TellPresence
from service.use_cases.track_presence import TrackPresence

_log = structlog.get_logger(__name__)

_COMMIT_CONNECTIONS = 2
"""For resends and what else is out of the ordinary; new messages and marks have their own."""


class App:
    """Every part of the service, wired by hand; `run` is its whole life."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        token = service_token_source(settings)
        url = str(settings.database_url)
        # Readers of history can take all their connections and not one from a commit.
        self._commits = Database(url, size=_COMMIT_CONNECTIONS, planner=BY_INDEX)
        self._database = Database(url, size=settings.database_pool_size)
        self._redis = RedisConnections(
            str(settings.redis_url),
            positive_ttl=settings.connections_cache_shared_s,
            negative_ttl=settings.connections_cache_negative_s,
        )
        self._channel = open_channel(settings.connections_target)
        client = ConnectionsClient(
            self._channel, service_token=token, deadline=settings.connections_deadline_ms / 1000
        )
        self._connections = CachedConnections(
            client,
            self._redis,
            positive_ttl=settings.connections_cache_local_s,
            negative_ttl=min(settings.connections_cache_local_s, settings.connections_cache_negative_s),
        )
        self._conversations = PostgresConversationRepository(self._database)
        self._reader = PostgresConversationReader(self._database)
        self._authorize = Authorize(self._conversations, self._connections, time.time_ns)
        self._wire_bridge(token)
        self._grpc = self._wire_grpc()
        self._http = OperationsServer(
            operations_app(self.readiness), host=settings.http_host, port=settings.http_port
        )
        self._stopping = False

    def _wire_bridge(self, token: Callable[[], str]) -> None:
        settings = self._settings
        topics = Topics(settings.topic_root)
        session, publishers = self._wire_links(topics, token, lambda deliveries: inbound.take(deliveries))
        flush = self._links.flush
        signals = Signals(topics, session, publishers, flush, presence_lifetime_s=settings.presence_lease_s)
        self._wire_signals(signals)
        outbound = Outbound(topics, session, publishers, flush, on_sent=self._typing.sent)
        self._commands: CommitCommands[Request] = CommitCommands(
            self._authorize,
            self._conversations,
            PostgresBatchWriter(self._commits),
            SetPreferences(self._preferences, self._presence.preferences_changed),
            outbound.deliver,
            now_ns=time.time_ns,
            batch_limit=settings.batch_limit,
        )
        sync = SyncConversation(self._authorize, self._reader)
        inbound = Inbound(
            topics,
            outbound,
            self._commands,
            sync,
            self._connections,
            typing=self._typing,
            presence=self._presence,
            # The bridge answers by itself, with the command's request id.
        )

    def _wire_links(
        self,
        topics: Topics,
        token: Callable[[], str],
        on_deliveries: Callable[[Sequence[Delivery]], None],
    ) -> tuple[Session, Sequence[Publisher]]:
        settings = self._settings
        session = Session(
            ConnectOptions(
                client_id=settings.broker_client_id,
                receive_maximum=settings.broker_receive_maximum,
                session_expiry_s=settings.broker_session_expiry_s,
            )
        )
        publishers = [
            Publisher(ConnectOptions(client_id=f"{settings.broker_client_id}.{number}"), session.acknowledge)
            for number in range(settings.broker_publishers)
        ]
        self._links = BrokerLinks(
            session,
            publishers,
            LinkOptions(
                host=settings.broker_host,
                port=settings.broker_port,
                socket_path=settings.broker_socket,
                username=SERVICE_USER,
                token=token,
                filters=(topics.command_filter, topics.platform_filter),
            ),
            on_deliveries=on_deliveries,
            # Invalidations may have been lost with the session.
            on_session_lost=self._connections.forget_everything,
        )
        return session, publishers

    def _wire_signals(self, signals: Signals) -> None:
        """Typing, presence and preferences: what is told beside the messages."""
        settings = self._settings
        self._typing = RelayTyping(self._authorize, signals.typing)
        self._presence_store = store = RedisPresence(str(settings.redis_url), lease=settings.presence_lease_s)
        counterparts = PostgresCounterparts(self._database)
        last_seen = PostgresLastSeen(self._database)
        self._preferences = PostgresPreferences(self._database)
        tell = TellPresence(store, counterparts, self._connections, self._preferences, last_seen, signals)
        self._presence = TrackPresence(
            store,
            tell,
            self._typing.gone,
            lease=settings.presence_lease_s,
            sweep=settings.presence_sweep_s,
        )
        self._get_presence = GetPresence(store, counterparts, self._connections, last_seen)
        self._get_preferences = GetPreferences(self._preferences)
        self._set_preferences = SetPreferences(
            self._preferences, self._presence.preferences_changed, signals.preferences
        )

    def _wire_grpc(self) -> GrpcServer:
        settings = self._settings
        reader = self._reader
        service = MessagingService(
            get_history=GetHistory(self._conversations, reader),
            list_conversations=ListConversations(reader),
            get_conversation=GetConversation(reader),
            open_conversation=OpenConversation(self._authorize, reader),
            get_message_receipts=GetMessageReceipts(self._authorize, PostgresReceiptReader(self._database)),
            sync_conversation=SyncConversation(self._authorize, reader),
            get_presence=self._get_presence,
            get_preferences=self._get_preferences,
            set_preferences=self._set_preferences,
        )
        verifier = TokenVerifier(
            algorithm=settings.jwt_algorithm,
            key=settings.jwt_key,
            audience=settings.jwt_audience,
            issuer=settings.jwt_issuer,
        )
        options = ServerOptions(
            host=settings.grpc_host,
            port=settings.grpc_port,
            reflection=settings.environment is Environment.DEVELOPMENT,
        )
        return GrpcServer(service, verifier, options)

    async def readiness(self) -> Mapping[str, bool]:
        """What must be there to serve: the broker link, the database, and the will to go on."""
        return {
            "broker": self._links.is_ready,
            "database": await self._database_answers(),
            "running": not self._stopping,
        }

    async def _database_answers(self) -> bool:
        try:
            await self._database.ping()
        except Rejected:
            return False
        return True

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set, then takes everything down in order.

        Raises whatever ends one of the long-running parts: without it the
        service would only seem to work.
        """
        await self._commits.open()
        await self._database.open()
        await self._grpc.start()
        await self._grpc.set_serving(True)
        async with asyncio.TaskGroup() as tasks:
            pipeline = tasks.create_task(self._commands.run(), name="pipeline")
            link = tasks.create_task(self._links.run(), name="broker-links")
            typing = tasks.create_task(self._typing.run(), name="typing")
            presence = tasks.create_task(self._presence.run(), name="presence")
            http = tasks.create_task(self._http.serve(), name="operations-http")
            _log.info("service_started")
            await stop.wait()
            self._stopping = True
            await self._take_down()
            for task in (pipeline, link, typing, presence):
                task.cancel()
            self._http.should_exit = True
            await http
        await self._connections.aclose()
        await self._redis.aclose()
        await self._presence_store.aclose()
        await self._channel.close(None)
        await self._database.close()
        await self._commits.close()
        _log.info("service_stopped")

    async def _take_down(self) -> None:
        """Unready, no more intake, finish what was taken, say goodbye; within the grace time."""
        _log.info("service_stopping")
        await self._grpc.set_serving(False)
        try:
            async with asyncio.timeout(self._settings.shutdown_grace_s):
                await asyncio.gather(
                    self._links.drain(), self._grpc.stop(self._settings.shutdown_grace_s / 2)
                )
                await self._links.close()
        except TimeoutError:
            # What is unfinished was not acknowledged: the broker delivers it again.
            _log.warning("shutdown_grace_exceeded")


async def run(settings: Settings) -> int:
    """Migrates, serves until SIGTERM or SIGINT, and returns the exit status."""
    applied = await asyncio.to_thread(migrate, str(settings.database_url), patience_s=30)
    _log.info("schema_current", migrations_applied=applied)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    TASKS.set_function(lambda: len(asyncio.all_tasks(loop)))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = App(settings)
    _calm_garbage_collector()
    await app.run(stop)
    return 0


def _calm_garbage_collector() -> None:
    """Leaves what is there for good out of all collections, and collects seldom.

    A batch makes thousands of objects and drops them all without a cycle; to look for
    cycles among them at the default rate costs a tenth of the time that they take.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
