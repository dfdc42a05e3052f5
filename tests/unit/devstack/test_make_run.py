"""`make run` as a person uses it, in a folder of the test's own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack import processes
from devstack.python_server import REPOSITORY

READY_WITHIN_SECONDS = 60.0


class Run:
    """One supervisor, with everything it prints in a file."""

    def __init__(self, folder: Path, *, process_group: int | None = None) -> None:
        self.folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._printed = folder.parent / "printed"
        with self._printed.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "devstack", "--folder", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                process_group=process_group,
            )

    @property
    def printed(self) -> str:
        return self._printed.read_text()

    @property
    def page_url(self) -> str:
        found = re.search(r"both side by side +(\S+)", self.printed)
        assert found is not None
        return found[1]

    def wait_until_ready(self) -> float:
        """Returns the seconds it took."""
        started = time.monotonic()
        while "Ctrl-C stops everything" not in self.printed:
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < started + READY_WITHIN_SECONDS, self.printed
            time.sleep(0.05)
        return time.monotonic() - started

    def children(self) -> list[int]:
        """Ids of the servers, in the order of their start."""
        return [process_id for process_id, _ in json.loads((self.folder / "children.json").read_text())]

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def run(folder: Path) -> Iterator[Run]:
    run = Run(folder)
    run.wait_until_ready()
    yield run
    if run.process.poll() is None:
        run.end()


def call(url: str, body: dict[str, str] | None = None, token: str | None = None) -> Any:
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())
    request.add_header("content-type", "application/json")
    if token is not None:
        request.add_header("authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_what_was_said_is_there_the_next_time_and_ctrl_c_ends_everything(run: Run) -> None:
    token = call(f"{run.page_url}api/dev/token", {"userId": "alice"})["token"]
    opened = call(f"{run.page_url}api/conversations", {"recipientId": "bob"}, token)
    children = run.children()
    assert run.end(signal.SIGINT) == 0, run.printed
    assert not any(processes.is_alive(child) for child in children)

    again = Run(run.folder)
    assert again.wait_until_ready() < 10
    # The token of yesterday's page still opens today's: the secret is kept.
    listed = call(f"{again.page_url}api/conversations", token=token)["conversations"]
    assert [found["conversationId"] for found in listed] == [opened["conversationId"]]
    assert again.end(signal.SIGTERM) == 0


def test_a_crashed_server_is_reported_with_its_log_and_everything_stops(run: Run) -> None:
    redis, *others = run.children()
    subprocess.run(["kill", "-KILL", str(redis)], check=True)
    assert run.process.wait(30) == 1
    assert "Redis was ended by SIGKILL. The end of" in run.printed
    assert not any(processes.is_alive(child) for child in others)


def test_a_crashed_instance_of_the_service_starts_again_while_the_other_one_serves(run: Run) -> None:
    *_others, active, _gateway, _standby = run.children()
    token = call(f"{run.page_url}api/dev/token", {"userId": "alice"})["token"]
    subprocess.run(["kill", "-KILL", str(active)], check=True)
    opened = call(f"{run.page_url}api/conversations", {"recipientId": "bob"}, token)
    assert opened["participantIds"] == ["alice", "bob"]
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while "Messaging service was ended by SIGKILL; the other one serves" not in run.printed:
        assert time.monotonic() < deadline, run.printed
        time.sleep(0.05)
    assert run.end() == 0, run.printed


def test_a_second_one_in_the_same_folder_says_that_the_first_runs(run: Run) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "devstack", "--folder", str(run.folder)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert second.returncode == 1
    assert f"already runs (process {run.process.pid})" in second.stdout
    assert "Traceback" not in second.stderr
    assert call(f"{run.page_url}api/config")["development"] is True


def test_two_checkouts_run_side_by_side(run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path / "other" / "run")
    other.wait_until_ready()
    assert other.page_url != run.page_url
    assert other.end() == 0
    assert run.process.poll() is None


def test_after_a_killed_supervisor_nothing_is_left_and_the_next_one_starts(run: Run) -> None:
    children = run.children()
    run.end(signal.SIGKILL)
    again = Run(run.folder)
    again.wait_until_ready()
    assert not any(processes.is_alive(child) for child in children)
    assert again.end() == 0


def test_an_early_ctrl_c_stops_what_has_started(folder: Path) -> None:
    run = Run(folder)
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while "ok PostgreSQL" not in run.printed:
        assert time.monotonic() < deadline, run.printed
        time.sleep(0.01)
    assert run.end() == 0, run.printed
    assert "PostgreSQL stopped" in run.printed
    assert not any(processes.is_alive(child) for child in run.children())


def test_ctrl_c_in_a_terminal_which_also_ends_initdb_is_no_failure(folder: Path) -> None:
    run = Run(folder, process_group=0)
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while not list(folder.rglob("cluster.new/*")):
        assert time.monotonic() < deadline, run.printed
        time.sleep(0.01)
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.process.wait(30) == 0, run.printed
    assert "initdb failed" not in run.printed
