"""Commands that a state file keeps: sent though nobody waits, answered whatever happens to the file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import uuid4

import pytest

from messaging_client import ClientClosed, CommandRejected, MessageRead, MessageSent
from messaging_client.background import Background
from messaging_client.requests import Requester
from messaging_client.sending import Outbox
from messaging_client.state_file import StateFile, StoredCommand
from tests.unit.python_client.answers import SENT

_Kind = TypeVar("_Kind", MessageSent, MessageRead)
_READ = MessageRead(
    conversation_id="c", message_id="m", user_id="alice", seq=1, read_at=datetime(2025, 1, 1, tzinfo=UTC)
)


class _Service:
    """Answers everything at once; refuses the text `refused`."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def until_answered(self, command: str, payload: bytes, key: str, kind: type[_Kind]) -> _Kind:
        self.asked.append(command)
        if b"refused" in payload:
            raise CommandRejected("NOT_CONNECTED", "why", retryable=False)
        answer = SENT if kind is MessageSent else _READ
        assert isinstance(answer, kind)
        return answer


class _Box:
    """An outbox with what it works with."""

    def __init__(self, file: StateFile) -> None:
        self.file = file
        self.service = _Service()
        self.background = Background()
        self.outbox = Outbox(cast(Requester, self.service), self.background, file)

    async def send(self, text: str = "hello") -> MessageSent:
        async with asyncio.timeout(5):
            return await self.outbox.send(
                text, recipient_id="bob", conversation_id=None, client_message_id=uuid4()
            )

    async def mark_as_read(self) -> MessageRead:
        async with asyncio.timeout(5):
            return await self.outbox.mark_as_read("c", "m")

    async def kept(self) -> list[str]:
        return [command.name for command in await self.file.commands()]


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[_Box]:
    file = StateFile(tmp_path / "state", "alice:phone")
    await file.open()
    box = _Box(file)
    yield box
    await box.background.close()
    await file.close()


def _full(file: StateFile, key: str) -> Coroutine[Any, Any, None]:
    raise sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize(
    ("name", "call"), [("sendMessage", _Box.send), ("markAsRead", _Box.mark_as_read)], ids=["send", "read"]
)
async def test_a_command_is_sent_though_its_caller_left_before_it_was_in_the_file(
    box: _Box, name: str, call: Callable[[_Box], Coroutine[Any, Any, object]]
) -> None:
    disk = threading.Event()
    box.file._thread.submit(disk.wait, 10)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await call(box)
    assert box.service.asked == []
    disk.set()
    # Goes through the same lane, behind the first.
    await call(box)
    assert box.service.asked == [name, name]
    assert await box.kept() == []


async def test_an_answer_is_told_though_the_file_cannot_forget_the_command(
    box: _Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(StateFile, "remove", _full)
    assert await box.send() is SENT
    assert await box.mark_as_read() is _READ
    with pytest.raises(CommandRejected):
        await box.send("refused")
    assert await box.kept() == ["sendMessage", "markAsRead", "sendMessage"]
    assert "stays in the state file" in caplog.text


async def test_what_the_file_does_not_take_is_not_sent(box: _Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StateFile, "add", _full)
    with pytest.raises(sqlite3.OperationalError):
        await box.send()
    assert box.service.asked == []


async def test_a_client_that_closes_before_the_command_is_begun_lets_its_caller_go(
    box: _Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def add(file: StateFile, command: StoredCommand) -> None:
        """Takes no time."""

    monkeypatch.setattr(StateFile, "add", add)
    outcome, _ = await asyncio.gather(box.send(), box.background.close(), return_exceptions=True)
    assert isinstance(outcome, ClientClosed)
    assert box.service.asked == []
    with pytest.raises(ClientClosed):
        await box.send()
