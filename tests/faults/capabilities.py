"""What a scenario may need of the machine, and whether it is there: tried, not guessed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from devstack.server_process import find_executable
from tests.faults import clocks, previous_version
from tests.faults.disks import LoopDisk, SmallDisk


@cache
def missing(need: str | None) -> str | None:
    """Why the machine cannot do it, None if it can; raises `LookupError` for a need that is not listed."""
    return None if need is None else _CHECKS[need]()


def _mount() -> str | None:
    return _tried(SmallDisk)


def _loop() -> str | None:
    if find_executable("mkfs.ext4", ["/sbin"]) is None:
        return "mkfs.ext4 is not installed (e2fsprogs)"

    def cut_and_restore(folder: Path) -> LoopDisk:
        disk = LoopDisk(folder)
        disk.size_mib = 64
        return disk

    return _tried(cut_and_restore)


def _tried(make: Callable[[Path], SmallDisk | LoopDisk]) -> str | None:
    with tempfile.TemporaryDirectory(prefix="messaging-faults-probe-") as name:
        disk = make(Path(name))
        try:
            disk.open()
            if isinstance(disk, LoopDisk):
                disk.cut_power()
                disk.restore_power()
        except (OSError, RuntimeError) as error:
            return str(error)
        finally:
            disk.close()
    return None


def _faketime() -> str | None:
    return "libfaketime is not installed" if clocks.library() is None else None


_CHECKS: Mapping[str, Callable[[], str | None]] = {
    "mount": _mount,
    "loop": _loop,
    "faketime": _faketime,
    "previous-version": previous_version.prepare,
}
