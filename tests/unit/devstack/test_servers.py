"""Our own PostgreSQL, Redis and Mosquitto."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from devstack.mosquitto import JwtOptions, MosquittoServer
from devstack.ports import free_port
from devstack.postgresql import PostgreSQLServer
from devstack.redis_server import RedisServer
from devstack.server_process import ServerFailed


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[PostgreSQLServer]:
    """In pytest's folder, which only its owner can enter."""
    server = PostgreSQLServer(tmp_path / "postgresql", free_port())
    server.start()
    yield server
    server.kill()


def _rows(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
        assert row is not None
        return int(row[0])


def _keep_a_row(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept (number int)")
        connection.execute("INSERT INTO kept VALUES (1)")


def test_what_postgresql_committed_survives_a_kill_and_a_restart(postgresql: PostgreSQLServer) -> None:
    postgresql.create_database("one")
    _keep_a_row(postgresql.url("one"))
    postgresql.kill()
    postgresql.start()
    postgresql.restart()
    assert _rows(postgresql.url("one")) == 1


def test_postgresql_is_durable_unless_told_otherwise(postgresql: PostgreSQLServer) -> None:
    with psycopg.connect(postgresql.url("postgres")) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {setting}").fetchone() == ("on",)


def test_databases_are_copied_found_and_dropped(postgresql: PostgreSQLServer) -> None:
    postgresql.create_database("original")
    _keep_a_row(postgresql.url("original"))
    postgresql.create_database("copy", template="original")
    assert _rows(postgresql.url("copy")) == 1
    postgresql.drop_database("copy")
    assert not postgresql.has_database("copy")
    assert postgresql.has_database("original")


def test_nobody_gets_into_postgresql_without_its_password(postgresql: PostgreSQLServer) -> None:
    url = f"postgresql://postgres:wrong@127.0.0.1:{postgresql.port}/postgres"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)
    assert (postgresql.data_dir / "password").stat().st_mode & 0o777 == 0o600


def test_postgresql_logs_no_values(postgresql: PostgreSQLServer) -> None:
    with psycopg.connect(postgresql.url("postgres"), autocommit=True) as connection:
        connection.execute("CREATE TABLE texts (body text UNIQUE CHECK (body <> 'secret words'))")
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("INSERT INTO texts VALUES ('secret words')")
    assert "violates check constraint" in postgresql.log_tail()
    assert "secret words" not in postgresql.log_file.read_text()


@pytest.mark.parametrize("process_id", [os.getpid(), 2**22 + 1], ids=["alive", "gone"])
def test_the_lock_file_of_a_killed_postgresql_does_not_stop_the_next(
    postgresql: PostgreSQLServer, process_id: int
) -> None:
    postgresql.kill()
    lock_file = postgresql.cluster / "postmaster.pid"
    lines = lock_file.read_text().splitlines(keepends=True)
    lock_file.write_text(f"{process_id}\n" + "".join(lines[1:]))
    postgresql.start()
    assert postgresql.is_running


def test_a_server_left_by_a_killed_parent_is_ended_first(postgresql: PostgreSQLServer) -> None:
    successor = PostgreSQLServer(postgresql.data_dir, free_port())
    successor.start()
    assert not postgresql.is_running
    assert successor.is_running
    successor.stop()


def test_an_interrupted_initdb_leaves_nothing_that_stops_the_next(tmp_path: Path) -> None:
    (tmp_path / "cluster.new").mkdir()
    (tmp_path / "cluster.new" / "PG_VERSION").write_text("1")
    server = PostgreSQLServer(tmp_path, free_port(), fsync=False)
    server.start()
    server.stop()
    assert server.exit_code == 0


def test_data_of_a_postgresql_that_is_not_installed_is_named_so(postgresql: PostgreSQLServer) -> None:
    postgresql.stop()
    (postgresql.cluster / "PG_VERSION").write_text("8\n")
    with pytest.raises(ServerFailed, match="made by PostgreSQL 8, which is not installed"):
        postgresql.start()


def test_redis_answers_and_keeps_nothing(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, free_port())
    server.start()
    with Redis.from_url(server.url) as client:
        client.set("key", "value")
        server.restart()
        assert client.get("key") is None
    server.stop()
    assert server.exit_code == 0


def test_a_taken_port_is_reported_with_the_log(tmp_path: Path, redis_server: RedisServer) -> None:
    with pytest.raises(ServerFailed, match="Address already in use"):
        RedisServer(tmp_path, redis_server.port).start()


def test_mosquitto_s_configuration_is_private(tmp_path: Path, jwt_options: JwtOptions) -> None:
    server = MosquittoServer(tmp_path / "mosquitto", free_port(), free_port(), jwt=jwt_options)
    server.start()
    try:
        assert server.config_file.stat().st_mode & 0o777 == 0o600
    finally:
        server.stop()
    assert server.exit_code == 0
    server.forget_everything()
    assert not server.data_dir.exists()


def test_jwt_options_become_lines_of_the_configuration() -> None:
    options = JwtOptions(algorithm="RS256", public_key_file=Path("/keys/public.pem"), audience="chat")
    assert options.plugin_options() == (
        "plugin_opt_jwt_algorithm RS256\n"
        "plugin_opt_jwt_public_key_file /keys/public.pem\n"
        "plugin_opt_jwt_audience chat"
    )


@pytest.mark.parametrize("secret", ["two\nlines", " leading space", "trailing space ", "nul\0"])
def test_a_secret_that_would_break_the_configuration_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="secret does not fit"):
        JwtOptions(secret=secret).plugin_options()


def test_a_missing_broker_is_named_with_what_to_type(tmp_path: Path, jwt_options: JwtOptions) -> None:
    server = MosquittoServer(tmp_path, free_port(), free_port(), jwt=jwt_options, executable="no-such-broker")
    with pytest.raises(ServerFailed, match="sudo apt-get install mosquitto"):
        server.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")
def test_root_runs_the_database_as_the_owner_of_its_folder(tmp_path: Path) -> None:
    server = PostgreSQLServer(tmp_path / "postgresql", free_port(), fsync=False)
    server.start()
    try:
        owner = server.cluster.stat().st_uid
        assert owner != 0
        assert Path(f"/proc/{server.pid}").stat().st_uid == owner
    finally:
        server.stop()
        shutil.rmtree(server.data_dir)
