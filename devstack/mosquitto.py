"""An own Mosquitto with the JWT plugin, configured from the template."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from devstack.ports import LOOPBACK, accepts_connections
from devstack.server_process import ServerFailed, ServerProcess, find_executable

CONFIG_FOLDER = Path(__file__).parent.parent / "broker_config" / "mosquitto"
TOPIC_ROOT = "chat/v1"
_LONGEST_SOCKET_PATH = 100
_MAKE_VARIABLES = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtOptions:
    """How the broker checks the tokens; needs the secret for HS256, else the public key."""

    algorithm: str = "HS256"
    secret: str | None = None
    public_key_file: Path | None = None
    audience: str | None = None
    issuer: str | None = None
    require_cid: bool = False
    """Whether each user's token must name its client id."""

    def plugin_options(self) -> str:
        """The plugin_opt_jwt_* lines of the configuration.

        Raises:
            ValueError: a value cannot stand on one line.
        """
        values = {
            "algorithm": self.algorithm,
            "secret": self.secret,
            "public_key_file": self.public_key_file,
            "audience": self.audience,
            "issuer": self.issuer,
            "require_cid": "true" if self.require_cid else None,
        }
        lines = []
        for name, value in values.items():
            if value is None:
                continue
            text = str(value)
            if text != text.strip() or not text.isprintable():
                raise ValueError(f"the value of {name} does not fit on a line of mosquitto.conf")
            lines.append(f"plugin_opt_jwt_{name} {text}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginBuild:
    """Where the plugin is compiled, and against which broker's headers."""

    folder: Path = CONFIG_FOLDER / "build"
    include_dir: Path | None = None
    """None for the system's, or those that MOSQUITTO_INCLUDE_DIR names."""

    def make_variables(self) -> list[str]:
        """What the Makefile is told; relative, because make would split a path at its spaces."""
        start = CONFIG_FOLDER.resolve()
        variables = [f"BUILD_DIR={os.path.relpath(self.folder.resolve(), start)}"]
        if self.include_dir is not None:
            variables.append(f"MOSQUITTO_INCLUDE_DIR={os.path.relpath(self.include_dir.resolve(), start)}")
        return variables


SYSTEM_PLUGIN = PluginBuild()


def build_plugin(build: PluginBuild = SYSTEM_PLUGIN) -> Path:
    """Compiles the plugin where it is not up to date, and returns its path.

    Raises:
        ServerFailed: the compiler's output, when it fails.
    """
    with _locked(CONFIG_FOLDER):
        made = subprocess.run(
            ["make", "-C", str(CONFIG_FOLDER), *build.make_variables()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment_for_make(),
        )
    if made.returncode != 0:
        raise ServerFailed(f"The broker plugin does not build:\n{made.stdout}{made.stderr}")
    return build.folder / "jwt_access.so"


def environment_for_make() -> dict[str, str]:
    """Ours without what an outer make (`make run`) was told, which is not for an inner one."""
    return {key: value for key, value in os.environ.items() if key not in _MAKE_VARIABLES}


class MosquittoServer(ServerProcess):
    """Mosquitto with MQTT on one loopback port and MQTT over WebSocket on another."""

    start_timeout = 15.0

    def __init__(
        self,
        data_dir: Path,
        mqtt_port: int,
        websocket_port: int,
        *,
        jwt: JwtOptions,
        executable: str = "mosquitto",
        plugin_build: PluginBuild = SYSTEM_PLUGIN,
        topic_root: str = TOPIC_ROOT,
        limits: Mapping[str, int] | None = None,
        log_file: Path | None = None,
    ) -> None:
        super().__init__("Mosquitto", log_file or data_dir / "mosquitto.log")
        self.data_dir = data_dir
        self.host = LOOPBACK
        self.mqtt_port = mqtt_port
        self.websocket_port = websocket_port
        self._jwt = jwt
        self._executable = executable
        self._plugin_build = plugin_build
        self._topic_root = topic_root
        self._limits = limits or {}
        self._log_start = 0

    @property
    def socket_path(self) -> Path | None:
        """Where the service connects without TCP; None where the folder's path is too long for a socket."""
        path = self.data_dir.resolve() / "mqtt.sock"
        return path if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH else None

    @property
    def websocket_url(self) -> str:
        """Where a browser connects."""
        return f"ws://{LOOPBACK}:{self.websocket_port}"

    @property
    def config_file(self) -> Path:
        """The rendered configuration; it holds the secret."""
        return self.data_dir / "mosquitto.conf"

    def prepare(self) -> None:
        """Builds the plugin and writes the configuration."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        template = Template((CONFIG_FOLDER / "mosquitto.conf.template").read_text())
        text = template.substitute(
            MQTT_HOST=LOOPBACK,
            MQTT_PORT=self.mqtt_port,
            UNIX_LISTENER=f"listener 0 {self.socket_path}" if self.socket_path else "",
            WEBSOCKET_HOST=LOOPBACK,
            WEBSOCKET_PORT=self.websocket_port,
            PERSISTENCE_DIR=f"{self.data_dir}/",
            PLUGIN_PATH=build_plugin(self._plugin_build),
            TOPIC_ROOT=self._topic_root,
            JWT_OPTIONS=self._plugin_options(),
            # A broker that changed its user could not read the checkout, nor die with its parent.
            SYSTEM_USER="root",
        )
        self.config_file.unlink(missing_ok=True)
        with open(os.open(self.config_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0

    def _plugin_options(self) -> str:
        limits = [f"plugin_opt_{name} {value}" for name, value in self._limits.items()]
        return "\n".join([self._jwt.plugin_options(), *limits])

    def command(self) -> Sequence[str]:
        """The broker in the foreground."""
        executable = find_executable(self._executable)
        if executable is None:
            raise ServerFailed("Mosquitto is missing: sudo apt-get install mosquitto")
        return [executable, "-c", str(self.config_file)]

    def is_ready(self) -> bool:
        """Whether this process says that it runs, and both listeners accept."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            says_so = b" running\n" in log.read()
        return says_so and accepts_connections(self.mqtt_port) and accepts_connections(self.websocket_port)

    def forget_everything(self) -> None:
        """Deletes all sessions and queues; the broker must not run."""
        if self.is_running:
            raise RuntimeError("stop Mosquitto first")
        shutil.rmtree(self.data_dir)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from doing the same in the folder at the same time."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
