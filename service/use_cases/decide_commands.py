"""Decides whether a command may be committed: from memory at once, or by asking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from service.domain.conversation import Conversation
from service.domain.errors import Rejected, Rejection
from service.domain.ids import ConversationId, UserId
from service.domain.message import Draft
from service.domain.preferences import Preferences
from service.use_cases.authorize import NOT_CONNECTED, Authorize
from service.use_cases.incidents import incident
from service.use_cases.lease import LeaseLost
from service.use_cases.mark_position import MarkCommand
from service.use_cases.ports import BatchWriter
from service.use_cases.send_message import SendCommand, Sent, drafted, sent
from service.use_cases.set_preferences import SetPreferences, SetPreferencesCommand

Command = SendCommand | MarkCommand | SetPreferencesCommand

_Decision = TypeVar("_Decision")


class DecideCommands:
    """A decision is the conversation in which the command may be committed, or already its answer.

    What goes wrong is an answer, too; only `LeaseLost` is raised.
    """

    def __init__(
        self,
        authorize: Authorize,
        writer: BatchWriter,
        set_preferences: SetPreferences,
        *,
        messages_settled: Callable[[], Awaitable[None]],
        marks_settled: Callable[[], Awaitable[None]],
        now_ns: Callable[[], int],
    ) -> None:
        """The two that settle return when what waits for a commit now was committed, or has failed."""
        self._authorize = authorize
        self._writer = writer
        self._set_preferences = set_preferences
        self._messages_settled = messages_settled
        self._marks_settled = marks_settled
        self._now_ns = now_ns

    def known(self, command: Command) -> Conversation | Rejection | None:
        """The decision, if this process can take it without waiting; else None."""
        if isinstance(command, SetPreferencesCommand):
            return None
        if isinstance(command, SendCommand):
            decision = self._authorize.known(command.user_id, command.target)
            # Not yet a refusal: see `_connected_or_original`.
            return None if decision is NOT_CONNECTED else decision
        return self._authorize.known_participation(command.user_id, command.conversation_id)

    async def decide(self, command: Command) -> Conversation | Sent | Preferences | Rejection:
        """The decision, asking whoever must be asked."""
        return await _answered(command.id, self._decide(command))

    def is_still_known(self, draft: Draft) -> bool:
        """Whether the message may be committed as far as this process knows."""
        return isinstance(self._authorize.known(draft.sender_id, draft.conversation_id), Conversation)

    async def decide_again(self, draft: Draft, conversation: Conversation) -> Sent | Rejection | None:
        """The answer to a message that waited, or None: then it may still be committed.

        Waits for no commit, so that it may be asked before one.
        """
        decision = await _answered(draft.client_message_id, self._decide_waiting(draft, conversation))
        return None if isinstance(decision, Conversation) else decision

    async def _decide(self, command: Command) -> Conversation | Sent | Preferences:
        if isinstance(command, SetPreferencesCommand):
            # What was read before is shown or hidden as was chosen then.
            await self._marks_settled()
            return await self._set_preferences(
                command.user_id, read_receipts=command.read_receipts, invisible=command.invisible
            )
        if isinstance(command, SendCommand):
            return await self._decide_send(command)
        return await self._authorize.participation(command.user_id, command.conversation_id)

    async def _decide_send(self, command: SendCommand) -> Conversation | Sent:
        return await self._connected_or_original(
            command.user_id, command.target, lambda: self._original_of(command)
        )

    async def _decide_waiting(self, draft: Draft, conversation: Conversation) -> Conversation | Sent:
        return await self._connected_or_original(
            draft.sender_id, conversation.id, lambda: self._original(draft, conversation)
        )

    async def _connected_or_original(
        self,
        sender: UserId,
        target: ConversationId | str,
        original: Callable[[], Awaitable[Sent | None]],
    ) -> Conversation | Sent:
        """Who resends what was accepted before a revocation gets the original result."""
        try:
            return await self._authorize.decide(sender, target)
        except Rejected as error:
            if error.rejection != NOT_CONNECTED:
                raise
            accepted = await original()
            if accepted is None:
                raise
            return accepted

    async def _original_of(self, command: SendCommand) -> Sent | None:
        conversation = await self._authorize.addressed(command.user_id, command.target)
        if conversation is None:
            return None
        # The same message may be in the commit that is under way.
        await self._messages_settled()
        return await self._original(drafted(command, conversation, self._now_ns()), conversation)

    async def _original(self, draft: Draft, conversation: Conversation) -> Sent | None:
        """What became of the same message when it was sent before; it may have been accepted then."""
        row = await self._writer.find(draft.sender_id, draft.client_message_id)
        original = None if row is None else sent(draft, conversation, row)
        return original if isinstance(original, Sent) else None


async def _answered(command_id: UUID | UserId, deciding: Awaitable[_Decision]) -> _Decision | Rejection:
    try:
        return await deciding
    except Rejected as error:
        return error.rejection
    except LeaseLost:
        raise
    except Exception:
        return incident("authorize", command_id)
