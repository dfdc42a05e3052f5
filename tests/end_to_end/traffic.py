"""Users who write all the time, and what must be true of it whatever happened meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from service.cancellation import notice_cancellation
from service.domain.conversation import direct_conversation
from tests.conftest import MintToken
from tests.end_to_end.device import Device, device
from tests.end_to_end.history import history

_BETWEEN_MESSAGES_S = 0.01
_RESEND_AFTER_S = 2.0


@dataclass(slots=True)
class _Line:
    """What one user writes to another: numbers, each without waiting for the answer to the one before."""

    writer: Device
    reader: Device
    keys: list[str] = field(default_factory=list)

    def answers(self) -> dict[str, dict[str, Any]]:
        """The answer to each key, of which every one must be the same."""
        answers: dict[str, dict[str, Any]] = {}
        for event in self.writer.received:
            assert event.name == "messageSent", event
            key = event.payload["clientMessageId"]
            assert answers.setdefault(key, event.payload) == event.payload
        return answers

    async def write(self) -> None:
        self.keys.append(await self.writer.send(str(len(self.keys)), recipientId=self.reader.user_id))

    async def hears(self, more: int) -> None:
        enough = len(self.reader.received) + more
        await self.reader.until(lambda events: len(events) >= enough)

    async def settle(self) -> None:
        """Sends again what is not answered; an answer that was on its way when its instance died is lost."""
        while len(answers := self.answers()) < len(self.keys):
            try:
                async with asyncio.timeout(_RESEND_AFTER_S):
                    await self.writer.until(lambda _: len(self.answers()) == len(self.keys))
            except TimeoutError:
                for number, key in enumerate(self.keys):
                    if key not in answers:
                        await self.writer.send(
                            str(number), recipientId=self.reader.user_id, clientMessageId=key
                        )
        await self.reader.until(
            lambda events: len({event.payload["seq"] for event in events}) == len(self.keys)
        )

    async def verify(self, grpc_target: str, token: MintToken) -> None:
        """Acknowledgements, live events and history are the same messages in the same order."""
        conversation = direct_conversation(self.reader.user_id, self.writer.user_id)  # type: ignore[arg-type]
        stored = await history(grpc_target, token(self.writer.user_id), str(conversation.id))
        assert [message.text for message in stored] == [str(number) for number in range(len(self.keys))]
        assert [message.seq for message in stored] == list(range(1, len(self.keys) + 1))
        assert [message.client_message_id for message in stored] == self.keys
        answers = self.answers()
        assert [answers[key]["seq"] for key in self.keys] == [message.seq for message in stored]
        assert {event.name for event in self.reader.received} == {"newMessage"}
        live = [event.payload["seq"] for event in self.reader.received]
        # What is told again is told in its order, too: nobody sees a later message before an earlier one.
        assert list(dict.fromkeys(live)) == [message.seq for message in stored]


class Traffic:
    """All lines together."""

    def __init__(self, lines: Sequence[_Line], token: MintToken) -> None:
        self._lines = lines
        self._token = token
        self._going = asyncio.Event()
        self._going.set()
        self._between = [asyncio.Event() for _ in lines]

    @property
    def delivered(self) -> int:
        """Events that have come to readers and writers, repeated ones included."""
        return sum(len(line.reader.received) + len(line.writer.received) for line in self._lines)

    async def run(self) -> None:
        """Writes until cancelled, except while paused."""
        async with asyncio.TaskGroup() as tasks:
            for line, between in zip(self._lines, self._between, strict=True):
                tasks.create_task(self._write(line, between))

    async def _write(self, line: _Line, between: asyncio.Event) -> None:
        while True:
            between.set()
            await self._going.wait()
            between.clear()
            await line.write()
            # The client waits with `asyncio.wait_for`.
            notice_cancellation()
            await asyncio.sleep(_BETWEEN_MESSAGES_S)

    async def goes_on(self, messages: int = 50) -> None:
        """Returns when each line has that many more messages delivered."""
        await asyncio.gather(*(line.hears(messages) for line in self._lines))

    async def pause(self) -> None:
        """Writes no more until `resume`; returns when everything is acknowledged and delivered."""
        self._going.clear()
        await asyncio.gather(*(between.wait() for between in self._between))
        async with asyncio.timeout(60):
            await asyncio.gather(*(line.settle() for line in self._lines))

    def resume(self) -> None:
        """Goes on after `pause`."""
        self._going.set()

    async def verify(self, grpc_target: str) -> None:
        """Ends the writing and holds everything that was written against the promises."""
        await self.pause()
        for line in self._lines:
            await line.verify(grpc_target, self._token)


@asynccontextmanager
async def traffic(port: int, token: MintToken, pairs: Sequence[tuple[str, str]]) -> AsyncIterator[Traffic]:
    """Writes from the first to the second of each pair while the block runs."""
    async with AsyncExitStack() as stack:
        lines = []
        for pair in pairs:
            writer, reader = [
                await stack.enter_async_context(device(port, user, token(user))) for user in pair
            ]
            lines.append(_Line(writer, reader))
        made = Traffic(lines, token)
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.wait((running,))
        if not running.cancelled():
            running.result()
