"""Every scenario there is, in the order in which they run."""

from __future__ import annotations

from tests.faults import (
    scenarios_backup,
    scenarios_broker,
    scenarios_clock,
    scenarios_connections,
    scenarios_data,
    scenarios_network,
    scenarios_postgresql,
    scenarios_redis,
    scenarios_resends,
    scenarios_service,
    scenarios_slow_reader,
    scenarios_steps,
    scenarios_upgrade,
)
from tests.faults.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    *scenarios_service.SCENARIOS,
    *scenarios_broker.SCENARIOS,
    *scenarios_postgresql.SCENARIOS,
    *scenarios_redis.SCENARIOS,
    *scenarios_connections.SCENARIOS,
    *scenarios_network.SCENARIOS,
    *scenarios_slow_reader.SCENARIOS,
    *scenarios_steps.SCENARIOS,
    *scenarios_resends.SCENARIOS,
    *scenarios_clock.SCENARIOS,
    *scenarios_data.SCENARIOS,
    *scenarios_upgrade.SCENARIOS,
    *scenarios_backup.SCENARIOS,
)
"""A new module of scenarios is added here; names are unique."""


def scenario(name: str) -> Scenario:
    """The scenario of that name; raises `LookupError`."""
    for found in SCENARIOS:
        if found.name == name:
            return found
    raise LookupError(f"no scenario {name!r}; there are: {', '.join(each.name for each in SCENARIOS)}")
