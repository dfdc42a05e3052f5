"""Commands that are repeated, across reconnects, until the service has answered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, TypeVar
from uuid import uuid4

from messaging_client.commands import encode_command
from messaging_client.connection import Connection
from messaging_client.errors import ClientClosed, CommandRejected, LinkLost, MalformedEvent
from messaging_client.events import (
    CommandError,
    Event,
    MessageRead,
    MessageSent,
    PreferencesChanged,
    SyncPage,
)
from messaging_client.options import MessagingClientOptions

Success = MessageSent | MessageRead | SyncPage | PreferencesChanged
Answer = Success | CommandError
_Success = TypeVar("_Success", bound=Success)


class _NoAnswer(Enum):
    """Why an attempt ended without an answer."""

    TIMED_OUT = auto()
    LINK_LOST = auto()


class Answers:
    """Who waits for the answer to which command."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Answer]] = {}

    def expect(self, key: str) -> asyncio.Future[Answer]:
        """A future of the next answer to the command with this `clientMessageId` or `requestId`."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        return future

    def forget(self, key: str) -> None:
        """No answer is awaited any more; late ones are ignored."""
        self._waiting.pop(key, None)

    def offer(self, event: Event, correlation_data: bytes | None) -> bool:
        """Gives an answer to whoever waits for it; returns whether somebody did.

        An error that names no id (the service could not read the payload) is
        recognised by its correlation data.
        """
        if not isinstance(event, Answer):
            return False
        keys = [event.request_id]
        if isinstance(event, MessageSent | CommandError):
            keys.append(event.client_message_id)
        if correlation_data is not None:
            keys.append(correlation_data.decode("ascii", "replace"))
        for key in keys:
            future = self._waiting.get(key) if key is not None else None
            if future is not None:
                if not future.done():
                    future.set_result(event)
                return True
        return False


class Requester:
    """Publishes a command again and again until it is answered for good."""

    def __init__(self, options: MessagingClientOptions, connection: Connection) -> None:
        self._options = options
        self._connection = connection
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answers = Answers()

    def close(self) -> None:
        """Ends all that is waited for with `ClientClosed`."""
        if not self._closing.done():
            self._closing.set_result(None)

    async def ask(self, command: str, fields: Mapping[str, Any], kind: type[_Success]) -> _Success:
        """The answer to a command under a fresh `requestId`; raises as `until_answered` does."""
        key = uuid4().hex
        return await self.until_answered(command, encode_command({**fields, "requestId": key}), key, kind)

    async def until_answered(self, command: str, payload: bytes, key: str, kind: type[_Success]) -> _Success:
        """The answer to a command whose payload holds `key` as an id.

        Raises `CommandRejected` for a final error and `ClientClosed`.
        """
        unanswered = refused = 0
        try:
            while True:
                answer = await self._attempt(command, payload, key, unanswered)
                if isinstance(answer, _NoAnswer):
                    unanswered += answer is _NoAnswer.TIMED_OUT
                    continue
                if isinstance(answer, kind):
                    return answer
                if not isinstance(answer, CommandError):
                    raise MalformedEvent(f"{command} was answered with something else")
                if not answer.retryable:
                    raise CommandRejected(answer.code, answer.message, answer.retryable)
                pause = self._options.retry.delay(
                    refused, self._options.jitter, at_least=(answer.retry_after_ms or 0) / 1000
                )
                refused += 1
                await asyncio.wait({self._closing}, timeout=pause)
        finally:
            self.answers.forget(key)

    async def publish(self, command: str, payload: bytes, *, correlation_data: bytes | None = None) -> None:
        """Publishes a command that has no answer until the broker has it; raises `ClientClosed`."""
        while True:
            link = await self._connection.link()
            try:
                topic = self._options.command_topic(command)
                await link.publish(topic, payload, correlation_data=correlation_data)
                return
            except LinkLost:
                # A publish may fail without the connection being gone yet: no hot loop.
                await asyncio.wait({link.lost, self._closing}, timeout=1, return_when=asyncio.FIRST_COMPLETED)

    async def _attempt(self, command: str, payload: bytes, key: str, unanswered: int) -> Answer | _NoAnswer:
        """Publishes once and waits for an answer, to this attempt or an earlier one."""
        link = await self._connection.link()
        answer = self.answers.expect(key)
        # A publish that fails without ending the connection counts as one that was not answered.
        with contextlib.suppress(LinkLost):
            topic = self._options.command_topic(command)
            await link.publish(topic, payload, correlation_data=key.encode())
        until: set[asyncio.Future[Any]] = {answer, link.lost, self._closing}
        await asyncio.wait(
            until,
            timeout=self._options.answer_wait.delay(unanswered, self._options.jitter),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if answer.done():
            return answer.result()
        if self._closing.done():
            raise ClientClosed("the client was closed before the command was answered")
        return _NoAnswer.LINK_LOST if link.lost.done() else _NoAnswer.TIMED_OUT
