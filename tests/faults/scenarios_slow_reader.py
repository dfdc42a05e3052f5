"""One user who reads at 64 kbit/s while everybody else goes on."""

from __future__ import annotations

import asyncio
import resource
from dataclasses import replace
from pathlib import Path
from statistics import quantiles

from devstack.server_process import ServerProcess
from tests.faults.arena import Arena
from tests.faults.clients import User
from tests.faults.ledger import Attempt, Sent
from tests.faults.load import Pair
from tests.faults.proxy import Direction, FaultProxy
from tests.faults.scenario import Scenario

_BYTES_PER_S = 64_000 / 8
_WRITTEN_PER_S, _PAUSE_S = 150.0, 0.02
"""To the slow one; ten times what it can read."""
_QUEUE_LIMITS = {"max_queued_messages": "500"}
"""Of the broker, low enough to be reached within the scenario, beside what is in flight."""
_MOST_GROWTH_BYTES = 16 * 1024 * 1024
_UNCHANGED_FACTOR, _UNCHANGED_S = 1.5, 0.05
"""What the neighbours' 99th percentile may gain; a second of noise on a small machine moves it that far."""


async def slow_reader(arena: Arena) -> None:
    """Its queue fills to the broker's limit; nobody else notices, no process grows, it catches up later."""
    async with FaultProxy(arena.servers.mosquitto.websocket_port) as proxy:
        pair = await _new_pair(arena, proxy)
        writing = asyncio.create_task(_write(arena, pair.second))
        try:
            await _compare(arena, pair, proxy)
        finally:
            writing.cancel()
        for user in pair.users:
            user.writing = False
        await arena.until(lambda: all(user.is_settled for user in pair.users), 10.0, "it catches up")


async def _compare(arena: Arena, pair: Pair, proxy: FaultProxy) -> None:
    """The neighbours, with the same load, beside a fast reader and beside a slow one."""
    processes = (arena.servers.mosquitto, arena.service.process)
    window = 5.0 if arena.short else 15.0
    await arena.pause(2.0)
    before = await _neighbours_p99(arena, pair, window)
    sizes = [_resident_bytes(process) for process in processes]
    proxy.rate(_BYTES_PER_S, Direction.TO_CLIENT)
    arena.ledger.fault("one user reads at 64 kbit/s")
    during = await _neighbours_p99(arena, pair, window)
    await arena.until(lambda: _is_full(arena, pair.first), 30.0, "the slow reader's queue is full")
    await arena.pause(window)
    for process, size in zip(processes, sizes, strict=True):
        _has_not_grown(arena, process, size)
    _is_unchanged(arena, before, during)
    proxy.heal()
    arena.ledger.fault("it reads as fast as it can again")


async def _write(arena: Arena, user: User) -> None:
    """More than a user of the load would."""
    while True:
        await arena.pause(_PAUSE_S)
        for _ in range(round(_WRITTEN_PER_S * _PAUSE_S)):
            user.write()


async def _new_pair(arena: Arena, proxy: FaultProxy) -> Pair:
    """Somebody, and somebody behind the proxy; returns when they have heard of each other."""
    made = arena.load.new_pair("slow", per_second=1.0)
    profile = replace(made.first.profile, websocket=True, keeps_session=False)
    broker = arena.servers.mosquitto
    slow = User(
        profile,
        arena.ledger,
        arena.load.tokens,
        arena.random,
        # The run goes on when the proxy has ended.
        lambda: proxy.listen_port if proxy.is_open else broker.websocket_port,
    )
    pair = arena.load.pairs[-1] = Pair(slow, made.second, connected=True)
    await arena.connect(pair)
    for user in pair.users:
        arena.load.add(user)
        user.writing = True
    await arena.until(lambda: not arena.load.not_recovered(0.0), 10.0, "the pair writes")
    return pair


async def _neighbours_p99(arena: Arena, pair: Pair, seconds: float) -> float:
    """From the first attempt to its `messageSent`, of everybody else's messages of the next seconds."""
    began = arena.ledger.now()
    await arena.pause(seconds)
    ended = arena.ledger.now()
    await arena.pause(1.0)
    answered: dict[str, float] = {}
    for answer in arena.ledger.of(Sent):
        answered.setdefault(answer.message.key, answer.at)
    neighbours = {user.name for each in arena.load.pairs if each.connected for user in each.users}
    neighbours -= set(pair.names)
    times = [
        answered.get(attempt.key, arena.ledger.now()) - attempt.at
        for attempt in arena.ledger.of(Attempt)
        if began <= attempt.at < ended and attempt.number == 1 and attempt.user in neighbours
    ]
    return quantiles(times, n=100)[98]


def _is_full(arena: Arena, user: User) -> bool:
    """Whether the broker has said that it drops what is for the user's device."""
    dropped = f"dropped for client {user.name}:{user.profile.device}"
    return dropped.encode() in arena.servers.mosquitto.log_file.read_bytes()


def _has_not_grown(arena: Arena, process: ServerProcess, before: int) -> None:
    grown = _resident_bytes(process) - before
    arena.measure(f"KiB by which {process.name} grew", grown // 1024)
    if grown > _MOST_GROWTH_BYTES:
        arena.violate("I7", f"{process.name} grew by {grown // 1024} KiB for one slow reader")


def _is_unchanged(arena: Arena, before: float, during: float) -> None:
    arena.measure("us at the neighbours' p99 before", round(before * 1e6))
    arena.measure("us at the neighbours' p99 meanwhile", round(during * 1e6))
    if during > before * _UNCHANGED_FACTOR + _UNCHANGED_S:
        arena.violate("I7", f"the neighbours' p99 went from {before:.3f} to {during:.3f} s")


def _resident_bytes(process: ServerProcess) -> int:
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="slow-reader",
        run=slow_reader,
        fault="one user reads at 64 kbit/s",
        broker=_QUEUE_LIMITS,
        in_short=False,
        alone=True,
    ),
)
