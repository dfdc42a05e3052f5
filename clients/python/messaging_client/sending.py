"""Sends messages until the service has answered: the same id again and again, in call order."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from enum import Enum, auto
from typing import Any
from uuid import UUID

from messaging_client.connection import Connection
from messaging_client.errors import ClientClosed, CommandRejected, LinkLost
from messaging_client.events import CommandError, Event, MessageSent
from messaging_client.options import MessagingClientOptions

Answer = MessageSent | CommandError


class _NoAnswer(Enum):
    """Why an attempt ended without an answer."""

    TIMED_OUT = auto()
    LINK_LOST = auto()


class Answers:
    """Who waits for the answer to which message."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Answer]] = {}

    def expect(self, client_message_id: str) -> asyncio.Future[Answer]:
        """A future of the next answer to this message."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[client_message_id] = future
        return future

    def forget(self, client_message_id: str) -> None:
        """No answer is awaited any more; late ones are ignored."""
        self._waiting.pop(client_message_id, None)

    def offer(self, event: Event, correlation_data: bytes | None) -> None:
        """Gives an answer to whoever waits for it.

        An error that names no `clientMessageId` (the service could not read the
        payload) is recognised by its correlation data.
        """
        if not isinstance(event, MessageSent | CommandError):
            return
        key = event.client_message_id
        if key not in self._waiting and correlation_data is not None:
            key = correlation_data.decode("ascii", "replace")
        future = self._waiting.get(key) if key is not None else None
        if future is not None and not future.done():
            future.set_result(event)


class Lanes:
    """One lock per conversation, however it is named: first come, first served."""

    def __init__(self) -> None:
        self._locks: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    def lane(self, *, recipient_id: str | None, conversation_id: str | None) -> asyncio.Lock:
        """The lane of the conversation with this user, or with this id."""
        if recipient_id is not None:
            return self._locks["user", recipient_id]
        return self._locks["conversation", str(conversation_id)]

    def same(self, recipient_id: str, conversation_id: str) -> None:
        """The two names turned out to stand for one conversation."""
        self._locks.setdefault(("conversation", conversation_id), self._locks["user", recipient_id])


class Sender:
    """`sendMessage`, resent until it is answered."""

    def __init__(self, options: MessagingClientOptions, connection: Connection) -> None:
        self._options = options
        self._connection = connection
        self._lanes = Lanes()
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answers = Answers()

    def close(self) -> None:
        """Ends all sends in progress with `ClientClosed`."""
        if not self._closing.done():
            self._closing.set_result(None)

    async def send(
        self, text: str, *, recipient_id: str | None, conversation_id: str | None, client_message_id: UUID
    ) -> MessageSent:
        """See `MessagingClient.send`."""
        command = {"clientMessageId": str(client_message_id), "text": text}
        if recipient_id is not None:
            command["recipientId"] = recipient_id
        if conversation_id is not None:
            command["conversationId"] = conversation_id
        payload = encode_command(command)
        async with self._lanes.lane(recipient_id=recipient_id, conversation_id=conversation_id):
            try:
                sent = await self._until_answered(str(client_message_id), payload)
            finally:
                self.answers.forget(str(client_message_id))
        if recipient_id is not None:
            self._lanes.same(recipient_id, sent.conversation_id)
        return sent

    async def _until_answered(self, client_message_id: str, payload: bytes) -> MessageSent:
        unanswered = refused = 0
        while True:
            answer = await self._attempt(client_message_id, payload, unanswered)
            if isinstance(answer, MessageSent):
                return answer
            if isinstance(answer, _NoAnswer):
                unanswered += answer is _NoAnswer.TIMED_OUT
                continue
            if not answer.retryable:
                raise CommandRejected(answer.code, answer.message, answer.retryable)
            pause = self._options.retry.delay(
                refused, self._options.jitter, at_least=(answer.retry_after_ms or 0) / 1000
            )
            refused += 1
            await asyncio.wait({self._closing}, timeout=pause)

    async def _attempt(self, client_message_id: str, payload: bytes, unanswered: int) -> Answer | _NoAnswer:
        """Publishes once and waits for an answer, to this attempt or an earlier one."""
        link = await self._connection.link()
        answer = self.answers.expect(client_message_id)
        # A publish that fails without ending the connection counts as one that was not answered.
        with contextlib.suppress(LinkLost):
            topic = self._options.command_topic("sendMessage")
            await link.publish(topic, payload, correlation_data=client_message_id.encode())
        until: set[asyncio.Future[Any]] = {answer, link.lost, self._closing}
        await asyncio.wait(
            until,
            timeout=self._options.answer_wait.delay(unanswered, self._options.jitter),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if answer.done():
            return answer.result()
        if self._closing.done():
            raise ClientClosed("the client was closed before the message was answered")
        return _NoAnswer.LINK_LOST if link.lost.done() else _NoAnswer.TIMED_OUT


def encode_command(command: dict[str, Any]) -> bytes:
    """A command's payload; raises `ValueError` for what UTF-8 JSON cannot hold (lone surrogates, NaN)."""
    return json.dumps(command, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
