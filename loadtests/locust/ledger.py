"""What a pair of users has sent and still waits for: nothing is forgotten without being reported. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Measure(StrEnum):
    """What is measured; the names of Locust's statistics."""

    ACKNOWLEDGED = "sendMessage to messageSent"
    """From sending to knowing that the message is durable."""
    RECEIVED = "sendMessage to newMessage"
    """From sending to the recipient, where it is a user of the same process."""
    DELIVERED = "markAsDelivered to messageDelivered"
    """From the recipient's mark to the author."""
    READ = "markAsRead to messageRead"
    """From a user's mark to its own answer."""
    READ_TOLD = "markAsRead to messageRead at the author"
    RESENT = "resent"
    """Commands sent again, because they had no answer or one that may be retried."""
    TYPING = "typing to typing"
    """Best effort: what does not arrive is not reported."""


Report: TypeAlias = Callable[[Measure, float, str | None], None]
"""Takes a measure, seconds, and why it failed (None if it did not)."""


@dataclass(slots=True, kw_only=True)
class Command:
    """A command on its way."""

    name: str
    payload: bytes
    user: str
    """Who sends it, and again while it has no answer."""
    counterpart: str
    answer: Measure | None = None
    """What the sender still waits for."""
    effect: Measure | None = None
    """What still has to be seen at the counterpart."""
    seq: int = 0
    """Of marks: the position that is marked."""
    sent_at: float
    retry_at: float = 0.0
    attempts: int = 1
    rejected_with: str | None = None
    """Code of the last retryable error."""


class Ledger:
    """Commands of one pair by their key (`clientMessageId` or `requestId`).

    Times are seconds of any one clock. Answers that nobody waits for any more
    (events come at least once) are passed over.
    """

    def __init__(self, report: Report, *, resend_after: float, give_up_after: float) -> None:
        self._report = report
        self._resend_after = resend_after
        self._give_up_after = give_up_after
        self._commands: dict[str, Command] = {}

    def sent(self, key: str, command: Command) -> None:
        """Remembers a command that was published for the first time."""
        command.retry_at = command.sent_at + self._resend_after
        self._commands[key] = command

    def answered(self, key: str, now: float) -> None:
        """The sender has its answer."""
        command = self._commands.get(key)
        if command is not None and command.answer is not None:
            self._report(command.answer, now - command.sent_at, None)
            command.answer = None
            self._settle(key, command)

    def arrived(self, key: str, now: float) -> None:
        """The counterpart has seen the effect of this very command."""
        command = self._commands.get(key)
        if command is not None and command.effect is not None:
            self._report(command.effect, now - command.sent_at, None)
            command.effect = None
            self._settle(key, command)

    def reached(self, effect: Measure, user: str, seq: int, now: float) -> None:
        """The author was told how far `user` has come: marks are cumulative."""
        for key, command in list(self._commands.items()):
            if command.effect is effect and command.user == user and command.seq <= seq:
                self.arrived(key, now)

    def refused(self, key: str, code: str, *, retry_after: float | None, now: float) -> None:
        """The command was answered with an error; `retry_after` is None when it is final."""
        command = self._commands.get(key)
        if command is None:
            return
        if retry_after is None:
            self._fail(key, command, f"refused: {code}", now)
        else:
            command.rejected_with = code
            command.retry_at = now + max(retry_after, self._resend_after)

    def due(self, user: str, now: float) -> list[Command]:
        """What the user has to send again now; what has waited for too long is reported as failed."""
        again = []
        for key, command in list(self._commands.items()):
            if command.user != user:
                continue
            if now - command.sent_at >= self._give_up_after:
                self._fail(key, command, _why(command), now)
            elif command.answer is not None and now >= command.retry_at:
                command.attempts += 1
                command.retry_at = now + self._resend_after
                self._report(Measure.RESENT, now - command.sent_at, None)
                again.append(command)
        return again

    def waits_for(self, user: str) -> bool:
        """Whether anything is outstanding that the user sent or has to see."""
        return any(self._involves(command, user) for command in self._commands.values())

    def abandon(self, user: str, now: float) -> None:
        """The user leaves: everything that would need it is lost, and reported so."""
        for key, command in list(self._commands.items()):
            if self._involves(command, user):
                self._fail(key, command, _why(command), now)

    def _involves(self, command: Command, user: str) -> bool:
        return command.user == user or (command.effect is not None and command.counterpart == user)

    def _settle(self, key: str, command: Command) -> None:
        if command.answer is None and command.effect is None:
            del self._commands[key]

    def _fail(self, key: str, command: Command, why: str, now: float) -> None:
        del self._commands[key]
        for measure in (command.answer, command.effect):
            if measure is not None:
                self._report(measure, now - command.sent_at, why)


def _why(command: Command) -> str:
    if command.answer is None:
        return "lost: not seen at the counterpart"
    return f"lost: {command.rejected_with or 'no answer'}"
