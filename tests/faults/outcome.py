"""What a run of scenarios came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One scenario, once."""

    scenario: Scenario
    acknowledged: int = 0
    """Messages acknowledged from its beginning to its recovery."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """How often each thing happened."""
    measures: Mapping[str, int] = field(default_factory=dict)
    """Sizes and times, the largest of each."""
    recovery_s: float | None = None
    """From the end of the fault until every pair got through again; None if that was not in time."""
    longest_silence_s: float = 0.0
    """The longest time that a user waited between two acknowledgements."""
    violations: Sequence[str] = ()
    """What the scenario or its recovery broke."""
    not_possible: str | None = None
    """Why it did not run here."""

    def line(self) -> str:
        """For a person who watches."""
        if self.not_possible is not None:
            return f"{self.scenario.name:<34} not possible here: {self.not_possible}"
        recovered = "not recovered" if self.recovery_s is None else f"recovered in {self.recovery_s:4.1f} s"
        noted = sorted({**self.counters, **self.measures}.items())
        done = ", ".join(f"{n} {name}" for name, n in noted if n)
        return (
            f"{self.scenario.name:<34} {self.acknowledged:>7,} acknowledged, {recovered}, "
            f"longest wait {self.longest_silence_s:4.1f} s, {len(self.violations)} violations"
            + (f"  ({done})" if done else "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaOutcome:
    """All scenarios that shared an arena, and what the checker says of its ledger."""

    outcomes: Sequence[Outcome]
    seed: int
    acknowledged: int = 0
    """In the whole life of the arena."""
    classes: Mapping[str, int] = field(default_factory=Counter)
    violations: Sequence[str] = ()
    """What the checker found, and what broke outside any scenario."""
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether any promise was broken."""
        return bool(self.violations) or any(outcome.violations for outcome in self.outcomes)

    def line(self) -> str:
        """For a person who watches."""
        found = ", ".join(f"{n:,} {name}" for name, n in self.classes.items() if n)
        return f"  ledger: {found or 'empty'}; {len(self.violations)} violations; {self.seconds:.0f} s"
