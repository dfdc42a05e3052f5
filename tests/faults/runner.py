"""Runs scenarios in an arena: load, fault, recovery, quiet, everything read once more, the verdict."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from devstack.python_server import REPOSITORY
from tests.faults import collect
from tests.faults.arena import Arena
from tests.faults.capabilities import missing
from tests.faults.checker import check
from tests.faults.ledger import Ledger
from tests.faults.load import STRANGERS_PER_SECOND, Load, Ports, Tokens
from tests.faults.outcome import ArenaOutcome, Outcome
from tests.faults.scenario import Layout, Scenario
from tests.faults.servers import Servers

ARTEFACTS = REPOSITORY / "test-artefacts" / "faults"
RECOVERY_S = 10.0
"""I7: within this time after the fault has ended every pair gets through again."""
_STRANGERS = 3
_SETTLE_S = 1.0
_QUIET_S = 20.0
_SHOWN = 20
"""Violations that are printed; all of them are in `violations.txt` of a failed run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run."""

    short: bool
    messages_per_second: float = 300.0
    say: Callable[[str], None]


async def run_arena(scenarios: Sequence[Scenario], seed: int, options: Options) -> ArenaOutcome:
    """Runs the scenarios one after the other under one load; they can share an arena."""
    possible = [scenario for scenario in scenarios if missing(scenario.needs) is None]
    outcomes = [
        Outcome(scenario=scenario, not_possible=missing(scenario.needs))
        for scenario in scenarios
        if scenario not in possible
    ]
    for outcome in outcomes:
        options.say(outcome.line())
    if not possible:
        return ArenaOutcome(outcomes=outcomes, seed=seed)
    folder = _new_folder()
    try:
        run = _Run(folder, seed, options)
        finished = await run.all(possible, outcomes)
        if finished.failed:
            run.keep(finished, "+".join(scenario.name for scenario in possible))
        return finished
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Run:
    """One arena from its first process to its verdict."""

    def __init__(self, folder: Path, seed: int, options: Options) -> None:
        self._folder = folder
        self._seed = seed
        self._options = options
        self._ledger = Ledger(folder / "ledger.jsonl")
        self._broken: list[str] = []
        self._complete = False
        """Whether everything was read afterwards: before that nothing can be called lost."""

    async def all(self, scenarios: Sequence[Scenario], before: Sequence[Outcome]) -> ArenaOutcome:
        """Never raises for what went wrong inside: that is a violation, too."""
        started = time.monotonic()
        outcomes = list(before)
        try:
            async with self._arena(_layout(scenarios)) as arena:
                await arena.pause(_SETTLE_S)
                for scenario in scenarios:
                    outcome = await self._one(arena, scenario)
                    outcomes.append(outcome)
                    self._options.say(outcome.line())
                await self._read_all(arena)
        except Exception as error:
            self._broken.append(f"the run broke off: {_words(error)}")
        self._ledger.close()
        verdict = await asyncio.to_thread(check, self._ledger) if self._complete else None
        return ArenaOutcome(
            outcomes=outcomes,
            seed=self._seed,
            acknowledged=verdict.acknowledged if verdict else 0,
            classes={kind.value: n for kind, n in sorted(verdict.classes.items())} if verdict else {},
            violations=[*self._broken, *(str(each) for each in (verdict.violations if verdict else ()))],
            seconds=time.monotonic() - started,
        )

    def keep(self, finished: ArenaOutcome, names: str) -> None:
        """Saves ledger, logs and what was found, for whoever looks for the reason."""
        place = ARTEFACTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{names[:80]}-{self._seed}"
        place.mkdir(parents=True)
        shutil.copy2(self._folder / "ledger.jsonl", place)
        for log in (self._folder / "logs").glob("*.log"):
            shutil.copy2(log, place)
        found = [
            *finished.violations,
            *(violation for outcome in finished.outcomes for violation in outcome.violations),
        ]
        (place / "violations.txt").write_text(f"seed {self._seed}\n" + "\n".join(found) + "\n")
        for violation in found[:_SHOWN]:
            self._options.say(f"  VIOLATION {violation}")
        kept = place.relative_to(REPOSITORY)
        self._options.say(f"  seed {self._seed}, {len(found)} violations; ledger and logs: {kept}")

    @asynccontextmanager
    async def _arena(self, layout: Layout) -> AsyncIterator[Arena]:
        chance = random.Random(self._seed)
        async with Servers(self._folder, layout) as servers:
            ports = Ports(lambda: servers.websocket_port, lambda: servers.mqtt_port)
            load = Load(self._ledger, Tokens(servers.jwt_secret), chance, ports)
            per_second = self._options.messages_per_second / (2 * layout.pairs)
            for number in range(layout.pairs):
                load.new_pair(f"pair-{number:02}", per_second=per_second)
            await servers.connections.connect([pair.names for pair in load.pairs])
            for number in range(_STRANGERS):
                load.new_pair(f"strangers-{number}", per_second=STRANGERS_PER_SECOND, connected=False)
            running = asyncio.create_task(load.run(), name="load")
            try:
                await load.start()
                yield Arena(
                    servers=servers,
                    load=load,
                    ledger=self._ledger,
                    random=chance,
                    short=self._options.short,
                )
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running

    async def _one(self, arena: Arena, scenario: Scenario) -> Outcome:
        """Fault and recovery of one scenario."""
        arena.counters, arena.measures, arena.violations = Counter(), {}, []
        before = arena.load.acknowledged()
        arena.load.forget_silence()
        self._ledger.fault(f"begin {scenario.name}")
        try:
            await scenario.run(arena)
        except Exception as error:
            arena.violations.append(f"{scenario.name} failed: {_words(error)}")
        self._ledger.fault(f"end {scenario.name}")
        recovery_s = await self._recovery(arena)
        await self._search(arena)
        return Outcome(
            scenario=scenario,
            acknowledged=arena.load.acknowledged() - before,
            counters=dict(arena.counters),
            measures=dict(arena.measures),
            recovery_s=recovery_s,
            longest_silence_s=arena.load.longest_silence(),
            violations=tuple(arena.violations),
        )

    async def _recovery(self, arena: Arena) -> float | None:
        """I7: waits until every pair gets through again."""
        ended = self._ledger.now()
        try:
            return await arena.until(lambda: not arena.load.not_recovered(ended), RECOVERY_S, "I7")
        except TimeoutError:
            late = arena.load.not_recovered(ended)
            arena.violate("I7", f"{len(late)} users did not recover in time: {', '.join(late[:6])}")
            return None

    async def _search(self, arena: Arena) -> None:
        """I5 where it may be gone later: metrics and Redis."""
        pages = [await arena.get(instance, "/metrics") for instance in arena.services]
        if None in pages:
            arena.violate("I5", "a service gave no metrics page that could be searched")
        collect.search_metrics(self._ledger, pages)
        await collect.search_redis(self._ledger, arena.servers.redis.url)

    async def _read_all(self, arena: Arena) -> None:
        """Ends the load, and reads everything that is to agree."""
        arena.load.stop_writing()
        restless = await arena.load.quiet(_QUIET_S)
        if restless:
            self._broken.append(f"I7: {len(restless)} users do not settle: {', '.join(restless[:6])}")
        await collect.collect_views(arena.load, self._ledger, arena.active_grpc_target())
        if not await asyncio.to_thread(collect.search_logs, self._ledger, self._folder / "logs"):
            self._broken.append("I5: there were no logs that could be searched")
        self._complete = True


def _new_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="messaging-faults-"))
    # PostgreSQL, which does not run as root, must get through.
    folder.chmod(0o711)
    return folder


def _layout(scenarios: Sequence[Scenario]) -> Layout:
    """One arena for all of them: every edge that one of them asks for is behind a proxy."""
    layout = scenarios[0].layout
    for scenario in scenarios[1:]:
        layout = layout.with_edges(scenario.edges)
    return layout


def _words(error: BaseException) -> str:
    """The error, with where it came from."""
    return "".join(traceback.format_exception(error)).strip()[-2_000:]
