"""What happens before there is a `.venv`. The package tools are small scripts in a PATH of the test's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from devstack import bootstrap

SCRIPT = Path(bootstrap.__file__)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in PATH; holds `env`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    env, shell = shutil.which("env"), shutil.which("sh")
    assert env is not None
    assert shell is not None
    (folder / "env").symlink_to(env)
    (folder / "sh").symlink_to(shell)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def add(folder: Path, name: str, source: str) -> None:
    script = folder / name
    script.write_text(f"#!{folder / 'sh'}\n{source}\n")
    script.chmod(0o755)


def test_it_needs_the_standard_library_only() -> None:
    done = subprocess.run([sys.executable, "-I", "-S", SCRIPT, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_only_what_is_missing_is_named() -> None:
    assert bootstrap.missing_packages({"there": lambda: True, "absent": lambda: False}) == ["absent"]


def test_chromium_comes_from_apt_where_it_is_no_snap() -> None:
    assert "chromium" in bootstrap.packages_for_tests('ID=debian\nVERSION_ID="12"\n')
    assert "chromium" not in bootstrap.packages_for_tests('ID=ubuntu\nVERSION_ID="24.04"\n')


def test_a_linked_environment_of_another_checkout_is_never_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").touch()
    link = tmp_path / ".venv"
    link.symlink_to(other)
    monkeypatch.setattr(bootstrap, "VENV", link)
    lock_file = tmp_path / "requirements.lock"
    lock_file.touch()
    with pytest.raises(bootstrap.BootstrapFailed, match="is a link"):
        bootstrap.install_python_packages(lock_file)
    assert (other / "precious").exists()


def test_packages_are_installed_again_after_a_lock_file_was_another_one_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[str] = []

    def install(command: Sequence[str]) -> None:
        installed.append(Path(command[-1]).name)

    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    monkeypatch.setattr(bootstrap, "_venv_works", lambda: True)
    monkeypatch.setattr(bootstrap, "_fails", install)
    run, dev = tmp_path / "requirements.lock", tmp_path / "requirements-dev.lock"
    run.write_text("one")
    dev.write_text("one, and tests")
    for lock_file in (dev, dev, run, run, dev):
        bootstrap.install_python_packages(lock_file)
    assert installed == ["requirements-dev.lock", "requirements.lock"]
    run.write_text("two")
    bootstrap.install_python_packages(run)
    run.write_text("one")
    bootstrap.install_python_packages(dev)
    assert installed[2:] == ["requirements.lock", "requirements-dev.lock"]


def test_where_packages_may_not_be_installed_one_sentence_says_what_to_type(programs: Path) -> None:
    add(programs, "apt-get", "exit 1")
    add(programs, "sudo", "exit 1")
    with pytest.raises(bootstrap.BootstrapFailed) as error:
        bootstrap.install_packages(["mosquitto", "gcc"], user_id=1000)
    assert str(error.value).endswith("sudo apt-get install mosquitto gcc")
    assert "\n" not in str(error.value)


def test_without_apt_the_packages_are_named(programs: Path) -> None:
    with pytest.raises(bootstrap.BootstrapFailed, match="Missing: mosquitto gcc"):
        bootstrap.install_packages(["mosquitto", "gcc"], user_id=0)


def test_a_user_with_sudo_installs_through_it(programs: Path, tmp_path: Path) -> None:
    add(programs, "true", "exit 0")
    add(programs, "sudo", 'shift; exec "$@"')
    add(programs, "apt-get", f'echo "$*" >> {tmp_path / "calls"}')
    bootstrap.install_packages(["mosquitto"], user_id=1000)
    assert "install -y --no-install-recommends mosquitto" in (tmp_path / "calls").read_text()


def test_old_package_lists_are_renewed_once(programs: Path, tmp_path: Path) -> None:
    updated = tmp_path / "updated"
    add(programs, "apt-get", f'case "$*" in *update) : > {updated};; *) test -e {updated};; esac')
    bootstrap.install_packages(["mosquitto"], user_id=0)
    assert updated.exists()


def test_a_failure_of_apt_is_shown_with_its_output(programs: Path) -> None:
    add(programs, "apt-get", "echo no such package; exit 100")
    with pytest.raises(bootstrap.BootstrapFailed, match="no such package"):
        bootstrap.install_packages(["mosquitto"], user_id=0)
