"""Identifiers: their types, their form, and how new ones are made."""

from __future__ import annotations

import random
import re
import uuid
from typing import NewType

UserId = NewType("UserId", str)
ConversationId = NewType("ConversationId", uuid.UUID)
MessageId = NewType("MessageId", uuid.UUID)
ClientMessageId = NewType("ClientMessageId", uuid.UUID)

USER_ID = re.compile(r"[A-Za-z0-9._@-]{1,64}")
"""A user id's form: safe as one MQTT topic level and as part of a client id."""

_random = random.Random()  # noqa: S311 - ids need to differ, not to be secret; seeded by the system

_new, _set, _UNKNOWN = object.__new__, object.__setattr__, uuid.SafeUUID.unknown

_CONVERSATIONS = uuid.UUID("6f1c5e0a-6a0c-5d53-9f5e-0d9b1d6a7c11")


def is_user_id(value: str) -> bool:
    """Whether `value` has the form of a user id (1-64 of `A-Z a-z 0-9 . _ @ -`)."""
    return USER_ID.fullmatch(value) is not None


def conversation_id_for(
    kind: str, participants: tuple[UserId, UserId], context: tuple[str, str] | None = None
) -> ConversationId:
    """The id of the one conversation that these participants have in this context.

    A UUIDv5 of kind, sorted participants and context, so that opening is
    idempotent on every instance without a lock. `/` occurs in no user id and
    in no kind, which keeps the name unambiguous.
    """
    name = "/".join((kind, *sorted(participants), *(context or ())))
    return ConversationId(uuid.uuid5(_CONVERSATIONS, name))


def uuid7(now_ns: int) -> uuid.UUID:
    """A UUIDv7 (RFC 9562, 5.7) for a wall clock in nanoseconds since the epoch.

    The 12 bits behind the millisecond hold its fraction (method 3 of section
    6.2), so that ids made in sequence sort nearly in sequence.
    """
    milliseconds, rest = divmod(now_ns, 1_000_000)
    moment = (milliseconds & 0xFFFF_FFFF_FFFF) << 16 | 0x7000 | rest * 4096 // 1_000_000
    # What the constructor does when it has looked at its other five arguments: half of the time.
    made = _new(uuid.UUID)
    _set(made, "int", moment << 64 | 0b10 << 62 | _random.getrandbits(62))
    _set(made, "is_safe", _UNKNOWN)
    return made
