"""Frames on their way through the fault proxy: where each begins, and which are lost.

A frame is judged by its header, and its body is passed on or swallowed as it
comes: nothing but a header that is not whole is ever held back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum

from loadtests.driver.grpc_reader import frame


class Kind(StrEnum):
    """What can be dropped."""

    PUBACK = "PUBACK"
    """Of MQTT over TCP."""
    GRPC_ANSWER = "gRPC answer"
    """Everything that an HTTP/2 server says on one stream: its caller runs into the deadline."""


@dataclass(slots=True)
class DropRule:
    """Every `every`th of a kind is lost; one rule counts for all connections of its direction."""

    kind: Kind
    every: int
    seen: int = 0
    dropped: int = 0

    def takes(self) -> bool:
        """Whether the one that has just come is lost."""
        self.seen += 1
        if self.seen % self.every:
            return False
        self.dropped += 1
        return True


CurrentRule = Callable[[], DropRule | None]


class Frames(ABC):
    """One direction of one connection, cut into frames."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0
        """Bytes of the frame under way that are still to come."""
        self._keeping = True
        self._injected = bytearray()

    @abstractmethod
    def judge(self, header: bytes) -> tuple[int, bytes | None] | None:
        """Size of the body, and the header to pass on, or None to swallow the frame.

        None in the place of both: the header is not whole yet.
        """

    def ended(self) -> bytes:
        """What is to be added to the body of a frame that is passed on."""
        return b""

    def inject(self, own: bytes) -> bytes:
        """Takes in a frame of our own; returns it when it can be written now, else nothing.

        What could not be written then is in what `feed` returns, behind the frame under way.
        """
        if self._left or self._header:
            self._injected += own
            return b""
        return own

    def feed(self, data: bytes) -> bytes:
        """What of the data is to be passed on."""
        kept = bytearray()
        at = 0
        while at < len(data):
            if not self._left:
                self._header.append(data[at])
                at += 1
                verdict = self.judge(bytes(self._header))
                if verdict is None:
                    continue
                self._header.clear()
                self._left, header = verdict
                self._keeping = header is not None
                kept += header or b""
            body = data[at : at + self._left]
            at += len(body)
            self._left -= len(body)
            if self._keeping:
                kept += body
            if not self._left:
                kept += self.ended() if self._keeping else b""
                kept += self._injected
                self._injected.clear()
        return bytes(kept)


_PUBACK = 4
_CONTINUES = 0x80


class MqttFrames(Frames):
    """Control packets of MQTT over TCP."""

    def __init__(self, rule: CurrentRule) -> None:
        super().__init__()
        self._rule = rule

    def judge(self, header: bytes) -> tuple[int, bytes | None] | None:
        """See `Frames`: type and flags, then the length in groups of seven bits."""
        if len(header) == 1 or header[-1] & _CONTINUES:
            return None
        size = sum((byte & ~_CONTINUES) << 7 * place for place, byte in enumerate(header[1:]))
        rule = self._rule()
        lost = header[0] >> 4 == _PUBACK and rule is not None and rule.kind is Kind.PUBACK and rule.takes()
        return size, None if lost else header


_FRAME_HEADER = 9
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 8, 9
_ACK = _END_STREAM = 0x1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_NO_HEADER_TABLE = (1).to_bytes(2) + (0).to_bytes(4)
"""SETTINGS_HEADER_TABLE_SIZE = 0."""


class _Stage(Enum):
    PREFACE = 0
    BEFORE_SETTINGS = 1
    IN_SETTINGS = 2
    FRAMES = 3


class HttpClientFrames(Frames):
    """What an HTTP/2 client says. The server is made to believe that it keeps no table of headers.

    So no header block refers to one before, and any can be lost without the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stage = _Stage.PREFACE

    def judge(self, header: bytes) -> tuple[int, bytes | None] | None:
        """See `Frames`: the preface, which has no body, and then frames."""
        if self._stage is _Stage.PREFACE:
            if len(header) < len(PREFACE):
                return None
            self._stage = _Stage.BEFORE_SETTINGS
            return 0, header
        if len(header) < _FRAME_HEADER:
            return None
        size = int.from_bytes(header[:3])
        if self._stage is _Stage.BEFORE_SETTINGS:
            self._stage = _Stage.IN_SETTINGS
            header = (size + len(_NO_HEADER_TABLE)).to_bytes(3) + header[3:]
        return size, header

    def ended(self) -> bytes:
        """The setting, behind the client's own first ones: the last one counts."""
        if self._stage is not _Stage.IN_SETTINGS:
            return b""
        self._stage = _Stage.FRAMES
        return _NO_HEADER_TABLE


class HttpServerFrames(Frames):
    """What an HTTP/2 server says; `credit` gives it back the window that a swallowed body took."""

    def __init__(self, rule: CurrentRule, credit: Callable[[bytes], None]) -> None:
        super().__init__()
        self._rule = rule
        self._credit = credit
        self._open: set[int] = set()
        """Streams whose answer is passed on and has not ended."""
        self._lost: set[int] = set()
        """For good: a server may reset a stream that it has ended."""

    def judge(self, header: bytes) -> tuple[int, bytes | None] | None:
        """See `Frames`."""
        if len(header) < _FRAME_HEADER:
            return None
        size, kind, flags, stream = (
            int.from_bytes(header[:3]),
            header[3],
            header[4],
            int.from_bytes(header[5:9]),
        )
        if kind not in (_DATA, _HEADERS, _RST_STREAM, _CONTINUATION):
            return size, header
        if kind == _HEADERS and stream not in self._open and stream not in self._lost:
            rule = self._rule()
            is_lost = rule is not None and rule.kind is Kind.GRPC_ANSWER and rule.takes()
            (self._lost if is_lost else self._open).add(stream)
        is_lost = stream in self._lost
        if is_lost and kind == _DATA and size:
            self._credit(frame(_WINDOW_UPDATE, 0, 0, size.to_bytes(4)))
        if kind == _RST_STREAM or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
            self._open.discard(stream)
        return size, None if is_lost else header
