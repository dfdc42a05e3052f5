"""Tells a user whether its counterparts are there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId
from service.domain.presence import Presence, PresenceState
from service.use_cases.ports import ConnectionDirectory
from service.use_cases.presence_ports import Counterparts, LastSeen, PresenceStore, PresenceUnavailable

MAX_USERS = 100


class GetPresence:
    """The presence of connected counterparts; about everybody else it says nothing at all."""

    def __init__(
        self,
        store: PresenceStore,
        counterparts: Counterparts,
        connections: ConnectionDirectory,
        last_seen: LastSeen,
    ) -> None:
        self._store = store
        self._counterparts = counterparts
        self._connections = connections
        self._last_seen = last_seen

    async def __call__(self, caller: UserId, user_ids: Sequence[UserId]) -> Sequence[Presence]:
        """Those of `user_ids` (1..100) who are connected counterparts, in that order, each once.

        While the presence store does not answer, everybody is offline. Raises `Rejected`:
        INVALID_PAYLOAD for none or too many, AUTHORIZATION_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        if not 1 <= len(user_ids) <= MAX_USERS:
            raise Rejected(ErrorCode.INVALID_PAYLOAD, f"give 1 to {MAX_USERS} user ids")
        candidates = await self._counterparts.among(caller, list(dict.fromkeys(user_ids)))
        connected = await asyncio.gather(
            *(self._connections.are_connected(caller, other) for other in candidates)
        )
        users = [user for user, is_connected in zip(candidates, connected, strict=True) if is_connected]
        states = await self._states(users)
        offline = [user for user in users if states[user] is PresenceState.OFFLINE]
        seen = await self._last_seen.of(offline) if offline else {}
        return [Presence(user_id=user, state=states[user], last_seen_at=seen.get(user)) for user in users]

    async def _states(self, users: Sequence[UserId]) -> dict[UserId, PresenceState]:
        try:
            found = await self._store.look_up(users)
        except PresenceUnavailable:
            return dict.fromkeys(users, PresenceState.OFFLINE)
        return {user: found[user].visible for user in users}
