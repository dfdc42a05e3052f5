"""Reads when one message was delivered and read."""

from __future__ import annotations

from collections.abc import Sequence

from service.domain.errors import Rejected
from service.domain.ids import ConversationId, MessageId, UserId
from service.domain.receipts import Receipt
from service.use_cases.authorize import Authorize
from service.use_cases.mark_position import NO_MESSAGE
from service.use_cases.ports import ReceiptReader


class GetMessageReceipts:
    """Receipts for participants; to everybody else the conversation does not exist."""

    def __init__(self, authorize: Authorize, reader: ReceiptReader) -> None:
        self._authorize = authorize
        self._reader = reader

    async def __call__(
        self, caller: UserId, conversation_id: ConversationId, message_id: MessageId
    ) -> Sequence[Receipt]:
        """One receipt for each participant other than the message's author.

        Raises `Rejected`: CONVERSATION_NOT_FOUND, MESSAGE_NOT_FOUND or STORAGE_UNAVAILABLE.
        """
        await self._authorize.participation(caller, conversation_id)
        receipts = await self._reader.receipts(caller, conversation_id, message_id)
        if not receipts:
            raise Rejected.by(NO_MESSAGE)
        return receipts
