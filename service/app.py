"""Puts the service together, runs it, and takes it down in order."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Callable

import structlog

from bridge.inbound import RateLimits
from service.active_bridge import ActiveBridge, Foundations
from service.cache.connections import CachedConnections
from service.cache.presence import RedisPresence
from service.cache.rate_counts import RateCounts
from service.cache.rate_limit import UserRateLimit
from service.cache.redis_connections import RedisConnections
from service.domain.errors import Rejected
from service.domain.ids import UserId
from service.domain.preferences import Preferences
from service.grpc_api.authentication import TokenVerifier
from service.grpc_api.messaging_service import MessagingService
from service.grpc_api.server import GrpcServer, ServerOptions
from service.grpc_clients.connections import ConnectionsClient, open_channel
from service.metrics import TASKS
from service.operations_http import OperationsServer, Readiness, operations_app
from service.service_token import service_token_source
from service.settings import Environment, Settings
from service.storage.batches import CommitConnections
from service.storage.conversations import PostgresConversationRepository
from service.storage.database import Database
from service.storage.lease import PostgresLease, PostgresTenure
from service.storage.migrations import migrate
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
from service.use_cases.hide_presence import HidePresence
from service.use_cases.list_conversations import ListConversations
from service.use_cases.open_conversation import OpenConversation
from service.use_cases.set_preferences import SetPreferences
from service.use_cases.sync_conversation import SyncConversation
from service.use_cases.take_turns import TakeTurns

_log = structlog.get_logger(__name__)

_MARKER_MARGIN_S = 1.8
"""Beyond the deadline of a lookup: its two operations on Redis, and more."""
_HIDE_GRACE_S = 1.0


class App:
    """Every part of the service, wired by hand; `run` is its whole life."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        token = service_token_source(settings)
        url = str(settings.database_url)
        self._database = Database(url, size=settings.database_pool_size)
        self._connections = self._wire_connections(token)
        self._presence_store = RedisPresence(str(settings.redis_url), lease=settings.presence_lease_s)
        self._rate_counts = RateCounts(str(settings.redis_url))
        limits = RateLimits(
            sends=UserRateLimit("sends", settings.sends_limit, self._rate_counts),
            commands=UserRateLimit("commands", settings.commands_limit, self._rate_counts),
        )
        self._foundations = Foundations(
            settings=settings,
            token=token,
            database=self._database,
            commits=CommitConnections(self._database),
            conversations=PostgresConversationRepository(self._database),
            reader=PostgresConversationReader(self._database),
            connections=self._connections,
            presence_store=self._presence_store,
            counterparts=PostgresCounterparts(self._database),
            last_seen=PostgresLastSeen(self._database),
            limits=limits,
        )
        self._lease = PostgresLease(url, name=settings.broker_client_id, limit_s=settings.lease_limit_s)
        self._turns = TakeTurns(self._lease, self._serve)
        self._active: ActiveBridge | None = None
        self._preferences = PostgresPreferences(self._database)
        self._hide = HidePresence(self._presence_store, self._preferences)
        self._grpc = self._wire_grpc()
        self._http = OperationsServer(
            operations_app(self.readiness), host=settings.http_host, port=settings.http_port
        )
        self._stopping = False

    def _wire_connections(self, token: Callable[[], str]) -> CachedConnections:
        """Who is connected with whom: memory before Redis before ConnectionsService."""
        settings = self._settings
        self._redis = RedisConnections(
            str(settings.redis_url),
            positive_ttl=settings.connections_cache_shared_s,
            negative_ttl=settings.connections_cache_negative_s,
            marker_ttl=settings.connections_deadline_ms / 1000 + _MARKER_MARGIN_S,
        )
        self._channel = open_channel(settings.connections_target)
        client = ConnectionsClient(
            self._channel, service_token=token, deadline=settings.connections_deadline_ms / 1000
        )
        return CachedConnections(
            client,
            self._redis,
            positive_ttl=settings.connections_cache_local_s,
            negative_ttl=min(settings.connections_cache_local_s, settings.connections_cache_negative_s),
        )

    def _wire_grpc(self) -> GrpcServer:
        settings, foundations = self._settings, self._foundations
        reader = foundations.reader
        authorize = Authorize(foundations.conversations, self._connections, time.time_ns)
        service = MessagingService(
            get_history=GetHistory(foundations.conversations, reader),
            list_conversations=ListConversations(reader),
            get_conversation=GetConversation(reader),
            open_conversation=OpenConversation(authorize, reader),
            get_message_receipts=GetMessageReceipts(authorize, PostgresReceiptReader(self._database)),
            sync_conversation=SyncConversation(authorize, reader),
            get_presence=GetPresence(
                self._presence_store, foundations.counterparts, self._connections, foundations.last_seen
            ),
            get_preferences=GetPreferences(self._preferences),
            set_preferences=SetPreferences(self._preferences, self._preferences_changed, self._tell_own),
            writes=foundations.limits.commands,
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

    def _preferences_changed(self, user: UserId) -> None:
        """Over gRPC; a standby leaves what there is to tell to the active instance's next sweep."""
        if self._active is not None:
            self._active.presence.preferences_changed(user)
        else:
            self._hide.preferences_changed(user)

    def _tell_own(self, user: UserId, preferences: Preferences) -> None:
        """Only the active instance has a way to the user's devices."""
        if self._active is not None:
            self._active.signals.preferences(user, preferences)

    async def readiness(self) -> Readiness:
        """What must be there to serve; the broker's links are the active instance's, here or elsewhere."""
        is_served = self._active.links.is_ready if self._active is not None else self._turns.is_standby
        return Readiness(
            parts={
                "broker": is_served,
                "database": await self._database_answers(),
                "running": not self._stopping,
            },
            role="standby" if self._active is None else "active",
        )

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
        await self._database.open()
        await self._grpc.start()
        await self._grpc.set_serving(True)
        self._connections.keep_answers(False)
        async with asyncio.TaskGroup() as tasks:
            turns = tasks.create_task(self._turns.run(stop), name="turns")
            http = tasks.create_task(self._http.serve(), name="operations-http")
            _log.info("service_started")
            await stop.wait()
            self._stopping = True
            _log.info("service_stopping")
            await self._grpc.set_serving(False)
            await asyncio.gather(turns, self._grpc.stop(self._settings.shutdown_grace_s / 2))
            self._http.should_exit = True
            await http
        self._lease.close()
        await self._hide.aclose(_HIDE_GRACE_S)
        await self._connections.aclose()
        await self._redis.aclose()
        await self._presence_store.aclose()
        await self._rate_counts.aclose()
        await self._channel.close(None)
        await self._database.close()
        _log.info("service_stopped")

    async def _serve(self, tenure: PostgresTenure, stop: asyncio.Event) -> None:
        """The active instance's part of the work, for as long as it is that."""
        # While another instance was active, it was told of changes, and we were not.
        self._connections.keep_answers(True)
        self._active = active = ActiveBridge(self._foundations, tenure)
        try:
            await active.run(stop)
        finally:
            self._active = None
            self._connections.keep_answers(False)


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
