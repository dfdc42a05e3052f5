"""Faults of the network, on every edge: lost, late, cut in pieces, cut off."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from tests.faults.arena import Arena
from tests.faults.proxy import Direction, FaultProxy, Kind
from tests.faults.scenario import Edge, Scenario
from tests.faults.scenarios_redis import SHORT_MEMORY

_GETS_THROUGH_S = 10.0
"""On a bad network that still carries everything, every pair gets through within this time."""
_LATENCY_S, _JITTER_S = 0.2, 0.1
_DROPPED_EVERY = {Kind.PUBACK: 10, Kind.GRPC_ANSWER: 3}

_REFUSALS: Mapping[Edge, frozenset[str]] = {
    Edge.CLIENT_BROKER: frozenset(),
    Edge.BROKER_SERVICE: frozenset({"BUSY"}),
    Edge.SERVICE_POSTGRESQL: frozenset({"STORAGE_UNAVAILABLE", "BUSY"}),
    Edge.SERVICE_REDIS: frozenset(),
    Edge.SERVICE_CONNECTIONS: frozenset({"AUTHORIZATION_UNAVAILABLE", "BUSY"}),
}
"""What users may be told while an edge is in trouble; without Redis everything is only slower."""
_REMEMBERED_BRIEFLY = (Edge.SERVICE_REDIS, Edge.SERVICE_CONNECTIONS)


async def cut(arena: Arena, edge: Edge) -> None:
    """Every connection reset, new ones refused."""
    async with _harmed(arena, edge, "cut") as proxies:
        for proxy in proxies:
            proxy.cut()
        arena.note("cuts")
        await arena.pause(_seconds(arena))


async def cut_one_way(arena: Arena, edge: Edge) -> None:
    """One way nothing arrives, and then the other way; connections stay, and go on afterwards."""
    for direction in (Direction.TO_SERVER, Direction.TO_CLIENT):
        async with _harmed(arena, edge, f"cut {direction.name}") as proxies:
            for proxy in proxies:
                proxy.hold(direction)
            arena.note("cuts")
            await arena.pause(_seconds(arena))
        await arena.pause(1.0)


async def black_hole(arena: Arena, edge: Edge) -> None:
    """Connections are accepted and stay open, and what is said is swallowed."""
    directions = (Direction.BOTH,) if arena.short else (Direction.BOTH, *Direction.BOTH)
    for direction in directions:
        async with _harmed(arena, edge, f"black hole {direction.name}") as proxies:
            for proxy in proxies:
                proxy.black_hole(direction)
            arena.note("black holes")
            await arena.pause(_seconds(arena))
        if direction is not directions[-1]:
            await arena.pause(3.0)


async def late(arena: Arena, edge: Edge) -> None:
    """200 ms of latency each way, give or take 100."""
    async with _harmed(arena, edge, "late") as proxies:
        for proxy in proxies:
            proxy.delay(_LATENCY_S, _JITTER_S, chance=arena.random)
        # Answers about connections are given up before they can come: that fails closed.
        await _lasts(arena, everybody_gets_through=edge is not Edge.SERVICE_CONNECTIONS)


async def reset_and_late(arena: Arena, edge: Edge) -> None:
    """Every connection reset, and each that is made in its place late: it is many round trips."""
    async with _harmed(arena, edge, "reset and late") as proxies:
        for proxy in proxies:
            proxy.delay(_LATENCY_S, _JITTER_S, chance=arena.random)
            arena.note("resets", proxy.open_connections)
            proxy.reset()
        await _lasts(arena, everybody_gets_through=True)


async def reset(arena: Arena, edge: Edge) -> None:
    """Every connection reset in the middle of what it says, again and again."""
    async with _harmed(arena, edge, "resets") as proxies:
        for _ in range(4 if arena.short else 20):
            direction = arena.random.choice((Direction.TO_SERVER, Direction.TO_CLIENT))
            for proxy in proxies:
                arena.note("resets", proxy.open_connections)
                proxy.reset_in(arena.random.randrange(1, 2_000), direction)
            await arena.pause(arena.random.uniform(0.2, 0.8))


async def sliced(arena: Arena, edge: Edge) -> None:
    """A byte at a time."""
    async with _harmed(arena, edge, "slices") as proxies:
        for proxy in proxies:
            proxy.slice(1)
        await _lasts(arena, everybody_gets_through=True)


async def dropped(arena: Arena, edge: Edge, kind: Kind, direction: Direction) -> None:
    """Every nth of a kind is lost."""
    async with _harmed(arena, edge, f"{kind} dropped {direction.name}") as proxies:
        for proxy in proxies:
            proxy.drop_every(_DROPPED_EVERY[kind], kind, direction)
        await _lasts(arena, everybody_gets_through=kind is Kind.GRPC_ANSWER)
        taken = sum(proxy.dropped for proxy in proxies)
        arena.note(f"{kind}s dropped", taken)
        if not taken:
            raise RuntimeError(f"there was no {kind} to drop")
    if direction is Direction.TO_SERVER:
        # Only with the connection's end the broker delivers again what it holds for unacknowledged.
        for proxy in proxies:
            proxy.reset()


@asynccontextmanager
async def _harmed(arena: Arena, edge: Edge, what: str) -> AsyncIterator[Sequence[FaultProxy]]:
    """Heals the edge at the end, and holds what users were told meanwhile to what the edge permits."""
    began, proxies = arena.ledger.now(), arena.proxies[edge]
    arena.ledger.fault(f"{edge}: {what}")
    try:
        yield proxies
    finally:
        for proxy in proxies:
            proxy.heal()
        arena.ledger.fault(f"{edge}: healed")
    unexpected = arena.load.refusals(since=began).keys() - _REFUSALS[edge]
    if unexpected and not arena.combined:
        arena.violate("I7", f"{edge}, {what}: users were told {', '.join(sorted(unexpected))}")


async def _lasts(arena: Arena, *, everybody_gets_through: bool) -> None:
    """Lets the fault last, in the second case until every pair has got through it."""
    began = arena.ledger.now()
    await arena.pause(_seconds(arena))
    if everybody_gets_through and not arena.combined:
        try:
            await arena.until(lambda: not arena.load.not_recovered(began), _GETS_THROUGH_S)
        except TimeoutError:
            late_ones = arena.load.not_recovered(began)
            arena.violate("I7", f"{len(late_ones)} users did not get through a bad network")


def _seconds(arena: Arena) -> float:
    return 1.5 if arena.short else 10.0


@dataclass(frozen=True, slots=True)
class _Harm:
    """One kind of harm, for every edge."""

    name: str
    run: Callable[[Arena, Edge], Awaitable[None]]
    words: str


_HARMS = (
    _Harm("cut", cut, "cut for 10 s"),
    _Harm("cut-one-way", cut_one_way, "cut one way for 10 s, then the other way"),
    _Harm("black-hole", black_hole, "a black hole for 10 s"),
    _Harm("late", late, "200 ms of latency with jitter"),
    _Harm("reset", reset, "connections reset in mid-frame"),
    _Harm("sliced", sliced, "slices of one byte"),
)


_IN_SHORT = {
    Edge.CLIENT_BROKER: {"cut", "reset", "sliced"},
    Edge.BROKER_SERVICE: {"cut-one-way", "late", "reset"},
    Edge.SERVICE_POSTGRESQL: {"black-hole", "late", "reset", "reset-and-late"},
    Edge.SERVICE_REDIS: {"cut", "late"},
    Edge.SERVICE_CONNECTIONS: {"cut", "late"},
}
"""Each harm on some edge and each edge with some harm; the long run has every harm on every edge."""
_DROPS = {"pubacks-of-broker-dropped", "pubacks-of-service-dropped", "answers-dropped"}


def _scenario(name: str, edge: Edge, harm: Callable[[Arena, Edge], Awaitable[None]], words: str) -> Scenario:
    async def run(arena: Arena) -> None:
        await harm(arena, edge)

    return Scenario(
        name=f"{edge}-{name}",
        run=run,
        fault=f"{edge}: {words}",
        edges=frozenset({edge}),
        in_short=name in _IN_SHORT[edge] | _DROPS,
        settings=SHORT_MEMORY if edge in _REMEMBERED_BRIEFLY else {},
    )


SCENARIOS: tuple[Scenario, ...] = (
    *(_scenario(harm.name, edge, harm.run, harm.words) for edge in Edge for harm in _HARMS),
    _scenario(
        "reset-and-late",
        Edge.SERVICE_POSTGRESQL,
        reset_and_late,
        "all connections reset, new ones with 200 ms of latency",
    ),
    _scenario(
        "pubacks-of-broker-dropped",
        Edge.BROKER_SERVICE,
        partial(dropped, kind=Kind.PUBACK, direction=Direction.TO_CLIENT),
        "every 10th PUBACK of the broker dropped",
    ),
    _scenario(
        "pubacks-of-service-dropped",
        Edge.BROKER_SERVICE,
        partial(dropped, kind=Kind.PUBACK, direction=Direction.TO_SERVER),
        "every 10th PUBACK of the service dropped",
    ),
    _scenario(
        "answers-dropped",
        Edge.SERVICE_CONNECTIONS,
        partial(dropped, kind=Kind.GRPC_ANSWER, direction=Direction.TO_CLIENT),
        "every 3rd gRPC answer dropped",
    ),
)
