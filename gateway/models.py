"""The JSON of the REST interface; also what OpenAPI says about it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from proto.messaging.v1 import messaging_pb2

UserId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{1,64}$", examples=["alice"])]
Uuid = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Moment = Annotated[
    str, Field(json_schema_extra={"format": "date-time"}, examples=["2025-11-21T09:30:00.123456Z"])
]
_CONVERSATION_ID = Field(examples=["5f0c1d1e-0f3c-5c1b-8d3b-2a9b8f6f7a01"])


def _rfc3339(moment: Timestamp) -> str:
    return moment.ToDatetime().isoformat(timespec="microseconds") + "Z"


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        frozen=True,
        # Errors are logged, and the input may be the text of a message.
        hide_input_in_errors=True,
    )


class Message(_Model):
    """One message of a conversation."""

    message_id: Annotated[Uuid, Field(examples=["019342c5-7e3a-7abc-8def-0123456789ab"])]
    conversation_id: Annotated[Uuid, _CONVERSATION_ID]
    seq: Annotated[int, Field(description="Position in the conversation, the only order.", examples=[42])]
    sender_id: UserId
    text: Annotated[str, Field(examples=["Hello Bob"])]
    timestamp: Annotated[Moment, Field(description="Commit time, for display only.")]
    client_message_id: Annotated[Uuid, Field(examples=["0b8c5c3e-3c51-4a5e-9a55-6f6f6c4b7a10"])]
    status: Annotated[
        Literal["SENT", "DELIVERED", "READ"],
        Field(description="What the author's counterpart has done with it so far."),
    ]

    @classmethod
    def of(cls, message: messaging_pb2.Message) -> Self:
        """From the service's answer."""
        name = messaging_pb2.MessageStatus.Name(message.status)
        return cls.model_validate(
            {
                "message_id": message.message_id,
                "conversation_id": message.conversation_id,
                "seq": message.seq,
                "sender_id": message.sender_id,
                "text": message.text,
                "timestamp": _rfc3339(message.timestamp),
                "client_message_id": message.client_message_id,
                "status": name.removeprefix("MESSAGE_STATUS_"),
            }
        )


class Conversation(_Model):
    """One conversation as the caller sees it."""

    conversation_id: Annotated[Uuid, _CONVERSATION_ID]
    kind: Annotated[str, Field(examples=["direct"])]
    participant_ids: Annotated[list[str], Field(examples=[["alice", "bob"]])]
    last_seq: Annotated[int, Field(description="0 when nothing was sent yet.", examples=[42])]
    last_message: Annotated[Message | None, Field(description="Absent when nothing was sent yet.")] = None
    unread_count: Annotated[int, Field(examples=[0])]
    created_at: Moment

    @classmethod
    def of(cls, conversation: messaging_pb2.Conversation) -> Self:
        """From the service's answer."""
        last = Message.of(conversation.last_message) if conversation.HasField("last_message") else None
        return cls(
            conversation_id=conversation.conversation_id,
            kind=conversation.kind,
            participant_ids=list(conversation.participant_ids),
            last_seq=conversation.last_seq,
            last_message=last,
            unread_count=conversation.unread_count,
            created_at=_rfc3339(conversation.created_at),
        )


_NEXT_CURSOR = Field(
    description="To be given as `cursor` for the next page; null when there is none.",
    examples=["eyJzIjo0Mn0"],
)


class ConversationList(_Model):
    """A page of the caller's conversations, latest activity first."""

    conversations: list[Conversation]
    next_cursor: Annotated[str | None, _NEXT_CURSOR]


class MessageList(_Model):
    """A page of messages in walking order: newest first for `older`, oldest first for `newer`."""

    messages: list[Message]
    next_cursor: Annotated[str | None, _NEXT_CURSOR]


class OpenConversationBody(_Model):
    """Whom to talk to."""

    recipient_id: Annotated[UserId, Field(examples=["bob"])]


class TokenBody(_Model):
    """Whose token to make."""

    user_id: UserId
    device_id: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9._@-]{1,64}$",
            examples=["laptop"],
            description="Binds the token to one device: its MQTT client id must be `{userId}:{deviceId}`.",
        ),
    ] = None


class Token(_Model):
    """A JWT: bearer token of this interface and password of the broker."""

    token: str
    expires_at: Moment


class PageConfig(_Model):
    """What the page needs to know about its surroundings."""

    broker_url: Annotated[str, Field(examples=["ws://127.0.0.1:9001"])]
    topic_root: Annotated[str, Field(examples=["chat/v1"])]
    development: bool


class Health(_Model):
    """Whether the process, or the service behind it, is there."""

    status: Annotated[str, Field(examples=["ok"])]


class ErrorDetail(_Model):
    """Why a request was refused."""

    code: Annotated[str, Field(description="One of the protocol's closed list.", examples=["NOT_CONNECTED"])]
    message: Annotated[str, Field(examples=["you and the recipient are not connected"])]
    retryable: Annotated[bool, Field(description="The same request may succeed later, unchanged.")]
    retry_after_ms: Annotated[
        int | None, Field(description="Not before this many milliseconds; on some retryable errors.")
    ] = None


class ErrorBody(_Model):
    """The body of every refusal."""

    error: ErrorDetail
