"""The service as it was before its newest migration, out of the repository's own history."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from devstack.python_server import REPOSITORY

FOLDER = REPOSITORY / "test-artefacts" / "previous-version"
SETTINGS: Mapping[str, str] = {"PYTHONPATH": str(FOLDER), "PYTHONSAFEPATH": "1"}
"""The environment with which `python -m service` is the previous one, wherever it is started."""

SCHEMA = REPOSITORY / "service" / "storage" / "schema"
_PROGRAM = ("service", "bridge", "proto", "gateway")


def prepare() -> str | None:
    """Puts the previous version into `FOLDER`; says why that is not possible, if it is not."""
    newest = sorted(SCHEMA.glob("*.sql"))[-1]
    try:
        added = _git("log", "--diff-filter=A", "--format=%H", "-1", "--", str(newest)).decode().strip()
        if not added:
            return f"the repository's history does not know {newest.name}"
        archive = _git("archive", "--format=tar", f"{added}^", "--", *_PROGRAM)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no history of the repository: {error}"
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    subprocess.run(["tar", "--extract", "--directory", str(FOLDER)], input=archive, check=True)
    _generate_stubs()
    before, now = (len(list(folder.glob("*.sql"))) for folder in (_schema(FOLDER), SCHEMA))
    if before != now - 1:
        return f"the version before {newest.name} has {before} migrations, this one {now}"
    return None


def _generate_stubs() -> None:
    """From its own contract: those of its time need the packages of its time."""
    protos = [str(path.relative_to(FOLDER)) for path in FOLDER.glob("proto/*/v1/*.proto")]
    protoc = (sys.executable, "-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--grpc_python_out=.")
    subprocess.run([*protoc, *protos], cwd=FOLDER, stdin=subprocess.DEVNULL, check=True)


def _schema(folder: Path) -> Path:
    return folder / SCHEMA.relative_to(REPOSITORY)


def _git(*arguments: str) -> bytes:
    return subprocess.run(
        ["git", "-C", str(REPOSITORY), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    ).stdout
