"""The benchmark, small and short: every workload is correct; how fast it is, no test says."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from devstack.python_server import REPOSITORY
from loadtests.__main__ import WORKLOADS
from loadtests.targets import TARGETS


@pytest.mark.timeout(300)
def test_every_workload_is_correct_and_reported(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests", "--smoke", "--runs", "1", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "results.json").read_text())
    measured = {workload["workload"]: workload for workload in report["workloads"]}
    assert set(measured) == {*WORKLOADS, "floors"}
    for workload in measured.values():
        for run in workload["runs"]:
            assert not any(run["checks"].values()), run
    for target in TARGETS:
        assert target.figure in measured[target.workload]["figures"], target
    assert "saturation" in (tmp_path / "results.md").read_text()
    ElementTree.fromstring((tmp_path / "chart.svg").read_text())


def test_an_unknown_workload_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests", "saturday", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "saturday" in done.stderr
