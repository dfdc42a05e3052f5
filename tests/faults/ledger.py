"""What the clients attempted, were told and read afterwards: append-only, in memory and as JSON lines.

A line is `["Attempt", {...}]`. `at` is seconds of this process's monotonic clock, the same for
all records; `wall` is seconds since the epoch.
"""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from pydantic import TypeAdapter
from pydantic_core import to_json

CANARY = re.compile(rb"canary[0-9a-f]{16}")
"""A word private to one pair; it stands in each of its texts."""

_FLUSH_EVERY = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as somebody was told of it."""

    message_id: str
    conversation_id: str
    seq: int
    sender_id: str
    text: str
    key: str
    """Its `clientMessageId`."""
    committed_wall: float
    """Its timestamp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A `sendMessage` that was written to a socket."""

    at: float
    user: str
    peer: str
    key: str
    text: str
    link: int
    """Which connection of the user's: 1, 2, 3 ..."""
    number: int
    """1 for the first attempt of this key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A `messageSent` at its sender."""

    at: float
    user: str
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An `error` in answer to a command; `key` where it was a `sendMessage`."""

    at: float
    user: str
    command: str
    key: str | None
    code: str
    retryable: bool
    retry_after_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A `newMessage` at its recipient."""

    at: float
    user: str
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Marking:
    """A `markAsDelivered` or `markAsRead` that was written to a socket, for the position `seq`."""

    at: float
    user: str
    conversation_id: str
    is_read: bool
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A `messageDelivered` or `messageRead` at `user`, about how far `whose` reading or having is."""

    at: float
    user: str
    whose: str
    conversation_id: str
    is_read: bool
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """An answer of `GetMessageHistory`, oldest first."""

    at: float
    user: str
    conversation_id: str
    messages: tuple[Message, ...]
    statuses: tuple[str, ...]
    """SENT, DELIVERED or READ, by the message at the same place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResyncPage:
    """A `syncPage`. Those after the run start at 0 and are `final`; the others a client needed itself."""

    at: float
    asked_at: float
    """What its reader knew then, the page knows too."""
    user: str
    conversation_id: str
    after_seq: int
    messages: tuple[Message, ...]
    positions: tuple[tuple[str, int, int], ...]
    """User, delivered and read position."""
    complete: bool
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One conversation in an answer of `ListConversations`."""

    at: float
    user: str
    conversation_id: str
    last_seq: int
    unread: int
    read_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """From this moment on the two are connected, or not; the platform's event is published right after."""

    at: float
    wall: float
    users: tuple[str, str]
    connected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """The word in all texts between these two."""

    word: str
    users: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A canary word where it must not be; `place` never quotes what stood there."""

    at: float
    word: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """An event that its receiver must not get, or that breaks the contract; `what` quotes no text."""

    at: float
    user: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What was done to the stack."""

    at: float
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """The load has ended and all that was outstanding is settled; `user` has no gap it knows of."""

    at: float
    user: str


Record = (
    Attempt
    | Sent
    | Refused
    | Live
    | Marking
    | Told
    | HistoryPage
    | ResyncPage
    | Listed
    | Relation
    | Canary
    | Leak
    | Foreign
    | Fault
    | Quiet
)
R = TypeVar("R", bound=Record)

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in Record.__args__}


class Ledger:
    """All records of one arena, in the order in which they were made."""

    def __init__(self, file: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock
        """For `at`."""
        self._records: dict[type[Any], list[Any]] = defaultdict(list)
        self._lines: list[bytes] = []
        self._out: IO[bytes] | None = None
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._out = file.open("xb")

    def record(self, record: Record) -> None:
        """Appends."""
        kind = type(record)
        self._records[kind].append(record)
        if self._out is not None:
            self._lines.append(b'["%b",%b]\n' % (kind.__name__.encode(), to_json(record)))
            if len(self._lines) >= _FLUSH_EVERY:
                self.flush()

    def of(self, kind: type[R]) -> Sequence[R]:
        """All records of a kind so far."""
        return cast("Sequence[R]", self._records[kind])

    def fault(self, what: str) -> None:
        """Notes what was done to the stack, now."""
        self.record(Fault(at=self.now(), what=what))

    def leaks(self, place: str, data: bytes, allowed: str | None = None) -> None:
        """Notes every canary word in the data, but for the one that may be there."""
        for word in set(CANARY.findall(data)):
            if word.decode() != allowed:
                self.record(Leak(at=self.now(), word=word.decode(), place=place))

    def flush(self) -> None:
        """Writes what waits to the file."""
        if self._out is not None:
            self._out.write(b"".join(self._lines))
            self._out.flush()
        self._lines.clear()

    def close(self) -> None:
        """Ends the file."""
        self.flush()
        if self._out is not None:
            self._out.close()
            self._out = None


def read(file: Path) -> Ledger:
    """The ledger that a run has kept."""
    ledger = Ledger()
    adapters = {name: TypeAdapter(kind) for name, kind in _KINDS.items()}
    with file.open("rb") as lines:
        for line in lines:
            name, fields = json.loads(line)
            ledger.record(adapters[name].validate_python(fields))
    return ledger
