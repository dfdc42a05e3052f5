"""Follows the sessions of all users and tells counterparts what changes."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from service.domain.errors import Rejected
from service.domain.ids import UserId
from service.domain.presence import PresenceState
from service.metrics import PRESENCE_REPORTS
from service.use_cases.presence_ports import Noted, PresenceStore, PresenceUnavailable, SessionReport
from service.use_cases.tell_presence import TellPresence

_log = structlog.get_logger(__name__)

_BATCH = 500
_TELLERS = 4
"""Users told about at once: presence must leave the database to the messages."""
_MAX_REMEMBERED = 200_000


@dataclass(frozen=True, slots=True)
class _Wish:
    """Why a user is looked at."""

    reload: bool = False
    """Whether it is invisible must be read anew."""
    newcomers: frozenset[str] = frozenset()
    """Its sessions that want to know who else is here."""
    was_present: bool = False
    """It was here, even if the store knows nothing of that."""
    was_shown: bool = False
    """Others may believe that it is here, even if the store knows nothing of that."""

    def and_(self, other: _Wish) -> _Wish:
        return _Wish(
            self.reload or other.reload,
            self.newcomers | other.newcomers,
            self.was_present or other.was_present,
            self.was_shown or other.was_shown,
        )


class _Memory(NamedTuple):
    """What is remembered of a user who is here."""

    until: float
    """When its lease ends, by the clock."""
    is_shown: bool
    """Whether others were told that it is here."""


class TrackPresence:
    """Takes reports without waiting and works them off beside the messages.

    The store is the memory of all instances; this one only remembers whom it
    heard of within a lease (`lease`, in seconds), for the case that the store
    forgets. A user is handled by one task at a time, which brings what others
    were told to what holds: states are never told out of order, and what
    changes back and forth meanwhile is not told at all. What fails comes up
    again with the next sweep (every `sweep` seconds) that reaches the store.
    """

    def __init__(
        self,
        store: PresenceStore,
        tell: TellPresence,
        on_gone: Callable[[UserId], None],
        *,
        lease: float,
        sweep: float,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._tell = tell
        self._on_gone = on_gone
        self._lease = lease
        self._sweep_s = sweep
        self._clock = clock
        self._wall_clock = wall_clock
        self._reports: OrderedDict[tuple[UserId, str], SessionReport] = OrderedDict()
        self._reported = asyncio.Event()
        self._remembered: OrderedDict[UserId, _Memory] = OrderedDict()
        """Users who are here, as far as this instance knows; oldest first."""
        self._waiting: OrderedDict[UserId, _Wish] = OrderedDict()
        self._failed: OrderedDict[UserId, _Wish] = OrderedDict()
        self._busy: set[UserId] = set()
        self._work = asyncio.Event()

    def report(self, report: SessionReport) -> None:
        """Takes what a session says; the latest word of a session replaces those not yet stored."""
        PRESENCE_REPORTS.labels(report.state.value).inc()
        if report.state is not PresenceState.OFFLINE and report.user_id in self._remembered:
            self._remember(report.user_id)
        key = (report.user_id, report.session_id)
        self._reports[key] = report
        self._reports.move_to_end(key)
        if len(self._reports) > _MAX_REMEMBERED:
            self._reports.popitem(last=False)
        self._reported.set()

    def preferences_changed(self, user: UserId) -> None:
        """The user may have become invisible, or visible again."""
        self._want(user, _Wish(reload=True))

    async def run(self) -> None:
        """Stores reports, sweeps expired sessions and tells counterparts, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._store_reports(), name="presence-reports")
            tasks.create_task(self._sweep_forever(), name="presence-sweep")
            for number in range(_TELLERS):
                tasks.create_task(self._tell_forever(), name=f"presence-teller-{number}")

    async def flush(self) -> None:
        """Stores the reports that wait; without the store they are dropped: heartbeats repeat them."""
        while self._reports:
            count = min(len(self._reports), _BATCH)
            batch = [self._reports.popitem(last=False)[1] for _ in range(count)]
            try:
                outcomes = await self._store.report(batch)
            except PresenceUnavailable:
                continue
            for report, noted in zip(batch, outcomes, strict=True):
                self._follow_up(report, noted)

    async def sweep(self) -> None:
        """Takes up users with expired sessions, and those whom this instance should have heard of."""
        now = self._clock()
        while self._remembered and next(iter(self._remembered.values())).until <= now:
            user, memory = self._remembered.popitem(last=False)
            self._want(user, _Wish(was_present=True, was_shown=memory.is_shown))
        try:
            while users := await self._store.take_due(_BATCH):
                for user in users:
                    self._want(user, _Wish())
                if len(users) < _BATCH:
                    break
        except PresenceUnavailable:
            return
        failed, self._failed = self._failed, OrderedDict()
        for user, wish in failed.items():
            self._want(user, wish)

    async def settle_next(self) -> bool:
        """Takes one waiting user and tells what there is to tell; False when nobody can be taken."""
        user = next((user for user in self._waiting if user not in self._busy), None)
        if user is None:
            return False
        wish = self._waiting.pop(user)
        self._busy.add(user)
        try:
            await self._settle(user, wish)
        except PresenceUnavailable:
            self._try_later(user, wish)
            # All others would fail as well: with many, that alone would keep the messages waiting.
            while self._waiting:
                self._try_later(*self._waiting.popitem(last=False))
        except Rejected as error:
            _log.info("presence_untold", user_id=user, code=error.rejection.code.value)
            self._try_later(user, wish)
        except Exception:
            _log.exception("presence_failed", user_id=user)
            self._try_later(user, wish)
        finally:
            self._busy.discard(user)
            self._work.set()
        return True

    async def _store_reports(self) -> None:
        while True:
            await self._reported.wait()
            self._reported.clear()
            try:
                await self.flush()
            except Exception:
                # Presence is never worth the messages that end with this process.
                _log.exception("presence_reports_failed")

    async def _sweep_forever(self) -> None:
        # Heartbeats that wait at the broker after a restart come before the first judgement.
        await asyncio.sleep(max(self._sweep_s, self._lease / 3))
        while True:
            try:
                await self.sweep()
            except Exception:
                _log.exception("presence_sweep_failed")
            await asyncio.sleep(self._sweep_s)

    async def _tell_forever(self) -> None:
        while True:
            if not await self.settle_next():
                self._work.clear()
                await self._work.wait()

    async def _settle(self, user: UserId, wish: _Wish) -> None:
        was_present = wish.was_present or user in self._remembered
        was_shown = wish.was_shown or self._is_shown(user)
        outlook = await self._store.inspect(user, was_shown=was_shown)
        if outlook.real is PresenceState.OFFLINE and not was_present and outlook.is_hidden is None:
            return
        # Nobody is shown by what the store believes alone: an instance may have ended that was to hide it.
        is_to_show = outlook.untold not in (None, PresenceState.OFFLINE)
        if wish.reload or wish.newcomers or is_to_show or outlook.is_hidden is None:
            await self._store.hide(user, await self._tell.is_invisible(user))
            outlook = await self._store.inspect(user, was_shown=was_shown)
        if outlook.real is PresenceState.OFFLINE:
            self._on_gone(user)
        if outlook.untold is not None:
            left_at = outlook.left_at if outlook.real is PresenceState.OFFLINE else None
            await self._tell.counterparts(
                user, outlook.untold, left_at or self._now(), believed_here=self._remembered
            )
            await self._store.settle(user, outlook.untold)
        if outlook.real is PresenceState.OFFLINE:
            self._remembered.pop(user, None)
            return
        self._remember(user, is_shown=outlook.visible is not PresenceState.OFFLINE)
        if wish.newcomers:
            await self._tell.newcomer(user)
            await self._store.welcome(user, wish.newcomers)

    def _follow_up(self, report: SessionReport, noted: Noted) -> None:
        user, is_here = report.user_id, noted.state is not PresenceState.OFFLINE
        # A wish of another instance may have ended with it: what it was about is looked up again.
        is_unknown = is_here and user not in self._remembered
        if not is_here:
            self._on_gone(user)
        elif noted.is_told:
            self._remember(user)
        forgotten = not is_here and user in self._remembered
        if noted.is_newcomer or not noted.is_told or forgotten or is_unknown:
            newcomers = frozenset((report.session_id,)) if noted.is_newcomer else frozenset[str]()
            self._want(user, _Wish(is_unknown, newcomers, forgotten, forgotten and self._is_shown(user)))

    def _want(self, user: UserId, wish: _Wish) -> None:
        known = self._waiting.get(user)
        self._waiting[user] = wish if known is None else known.and_(wish)
        self._work.set()

    def _try_later(self, user: UserId, wish: _Wish) -> None:
        """With the next sweep that reaches the store; what is forgotten here, with the next heartbeat."""
        self._failed[user] = wish if user not in self._failed else self._failed[user].and_(wish)
        if len(self._failed) > _MAX_REMEMBERED:
            self._failed.popitem(last=False)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall_clock(), UTC)

    def _is_shown(self, user: UserId) -> bool:
        """Whether others were told that the user is here, as far as this instance remembers."""
        memory = self._remembered.get(user)
        return memory is not None and memory.is_shown

    def _remember(self, user: UserId, *, is_shown: bool | None = None) -> None:
        """For one lease from now; whether it is shown stays as it was unless that is said, too."""
        if is_shown is None:
            is_shown = self._is_shown(user)
        self._remembered[user] = _Memory(self._clock() + self._lease, is_shown)
        self._remembered.move_to_end(user)
        if len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)
