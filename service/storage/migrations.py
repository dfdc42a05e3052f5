"""Brings a database to the current schema."""

from __future__ import annotations

from pathlib import Path

import psycopg
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed
from yoyo import get_backend, read_migrations

SCHEMA = Path(__file__).parent / "schema"

_ADVISORY_LOCK = 0x6D65_7373_6167_6573
"""One lock for every instance that may migrate the same database."""


def migrate(database_url: str, *, patience_s: float = 0) -> int:
    """Applies the migrations that are missing, in order, and returns how many.

    Waits up to `patience_s` seconds for a database that does not answer yet.

    Safe to call from several instances at once: a session-level advisory lock
    lets one work while the others wait, and goes with its connection, so that
    a killed instance leaves nothing to clean up (yoyo's own lock row would).
    Migrations only go forward.

    Raises `psycopg.Error` when the database refuses.
    """
    connect = Retrying(
        retry=retry_if_exception_type(psycopg.OperationalError),
        stop=stop_after_delay(patience_s),
        wait=wait_fixed(0.25),
        reraise=True,
    )
    with connect(psycopg.connect, database_url, autocommit=True) as guard:
        guard.execute("SELECT pg_advisory_lock(%s)", (_ADVISORY_LOCK,))
        backend = get_backend(_yoyo_url(database_url))
        try:
            missing = backend.to_apply(read_migrations(str(SCHEMA)))
            backend.apply_migrations(missing)
            return len(missing)
        finally:
            backend.connection.close()


def _yoyo_url(database_url: str) -> str:
    """The same URL with the scheme by which yoyo chooses psycopg 3."""
    return "postgresql+psycopg://" + database_url.split("://", 1)[1]
