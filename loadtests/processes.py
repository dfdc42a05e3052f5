"""CPU time and memory of the servers and of this process, from /proc."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from devstack import processes

_TICKS = os.sysconf("SC_CLK_TCK")
DRIVER = "driver"
"""The role of this very process."""


class CpuMeter:
    """CPU seconds that each role used between `start` and `stop`, with its child processes.

    A child that ends in between is counted as long as its parent waits for it.
    """

    def __init__(self, roles: Mapping[str, int]) -> None:
        self._roles = {**roles, DRIVER: os.getpid()}
        self._before: dict[str, float] = {}

    def start(self) -> None:
        """Takes the first reading."""
        self._before = self._read()

    def stop(self) -> dict[str, float]:
        """Seconds by role since `start`; may be called again."""
        return {role: seconds - self._before[role] for role, seconds in self._read().items()}

    def _read(self) -> dict[str, float]:
        return {
            role: _seconds(pid) if role == DRIVER else _seconds_of_family(pid)
            for role, pid in self._roles.items()
        }


def resident_bytes(pid: int) -> int:
    """Memory that the process has to itself or would need if it had: resident set size."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _seconds_of_family(pid: int) -> float:
    return _seconds(pid) + sum(_seconds_of_family(child) for child in processes.children(pid))


def _seconds(pid: int) -> float:
    try:
        # The name may hold spaces; it ends with the last bracket.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    # utime, stime, and the same of children that have ended.
    return sum(int(value) for value in fields[11:15]) / _TICKS
