"""Reads a whole conversation over gRPC, page by page."""

from __future__ import annotations

import grpc

from proto.messaging.v1 import messaging_pb2, messaging_pb2_grpc


async def history(target: str, token: str, conversation_id: str) -> list[messaging_pb2.Message]:
    """Every message of the conversation as the token's user sees it, oldest first."""
    messages: list[messaging_pb2.Message] = []
    async with grpc.aio.insecure_channel(target) as channel:
        stub = messaging_pb2_grpc.MessagingServiceStub(channel)
        cursor = ""
        while True:
            page = await stub.GetMessageHistory(
                messaging_pb2.GetMessageHistoryRequest(
                    conversation_id=conversation_id,
                    page_size=37,
                    cursor=cursor,
                    direction=messaging_pb2.DIRECTION_NEWER,
                ),
                metadata=(("authorization", f"Bearer {token}"),),
                timeout=5,
            )
            messages += page.messages
            cursor = page.next_cursor
            if not cursor:
                return messages
