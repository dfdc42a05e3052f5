"""Tells the presence store who is invisible, where nobody tracks presence: at a standby."""

from __future__ import annotations

import asyncio

import structlog

from service.domain.errors import Rejected
from service.domain.ids import UserId
from service.use_cases.ports import PreferenceRepository
from service.use_cases.presence_ports import PresenceStore, PresenceUnavailable

_log = structlog.get_logger(__name__)


class HidePresence:
    """What cannot be stored is tried again every `pause` seconds, until it can.

    The counterparts hear of it with the next sweep of the active instance.
    """

    def __init__(
        self, store: PresenceStore, preferences: PreferenceRepository, *, pause: float = 1.0
    ) -> None:
        self._store = store
        self._preferences = preferences
        self._pause = pause
        self._users: dict[UserId, None] = {}
        """Whose preference is to be stored, the longest waiting first."""
        self._working: asyncio.Task[None] | None = None

    def preferences_changed(self, user: UserId) -> None:
        """The user may have become invisible, or visible again; never waits."""
        self._users[user] = None
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(), name="hide-presence")

    async def aclose(self, seconds: float) -> None:
        """Gives what is left to store so much time."""
        if self._working is None:
            return
        await asyncio.wait([self._working], timeout=seconds)
        self._working.cancel()
        if self._users:
            _log.warning("presence_left_unhidden", users=len(self._users))

    async def _work(self) -> None:
        while self._users:
            user = next(iter(self._users))
            del self._users[user]
            try:
                await self._store.hide(user, (await self._preferences.of(user)).invisible)
                continue
            except (PresenceUnavailable, Rejected) as error:
                _log.warning("presence_not_hidden", user_id=user, error=type(error).__name__)
            except Exception:
                _log.exception("presence_failed", user_id=user)
            self._users[user] = None
            await asyncio.sleep(self._pause)
