"""A soak of seconds: it runs, it measures, and it says what grew; hours are for `make soak`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from devstack.python_server import REPOSITORY


@pytest.mark.timeout(120)
def test_a_short_soak_finds_everything_flat_and_nothing_lost() -> None:
    command = [sys.executable, "-m", "tests.faults.soak", "--hours", "0.003", "--rate", "40", "--seed", "5"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 violations" in done.stdout
    for name in ("Messaging service", "Mosquitto", "PostgreSQL", "Redis", "ConnectionsService"):
        for quantity in ("memory MiB", "threads", "file descriptors", "connections"):
            assert any(line.startswith(name) and quantity in line for line in done.stdout.splitlines())
    assert "tasks" in done.stdout
