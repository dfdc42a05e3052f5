"""Tells connected counterparts who are here of a user's presence, and a newcomer of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence
from datetime import datetime

from service.domain.errors import Rejected
from service.domain.ids import UserId
from service.domain.presence import Presence, PresenceState
from service.metrics import PRESENCE_TOLD
from service.use_cases.ports import ConnectionDirectory, PreferenceRepository
from service.use_cases.presence_ports import (
    Counterparts,
    LastSeen,
    PresenceAnnouncer,
    PresenceStore,
    PresenceUnavailable,
)

MAX_COUNTERPARTS = 500
"""Counterparts who are told at the most: those of the latest conversations."""
_LOOKUPS = 16
"""Connections asked about at once."""


class TellPresence:
    """Finds out who may know, and tells. Every method may raise `Rejected` or `PresenceUnavailable`.

    Nobody is told whose connection cannot be checked: the caller tries again
    later, and who was told then hears the same twice.
    """

    def __init__(
        self,
        store: PresenceStore,
        counterparts: Counterparts,
        connections: ConnectionDirectory,
        preferences: PreferenceRepository,
        last_seen: LastSeen,
        announcer: PresenceAnnouncer,
    ) -> None:
        self._store = store
        self._counterparts = counterparts
        self._connections = connections
        self._preferences = preferences
        self._last_seen = last_seen
        self._announcer = announcer
        self._lookups = asyncio.Semaphore(_LOOKUPS)

    async def is_invisible(self, user: UserId) -> bool:
        """Whether the user chose to be."""
        return (await self._preferences.of(user)).invisible

    async def counterparts(
        self, user: UserId, state: PresenceState, left_at: datetime, *, believed_here: Container[UserId]
    ) -> None:
        """Tells all who may know of the user's new state; `left_at` becomes last seen if it is offline.

        Who is here says the store and, should it have forgotten, `believed_here`.
        """
        last_seen_at = None
        if state is PresenceState.OFFLINE:
            last_seen_at = await self._last_seen.record(user, left_at)
        others = await self._counterparts.of(user, MAX_COUNTERPARTS)
        outlooks = await self._store.look_up(others)
        here = [
            other
            for other in others
            if outlooks[other].real is not PresenceState.OFFLINE or other in believed_here
        ]
        audience, failure = await self._connected(user, here)
        self._announce(audience, Presence(user_id=user, state=state, last_seen_at=last_seen_at))
        if failure is not None:
            raise failure
        PRESENCE_TOLD.labels(state.value).inc()

    async def newcomer(self, user: UserId) -> None:
        """Tells the user of every connected counterpart who is online or away."""
        others = await self._counterparts.of(user, MAX_COUNTERPARTS)
        outlooks = await self._store.look_up(others)
        here = [other for other in others if outlooks[other].visible is not PresenceState.OFFLINE]
        connected, failure = await self._connected(user, here)
        # Asking took its time: whose state changed meanwhile, or is just being told, is told by that.
        for other, outlook in (await self._store.look_up(connected)).items():
            if outlook.visible is not PresenceState.OFFLINE and outlook.untold is None:
                self._announce([user], Presence(user_id=other, state=outlook.visible, last_seen_at=None))
        if failure is not None:
            raise failure

    def _announce(self, recipients: Sequence[UserId], presence: Presence) -> None:
        if recipients and not self._announcer.announce(recipients, presence):
            raise PresenceUnavailable

    async def _connected(
        self, user: UserId, others: Sequence[UserId]
    ) -> tuple[Sequence[UserId], Rejected | None]:
        """Those who are connected with the user, and why it is unknown of others, if it is."""
        answers = await asyncio.gather(*(self._is_connected(user, other) for other in others))
        failure = next((answer for answer in answers if isinstance(answer, Rejected)), None)
        return [other for other, answer in zip(others, answers, strict=True) if answer is True], failure

    async def _is_connected(self, user: UserId, other: UserId) -> bool | Rejected:
        known = self._connections.known(user, other)
        if known is not None:
            return known
        async with self._lookups:
            try:
                return await self._connections.are_connected(user, other)
            except Rejected as error:
                return error
