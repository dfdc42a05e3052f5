"""Whether a user is there, from the sessions of its devices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.domain.ids import UserId


class PresenceState(StrEnum):
    """What a session says of itself, and what others see of a user."""

    ONLINE = "online"
    AWAY = "away"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A user as others see it."""

    user_id: UserId
    state: PresenceState
    last_seen_at: datetime | None
    """When the last session ended; only of a user who is offline, None if unknown."""


def state_of(sessions: Iterable[PresenceState]) -> PresenceState:
    """Online while any session is, else away while any is, else offline."""
    present = set(sessions)
    for state in (PresenceState.ONLINE, PresenceState.AWAY):
        if state in present:
            return state
    return PresenceState.OFFLINE
