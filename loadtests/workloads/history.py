"""History: pages at random depth in a long conversation, by several readers who go round the instances."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from devstack.ports import LOOPBACK
from loadtests import seeding
from loadtests.driver.grpc_reader import CallFailed, GrpcReader
from loadtests.processes import CpuMeter
from loadtests.results import Run, Scale, percentile
from loadtests.stack import BenchStack
from proto.messaging.v1 import messaging_pb2 as pb
from service.domain.conversation import Conversation

_METHOD = "/messaging.v1.MessagingService/GetMessageHistory"
_EMPTY_METHOD = "/grpc.health.v1.Health/Check"
_PAGE = 50
_READERS = 8
_DECODE_EVERY = 50
_THIRDS = ("newest", "middle", "oldest")
_FULL = seeding.Seed(messages=5_000_000, conversations=4_901, long_messages=100_000)
_SMOKE = seeding.Seed(messages=20_000, conversations=21, long_messages=5_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """A page that the walk has seen: how to ask for it and what it must be."""

    request: bytes
    newest_seq: int
    size: int
    """Bytes of the response."""
    third: str


@dataclass(slots=True)
class _Tally:
    """What the readers measured."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {third: [] for third in _THIRDS})
    checks: Counter[str] = field(default_factory=Counter)


async def run(stack: BenchStack, scale: Scale) -> Run:
    """Readers in closed loops for ten seconds, after one walk that collects the cursors.

    Before it, the same readers call a method that does nothing: the limit of the gRPC library.
    """
    seeded = await seeding.ensure(stack.database_url, _SMOKE if scale.smoke else _FULL)
    conversation, length = seeded.conversations[0], seeded.messages[0]
    token = stack.token(conversation.participants[0])
    readers = await _connected(stack, _METHOD, token)
    tally = _Tally()
    pages = await _walk(readers[0], conversation, length, tally)
    await _read_all(readers, conversation, pages, _Tally(), seconds=0.2 if scale.smoke else 2.0)
    empty = await _empty_calls(stack, token, seconds=0.2 if scale.smoke else 4.0)
    meter = CpuMeter(stack.processes)
    meter.start()
    began = time.perf_counter()
    await _read_all(readers, conversation, pages, tally, seconds=0.5 if scale.smoke else 10.0)
    elapsed = time.perf_counter() - began
    cpu = meter.stop()
    for reader in readers:
        reader.close()
    count = max(1, sum(map(len, tally.seconds.values())))
    return Run(
        workload="history",
        figures={"pages_per_second": count / elapsed, **_latencies(tally), **empty},
        cpu_us={role: seconds * 1e6 / count for role, seconds in cpu.items()},
        checks={name: tally.checks[name] for name in ("errors", "wrong_pages", "missing_pages")},
    )


async def _connected(stack: BenchStack, method: str, token: str) -> Sequence[GrpcReader]:
    ports = itertools.islice(itertools.cycle(stack.grpc_ports), _READERS)
    return [await GrpcReader.connect(LOOPBACK, port, method, token) for port in ports]


async def _empty_calls(stack: BenchStack, token: str, *, seconds: float) -> dict[str, float]:
    """Calls in which nothing is done: how many a second, how long, and what one costs the instances."""
    readers = await _connected(stack, _EMPTY_METHOD, token)
    latencies: list[float] = []
    clock = time.perf_counter
    meter = CpuMeter(stack.processes)
    meter.start()
    began = clock()

    async def call_on(reader: GrpcReader) -> None:
        while (now := clock()) < began + seconds:
            await reader.call(b"")
            latencies.append(clock() - now)

    await asyncio.gather(*map(call_on, readers))
    elapsed, cpu = clock() - began, meter.stop()
    for reader in readers:
        reader.close()
    return {
        "empty_calls_per_second": len(latencies) / elapsed,
        "empty_call_p95_ms": percentile(sorted(latencies), 0.95) * 1e3,
        "empty_call_cpu_us": (cpu["service"] + cpu["standby"]) * 1e6 / len(latencies),
    }


async def _walk(
    reader: GrpcReader, conversation: Conversation, length: int, tally: _Tally
) -> Sequence[_Page]:
    """Walks the conversation from its newest to its first message and checks every page."""
    pages: list[_Page] = []
    newest_seq, cursor = length, ""
    while newest_seq > 0:
        request = pb.GetMessageHistoryRequest(
            conversation_id=str(conversation.id), page_size=_PAGE, cursor=cursor
        ).SerializeToString()
        answer = await reader.call(request)
        tally.checks["wrong_pages"] += not _is_right(answer, conversation, newest_seq)
        third = _THIRDS[(length - newest_seq) * 3 // length]
        pages.append(_Page(request=request, newest_seq=newest_seq, size=len(answer), third=third))
        cursor = pb.GetMessageHistoryResponse.FromString(answer).next_cursor
        newest_seq -= _PAGE
        if bool(cursor) != (newest_seq > 0):
            tally.checks["missing_pages"] += 1
            break
    return pages


async def _read_all(
    readers: Sequence[GrpcReader],
    conversation: Conversation,
    pages: Sequence[_Page],
    tally: _Tally,
    *,
    seconds: float,
) -> None:
    until = time.perf_counter() + seconds
    await asyncio.gather(
        *(
            _read(reader, conversation, pages, tally, until, random.Random(number))
            for number, reader in enumerate(readers)
        )
    )


async def _read(
    reader: GrpcReader,
    conversation: Conversation,
    pages: Sequence[_Page],
    tally: _Tally,
    until: float,
    chance: random.Random,
) -> None:
    """One reader's loop: every answer must have the length that the walk saw, and some are decoded."""
    clock, choice = time.perf_counter, chance.choice
    read = 0
    now = clock()
    while now < until:
        page = choice(pages)
        began = clock()
        try:
            answer = await reader.call(page.request)
        except CallFailed:
            tally.checks["errors"] += 1
            # A failed connection fails at once and for ever; the others must go on.
            await asyncio.sleep(0)
            now = clock()
            continue
        now = clock()
        tally.seconds[page.third].append(now - began)
        read += 1
        if len(answer) != page.size or (
            read % _DECODE_EVERY == 0 and not _is_right(answer, conversation, page.newest_seq)
        ):
            tally.checks["wrong_pages"] += 1


def _is_right(answer: bytes, conversation: Conversation, newest_seq: int) -> bool:
    """Whether the page holds the messages from `newest_seq` downwards, as they were seeded."""
    messages = pb.GetMessageHistoryResponse.FromString(answer).messages
    expected = range(newest_seq, max(0, newest_seq - _PAGE), -1)
    return len(messages) == len(expected) and all(
        message.seq == seq
        and message.text == seeding.text_of(seq)
        and message.sender_id == seeding.sender_of(conversation, seq)
        and message.conversation_id == str(conversation.id)
        for message, seq in zip(messages, expected, strict=True)
    )


def _latencies(tally: _Tally) -> dict[str, float]:
    ordered = {third: sorted(seconds) for third, seconds in tally.seconds.items()}
    together = sorted(seconds for values in ordered.values() for seconds in values)
    figures = {f"p{percent}_ms": percentile(together, percent / 100) * 1e3 for percent in (50, 95, 99)}
    for third, values in ordered.items():
        figures[f"{third}_p95_ms"] = percentile(values, 0.95) * 1e3
    return figures
