"""Real servers for the tests: started once a session on free ports, in a temporary folder.

PostgreSQL runs without fsync, and every test that asks for `database_url` gets a database of
its own, copied from a migrated template.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import jwt as pyjwt
import pytest
from redis import Redis

from devstack.mosquitto import JwtOptions, MosquittoServer
from devstack.ports import free_port
from devstack.postgresql import PostgreSQLServer
from devstack.redis_server import RedisServer
from service.storage.migrations import migrate
from tests.leases import take_lease

_TEMPLATE = "migrated_template"
_LONG = {"test_make_run.py", "test_benchmark.py", "test_state_machine.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the longest files: at the end, one worker would be alone with them."""
    items.sort(key=lambda item: item.path.name not in _LONG)


class MintToken(Protocol):
    """Makes a JWT as the identity provider would."""

    def __call__(
        self,
        user_id: str,
        *,
        role: str | None = None,
        device: str | None = None,
        expires_in: float = 3600,
        **claims: object,
    ) -> str:
        """Returns a token for the user; `device` sets the claim `cid`, `claims` are added as they are."""


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A temporary folder that other users can enter: PostgreSQL does not run as root."""
    folder = Path(tempfile.mkdtemp(prefix="messaging-tests-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def jwt_options() -> JwtOptions:
    """What broker, service and gateway of the tests check tokens with."""
    return JwtOptions(algorithm="HS256", secret="secret-of-the-tests-with-enough-bytes-for-hs256")


@pytest.fixture(scope="session")
def jwt_secret(jwt_options: JwtOptions) -> str:
    """The HS256 secret of `jwt_options`."""
    assert jwt_options.secret is not None
    return jwt_options.secret


@pytest.fixture(scope="session")
def postgresql_server(servers_folder: Path) -> Iterator[PostgreSQLServer]:
    """PostgreSQL; tests that stop or kill it start one of their own."""
    server = PostgreSQLServer(servers_folder / "postgresql", free_port(), fsync=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server(servers_folder: Path) -> Iterator[RedisServer]:
    """Redis; tests that stop or kill it start one of their own."""
    server = RedisServer(servers_folder / "redis", free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mosquitto_server(servers_folder: Path, jwt_options: JwtOptions) -> Iterator[MosquittoServer]:
    """Mosquitto with the JWT plugin; tests that stop or kill it start one of their own."""
    server = MosquittoServer(servers_folder / "mosquitto", free_port(), free_port(), jwt=jwt_options)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def migrated_template(postgresql_server: PostgreSQLServer) -> str:
    """Name of a database with the schema and the lease of the tests in it."""
    postgresql_server.create_database(_TEMPLATE)
    migrate(postgresql_server.url(_TEMPLATE))
    take_lease(postgresql_server.url(_TEMPLATE))
    return _TEMPLATE


@pytest.fixture
def database_url(postgresql_server: PostgreSQLServer, migrated_template: str) -> Iterator[str]:
    """URL of a migrated database that only this test uses."""
    name = f"test_{uuid.uuid4().hex}"
    postgresql_server.create_database(name, template=migrated_template)
    yield postgresql_server.url(name)
    postgresql_server.drop_database(name)


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of an empty Redis database."""
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def token(jwt_secret: str) -> MintToken:
    """Mints HS256 tokens that the servers of the tests accept."""

    def mint(
        user_id: str,
        *,
        role: str | None = None,
        device: str | None = None,
        expires_in: float = 3600,
        **claims: object,
    ) -> str:
        now = time.time()
        payload: dict[str, object] = {"sub": user_id, "iat": int(now), "exp": int(now + expires_in)}
        if role is not None:
            payload["role"] = role
        if device is not None:
            payload["cid"] = f"{user_id}:{device}"
        return pyjwt.encode(payload | claims, jwt_secret, algorithm="HS256")

    return mint
