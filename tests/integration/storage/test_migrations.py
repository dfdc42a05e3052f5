"""Migrations on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from devstack.postgresql import PostgreSQLServer
from service.storage.migrations import SCHEMA, migrate


@pytest.fixture
def empty_database_url(postgresql_server: PostgreSQLServer) -> Iterator[str]:
    name = f"empty_{uuid4().hex}"
    postgresql_server.create_database(name)
    yield postgresql_server.url(name)
    postgresql_server.drop_database(name)


def test_instances_that_start_together_apply_each_migration_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(8) as instances:
        applied = list(instances.map(lambda _: migrate(empty_database_url), range(8)))
    expected = len(list(SCHEMA.glob("*.sql")))
    assert sorted(applied) == [0] * 7 + [expected]
    with psycopg.connect(empty_database_url) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchall()
    assert {"conversation", "participant", "message"} <= {name for (name,) in tables}


def test_a_database_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(psycopg.OperationalError):
        migrate("postgresql://nobody@127.0.0.1:1/nothing")
