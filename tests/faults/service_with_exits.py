"""The messaging service with a step at which its process ends: `os._exit`, again and again.

    FAULT_EXITS_STEP=committed FAULT_EXITS_COUNT=200 FAULT_EXITS_SEED=1 FAULT_EXITS_LOG=exits \
        python -m tests.faults.service_with_exits

The process starts a child for each life of the service and a new one when it has
ended at its step, so that a life costs no start of the interpreter. Each child
runs `service.__main__` as it is, with one method of one class wrapped. After the
last exit the next child lives like any other.

Runs in the place of the service, and so is the one module of the fault suite that imports it.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import random
import signal
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import mqtt5

from bridge.inbound import Inbound
from bridge.session import Delivery, Session
from bridge.socket import LinkSocket
from service.__main__ import main as serve
from service.domain.conversation import Conversation
from service.storage.batches import PostgresBatchWriter
from service.storage.direct import DirectConnection
from service.use_cases.authorize import Authorize

EXIT_STATUS = 86
"""Of a child that ended at its step."""
_LONGEST_LIFE = 40
"""A child ends at a passage of its step from the first to this one, by chance."""
_PR_SET_PDEATHSIG = 1
_STOPS = (signal.SIGTERM, signal.SIGINT)


class Step(StrEnum):
    """How far a `sendMessage` has come when the process ends."""

    RECEIVED = "received"
    """Read from the socket."""
    AUTHORIZED = "authorized"
    """Sender and recipient are connected, the conversation exists."""
    INSERTED = "inserted"
    """The statement has been sent to PostgreSQL, and its answer has not been read."""
    COMMITTED = "committed"
    """PostgreSQL has said so, and nothing has been published."""
    PUBLISHED = "published"
    """The broker has confirmed the publication, and the command is not acknowledged."""
    ACKNOWLEDGED = "acknowledged"
    """The PUBACK is written."""


class Countdown:
    """Ends the process at the nth passage."""

    def __init__(self, passages: int) -> None:
        self._left = passages

    def passed(self) -> bool:
        """Counts a passage; whether it is the last one."""
        self._left -= 1
        return self._left == 0

    def passage(self) -> None:
        """Counts a passage, and does not return from the last one."""
        if self.passed():
            _end()


def _end() -> NoReturn:
    os._exit(EXIT_STATUS)


def wrap_received(countdown: Countdown) -> None:
    """Ends before anything is done with what was read."""
    take = Inbound.take

    @functools.wraps(take)
    def wrapped(self: Inbound, deliveries: Any) -> None:
        for delivery in deliveries:
            if _is_send(delivery):
                countdown.passage()
        take(self, deliveries)

    _replace(Inbound, "take", wrapped)


def wrap_authorized(countdown: Countdown) -> None:
    """Ends when either way of deciding has let a message pass."""
    known, decide = Authorize.known, Authorize.decide

    @functools.wraps(known)
    def wrapped_known(self: Authorize, *args: Any) -> Any:
        decision = known(self, *args)
        if isinstance(decision, Conversation):
            countdown.passage()
        return decision

    @functools.wraps(decide)
    async def wrapped_decide(self: Authorize, *args: Any) -> Conversation:
        conversation = await decide(self, *args)
        countdown.passage()
        return conversation

    _replace(Authorize, "known", wrapped_known)
    _replace(Authorize, "decide", wrapped_decide)


def wrap_inserted(countdown: Countdown) -> None:
    """Ends when libpq has written a statement that appends."""
    run = DirectConnection._run

    @functools.wraps(run)
    async def wrapped(self: DirectConnection, pgconn: Any, statement: str, parameters: Any) -> Any:
        running = asyncio.ensure_future(run(self, pgconn, statement, parameters))
        # It goes on to where it waits for the answer; what the socket takes is written then.
        await asyncio.sleep(0)
        if statement.startswith("append"):
            countdown.passage()
        try:
            return await running
        finally:
            running.cancel()

    _replace(DirectConnection, "_run", wrapped)


def wrap_committed(countdown: Countdown) -> None:
    """Ends between the commit and the delivery of its results."""
    append = PostgresBatchWriter.append

    @functools.wraps(append)
    async def wrapped(self: PostgresBatchWriter, drafts: Any) -> Any:
        rows = await append(self, drafts)
        countdown.passage()
        return rows

    _replace(PostgresBatchWriter, "append", wrapped)


def wrap_published(countdown: Countdown) -> None:
    """Ends when a `sendMessage` has all that it needs to be acknowledged."""
    acknowledge = Session.acknowledge

    @functools.wraps(acknowledge)
    def wrapped(self: Session, delivery: Delivery) -> None:
        if _is_send(delivery):
            countdown.passage()
        acknowledge(self, delivery)

    _replace(Session, "acknowledge", wrapped)


def wrap_acknowledged(countdown: Countdown) -> None:
    """Ends when the kernel has a PUBACK to the broker."""
    write = LinkSocket.write

    @functools.wraps(write)
    def wrapped(self: LinkSocket, data: bytes) -> None:
        write(self, data)
        if _acknowledges(data) and countdown.passed():
            _end_when_written(self)

    _replace(LinkSocket, "write", wrapped)


def _end_when_written(link: LinkSocket) -> None:
    """The event loop writes in a later turn."""
    transport = link._transport
    if transport is None or transport.is_closing() or not transport.get_write_buffer_size():
        _end()
    asyncio.get_running_loop().call_soon(_end_when_written, link)


def _is_send(delivery: Delivery) -> bool:
    return delivery.topic.endswith("/sendMessage")


def _acknowledges(data: bytes) -> bool:
    """Whether there is a PUBACK among these whole packets."""
    view, at = memoryview(data), 0
    while at < len(data):
        packet, size = mqtt5.read(view[at:])
        if isinstance(packet, mqtt5.PubAckPacket):
            return True
        at += size
    return False


def _replace(owner: type, name: str, method: Callable[..., Any]) -> None:
    setattr(owner, name, method)


_WRAPS: Mapping[Step, Callable[[Countdown], None]] = {
    Step.RECEIVED: wrap_received,
    Step.AUTHORIZED: wrap_authorized,
    Step.INSERTED: wrap_inserted,
    Step.COMMITTED: wrap_committed,
    Step.PUBLISHED: wrap_published,
    Step.ACKNOWLEDGED: wrap_acknowledged,
}


class Lives:
    """One child after the other; `run` returns the status to end with."""

    def __init__(self, step: Step, exits: int, chance: random.Random, log: Path) -> None:
        self._step = step
        self._exits = exits
        self._chance = chance
        self._log = log
        self._child = 0
        self._stopping = False

    def run(self) -> int:
        """Until a child ends in another way than at its step; a SIGTERM is passed on."""
        for number in _STOPS:
            signal.signal(number, self._stop)
        for life in range(1, self._exits + 1):
            passages = self._chance.randint(1, _LONGEST_LIFE)
            status = self._live(passages)
            if status != EXIT_STATUS:
                return status
            with self._log.open("a") as log:
                log.write(f"{life} {self._step} {passages}\n")
        return self._live(None)

    def _live(self, passages: int | None) -> int:
        """One life; its exit status, 0 if it was not to begin any more."""
        # Whoever is told to stop has a child to tell, or starts none.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        self._child = 0 if self._stopping else os.fork()
        if not self._child and not self._stopping:
            self._be_child(passages)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        if not self._child:
            return 0
        _, status = os.waitpid(self._child, 0)
        self._child = 0
        return os.waitstatus_to_exitcode(status)

    def _be_child(self, passages: int | None) -> NoReturn:
        _die_with_parent()
        for number in _STOPS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        if passages is not None:
            _WRAPS[self._step](Countdown(passages))
        sys.exit(serve())

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if self._child:
            os.kill(self._child, number)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    """Reads what is asked for from the environment."""
    environment = os.environ
    return Lives(
        Step(environment["FAULT_EXITS_STEP"]),
        int(environment["FAULT_EXITS_COUNT"]),
        random.Random(environment["FAULT_EXITS_SEED"]),
        Path(environment["FAULT_EXITS_LOG"]),
    ).run()


if __name__ == "__main__":
    sys.exit(main())
