"""Faults: connections."""

from __future__ import annotations

from tests.faults.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = ()
