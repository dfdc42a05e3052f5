"""The user that PostgreSQL runs as when root starts the stack: it refuses to run as root."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devstack.server_process import ServerFailed, dying_with_parent

# Enough to walk through folders closed to others, such as /root or pytest's; the second
# is for containers, which have no CAP_DAC_READ_SEARCH by default.
_CAPABILITIES = (None, "dac_read_search", "dac_override")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnprivilegedUser:
    """An existing system user without rights of its own."""

    name: str
    user_id: int
    group_id: int

    def own(self, path: Path) -> None:
        """Gives a file or folder, not what is in it, to the user."""
        os.chown(path, self.user_id, self.group_id)

    def privileges(self, folder: Path) -> list[str]:
        """Options of setpriv(1) with which a process of this user can enter the folder.

        Raises:
            ServerFailed: the folder lies where the user cannot get.
        """
        for capability in _CAPABILITIES:
            options = self._options(capability)
            probe = subprocess.run(
                [*dying_with_parent(signal.SIGKILL, options), "sh", "-c", 'cd "$0"', str(folder)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )
            if probe.returncode == 0:
                return options
        raise ServerFailed(
            f"PostgreSQL does not run as root, and the user {self.name} cannot enter {folder}: "
            "use a folder that other users can reach, or start this as another user."
        )

    def _options(self, capability: str | None) -> list[str]:
        options = [f"--reuid={self.user_id}", f"--regid={self.group_id}", "--clear-groups"]
        if capability is not None:
            options += [f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}"]
        return options


def unprivileged_user(
    owned: Path, candidates: Sequence[str] = ("postgres", "nobody")
) -> UnprivilegedUser | None:
    """The user to become: the owner of `owned` where that exists; None when we are not root.

    Raises:
        ServerFailed: none of the candidates exists.
    """
    if os.geteuid() != 0:
        return None
    if owned.exists() and owned.stat().st_uid != 0:
        owner = owned.stat()
        return UnprivilegedUser(name=owned.owner(), user_id=owner.st_uid, group_id=owner.st_gid)
    for name in candidates:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return UnprivilegedUser(name=name, user_id=entry.pw_uid, group_id=entry.pw_gid)
    raise ServerFailed("PostgreSQL does not run as root, and there is no user postgres or nobody.")
