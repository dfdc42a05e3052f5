"""Which scenarios share an arena, and what a long run draws."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from tests.faults import plan
from tests.faults.arena import Arena
from tests.faults.registry import SCENARIOS, scenario
from tests.faults.scenario import Edge, Scenario, can_share, together


async def nothing(arena: Arena) -> None:
    """A fault that hurts nobody."""


def named(name: str, **fields: object) -> Scenario:
    return Scenario(name=name, run=nothing, fault=name, **fields)  # type: ignore[arg-type]


def test_names_are_unique_and_no_scenario_is_a_combination_by_its_name() -> None:
    names = [each.name for each in SCENARIOS]
    assert len(names) == len(set(names))
    assert not any("+" in name for name in names)


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(LookupError, match="service-killed"):
        scenario("service-murdered")


def test_edges_may_differ_in_one_arena_and_all_of_them_get_a_proxy() -> None:
    first = named("first", edges=frozenset({Edge.SERVICE_REDIS}))
    second = named("second", edges=frozenset({Edge.BROKER_SERVICE}))
    assert plan.shared_arenas([first, second]) == [[first, second]]
    both = together(first, second)
    assert both.edges == {Edge.SERVICE_REDIS, Edge.BROKER_SERVICE}
    assert both.name == "first+second"


@pytest.mark.parametrize(
    "fields",
    [{"alone": True}, {"instances": 2}, {"settings": {"A": "1"}}, {"broker": {"b": "2"}}, {"pairs": 3}],
)
def test_another_stack_or_a_wish_to_be_alone_is_another_arena(fields: dict[str, object]) -> None:
    usual, other = named("usual"), named("other", **fields)
    assert not can_share(usual, other)
    assert plan.shared_arenas([usual, other]) == [[usual], [other]]
    with pytest.raises(ValueError, match="different arenas"):
        together(usual, other)


def test_two_that_stop_and_start_the_same_processes_share_an_arena_and_not_a_moment() -> None:
    first, second = named("first", controls="service"), named("second", controls="service")
    assert plan.shared_arenas([first, second]) == [[first, second]]
    with pytest.raises(ValueError, match="both stop and start: service"):
        together(first, second)
    assert together(first, named("third", controls="redis")).name == "first+third"
    assert together(named("fourth"), named("fifth")).name == "fourth+fifth"


def test_the_short_run_has_all_that_is_for_it_once_and_the_fixed_pair() -> None:
    run = [each for group in plan.short_run() for each in group]
    names = [each.name for each in run]
    assert sorted(names) == sorted([*(e.name for e in SCENARIOS if e.in_short), "+".join(plan.FIXED_PAIR)])


def test_the_long_run_begins_with_each_one_and_goes_on_with_single_ones_and_pairs() -> None:
    drawn = list(islice(plan.long_run(random.Random(1)), len(SCENARIOS) + 200))
    assert [group[0].name for group in drawn[: len(SCENARIOS)]] == [each.name for each in SCENARIOS]
    later = [group[0].name for group in drawn[len(SCENARIOS) :]]
    assert any("+" in name for name in later)
    assert any("+" not in name for name in later)
    again = [group[0].name for group in islice(plan.long_run(random.Random(1)), len(SCENARIOS), len(drawn))]
    assert later == again
