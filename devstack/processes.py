"""Processes that are not our children, by /proc: what a killed parent left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

_POLL_SECONDS = 0.02


def command_line(process_id: int) -> list[bytes]:
    """Program and arguments of a process; empty if there is none or it is a zombie."""
    return _read(process_id, "cmdline").rstrip(b"\0").split(b"\0")


def is_alive(process_id: int) -> bool:
    """Whether the process runs; a zombie, which nobody may ever reap in a container, does not."""
    return _status_fields(process_id)[:1] not in ([], [b"Z"], [b"X"])


def start_time(process_id: int) -> int | None:
    """When the process started, in clock ticks since boot; with the id it names one process for ever."""
    fields = _status_fields(process_id)
    return int(fields[19]) if fields else None


def children(process_id: int) -> list[int]:
    """Ids of the processes that the (single-threaded) process has started."""
    return [int(child) for child in _read(process_id, f"task/{process_id}/children").split()]


def wait_until_gone(process_ids: Iterable[int], *, timeout_seconds: float) -> bool:
    """Waits until none of the processes runs; False if one still does after the timeout."""
    deadline = time.monotonic() + timeout_seconds
    left = [process_id for process_id in process_ids if is_alive(process_id)]
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        left = [process_id for process_id in left if is_alive(process_id)]
    return not left


def end(process_id: int, stop_signal: signal.Signals, *, timeout_seconds: float) -> None:
    """Ends a process, with SIGKILL if it takes longer than the timeout."""
    for sent in (stop_signal, signal.SIGKILL):
        try:
            os.kill(process_id, sent)
        except ProcessLookupError:
            return
        if wait_until_gone([process_id], timeout_seconds=timeout_seconds):
            return


def _status_fields(process_id: int) -> list[bytes]:
    """Fields of proc(5)'s stat from the third, the state, on."""
    # The second one, the name, may itself hold spaces and parentheses.
    return _read(process_id, "stat").rpartition(b") ")[2].split()


def _read(process_id: int, entry: str) -> bytes:
    try:
        return Path(f"/proc/{process_id}/{entry}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
