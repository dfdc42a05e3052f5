"""compose.yaml without a Docker engine: its shape, the files it names, its agreement with the settings."""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic_settings import BaseSettings

from gateway.settings import GatewaySettings
from service.settings import Settings

REPOSITORY = Path(__file__).parent.parent.parent

Duration = Annotated[str, StringConstraints(pattern=r"^\d+(ms|s|m)$")]
Text = Annotated[str, StringConstraints(min_length=1)]

#: What a person writes into .env before `docker compose up`.
WRITTEN = {"MESSAGING_JWT_SECRET": "s" * 64, "MESSAGING_DATABASE_PASSWORD": "p" * 32}
#: Settings class and port of each of our own programs.
PROGRAMS: Mapping[str, type[BaseSettings]] = {"service": Settings, "gateway": GatewaySettings}


class Strict(BaseModel):
    """A mapping of which every key is known; the compose specification knows more than we use."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Build(Strict):
    context: Text
    dockerfile: Text = "Dockerfile"
    target: Text | None = None


class HealthCheck(Strict):
    test: list[str] = Field(min_length=2)
    interval: Duration
    timeout: Duration
    retries: int = Field(ge=1)
    start_period: Duration | None = None


class Dependency(Strict):
    condition: Literal["service_healthy"]


class Container(Strict):
    build: Build | None = None
    image: Annotated[str, StringConstraints(pattern=r"^[a-z0-9/-]+:[0-9][A-Za-z0-9.-]*$")] | None = None
    command: list[str] | None = None
    restart: Literal["unless-stopped"]
    depends_on: dict[str, Dependency] = {}
    environment: dict[str, str] = {}
    ports: list[Annotated[str, StringConstraints(pattern=r"^127\.0\.0\.1:\d+:\d+$")]] = []
    volumes: list[Annotated[str, StringConstraints(pattern=r"^[a-z-]+:/\S+$")]] = []
    tmpfs: list[str] = []
    healthcheck: HealthCheck
    stop_grace_period: Duration | None = None

    @property
    def published(self) -> dict[int, int]:
        """Port of the host by port of the container."""
        pairs = (port.split(":")[1:] for port in self.ports)
        return {int(inside): int(outside) for outside, inside in pairs}


class Compose(Strict):
    name: Text
    services: dict[str, Container]
    volumes: dict[str, None]


@pytest.fixture(scope="module")
def compose() -> Compose:
    return Compose.model_validate(yaml.safe_load((REPOSITORY / "compose.yaml").read_text()))


def interpolated(text: str) -> str:
    """The value as Docker Compose gives it to the container when everything is in .env."""

    def value(found: re.Match[str]) -> str:
        assert found["name"] in WRITTEN, f"nobody is told to write {found['name']}"
        assert found["message"], f"{found['name']} has neither a default nor a message"
        return WRITTEN[found["name"]]

    return re.sub(r"\$\{(?P<name>\w+)(?::\?(?P<message>[^}]+))?\}", value, text)


def settings_of(compose: Compose, program: str, monkeypatch: pytest.MonkeyPatch) -> BaseSettings:
    """What the program reads in its container; raises pydantic's error if it would not start."""
    for name, value in compose.services[program].environment.items():
        monkeypatch.setenv(name, interpolated(value))
    return PROGRAMS[program]()


def default(settings: type[BaseSettings], field: str) -> object:
    return settings.model_fields[field].default


def host_and_port(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host, int(port)


def stages(build: Build) -> Iterator[str]:
    for line in dockerfile(build).read_text().splitlines():
        if found := re.match(r"FROM \S+ AS (\S+)$", line, re.IGNORECASE):
            yield found[1]


def dockerfile(build: Build) -> Path:
    return REPOSITORY / build.context / build.dockerfile


def test_every_container_is_built_here_or_has_a_pinned_image(compose: Compose) -> None:
    for name, container in compose.services.items():
        assert (container.build is None) != (container.image is None), name


def test_the_contexts_dockerfiles_and_stages_exist(compose: Compose) -> None:
    for name, container in compose.services.items():
        if container.build is None:
            continue
        assert dockerfile(container.build).is_file(), name
        if container.build.target is not None:
            assert container.build.target in stages(container.build), name


def test_what_a_dockerfile_copies_exists_and_reaches_the_builder(compose: Compose) -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for container in compose.services.values():
        if container.build is None:
            continue
        context = REPOSITORY / container.build.context
        for line in dockerfile(container.build).read_text().splitlines():
            words = line.split()
            if words[:1] != ["COPY"] or words[1].startswith("--from"):
                continue
            for source in (word for word in words[1:-1] if not word.startswith("--")):
                assert (context / source).exists(), f"{dockerfile(container.build)}: {line}"
                if context == REPOSITORY:
                    assert f"!{source.rstrip('/')}" in ignored, f"{source} is in .dockerignore"


def test_our_images_install_locked_packages_and_do_not_run_as_root() -> None:
    for program in PROGRAMS:
        text = (REPOSITORY / program / "Dockerfile").read_text()
        assert "--require-hashes" in text
        assert re.search(r"^USER [1-9]\d*$", text, re.MULTILINE)
        assert "HEALTHCHECK" in text


def test_dependencies_and_volumes_are_declared(compose: Compose) -> None:
    used = set()
    for container in compose.services.values():
        assert set(container.depends_on) <= set(compose.services)
        used |= {volume.split(":")[0] for volume in container.volumes}
    assert used == set(compose.volumes)


def test_no_two_containers_publish_the_same_port(compose: Compose) -> None:
    published = [port for container in compose.services.values() for port in container.published.values()]
    assert len(published) == len(set(published))


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_starts_with_its_environment(
    compose: Compose, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_of(compose, program, monkeypatch)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_variable_is_one_that_the_program_reads(compose: Compose, program: str) -> None:
    prefix = PROGRAMS[program].model_config["env_prefix"]
    known = {f"{prefix}{field}".upper() for field in PROGRAMS[program].model_fields}
    assert set(compose.services[program].environment) <= known


@pytest.mark.parametrize(
    ("program", "fields"), [("service", ("grpc_port", "http_port")), ("gateway", ("port",))]
)
def test_the_published_ports_are_the_default_ones(
    compose: Compose, program: str, fields: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(compose, program, monkeypatch)
    listening = [getattr(settings, field) for field in fields]
    assert listening == [default(PROGRAMS[program], field) for field in fields]
    assert compose.services[program].published == {port: port for port in listening}


@pytest.mark.parametrize(("program", "field"), [("service", "http_port"), ("gateway", "port")])
def test_the_health_checks_ask_the_port_that_the_program_listens_on(
    compose: Compose, program: str, field: str
) -> None:
    url = f"http://127.0.0.1:{default(PROGRAMS[program], field)}/readyz"
    assert url in " ".join(compose.services[program].healthcheck.test)
    assert url in (REPOSITORY / program / "Dockerfile").read_text()


def test_the_service_finds_its_neighbours_under_their_names(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(compose, "service", monkeypatch)
    assert isinstance(settings, Settings)
    (database,) = settings.database_url.hosts()
    postgresql = compose.services["postgresql"].environment
    assert (database["host"], database["port"]) == ("postgresql", 5432)
    assert database["username"] == postgresql["POSTGRES_USER"]
    assert database["password"] == interpolated(postgresql["POSTGRES_PASSWORD"])
    assert settings.database_url.path == f"/{postgresql['POSTGRES_DB']}"
    assert (settings.redis_url.host, settings.redis_url.port) == ("redis", 6379)
    assert settings.broker_host == "mosquitto"
    assert settings.broker_port in compose.services["mosquitto"].published
    assert host_and_port(settings.connections_target) == (
        "connections",
        host_and_port(str(default(Settings, "connections_target")))[1],
    )
    assert {"postgresql", "redis", "mosquitto", "connections"} == set(compose.services["service"].depends_on)


def test_the_gateway_finds_the_service_and_the_page_the_broker(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(compose, "gateway", monkeypatch)
    assert isinstance(settings, GatewaySettings)
    assert host_and_port(settings.grpc_target) == ("service", default(Settings, "grpc_port"))
    page_connects_to = str(settings.broker_websocket_url).rstrip("/").removeprefix("ws://")
    assert host_and_port(page_connects_to)[0] == "127.0.0.1"
    assert host_and_port(page_connects_to)[1] in compose.services["mosquitto"].published.values()


def test_all_three_check_tokens_with_the_same_secret(compose: Compose) -> None:
    found = {
        interpolated(value)
        for container in compose.services.values()
        for name, value in container.environment.items()
        if name.endswith("JWT_SECRET")
    }
    assert found == {WRITTEN["MESSAGING_JWT_SECRET"]}
    assert sum("JWT_SECRET" in str(container.environment) for container in compose.services.values()) == 3


def test_the_database_stays_durable_and_the_broker_and_it_keep_their_data(compose: Compose) -> None:
    command = " ".join(compose.services["postgresql"].command or ())
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert setting not in command
    for name in ("postgresql", "mosquitto"):
        assert compose.services[name].volumes, name


def test_the_documented_command_writes_the_secrets_once(tmp_path: Path) -> None:
    form = re.compile(r"\[ -e \.env \] .*?> \.env\)", re.DOTALL)
    (command,) = form.findall((REPOSITORY / "README.md").read_text())
    (commented,) = form.findall((REPOSITORY / "compose.yaml").read_text())
    assert commented.replace("\n#  ", "\n").split() == command.split()
    file = tmp_path / ".env"
    contents = []
    for _ in range(2):
        subprocess.run(["sh", "-ec", command], cwd=tmp_path, stdin=subprocess.DEVNULL, check=True)
        contents.append(file.read_text())
    assert contents[0] == contents[1]
    written = dict(line.split("=") for line in contents[0].splitlines())
    assert {name: len(value) for name, value in written.items()} == {
        name: len(value) for name, value in WRITTEN.items()
    }
    assert len(set(written.values())) == len(WRITTEN)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_secret_is_written_down(compose: Compose) -> None:
    for container in compose.services.values():
        for name, value in container.environment.items():
            if name.endswith(("SECRET", "PASSWORD")):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name
