"""The Markdown report of a run: counts for each fault, totals, and the bound that they support."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from loadtests.machine import this_machine
from tests.faults.outcome import ArenaOutcome, Outcome


def report(finished: Sequence[ArenaOutcome], seed: int) -> str:
    """The whole page."""
    outcomes = [outcome for arena in finished for outcome in arena.outcomes]
    acknowledged = sum(arena.acknowledged for arena in finished)
    violations = sum(len(arena.violations) for arena in finished) + sum(
        len(outcome.violations) for outcome in outcomes
    )
    lines = [
        f"{acknowledged:,} messages acknowledged in {len(finished)} runs of the stack, "
        f"{_total(outcomes, 'kills'):,} processes killed, {violations} violations (seed {seed}).",
        "",
        _bound(acknowledged, sum(arena.classes.get("lost", 0) for arena in finished)),
        "",
        "| fault | runs | acknowledged | injected | recovered | slowest | longest wait | violations |",
        "|---|--:|--:|---|--:|--:|--:|--:|",
        *_rows(outcomes),
        "",
        "What became of the messages: " + _classes(finished) + ".",
        "",
        _machine(),
    ]
    not_possible = {each.scenario.name: each.not_possible for each in outcomes if each.not_possible}
    if not_possible:
        lines += ["", "Not possible on this machine:", ""]
        lines += [f"- `{name}`: {reason}" for name, reason in sorted(not_possible.items())]
    return "\n".join(lines) + "\n"


def _bound(acknowledged: int, lost: int) -> str:
    if lost or not acknowledged:
        return f"**{lost} of {acknowledged:,} acknowledged messages were lost.**"
    return (
        f"0 lost of {acknowledged:,} acknowledged: with 95 % confidence fewer than "
        f"3/N = {3 / acknowledged:.1e} of all acknowledged messages are lost under these faults."
    )


def _rows(outcomes: Sequence[Outcome]) -> Iterator[str]:
    by_name: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.not_possible is None:
            # All combinations are one row: there are too many for one each.
            name = "two at once" if "+" in outcome.scenario.name else outcome.scenario.name
            by_name[name].append(outcome)
    for name, runs in by_name.items():
        injected: Counter[str] = Counter()
        for run in runs:
            injected.update(run.counters)
            injected |= Counter(run.measures)  # The larger of both.
        recoveries = [run.recovery_s for run in runs if run.recovery_s is not None]
        fault = "random pairs of the others" if name == "two at once" else runs[0].scenario.fault
        yield (
            f"| **{name}**: {fault} | {len(runs)} | {sum(run.acknowledged for run in runs):,} "
            f"| {_words(injected)} | {len(recoveries)} | {max(recoveries, default=0.0):.1f} s "
            f"| {max(run.longest_silence_s for run in runs):.1f} s "
            f"| {sum(len(run.violations) for run in runs)} |"
        )


def _words(counters: Counter[str]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in sorted(counters.items()) if n) or "-"


def _total(outcomes: Sequence[Outcome], counter: str) -> int:
    return sum(outcome.counters.get(counter, 0) for outcome in outcomes)


def _classes(finished: Sequence[ArenaOutcome]) -> str:
    total: Counter[str] = Counter()
    for arena in finished:
        total.update(arena.classes)
    return ", ".join(f"{n:,} {name}" for name, n in total.items()) or "nothing"


def _machine() -> str:
    machine = this_machine()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        f"Machine: {machine.processor}, {machine.cores} cores, {machine.memory_gib:.0f} GiB, "
        f"{machine.kernel}; {versions}; {machine.date}. Load, proxies and all servers shared it."
    )
