"""How the Python client finds out what it missed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from messaging_client import Backoff, ConversationSummary, MessagingClientOptions
from messaging_client.background import Background
from messaging_client.inbox import Inbox
from messaging_client.link import Link
from messaging_client.repair import Repair
from messaging_client.requests import Requester


class _UpForEver(Link):
    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()


class _NothingToAsk(Requester):
    def __init__(self) -> None:
        pass


async def test_a_conversation_list_that_never_comes_is_asked_for_again() -> None:
    asked: asyncio.Queue[int] = asyncio.Queue()

    async def token() -> str:
        return "token"

    async def listed() -> Mapping[str, ConversationSummary]:
        asked.put_nowait(1)
        await asyncio.Event().wait()
        return {}

    options = MessagingClientOptions(
        host="127.0.0.1",
        port=1,
        user_id="alice",
        device_id="phone",
        token=token,
        list_conversations=listed,
        connect_timeout=0.01,
        retry=Backoff(initial=0.01, maximum=0.01),
    )
    background = Background()
    repair = Repair(options, Inbox(10, {}), _NothingToAsk(), background)
    try:
        repair.connected(_UpForEver())
        async with asyncio.timeout(5):
            for _ in range(3):
                await asked.get()
    finally:
        await background.close()
