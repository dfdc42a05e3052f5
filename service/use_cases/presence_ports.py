"""What the use cases need from the outside to know and tell who is here; as in `ports`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.domain.ids import UserId
from service.domain.presence import Presence, PresenceState


class PresenceUnavailable(Exception):
    """The presence store does not answer; heartbeats and sweeps put it right later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReport:
    """What one session of a user says of itself; holds for one lease."""

    user_id: UserId
    session_id: str
    state: PresenceState


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What a report led to."""

    state: PresenceState
    """The user's real state, all sessions taken together."""
    is_newcomer: bool
    """Whether the session is one that was not told yet who else is here."""
    is_told: bool
    """Whether others were told of the state that they may see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A user's presence as it is, and as others are to see it."""

    real: PresenceState
    is_hidden: bool | None
    """None: nobody has told the store yet, and until then others see the user as offline."""
    untold: PresenceState | None = None
    """What others must be told, if they were told something else before."""
    left_at: datetime | None = None
    """When the latest session that ended was heard of last."""

    @property
    def visible(self) -> PresenceState:
        """What others may see."""
        return self.real if self.is_hidden is False else PresenceState.OFFLINE


class PresenceStore(Protocol):
    """The sessions of all users, shared by all instances. Every method may raise `PresenceUnavailable`.

    It may forget everything at any time: what sessions report again, it knows again.
    """

    async def report(self, reports: Sequence[SessionReport]) -> Sequence[Noted]:
        """Takes in reports, in order, and says what each led to."""
        ...

    async def take_due(self, limit: int) -> Sequence[UserId]:
        """Users with an expired session or of whom something is untold for too long.

        Each is given to one instance; who is not settled by it comes up again later.
        """
        ...

    async def inspect(self, user: UserId, *, was_shown: bool) -> Outlook:
        """What there is to tell of a user, without its expired sessions.

        `was_shown` stands in for what the store forgot: others were told that the user is there.
        """
        ...

    async def welcome(self, user: UserId, sessions: Collection[str]) -> None:
        """These sessions were told who else is here."""
        ...

    async def hide(self, user: UserId, hidden: bool) -> None:
        """Lets the store know whether the user is invisible."""
        ...

    async def settle(self, user: UserId, told: PresenceState) -> None:
        """Others were told of this state."""
        ...

    async def look_up(self, users: Sequence[UserId]) -> Mapping[UserId, Outlook]:
        """Each user as of now, for reading only."""
        ...


class PresenceAnnouncer(Protocol):
    """Brings presence to devices."""

    def announce(self, recipients: Sequence[UserId], presence: Presence) -> bool:
        """Tells the recipients' devices; False when nobody can be told now."""
        ...


class Counterparts(Protocol):
    """Who has a conversation with whom."""

    async def of(self, user: UserId, limit: int) -> Sequence[UserId]:
        """Up to `limit` counterparts, latest activity first."""
        ...

    async def among(self, user: UserId, candidates: Sequence[UserId]) -> Sequence[UserId]:
        """Those of `candidates` who are counterparts, in the same order."""
        ...


class LastSeen(Protocol):
    """When users were last seen; durable."""

    async def of(self, users: Sequence[UserId]) -> Mapping[UserId, datetime]:
        """The moments that are known."""
        ...

    async def record(self, user: UserId, at: datetime) -> datetime:
        """Keeps the later of the known moment and `at`, and returns it."""
        ...
