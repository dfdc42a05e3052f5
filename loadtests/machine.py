"""What the figures were measured on."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from devstack.server_process import find_executable

_POSTGRESQL_INSTALLATIONS = Path("/usr/lib/postgresql")
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_NOT_FOUND = "not found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The hardware and the programs; nothing that tells whose machine it is."""

    processor: str
    cores: int
    memory_gib: float
    kernel: str
    versions: Mapping[str, str]
    """By the name of the program."""
    date: str
    """Day of the measurement, UTC."""


def this_machine(*, mosquitto_executable: str = "mosquitto") -> Machine:
    """Reads /proc, and asks the servers' programs for their versions."""
    processor, cores = processor_of(Path("/proc/cpuinfo").read_text())
    return Machine(
        processor=processor or platform.machine(),
        cores=cores,
        memory_gib=memory_gib_of(Path("/proc/meminfo").read_text()),
        # Only its number: the rest is the name that a provider gave to its build.
        kernel=f"{platform.system()} {version_in(platform.release())}",
        versions={
            "Python": platform.python_version(),
            "Mosquitto": mosquitto_version(mosquitto_executable),
            "PostgreSQL": _version("postgres", "--version", _postgresql_folders()),
            "Redis": _version("redis-server", "--version"),
        },
        date=datetime.now(UTC).date().isoformat(),
    )


def mosquitto_version(executable: str = "mosquitto") -> str:
    """Version of a broker's program; "not found" without it."""
    # 2.0 has no option for its version alone.
    return _version(executable, "-h")


def processor_of(cpuinfo: str) -> tuple[str, int]:
    """Model and number of cores in the text of /proc/cpuinfo; some architectures name no model."""
    models = re.findall(r"^model name\s*:\s*(.+?)\s*$", cpuinfo, re.MULTILINE)
    cores = len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE))
    return (models[0] if models else ""), cores


def memory_gib_of(meminfo: str) -> float:
    """All memory, in the text of /proc/meminfo; 0 where it is not told."""
    total = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    return int(total[1]) / 1024**2 if total else 0.0


def version_in(text: str) -> str:
    """The first version in what a program says of itself."""
    found = _VERSION.search(text)
    return found[0] if found else _NOT_FOUND


def _postgresql_folders() -> Sequence[str]:
    """Debian keeps every major version in a folder of its own, none of them in PATH; the newest first."""
    installed = sorted(_POSTGRESQL_INSTALLATIONS.glob("*/bin"), key=lambda folder: float(folder.parent.name))
    return [str(folder) for folder in reversed(installed)]


def _version(name: str, option: str, folders: Sequence[str] = ()) -> str:
    executable = find_executable(name, folders)
    if executable is None:
        return _NOT_FOUND
    try:
        said = subprocess.run([executable, option], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return _NOT_FOUND
    return version_in(said.stdout + said.stderr)
