"""Mosquitto 2.1 or newer, compiled from Debian's unstable source where the system's own is older.

Debian 12 has 2.0.11, whose WebSocket library looks at every connection at every turn: what thousands of
idle connections cost can only be measured with the sockets that 2.1 has of its own.

    python -m loadtests.newer_mosquitto

The source comes from the mirror that this machine's apt uses, and is verified by apt with Debian's keys;
apt's own lists stay as they are.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devstack import bootstrap
from devstack.mosquitto import PluginBuild, environment_for_make

RUN_FOLDER = bootstrap.REPOSITORY / ".run"
OLDEST = (2, 1)
_SUITE = "sid"
_RELEASES = frozenset({"oldoldstable", "oldstable", "stable", "testing", "unstable", _SUITE})
_KEYRINGS = tuple(Path("/usr/share/keyrings") / f"debian-archive-keyring.{end}" for end in ("gpg", "pgp"))
#: Debian's packages to compile the broker with, and how to see that they are there.
_PACKAGES: Mapping[str, Callable[[], bool]] = {
    "dpkg-dev": lambda: bootstrap.has_program("dpkg-source"),
    "gcc": lambda: bootstrap.has_program("gcc"),
    "libc6-dev": lambda: bootstrap.has_header("stdio.h"),
    "make": lambda: bootstrap.has_program("make"),
    "libcjson-dev": lambda: bootstrap.has_header("cjson/cJSON.h"),
    "libssl-dev": lambda: bootstrap.has_header("openssl/ssl.h"),
}
_OPTIONS = ("WITH_WEBSOCKETS=yes", "WITH_DOCS=no", "WITH_EDITLINE=no", "WITH_HTTP_API=no")


class NoNewerMosquitto(Exception):
    """There is none and none can be built here; the text is one sentence where possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewerMosquitto:
    """A compiled broker that is not the system's."""

    executable: Path
    include_dir: Path
    """Headers to compile a plugin against."""
    version: str

    @property
    def plugin_build(self) -> PluginBuild:
        """How the plugin is built for this broker, apart from the system's."""
        return PluginBuild(folder=self.executable.parent / "plugin", include_dir=self.include_dir)


def newer_mosquitto(run_folder: Path = RUN_FOLDER) -> NewerMosquitto:
    """The one that was built before, else builds it, which takes a minute.

    Raises:
        NoNewerMosquitto: a package, the source or the permission to get them is missing, or it does
            not compile.
    """
    built = _already_built(run_folder)
    if built is not None:
        return built
    _require_packages()
    with tempfile.TemporaryDirectory(prefix="mosquitto-source-") as name:
        folder = Path(name)
        # apt downloads as a user of its own, who must get through.
        folder.chmod(0o755)
        source = _download(folder)
        version = _version(source)
        tree = folder / "source"
        # apt has verified the files.
        _run(["dpkg-source", "--no-check", "-x", source.name, tree.name], folder)
        for part in ("libcommon", "src"):
            _run(["make", f"-j{os.cpu_count() or 1}", "-C", part, *_OPTIONS], tree)
        return _keep(tree, version, run_folder)


def debian_mirrors(apt_output: str, codename: str | None = None) -> list[str]:
    """The archives of Debian's main releases in what `apt-get --print-uris update` says.

    `codename` is that of the running release, e.g. bookworm. Left out are what is not named like a
    release, as updates and most archives of others are, and media.
    """
    releases = _RELEASES | {codename} if codename else _RELEASES
    found = re.findall(r"^'([^']+?)/dists/([^'/]+)/InRelease' ", apt_output, re.MULTILINE)
    mirrors = [uri for uri, suite in found if suite in releases and not uri.startswith("cdrom:")]
    return list(dict.fromkeys(mirrors))


def print_uris(sources: Sequence[str] = ()) -> str:
    """What apt would fetch for its sources: it reads all their formats; `sources` are options about where."""
    return _run(["apt-get", *sources, "--print-uris", "update"], Path.cwd())


def _already_built(run_folder: Path) -> NewerMosquitto | None:
    built = [
        NewerMosquitto(executable=folder / "mosquitto", include_dir=folder / "include", version=match[1])
        for folder in run_folder.glob("mosquitto-*")
        if (match := re.fullmatch(r"mosquitto-(\d+(?:\.\d+)+)", folder.name))
    ]
    return max(built, key=lambda one: _numbers(one.version), default=None)


def _require_packages() -> None:
    if shutil.which("apt-get") is None:
        raise NoNewerMosquitto("Mosquitto 2.1 is built from Debian's source, and there is no apt-get here.")
    missing = [package for package, is_there in _PACKAGES.items() if not is_there()]
    if not missing:
        return
    try:
        bootstrap.install_packages(missing, user_id=os.geteuid())
    except bootstrap.BootstrapFailed as error:
        raise NoNewerMosquitto(str(error)) from error


def _download(folder: Path) -> Path:
    """Fetches the source package into the folder; returns its description, which names the other files."""
    keyring = next((path for path in _KEYRINGS if path.is_file()), None)
    if keyring is None:
        raise NoNewerMosquitto("Debian's keys are missing: sudo apt-get install debian-archive-keyring")
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME")
    said = "apt's sources name no mirror of Debian"
    for number, mirror in enumerate(debian_mirrors(print_uris(), codename)):
        state = folder / f"apt-{number}"
        for needed in ("lists/partial", "cache/archives/partial"):
            (state / needed).mkdir(parents=True)
        sources = state / "sources.list"
        sources.write_text(f"deb-src [signed-by={keyring}] {mirror} {_SUITE} main\n")
        apt = [
            *("apt-get", "-q", "-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-"),
            *("-o", f"Dir::State::lists={state / 'lists'}", "-o", f"Dir::Cache={state / 'cache'}"),
        ]
        try:
            _run([*apt, "-o", "APT::Update::Error-Mode=any", "update"], state)
            _run([*apt, "source", "--download-only", "mosquitto"], state)
        except NoNewerMosquitto as error:
            said = str(error)
            continue
        for file in state.glob("mosquitto_*"):
            file.rename(folder / file.name)
        return next(folder.glob("mosquitto_*.dsc"))
    raise NoNewerMosquitto(f"Debian's source of Mosquitto (suite {_SUITE}) cannot be had here: {said}")


def _version(source: Path) -> str:
    """The upstream version of a source package, by its name."""
    match = re.fullmatch(r"mosquitto_(\d+(?:\.\d+)+)[^_]*\.dsc", source.name)
    if match is None or _numbers(match[1]) < OLDEST:
        raise NoNewerMosquitto(f"Mosquitto 2.1 or newer is needed, and the mirror has {source.stem}.")
    return match[1]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _keep(tree: Path, version: str, run_folder: Path) -> NewerMosquitto:
    """Copies what is needed; the folder appears when it is complete."""
    # As devstack.run_folder has it.
    run_folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mosquitto-unfinished-", dir=run_folder) as name:
        kept = Path(name) / "kept"
        kept.mkdir()
        shutil.copy2(tree / "src" / "mosquitto", kept)
        shutil.copytree(tree / "include", kept / "include")
        try:
            kept.rename(run_folder / f"mosquitto-{version}")
        except OSError:
            # Somebody else was faster, or nothing can be kept there.
            if _already_built(run_folder) is None:
                raise
    built = _already_built(run_folder)
    if built is None:
        raise NoNewerMosquitto(f"What was built has been removed from {run_folder}.")
    return built


def _run(command: Sequence[str], folder: Path) -> str:
    """Runs it to its end and returns what it wrote; the error says what apt complains of, or has the end."""
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment_for_make() | {"LC_ALL": "C"},
    )
    if done.returncode != 0:
        lines = done.stdout.splitlines()
        complaints = [line.removeprefix("E: ") for line in lines if line.startswith("E: ")]
        said = complaints[0] if complaints else "\n" + "\n".join(lines[-10:])
        raise NoNewerMosquitto(f"{command[0]} failed: {said}")
    return done.stdout


if __name__ == "__main__":
    try:
        mosquitto = newer_mosquitto()
    except NoNewerMosquitto as error:
        sys.exit(str(error))
    sys.stdout.write(f"Mosquitto {mosquitto.version}: {mosquitto.executable}\n")
