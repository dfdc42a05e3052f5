"""Makes a bare machine ready, then runs a command in `.venv`.

Runs before there is a `.venv`: with the system's Python and the standard library only.

    python3 devstack/bootstrap.py [--dev] -- python -m devstack
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
VENV = REPOSITORY / ".venv"
OLDEST_PYTHON = (3, 11)
_SERVER_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/bin")
_INCLUDE_FOLDERS = ("/usr/include", "/usr/local/include")


class BootstrapFailed(Exception):
    """What a person has to do; one sentence where possible."""


def has_program(*names: str) -> bool:
    """Whether one of the programs is installed; servers are looked for outside PATH, too."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SERVER_FOLDERS])
    return any(shutil.which(name, path=path) for name in names)


def has_header(name: str) -> bool:
    """Whether the C header is installed."""
    return any((Path(folder) / name).is_file() for folder in _INCLUDE_FOLDERS)


def has_chromium() -> bool:
    """Whether the browser that drives the page's tests is installed."""
    return has_program("chromium", "chromium-browser")


def has_postgresql() -> bool:
    """Whether a PostgreSQL server is installed, in PATH or as Debian does it."""
    return has_program("postgres") or any(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


#: What the stack needs, by Debian's package name, and how to see that it is there.
RUN_PACKAGES: Mapping[str, Callable[[], bool]] = {
    "gcc": lambda: has_program("gcc"),
    "libc6-dev": lambda: has_header("stdio.h"),
    "make": lambda: has_program("make"),
    "mosquitto": lambda: has_program("mosquitto"),
    "mosquitto-dev": lambda: has_header("mosquitto_plugin.h"),
    "libmosquitto-dev": lambda: has_header("mosquitto.h"),
    "libjwt-dev": lambda: has_header("jwt.h"),
    "redis-server": lambda: has_program("redis-server"),
    "postgresql": has_postgresql,
}


def packages_for_tests(os_release: str) -> Mapping[str, Callable[[], bool]]:
    """What the tests need on top, by the text of /etc/os-release.

    Ubuntu's package of Chromium only installs a snap, which a container or a server may not have.
    """
    clients = {"mosquitto-clients": lambda: has_program("mosquitto_pub"), "curl": lambda: has_program("curl")}
    if "ID=ubuntu" in os_release.splitlines():
        return clients
    return {"chromium": has_chromium} | clients


def missing_packages(wanted: Mapping[str, Callable[[], bool]]) -> list[str]:
    """The packages that are not there, Debian's split-off `venv` module included."""
    missing = [package for package, is_there in wanted.items() if not is_there()]
    if not _has_ensurepip() and not _venv_works():
        missing.append("python{}.{}-venv".format(*sys.version_info))
    return missing


def install_packages(packages: Sequence[str], *, user_id: int) -> None:
    """Installs the packages with apt-get, where the user may.

    Raises:
        BootstrapFailed: that user may not, there is no apt-get, or it fails.
    """
    words = " ".join(packages)
    by_hand = f"sudo apt-get install {words}"
    if shutil.which("apt-get") is None:
        raise BootstrapFailed(
            f"Missing: {words} (as Debian calls them); install them with your package manager."
        )
    prefix = _as_root(user_id)
    if prefix is None:
        raise BootstrapFailed(f"Some system packages are missing; install them with: {by_hand}")
    print(f"Installing with apt-get: {words}", flush=True)
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=120"]
    install = [*apt, "install", "-y", "--no-install-recommends", *packages]
    if _fails(install) is None:
        return
    # The package lists may be old, or absent as in containers.
    output = _fails([*apt, "update"]) or _fails(install)
    if output is not None:
        raise BootstrapFailed(f"{output}\napt-get failed; when that is mended, try again or: {by_hand}")


def install_python_packages(lock_file: Path) -> None:
    """Creates `.venv` and installs what the lock file names; does nothing while all lock files are unchanged.

    The packages of all lock files of a folder share `.venv`.

    Raises:
        BootstrapFailed: with the output of venv or pip.
    """
    stamp = VENV / f".installed-{lock_file.stem}"
    lock_files = sorted(lock_file.parent.glob("requirements*.lock"))
    wanted = hashlib.sha256(b"".join(each.read_bytes() for each in lock_files)).hexdigest()
    works = _venv_works()
    if works and stamp.is_file() and stamp.read_text() == wanted:
        return
    for other in VENV.glob(".installed-*"):
        if other.read_text() != wanted:
            other.unlink()
    if not works:
        if VENV.is_symlink():
            # Clearing it would empty whatever it leads to.
            raise BootstrapFailed(f"{VENV} is a link to another checkout's; remove it: rm {VENV}")
        print("Creating .venv", flush=True)
        output = _fails([sys.executable, "-m", "venv", "--clear", str(VENV)])
        if output is not None:
            raise BootstrapFailed(f"{output}\nCreating .venv failed.")
    print(f"Installing Python packages from {lock_file.name}", flush=True)
    output = _fails(
        [
            str(VENV / "bin" / "python"),
            *("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"),
            *("--require-hashes", "--only-binary", ":all:", "-r", str(lock_file)),
        ]
    )
    if output is not None:
        raise BootstrapFailed(f"{output}\npip could not install {lock_file.name}.")
    stamp.write_text(wanted)


def newer_python() -> str | None:
    """Path of a Python that is new enough, where ours is not."""
    names = [f"python3.{minor}" for minor in (13, 12, 11, 14)]
    return next((path for path in map(shutil.which, names) if path), None)


def main(arguments: Sequence[str]) -> int:
    """Installs what is missing and becomes the command; returns only when that fails."""
    parser = argparse.ArgumentParser(prog="bootstrap.py", description="Makes a bare machine ready.")
    parser.add_argument("--dev", action="store_true", help="with what tests and checks need")
    parser.add_argument("--no-system", action="store_true", help="Python packages only")
    parser.add_argument("command", nargs="*", help="run with .venv/bin first in PATH")
    options = parser.parse_args(arguments)
    if sys.version_info < OLDEST_PYTHON:
        python = newer_python()
        if python is not None:
            os.execv(python, [python, __file__, *arguments])
        raise BootstrapFailed("Python 3.11 or newer is needed: `make PYTHON=/path/to/python3 ...` names one.")
    _install_missing_packages(with_system=not options.no_system, with_tests=options.dev)
    install_python_packages(REPOSITORY / ("requirements-dev.lock" if options.dev else "requirements.lock"))
    if options.command:
        binaries = VENV / "bin"
        os.environ["PATH"] = os.pathsep.join([str(binaries), os.environ.get("PATH", os.defpath)])
        os.execvp(options.command[0], options.command)
    return 0


def _install_missing_packages(*, with_system: bool, with_tests: bool) -> None:
    wanted: dict[str, Callable[[], bool]] = {}
    if with_system:
        wanted.update(RUN_PACKAGES)
    if with_system and with_tests:
        os_release = Path("/etc/os-release")
        wanted.update(packages_for_tests(os_release.read_text() if os_release.is_file() else ""))
    missing = missing_packages(wanted)
    if missing:
        install_packages(missing, user_id=os.geteuid())
    if with_system and with_tests and not has_chromium():
        print("The page's tests need Chromium, which comes as a snap here: sudo snap install chromium")


def _has_ensurepip() -> bool:
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        return False
    return True


def _venv_works() -> bool:
    """Whether `.venv` has a Python that still runs and is new enough, and was made in this very folder."""
    pip = VENV / "bin" / "pip"
    if not pip.is_file() or str(VENV).encode() not in pip.read_bytes()[:512]:
        return False
    check = f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})"
    try:
        return (
            subprocess.run([str(VENV / "bin" / "python"), "-c", check], capture_output=True).returncode == 0
        )
    except OSError:
        return False


def _as_root(user_id: int) -> list[str] | None:
    """The words before a command that make root run it without a question; None if there are none."""
    if user_id == 0:
        return []
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    return None


def _fails(command: Sequence[str]) -> str | None:
    """Runs the command; its output if it failed, None if it did not."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return None if done.returncode == 0 else done.stdout


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BootstrapFailed as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
