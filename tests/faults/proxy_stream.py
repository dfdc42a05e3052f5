"""One direction of one connection through the fault proxy."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.proxy_frames import DropRule, Frames

_READ_BYTES = 65_536
_WAITING_BYTES = 65_536
_LATE_BYTES = 4 * 1024 * 1024
"""A link with latency carries that much at a time."""
_PIECES_PER_S = 20
"""Into so many portions a limited rate is cut."""
_SMALL_BUFFER = 4_096
"""The kernel takes twice that."""


def _opened() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def _punctual() -> float:
    return 0.0


@dataclass(slots=True)
class Slicing:
    """A few bytes at a time, for so many writes a second; reads beyond that pass whole.

    Each write costs some 20 us: with more of them the proxy would be another fault, an overload.
    """

    slice_bytes: int
    writes_per_s: float
    _left: float = field(init=False)
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._left, self._at = self.writes_per_s, time.monotonic()

    def affords(self, n: int) -> bool:
        """Whether `n` bytes are to be cut."""
        now = time.monotonic()
        self._left = min(self.writes_per_s, self._left + (now - self._at) * self.writes_per_s)
        self._at = now
        writes = n / self.slice_bytes
        if writes > self._left:
            return False
        self._left -= writes
        return True


@dataclass(slots=True)
class Conditions:
    """What befalls one direction of all connections."""

    open: asyncio.Event = field(default_factory=_opened)
    """Not set: nothing passes."""
    swallows: bool = False
    lateness: Callable[[], float] = _punctual
    """Asked for each read, in seconds."""
    slicing: Slicing | None = None
    bytes_per_s: float | None = None
    drop: DropRule | None = None

    def heal(self) -> None:
        """As in the beginning."""
        self.open.set()
        self.swallows = False
        self.lateness = _punctual
        self.slicing = self.bytes_per_s = self.drop = None

    @property
    def piece_bytes(self) -> int:
        """How much the rate lets pass at a time."""
        return _READ_BYTES if self.bytes_per_s is None else max(1, int(self.bytes_per_s / _PIECES_PER_S))

    @property
    def most_waiting(self) -> int:
        """How many bytes may wait here."""
        if self.bytes_per_s is not None:
            return self.piece_bytes
        return _WAITING_BYTES if self.lateness is _punctual else _LATE_BYTES


class ResetDue(Exception):
    """The bytes after which the connection is to be reset have been carried."""


class Stream:
    """Carries what `source` says to `sink`, as the conditions permit."""

    def __init__(self, source: socket.socket, sink: socket.socket, conditions: Conditions) -> None:
        self._source = source
        self._sink = sink
        self._conditions = conditions
        self._frames: Frames | None = None
        self._protocol_known = asyncio.Event()
        self.has_hole = False
        """Whether something was swallowed that TCP would have brought."""
        self._waiting: deque[tuple[float, bytes]] = deque()
        """When each is to be written, and what; nothing is the end."""
        self._waiting_bytes = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._until_reset: int | None = None
        self._buffer = source.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        if conditions.bytes_per_s is not None:
            self.shrink_buffer()

    def shrink_buffer(self) -> None:
        """From now on the kernel keeps little of what the source says."""
        self._source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)

    def restore_buffer(self) -> None:
        """The kernel keeps as much again as in the beginning."""
        # It doubles what it is given.
        self._source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer // 2)

    def reset_in(self, n: int | None) -> None:
        """`run` raises `ResetDue` when `n` more bytes are written; None: it does not any more."""
        self._until_reset = n

    def understand(self, frames: Frames | None) -> None:
        """Says where frames begin; nothing passes before, because later nobody could tell."""
        self._frames = frames
        self._protocol_known.set()

    def inject(self, frame: bytes) -> None:
        """Has a frame of our own written between two others."""
        assert self._frames is not None
        self._put(self._frames.inject(frame))

    async def run(self, on_first: Callable[[bytes], None] | None = None) -> None:
        """Returns when the source has ended and the sink knows.

        `on_first` gets what is read first and must see to it that `understand` is called.
        Raises `OSError` when a side is lost.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(on_first))
            tasks.create_task(self._write())

    async def _read(self, on_first: Callable[[bytes], None] | None) -> None:
        loop, conditions = asyncio.get_running_loop(), self._conditions
        while True:
            data = await loop.sock_recv(self._source, min(_READ_BYTES, conditions.most_waiting))
            if on_first is not None:
                on_first(data)
                on_first = None
            await conditions.open.wait()
            if conditions.swallows:
                self.has_hole = True
                if not data:
                    # The other side does not hear of the end either, until it is reset.
                    await loop.create_future()
                continue
            await self._protocol_known.wait()
            if not data:
                break
            self._put(data if self._frames is None else self._frames.feed(data))
            while self._waiting_bytes >= conditions.most_waiting:
                self._emptied.clear()
                await self._emptied.wait()
        self._waiting.append((0.0, b""))
        self._filled.set()

    def _put(self, data: bytes) -> None:
        if not data:
            return
        due = asyncio.get_running_loop().time() + self._conditions.lateness()
        if self._waiting:
            due = max(due, self._waiting[-1][0])
        self._waiting.append((due, data))
        self._waiting_bytes += len(data)
        self._filled.set()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            due, data = self._waiting[0]
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not data:
                self._sink.shutdown(socket.SHUT_WR)
                return
            await self._send(memoryview(data))
            self._waiting.popleft()
            self._waiting_bytes -= len(data)
            self._emptied.set()

    async def _send(self, data: memoryview) -> None:
        loop, conditions = asyncio.get_running_loop(), self._conditions
        slicing = conditions.slicing
        if slicing is not None and not slicing.affords(len(data)):
            slicing = None
        while data:
            piece = data[: conditions.piece_bytes if slicing is None else slicing.slice_bytes]
            if self._until_reset is not None:
                piece = piece[: self._until_reset]
                self._until_reset -= len(piece)
            await loop.sock_sendall(self._sink, piece)
            if self._until_reset == 0:
                raise ResetDue
            data = data[len(piece) :]
            if conditions.bytes_per_s is not None:
                await asyncio.sleep(len(piece) / conditions.bytes_per_s)
            elif slicing is not None:
                # Else the kernel of a busy machine hands several to the reader at once.
                await asyncio.sleep(0)
