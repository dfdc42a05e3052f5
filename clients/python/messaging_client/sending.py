"""Messages and reads on their way: in call order per conversation, kept in a file when one is given."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import defaultdict
from typing import TypeVar
from uuid import UUID, uuid4

from messaging_client.background import Background
from messaging_client.commands import encode_command
from messaging_client.errors import ClientClosed, CommandRejected, MessagingError
from messaging_client.events import MessageRead, MessageSent
from messaging_client.requests import Requester
from messaging_client.state_file import StateFile, StoredCommand

_LOGGER = logging.getLogger("messaging_client")

_Kept = TypeVar("_Kept", MessageSent, MessageRead)


class Lanes:
    """One lock per conversation, however it is named: first come, first served."""

    def __init__(self) -> None:
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._conversations: dict[str, str] = {}

    def lane(self, place: str) -> asyncio.Lock:
        """The lane of a place: `place_of` a user or a conversation."""
        conversation_id = self._conversations.get(place)
        return self._locks[place if conversation_id is None else place_of(conversation_id=conversation_id)]

    def same(self, place: str, conversation_id: str) -> None:
        """The place of a user turned out to be this conversation."""
        self._conversations[place] = conversation_id
        self._locks.setdefault(place_of(conversation_id=conversation_id), self._locks[place])

    def conversation_at(self, place: str) -> str | None:
        """The conversation of a place, where it is known."""
        kind, _, name = place.partition(":")
        return name if kind == "conversation" else self._conversations.get(place)


def place_of(*, recipient_id: str | None = None, conversation_id: str | None = None) -> str:
    """Names the place that a command goes to; users and conversations never share a name."""
    return f"conversation:{conversation_id}" if recipient_id is None else f"user:{recipient_id}"


class Outbox:
    """`sendMessage` and `markAsRead`, repeated until answered; after a restart, too, with a file."""

    def __init__(self, requester: Requester, background: Background, file: StateFile | None) -> None:
        self._requester = requester
        self._background = background
        self._file = file
        self.lanes = Lanes()

    async def restore(self) -> None:
        """Takes up what an earlier run left unanswered; results come as events only."""
        if self._file is None:
            return
        for command in await self._file.commands():
            self._background.start(self._resume(command), f"resume {command.name}")

    async def send(
        self, text: str, *, recipient_id: str | None, conversation_id: str | None, client_message_id: UUID
    ) -> MessageSent:
        """See `MessagingClient.send`."""
        key = str(client_message_id)
        fields = {"clientMessageId": key, "text": text}
        if recipient_id is not None:
            fields["recipientId"] = recipient_id
        if conversation_id is not None:
            fields["conversationId"] = conversation_id
        place = place_of(recipient_id=recipient_id, conversation_id=conversation_id)
        command = StoredCommand(key=key, name="sendMessage", place=place, payload=encode_command(fields))
        return await self._keep(command, MessageSent)

    async def mark_as_read(self, conversation_id: str, message_id: str) -> MessageRead:
        """See `MessagingClient.mark_as_read`."""
        key = uuid4().hex
        fields = {"conversationId": conversation_id, "lastReadMessageId": message_id, "requestId": key}
        # Reads are cumulative: they need no order, and no message waits for one.
        place = f"read:{conversation_id}"
        command = StoredCommand(key=key, name="markAsRead", place=place, payload=encode_command(fields))
        return await self._keep(command, MessageRead)

    async def _keep(self, command: StoredCommand, kind: type[_Kept]) -> _Kept:
        if self._file is None:
            return await self._deliver(command, kind)
        # A task of its own: what is in the file is sent even if the caller stops waiting.
        sending = self._background.start(self._add_and_deliver(self._file, command, kind), command.name)
        if sending is None:
            raise ClientClosed("the client is closed")
        await asyncio.wait({sending})
        if sending.cancelled():
            raise ClientClosed("the client was closed before the command was answered")
        outcome = sending.result()
        if isinstance(outcome, MessagingError):
            raise outcome
        return outcome

    async def _add_and_deliver(
        self, file: StateFile, command: StoredCommand, kind: type[_Kept]
    ) -> _Kept | MessagingError:
        """The answer, or why there is none: that is for the caller, if it still waits, not for the log."""
        try:
            await file.add(command)
            return await self._deliver(command, kind)
        except MessagingError as error:
            return error

    async def _resume(self, command: StoredCommand) -> None:
        try:
            if command.name == "sendMessage":
                await self._deliver(command, MessageSent)
            else:
                await self._deliver(command, MessageRead)
        except CommandRejected as error:
            _LOGGER.warning("a %s of an earlier run was refused: %s", command.name, error.code)
        except ClientClosed:
            return

    async def _deliver(self, command: StoredCommand, kind: type[_Kept]) -> _Kept:
        async with self.lanes.lane(command.place):
            try:
                answer = await self._requester.until_answered(
                    command.name, command.payload, command.key, kind
                )
            except CommandRejected:
                await self._forget(command)
                raise
            await self._forget(command)
        if command.place.startswith("user:"):
            self.lanes.same(command.place, answer.conversation_id)
        return answer

    async def _forget(self, command: StoredCommand) -> None:
        if self._file is None:
            return
        try:
            await self._file.remove(command.key)
        except sqlite3.Error:
            # Its answer counts all the same: a command is safe to repeat.
            _LOGGER.exception("a %s that was answered stays in the state file", command.name)
