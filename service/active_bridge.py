"""What only the holder of the lease runs: the links to the broker and all that hangs on them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from bridge.connection import ConnectOptions
from bridge.dead_letters import DeadLetters
from bridge.inbound import Inbound, RateLimits
from bridge.outbound import Outbound, Request
from bridge.publisher import Publisher
from bridge.session import Delivery, Session
from bridge.signals import Signals
from bridge.topics import Topics
from bridge.transport import BrokerLinks, LinkOptions
from service.cache.connections import CachedConnections
from service.metrics import UNACKNOWLEDGED, WAITING
from service.service_token import SERVICE_USER
from service.settings import Settings
from service.storage.batches import CommitConnections, PostgresBatchWriter
from service.storage.database import Database
from service.storage.lease import PostgresTenure
from service.storage.preferences import PostgresPreferences
from service.use_cases.authorize import Authorize
from service.use_cases.commit_commands import CommitCommands
from service.use_cases.ports import ConversationReader, ConversationRepository
from service.use_cases.presence_ports import Counterparts, LastSeen, PresenceStore
from service.use_cases.relay_typing import RelayTyping
from service.use_cases.set_preferences import SetPreferences
from service.use_cases.shedding import Shedding
from service.use_cases.sync_conversation import SyncConversation
from service.use_cases.tell_presence import TellPresence
from service.use_cases.track_presence import TrackPresence

_log = structlog.get_logger(__name__)

_CROWDED_SHARE = 0.75
"""Of the commands that the broker sends before the first of them is acknowledged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundations:
    """What outlives a tenure, and other parts of the service use too."""

    settings: Settings
    token: Callable[[], str]
    """Makes the service's own JWT."""
    database: Database
    commits: CommitConnections
    conversations: ConversationRepository
    reader: ConversationReader
    connections: CachedConnections
    presence_store: PresenceStore
    counterparts: Counterparts
    last_seen: LastSeen
    limits: RateLimits


class ActiveBridge:
    """The bridge for one tenure. Made anew for each: nothing of an earlier one can be left in it."""

    def __init__(self, foundations: Foundations, tenure: PostgresTenure) -> None:
        self._foundations = foundations
        self._settings = settings = foundations.settings
        topics = Topics(settings.topic_root)
        session, publishers = self._wire_links(topics, tenure, lambda deliveries: inbound.take(deliveries))
        self.signals = Signals(
            topics, session, publishers, self.links.flush, presence_lifetime_s=settings.presence_lease_s
        )
        authorize = Authorize(foundations.conversations, foundations.connections, time.time_ns)
        self._typing = RelayTyping(authorize, self.signals.typing)
        preferences = PostgresPreferences(foundations.database, tenure.fence)
        self.presence = self._wire_presence(preferences)
        dead_letters = DeadLetters(topics, publishers)
        outbound = Outbound(
            topics, session, publishers, self.links.flush, dead_letters, on_sent=self._typing.sent
        )
        of_all = settings.waiting_limit_in_force
        of_user = max(1, of_all // 2)
        self._commands: CommitCommands[Request] = CommitCommands(
            authorize,
            foundations.conversations,
            PostgresBatchWriter(foundations.commits, tenure.fence),
            # The bridge answers by itself, with the command's request id.
            SetPreferences(preferences, self.presence.preferences_changed),
            outbound.deliver,
            shedding=Shedding(of_all, of_user),
            lane_limit=of_user,
            now_ns=time.time_ns,
            batch_limit=settings.batch_limit,
            is_crowded=lambda: session.unacknowledged > _CROWDED_SHARE * settings.broker_receive_maximum,
        )
        inbound = Inbound(
            topics,
            outbound,
            self._commands,
            SyncConversation(authorize, foundations.reader),
            foundations.connections,
            foundations.limits,
            dead_letters,
            typing=self._typing,
            presence=self.presence,
            until_writable=self.links.until_writable,
            lane_limit=of_user,
        )

    def _wire_links(
        self,
        topics: Topics,
        tenure: PostgresTenure,
        on_deliveries: Callable[[Sequence[Delivery]], None],
    ) -> tuple[Session, Sequence[Publisher]]:
        settings = self._settings
        session = Session(
            ConnectOptions(
                client_id=settings.broker_client_id,
                receive_maximum=settings.broker_receive_maximum,
                session_expiry_s=settings.broker_session_expiry_s,
            ),
            backlog_topic=topics.backlog,
        )

        def confirmed(delivery: Delivery) -> None:
            session.acknowledge(delivery)
            self._commands.message_told()

        # The colon is in no other instance's id. A new holder's links have the same ids as those of
        # the one before: the broker ends what a stopped instance would publish when it wakes up.
        publishers = [
            Publisher(ConnectOptions(client_id=f"{settings.broker_client_id}:{number}"), confirmed)
            for number in range(settings.broker_publishers)
        ]
        self.links = BrokerLinks(
            session,
            publishers,
            LinkOptions(
                host=settings.broker_host,
                port=settings.broker_port,
                socket_path=settings.broker_socket,
                username=SERVICE_USER,
                token=self._foundations.token,
                filters=(topics.command_filter, topics.platform_filter),
                demand_lease=tenure.demand,
            ),
            on_deliveries=on_deliveries,
            # Invalidations may have been lost with the session.
            on_session_lost=self._foundations.connections.forget_everything,
        )
        return session, publishers

    def _wire_presence(self, preferences: PostgresPreferences) -> TrackPresence:
        foundations, settings = self._foundations, self._settings
        tell = TellPresence(
            foundations.presence_store,
            foundations.counterparts,
            foundations.connections,
            preferences,
            foundations.last_seen,
            self.signals,
        )
        return TrackPresence(
            foundations.presence_store,
            tell,
            self._typing.gone,
            lease=settings.presence_lease_s,
            sweep=settings.presence_sweep_s,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set; then finishes what was taken and says goodbye, in the grace time.

        Raises `LeaseLost`, and whatever else ends one of the parts. Then, and when it is
        cancelled, the links are cut off as they are: what is not acknowledged, the broker delivers again.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                parts = [
                    tasks.create_task(self._commands.run(), name="pipeline"),
                    tasks.create_task(self.links.run(), name="broker-links"),
                    tasks.create_task(self._typing.run(), name="typing"),
                    tasks.create_task(self.presence.run(), name="presence"),
                ]
                await stop.wait()
                await self._finish()
                for part in parts:
                    part.cancel()
        finally:
            self._foundations.commits.end_tenure()
            for gauge in (UNACKNOWLEDGED, WAITING):
                gauge.set_function(lambda: 0)

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(self._settings.shutdown_grace_s):
                await self.links.drain()
                await self.links.close()
        except TimeoutError:
            _log.warning("shutdown_grace_exceeded")
