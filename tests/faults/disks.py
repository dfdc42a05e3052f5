"""File systems of their own for PostgreSQL: one that can be filled, one whose power can be cut."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from devstack.postgresql import PostgreSQLServer
from tests.faults.scenario import Storage

_SHUTDOWN = 0x8004587D
"""The ioctl behind `xfs_io -x -c shutdown`; ext4 has the same one (EXT4_IOC_SHUTDOWN)."""
_WITHOUT_LOG_FLUSH = 2


class Disk(ABC):
    """A mounted file system below `mount_point`."""

    def __init__(self, folder: Path) -> None:
        self.mount_point = folder / "disk"
        self._mounted = False

    @property
    @abstractmethod
    def database_folder(self) -> Path:
        """Where PostgreSQL keeps its data."""

    @abstractmethod
    def open(self) -> None:
        """Mounts it; needs root."""

    @abstractmethod
    def adopt(self, postgresql: PostgreSQLServer) -> None:
        """What remains to be done when the cluster exists and runs."""

    def close(self) -> None:
        """Unmounts it."""
        if self._mounted:
            run("umount", "--lazy", str(self.mount_point))
            self._mounted = False

    def _mount(self, *words: str) -> None:
        self.mount_point.mkdir(exist_ok=True)
        run("mount", *words, str(self.mount_point))
        self._mounted = True


class SmallDisk(Disk):
    """Tables and indexes on a small tmpfs, the log of PostgreSQL beside it.

    A log that cannot be written makes PostgreSQL panic; a table that cannot grow is an error.
    """

    size = "192m"

    @property
    def database_folder(self) -> Path:
        """On the small disk."""
        return self.mount_point / "postgresql"

    def open(self) -> None:
        """Mounts an empty one."""
        self._mount("-t", "tmpfs", "-o", f"size={self.size},mode=0711", "none")

    def adopt(self, postgresql: PostgreSQLServer) -> None:
        """Moves the log of PostgreSQL elsewhere."""
        postgresql.stop()
        inside = postgresql.cluster / "pg_wal"
        outside = self.mount_point.parent / "pg_wal"
        # By name, so that owner and mode stay.
        run("cp", "--archive", str(inside), str(outside))
        shutil.rmtree(inside)
        inside.symlink_to(outside)
        postgresql.start()

    def fill(self) -> None:
        """Leaves no byte free."""
        with (self.mount_point / "filler").open("wb", buffering=0) as filler:
            for size in (2**20, 2**12):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError:
                    continue

    def empty(self) -> None:
        """Ends that."""
        (self.mount_point / "filler").unlink()


class LoopDisk(Disk):
    """A loop-mounted ext4 with its journal."""

    size_mib = 2_048

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._image = folder / "disk.img"

    @property
    def database_folder(self) -> Path:
        """On the loop disk."""
        return self.mount_point / "postgresql"

    def open(self) -> None:
        """Makes and mounts it."""
        with self._image.open("wb") as image:
            image.truncate(self.size_mib * 2**20)
        run("mkfs.ext4", "-q", str(self._image))
        self._mount("-o", "loop", str(self._image))
        self.mount_point.chmod(0o711)

    def adopt(self, postgresql: PostgreSQLServer) -> None:
        """What is there before the first message is not at stake: it goes to the disk."""
        os.sync()

    def cut_power(self) -> None:
        """From now on nothing is written any more; what was not forced out to the disk is lost."""
        descriptor = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def restore_power(self) -> None:
        """Mounts it anew: ext4 recovers from its journal. Nobody may use it any more."""
        run("umount", str(self.mount_point))
        self._mounted = False
        self._mount("-o", "loop", str(self._image))


def disk_for(storage: Storage, folder: Path) -> Disk | None:
    """The file system that the storage asks for."""
    match storage:
        case Storage.FOLDER:
            return None
        case Storage.SMALL_DISK:
            return SmallDisk(folder)
        case Storage.LOOP_DISK:
            return LoopDisk(folder)


def run(*command: str) -> None:
    """Runs a command to its end; raises `RuntimeError` with what it said when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}".strip())
