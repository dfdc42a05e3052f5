"""Topic names and filters of protocol version 1 (`docs/asyncapi.yaml`)."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.ids import UserId, is_user_id

CONNECTIONS_CHANGED = "connections.changed"
"""Platform event: two users became, or are no longer, first-degree connections."""

DEAD_LETTERED = "command.deadLettered"
"""Platform event: the service could not process what it was given."""

COMMANDS = frozenset(
    {"sendMessage", "markAsDelivered", "markAsRead", "sync", "typing", "presence", "setPreferences"}
)
"""What users may ask for; any other name is the client's own text."""


@dataclass(frozen=True, slots=True)
class CommandTopic:
    """Where a command came in: who sent it and what it is called."""

    user_id: UserId
    command: str


@dataclass(frozen=True, slots=True)
class PlatformTopic:
    """Where a platform event came in."""

    event_type: str


class Topics:
    """Builds and reads the topic names below one root."""

    def __init__(self, root: str) -> None:
        self._users = f"{root}/users/"
        self._platform = f"{root}/platform/events/"
        self.command_filter = f"{self._users}+/commands/+"
        self.platform_filter = f"{self._platform}+"
        self.backlog = f"{root}/service/backlog"
        """Where the broker's plugin reads how far the service has come."""

    def parse(self, topic: str) -> CommandTopic | PlatformTopic | None:
        """What a topic name stands for; None for a name outside the protocol.

        The user is whom the broker's access rules bind the topic to: this is
        where a command's identity comes from.
        """
        if topic.startswith(self._users):
            levels = topic[len(self._users) :].split("/")
            if len(levels) == 3 and levels[1] == "commands" and is_user_id(levels[0]):
                return CommandTopic(UserId(levels[0]), levels[2])
        elif topic.startswith(self._platform):
            event_type = topic[len(self._platform) :]
            if event_type and "/" not in event_type:
                return PlatformTopic(event_type)
        return None

    def event(self, user: UserId, event: str) -> str:
        """The topic on which all devices of `user` receive `event`."""
        return f"{self._users}{user}/events/{event}"

    def platform_event(self, event_type: str) -> str:
        """The topic on which services of the platform receive `event_type`."""
        return f"{self._platform}{event_type}"
