"""A `PresenceStore` in dicts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from service.domain.ids import UserId
from service.domain.presence import PresenceState, state_of
from service.use_cases.presence_ports import Noted, Outlook, PresenceUnavailable, SessionReport

MAX_SESSIONS = 32


@dataclass(slots=True)
class _User:
    sessions: dict[str, tuple[float, PresenceState]] = field(default_factory=dict)
    newcomers: set[str] = field(default_factory=set)
    hidden: bool | None = None
    told: PresenceState | None = None
    left: float | None = None

    def outlook(self, untold: PresenceState | None = None) -> Outlook:
        return Outlook(
            real=state_of(state for _, state in self.sessions.values()),
            is_hidden=self.hidden,
            untold=untold,
            left_at=None if self.left is None else datetime.fromtimestamp(self.left, UTC),
        )


class MemoryPresence:
    """Forgets everything on `forget`, and refuses everything while `is_down`."""

    def __init__(self, *, lease: float, retry: float, wall_clock: Callable[[], float]) -> None:
        self._lease = lease
        self._retry = retry
        self._clock = wall_clock
        self._users: dict[UserId, _User] = {}
        self._due: dict[UserId, float] = {}
        self.is_down = False

    async def forget(self) -> None:
        self._users.clear()
        self._due.clear()

    async def report(self, reports: Sequence[SessionReport]) -> Sequence[Noted]:
        self._check()
        return [self._note(report) for report in reports]

    async def take_due(self, limit: int) -> Sequence[UserId]:
        self._check()
        now = self._clock()
        users = [user for user, moment in self._due.items() if moment <= now][:limit]
        for user in users:
            self._due[user] = now + self._retry
        return users

    async def inspect(self, user: UserId, *, was_shown: bool) -> Outlook:
        self._check()
        known = self._current(user)
        unseen = known.hidden is not None and known.outlook().visible is PresenceState.OFFLINE
        if known.told is None and was_shown and unseen:
            known.told = PresenceState.ONLINE
        settled = self._schedule(user, known)
        untold = None if settled or known.hidden is None else known.outlook().visible
        return known.outlook(untold)

    async def hide(self, user: UserId, hidden: bool) -> None:
        self._check()
        known = self._current(user)
        known.hidden = hidden
        self._schedule(user, known)

    async def welcome(self, user: UserId, sessions: Collection[str]) -> None:
        self._check()
        self._current(user).newcomers.difference_update(sessions)

    async def settle(self, user: UserId, told: PresenceState) -> None:
        self._check()
        known = self._current(user)
        known.told = told
        self._schedule(user, known)

    async def look_up(self, users: Sequence[UserId]) -> Mapping[UserId, Outlook]:
        self._check()
        found = {}
        for user in users:
            known = self._current(user)
            outlook = known.outlook()
            settled = outlook.visible is (known.told or PresenceState.OFFLINE)
            found[user] = known.outlook(None if settled else outlook.visible)
        return found

    def _check(self) -> None:
        if self.is_down:
            raise PresenceUnavailable

    def _note(self, report: SessionReport) -> Noted:
        user, now = self._current(report.user_id), self._clock()
        if report.state is PresenceState.OFFLINE:
            if user.sessions.pop(report.session_id, None):
                user.left = now
        else:
            if report.session_id not in user.sessions:
                if len(user.sessions) >= MAX_SESSIONS:
                    del user.sessions[min(user.sessions, key=lambda name: user.sessions[name][0])]
                user.newcomers.add(report.session_id)
            user.sessions[report.session_id] = (now + self._lease, report.state)
        settled = self._schedule(report.user_id, user)
        is_newcomer = report.session_id in user.sessions and report.session_id in user.newcomers
        return Noted(state=user.outlook().real, is_newcomer=is_newcomer, is_told=settled)

    def _current(self, user: UserId) -> _User:
        known = self._users.setdefault(user, _User())
        for name, (expiry, _) in list(known.sessions.items()):
            if expiry <= self._clock():
                del known.sessions[name]
                known.left = max(known.left or 0, expiry - self._lease)
        return known

    def _schedule(self, user: UserId, known: _User) -> bool:
        outlook = known.outlook()
        settled = outlook.visible is (known.told or PresenceState.OFFLINE)
        settled = settled and not (outlook.real is not PresenceState.OFFLINE and known.hidden is None)
        moments = [expiry for expiry, _ in known.sessions.values()]
        if not settled:
            moments.append(self._clock() + self._retry)
        if moments:
            self._due[user] = min(moments)
        else:
            self._due.pop(user, None)
        return settled
