"""What the Python client keeps over a restart."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from messaging_client.state_file import StateFile, StoredCommand


def command(key: str) -> StoredCommand:
    return StoredCommand(key=key, name="sendMessage", place="user:bob", payload=b'{"text":"\xc3\xa9"}')


async def opened(path: Path, client_id: str = "alice:phone") -> StateFile:
    file = StateFile(path, client_id)
    await file.open()
    return file


async def test_unanswered_commands_come_back_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "state"
    file = await opened(path)
    for key in ("b", "a", "c"):
        await file.add(command(key))
    await file.add(command("b"))
    await file.remove("a")
    await file.close()
    file = await opened(path)
    assert await file.commands() == [command("b"), command("c")]
    await file.close()
    await file.close()


async def test_positions_only_grow(tmp_path: Path) -> None:
    path = tmp_path / "state"
    file = await opened(path)
    await file.save_positions({"c": 5, "d": 1})
    await file.save_positions({"c": 3, "d": 2})
    await file.close()
    file = await opened(path)
    assert await file.positions() == {"c": 5, "d": 2}
    await file.close()


async def test_the_file_of_another_device_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    await (await opened(path)).close()
    with pytest.raises(ValueError, match="another device"):
        await opened(path, "alice:laptop")


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"something else entirely, and long enough to be looked at" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        await opened(path)
