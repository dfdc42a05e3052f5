"""Topics and filters that each role may use, and such that it may not."""

from __future__ import annotations

#: Whom the tables speak of: the subject of each role.
SUBJECTS = {"user": "alice", "service": "messaging-service", "platform": "people"}

MAY_PUBLISH = {
    "user": [
        "chat/v1/users/alice/commands/sendMessage",
        "chat/v1/users/alice/commands/x",
    ],
    "service": [
        "chat/v1/users/alice/events/newMessage",
        "chat/v1/users/A.b_c@d-0/events/x",
        f"chat/v1/users/{'x' * 64}/events/x",
        "chat/v1/platform/events/connections.changed",
        "chat/v1/service/backlog",
    ],
    "platform": ["chat/v1/platform/events/connections.changed", "chat/v1/platform/events/x"],
}

#: Topics that no role may publish to.
NOBODY_PUBLISHES = [
    "chat",
    "chat/v1",
    "chat/v1/",
    "chat/v1/users",
    "chat/v1/users/alice",
    "chat/v1/users/alice/commands",
    "chat/v1/users/alice/commands/",
    "chat/v1/users/alice/commands/sendMessage/",
    "chat/v1/users/alice/commands/sendMessage/now",
    "chat/v1/users/alice/commands//sendMessage",
    "chat/v1/users//alice/commands/sendMessage",
    "chat/v1/users//commands/sendMessage",
    "chat/v1/users/alice//commands/sendMessage",
    "chat/v1/users/alice/other/x",
    "chat/v1/users/alice/Commands/sendMessage",
    "chat/v1/users/alice/events/",
    "chat/v1/users/alice/events/x/y",
    "chat/v1/users/al ice/events/x",
    "chat/v1/users/al:ice/events/x",
    "chat/v1/users//events/x",
    f"chat/v1/users/{'x' * 65}/events/x",
    "chat/v1/platform/events/",
    "chat/v1/platform/events/x/y",
    "chat/v1/platform/commands/x",
    "chat/v1/platform",
    "/chat/v1/users/alice/commands/sendMessage",
    "chat/v2/users/alice/commands/sendMessage",
    "chat/v10/users/alice/commands/sendMessage",
    "chat/v1users/alice/commands/sendMessage",
    "x/chat/v1/users/alice/commands/sendMessage",
    "users/alice/commands/sendMessage",
    "$SYS/broker/connection/alice/state",
    "$SYS/broker/version",
    "$CONTROL/dynamic-security/v1",
    "$share/g/chat/v1/users/alice/commands/sendMessage",
]

MAY_NOT_PUBLISH = {
    "user": [
        "chat/v1/users/bob/commands/sendMessage",
        "chat/v1/users/alic/commands/sendMessage",
        "chat/v1/users/alice2/commands/sendMessage",
        "chat/v1/users/Alice/commands/sendMessage",
        "chat/v1/users/alice/events/newMessage",
        "chat/v1/users/bob/events/newMessage",
        "chat/v1/platform/events/connections.changed",
        "chat/v1/service/backlog",
    ],
    "service": [
        "chat/v1/service/backlog/x",
        "chat/v1/service/x",
        "chat/v1/service",
        "chat/v1/users/alice/commands/sendMessage",
        "chat/v1/users/messaging-service/commands/sendMessage",
    ],
    "platform": [
        "chat/v1/service/backlog",
        "chat/v1/users/people/commands/sendMessage",
        "chat/v1/users/people/events/x",
        "chat/v1/users/alice/events/x",
    ],
}

MAY_SUBSCRIBE = {
    "user": [
        "chat/v1/users/alice/events/+",
        "chat/v1/users/alice/events/newMessage",
        f"chat/v1/users/alice/events/{'x' * 32}",
    ],
    "service": [
        "chat/v1/users/+/commands/+",
        "$share/bridges/chat/v1/users/+/commands/+",
        "chat/v1/platform/events/+",
        "chat/v1/platform/events/connections.changed",
        "$share/bridges/chat/v1/platform/events/+",
        "$share/bridges/chat/v1/platform/events/connections.changed",
    ],
    "platform": ["chat/v1/platform/events/+", "chat/v1/platform/events/connections.changed"],
}

#: Filters that no role may subscribe to.
NOBODY_SUBSCRIBES = [
    "chat/v1/service/backlog",
    "chat/v1/service/+",
    "#",
    "+",
    "/#",
    "+/+/+/+/+/+",
    "+/v1/users/alice/events/+",
    "chat/+/users/alice/events/+",
    "chat/v1/+/alice/events/+",
    "chat/#",
    "chat/v1/#",
    "chat/v1/users/#",
    "chat/v1/users/+/#",
    "chat/v1/users/alice/#",
    "chat/v1/users/alice/+/+",
    "chat/v1/users/alice/+",
    "chat/v1/users/alice/events",
    "chat/v1/users/alice/events/",
    "chat/v1/users/alice/events/#",
    "chat/v1/users/alice/events/+/+",
    "chat/v1/users/alice/events/newMessage/#",
    "chat/v1/users/alice/events/newMessage/x",
    "chat/v1/users/alice/commands/+",
    "chat/v1/users/alice/commands/sendMessage",
    "chat/v1/users/+/events/+",
    "chat/v1/users/+/events/newMessage",
    "chat/v1/users/+/commands/sendMessage",
    "chat/v1/users/+/commands/#",
    "chat/v1/users//events/+",
    "chat/v1/platform/#",
    "chat/v1/platform/events/#",
    "chat/v1/platform/events/",
    "chat/v1/platform/events/x/y",
    "chat/v1/platform/+/connections.changed",
    "chat/v10/users/alice/events/+",
    "$SYS/#",
    "$SYS/broker/clients/total",
    "$SYS/broker/+/total",
    "$CONTROL/#",
    "$share/g/#",
    "$share/g/$SYS/#",
    "$share/g/chat/v1/users/alice/events/+",
    "$share/g/chat/v1/users/+/events/+",
    "$share/g/chat/v1/users/alice/commands/+",
    "$share/g/$share/g/chat/v1/users/+/commands/+",
    "$queue/chat/v1/users/+/commands/+",
    "$shared/g/chat/v1/users/+/commands/+",
]

MAY_NOT_SUBSCRIBE = {
    "user": [
        f"chat/v1/users/alice/events/{'x' * 33}",
        "chat/v1/users/alice/events/no.event",
        "chat/v1/users/alice/events/event-1",
        "chat/v1/users/bob/events/+",
        "chat/v1/users/bob/events/newMessage",
        "chat/v1/users/alic/events/+",
        "chat/v1/users/alice2/events/+",
        "chat/v1/users/Alice/events/+",
        "chat/v1/users/+/commands/+",
        "$share/g/chat/v1/users/+/commands/+",
        "chat/v1/platform/events/+",
        "chat/v1/platform/events/connections.changed",
    ],
    "service": [
        "chat/v1/users/messaging-service/events/+",
        "chat/v1/users/alice/events/+",
        "chat/v1/users/alice/events/newMessage",
    ],
    "platform": [
        "chat/v1/users/people/events/+",
        "chat/v1/users/alice/events/newMessage",
        "chat/v1/users/+/commands/+",
        "$share/g/chat/v1/users/+/commands/+",
        "$share/g/chat/v1/platform/events/+",
    ],
}


def rows(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(role, topic) for role, topics in table.items() for topic in topics]


def rows_and_for_all(table: dict[str, list[str]], everyone: list[str]) -> list[tuple[str, str]]:
    return rows({role: topics + everyone for role, topics in table.items()})
