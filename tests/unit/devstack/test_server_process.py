"""Starting, watching and ending child processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from devstack import processes
from devstack.python_server import REPOSITORY
from devstack.server_process import ServerFailed, ServerProcess

OBEDIENT = "import time; print('ready', flush=True); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + OBEDIENT

# A parent that starts an obedient child, prints its id and waits.
PARENT = """
import sys, time, pathlib
from tests.unit.devstack.test_server_process import OBEDIENT, Script
script = Script(pathlib.Path(sys.argv[1]), OBEDIENT)
script.start()
print(script.pid, flush=True)
time.sleep(600)
"""


class Script(ServerProcess):
    """A Python one-liner that is ready when it says so."""

    def __init__(
        self, folder: Path, source: str, *, start_timeout: float = 30, stop_timeout: float = 10
    ) -> None:
        super().__init__("script", folder / "script.log")
        self._source = source
        self.start_timeout = start_timeout
        self.stop_timeout = stop_timeout

    def command(self) -> Sequence[str]:
        return [sys.executable, "-u", "-c", self._source]

    def is_ready(self) -> bool:
        return "ready" in self.log_tail()


@pytest.fixture
def obedient(tmp_path: Path) -> Iterator[Script]:
    script = Script(tmp_path, OBEDIENT)
    yield script
    script.kill()


def test_a_started_server_runs_and_is_ready(obedient: Script) -> None:
    obedient.start()
    assert obedient.is_running
    assert obedient.is_ready()
    assert processes.is_alive(obedient.pid)


def test_stop_ends_it_by_its_signal_and_start_brings_it_back(obedient: Script) -> None:
    obedient.start()
    first = obedient.pid
    obedient.stop()
    assert not obedient.is_running
    assert obedient.ending() == "was ended by SIGTERM"
    obedient.start()
    assert obedient.is_running
    assert obedient.pid != first


def test_a_server_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    script = Script(tmp_path, DEAF, stop_timeout=0.2)
    script.start()
    script.stop()
    assert script.exit_code == -signal.SIGKILL


def test_a_crash_at_start_is_reported_with_the_end_of_the_log(tmp_path: Path) -> None:
    script = Script(tmp_path, "import sys; sys.exit('the reason')")
    with pytest.raises(ServerFailed, match=r"ended with exit code 1 before it was ready.*\n.*the reason"):
        script.start()


def test_a_server_that_never_becomes_ready_is_ended(tmp_path: Path) -> None:
    script = Script(tmp_path, "import time; print('so far', flush=True); time.sleep(600)", start_timeout=0.5)
    with pytest.raises(ServerFailed, match="not ready within"):
        script.start()
    assert not script.is_running


def test_the_log_tail_is_the_last_lines(tmp_path: Path) -> None:
    script = Script(tmp_path, "[print(number) for number in range(50)]; " + OBEDIENT)
    script.start()
    script.kill()
    assert script.log_tail(3) == "48\n49\nready"


def test_a_child_outlives_the_thread_that_started_it(obedient: Script) -> None:
    thread = threading.Thread(target=obedient.start)
    thread.start()
    thread.join()
    assert not processes.wait_until_gone([obedient.pid], timeout_seconds=0.3)


def test_a_child_dies_with_its_killed_parent(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert processes.is_alive(child)
        parent.kill()
    assert processes.wait_until_gone([child], timeout_seconds=10)
