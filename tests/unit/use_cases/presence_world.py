"""Presence of three users over stores and counterparts in memory, by injected clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from service.domain.ids import UserId
from service.domain.presence import Presence, PresenceState
from service.use_cases.get_presence import GetPresence
from service.use_cases.presence_ports import SessionReport
from service.use_cases.set_preferences import SetPreferences
from service.use_cases.tell_presence import TellPresence
from service.use_cases.track_presence import TrackPresence
from tests.contract.presence.in_memory import MemoryPresence
from tests.fakes import MemoryPreferences
from tests.unit.use_cases.connected_pairs import ConnectedPairs

ONLINE, AWAY, OFFLINE = PresenceState.ONLINE, PresenceState.AWAY, PresenceState.OFFLINE
ALICE, BOB, CAROL = UserId("alice"), UserId("bob"), UserId("carol")
START = 1_800_000_000.0
LEASE = 60.0


class MemoryCounterparts:
    def __init__(self, *pairs: tuple[UserId, UserId]) -> None:
        self._pairs = pairs

    async def of(self, user: UserId, limit: int) -> Sequence[UserId]:
        return [b if a == user else a for a, b in self._pairs if user in (a, b)][:limit]

    async def among(self, user: UserId, candidates: Sequence[UserId]) -> Sequence[UserId]:
        found = await self.of(user, len(self._pairs))
        return [candidate for candidate in candidates if candidate in found]


class MemoryLastSeen:
    def __init__(self) -> None:
        self.moments: dict[UserId, datetime] = {}

    async def of(self, users: Sequence[UserId]) -> Mapping[UserId, datetime]:
        return {user: self.moments[user] for user in users if user in self.moments}

    async def record(self, user: UserId, at: datetime) -> datetime:
        self.moments[user] = max(at, self.moments.get(user, at))
        return self.moments[user]


class World:
    """Alice, Bob and Carol know one another; the connections are Alice-Bob and Bob-Carol."""

    def __init__(self) -> None:
        self.now = START
        self.told: list[tuple[UserId, UserId, PresenceState]] = []
        self.last: dict[UserId, Presence] = {}
        self.gone: list[UserId] = []
        self.has_link = True
        self.store = MemoryPresence(lease=LEASE, retry=5.0, wall_clock=lambda: self.now)
        self.connections = ConnectedPairs(("alice", "bob"), ("bob", "carol"))
        counterparts = MemoryCounterparts((ALICE, BOB), (BOB, CAROL), (ALICE, CAROL))
        self.last_seen = MemoryLastSeen()
        self.preferences = MemoryPreferences()
        self.track = self._instance(counterparts)
        self.other = self._instance(counterparts)
        self.get = GetPresence(self.store, counterparts, self.connections, self.last_seen)
        self.set_preferences = SetPreferences(self.preferences, self.track.preferences_changed)

    def _instance(self, counterparts: MemoryCounterparts) -> TrackPresence:
        tell = TellPresence(
            self.store, counterparts, self.connections, self.preferences, self.last_seen, self
        )
        return TrackPresence(
            self.store,
            tell,
            self.gone.append,
            lease=LEASE,
            sweep=1.0,
            clock=lambda: self.now,
            wall_clock=lambda: self.now,
        )

    def announce(self, recipients: Sequence[UserId], presence: Presence) -> bool:
        if self.has_link:
            self.told += [(recipient, presence.user_id, presence.state) for recipient in recipients]
            self.last[presence.user_id] = presence
        return self.has_link

    async def says(self, user: UserId, state: PresenceState, session: str = "s1") -> None:
        self.track.report(SessionReport(user_id=user, session_id=session, state=state))
        await self.settle()

    async def settle(self, *instances: TrackPresence) -> None:
        for track in instances or (self.track,):
            await track.flush()
            while await track.settle_next():
                pass

    async def sweep(self, *instances: TrackPresence) -> None:
        for track in instances or (self.track,):
            await track.sweep()
            await self.settle(track)

    def news(self, *, of: UserId | None = None) -> list[tuple[UserId, UserId, PresenceState]]:
        """What was told since the last call, of one user or of all: to whom, of whom, what."""
        news, self.told = self.told, []
        return [told for told in news if of in (None, told[1])]
