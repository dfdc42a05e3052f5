"""The folder of `make run`."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from devstack import processes
from devstack.run_folder import AlreadyRunning, RunFolder
from devstack.server_process import ServerProcess


class Sleep(ServerProcess):
    """Something that runs."""

    def command(self) -> Sequence[str]:
        return ["sleep", "600"]

    def is_ready(self) -> bool:
        return True


def test_the_secret_is_long_private_and_the_same_next_time(tmp_path: Path) -> None:
    secret = RunFolder(tmp_path / "run").jwt_secret()
    assert len(secret) >= 32
    assert RunFolder(tmp_path / "run").jwt_secret() == secret
    assert (tmp_path / "run" / "jwt_secret").stat().st_mode & 0o777 == 0o600


def test_a_second_holder_is_refused_with_the_first_one_s_process_id(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        ["flock", tmp_path / "lock", "-c", f"echo $$ > {tmp_path / 'lock'}; echo held; exec sleep 600"],
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        process_id = (tmp_path / "lock").read_text().strip()
        with pytest.raises(AlreadyRunning, match=rf"process {process_id}\b"), RunFolder(tmp_path).locked():
            pass
    finally:
        subprocess.run(["kill", "--", f"-{holder.pid}"], check=True)
        holder.wait()


def test_the_folder_is_free_again_after_its_holder(tmp_path: Path) -> None:
    for _ in range(2):
        with RunFolder(tmp_path).locked():
            pass


def test_children_of_a_killed_supervisor_are_ended(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    child = Sleep("sleep", tmp_path / "sleep.log")
    child.start()
    folder.remember(child)
    assert RunFolder(tmp_path).end_leftovers(timeout_seconds=0.2) == 1
    assert not child.is_running
    assert RunFolder(tmp_path).end_leftovers() == 0


def test_a_process_that_only_has_the_id_of_a_former_child_is_left_alone(tmp_path: Path) -> None:
    other = Sleep("sleep", tmp_path / "sleep.log")
    other.start()
    (tmp_path / "children.json").write_text(f"[[{other.pid}, {(processes.start_time(other.pid) or 0) - 1}]]")
    assert RunFolder(tmp_path).end_leftovers(timeout_seconds=0.2) == 0
    assert other.is_running
    other.stop()


def test_a_large_log_is_moved_away(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log_file("service").write_bytes(b"x" * 6_000_000)
    assert not folder.log_file("service").exists()
    assert (tmp_path / "logs" / "service.old.log").exists()
