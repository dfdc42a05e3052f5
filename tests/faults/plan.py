"""Which scenarios run in which arena, and when."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from tests.faults.registry import SCENARIOS, scenario
from tests.faults.scenario import Scenario, can_be_at_once, can_share, together

FIXED_PAIR = ("service-killed", "postgresql-killed")
"""The combination of the short run: the process that works and the one that remembers."""
_PAIR_SHARE = 0.5
"""Of the long run's draws: two faults at once."""


def named(names: Sequence[str]) -> Sequence[Sequence[Scenario]]:
    """Scenarios by name, `first+second` for two at once, each in its own arena; raises `LookupError`."""
    return [[_one(name)] for name in names]


def short_run() -> Sequence[Sequence[Scenario]]:
    """What CI runs: scenarios that can share an arena do, and one fixed pair at once."""
    chosen = [each for each in SCENARIOS if each.in_short]
    return shared_arenas([*chosen, _one("+".join(FIXED_PAIR))])


def full_run() -> Sequence[Sequence[Scenario]]:
    """Every scenario once, each in an arena of its own."""
    return [[each] for each in SCENARIOS]


def long_run(chance: random.Random) -> Iterator[Sequence[Scenario]]:
    """Every scenario once, and then single ones and pairs at once by chance, without end."""
    yield from full_run()
    while True:
        first = chance.choice(SCENARIOS)
        others = [each for each in SCENARIOS if each is not first and can_be_at_once(first, each)]
        if others and chance.random() < _PAIR_SHARE:
            yield [together(first, chance.choice(others))]
        else:
            yield [first]


def shared_arenas(scenarios: Sequence[Scenario]) -> Sequence[Sequence[Scenario]]:
    """Groups that can share an arena: the same stack, one load, one ledger over all of them.

    A violation cannot hide by that: the ledger spans the whole time, and each
    scenario has to recover before the next one begins.
    """
    groups: list[list[Scenario]] = []
    for each in scenarios:
        fitting = next((group for group in groups if can_share(group[0], each)), None)
        if fitting is None:
            groups.append([each])
        else:
            fitting.append(each)
    return groups


def _one(name: str) -> Scenario:
    first, plus, second = name.partition("+")
    return together(scenario(first), scenario(second)) if plus else scenario(first)
