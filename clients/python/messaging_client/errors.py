"""What a caller of the client can be told by an exception."""

from __future__ import annotations


class MessagingError(Exception):
    """Base of everything that this package raises."""


class CommandRejected(MessagingError):
    """The service refused the command for good; nothing was stored.

    `code` is one of the closed list in `docs/asyncapi.yaml`.
    """

    def __init__(self, code: str, message: str, retryable: bool) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable


class ClientClosed(MessagingError):
    """The client is closed, or was closed while the call waited.

    A message whose `send()` ends so may still have been stored: send it again
    with the same `client_message_id` to find out.
    """


class LinkLost(MessagingError):
    """The connection to the broker could not be made, or ended."""


class MalformedEvent(MessagingError):
    """An event's payload is not what its topic promises."""
