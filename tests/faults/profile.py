"""Who a user of the load is and how it behaves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reading(StrEnum):
    """What a user does with what it gets."""

    ALL = "all"
    NONE = "none"
    SOME = "some"
    """Reads up to messages whose position is a multiple of 7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One user with one device and one peer."""

    user_id: str
    peer_id: str
    canary: str
    per_second: float
    """Messages it writes."""
    reading: Reading = Reading.ALL
    websocket: bool = True
    keeps_session: bool = False
    """Whether the broker keeps its session while it is away."""
    device: str = "phone"

    @property
    def event_filter(self) -> str:
        """What it subscribes to."""
        return f"chat/v1/users/{self.user_id}/events/+"

    def command_topic(self, command: str) -> str:
        """Where it publishes a command."""
        return f"chat/v1/users/{self.user_id}/commands/{command}"
