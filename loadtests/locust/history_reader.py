"""A user who opens conversations and scrolls back in them, over gRPC."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from typing import ClassVar, TypeVar

import grpc
from locust import between, task

from loadtests.locust.deployment import Deployment
from loadtests.locust.stage import StagedUser, fire
from loadtests.locust.thresholds import GRPC, HISTORY, LIST
from proto.messaging.v1.messaging_pb2 import (
    GetMessageHistoryRequest,
    ListConversationsRequest,
)
from proto.messaging.v1.messaging_pb2_grpc import MessagingServiceStub

_PAGE_SIZE = 50
_MOST_PAGES = 4
_DEADLINE_SECONDS = 10.0

_Answer = TypeVar("_Answer")


class WrongPage(Exception):
    """A page does not follow the one before."""


class HistoryReader(StagedUser):
    """Reads as one of the chatters, another one each time."""

    weight = 1
    wait_time = between(0.5, 1.5)
    stub: ClassVar[MessagingServiceStub]
    """Of one channel for all users of the process, as a gateway has it."""

    @task
    def scroll(self) -> None:
        """The list of conversations, and some pages of one of them."""
        user = self.stage.accounts.somebody()
        if user is None:
            return
        metadata = (("authorization", f"Bearer {self.stage.deployment.tokens.of(user)}"),)
        listed = self._measured(
            LIST,
            lambda: self.stub.ListConversations(
                ListConversationsRequest(), timeout=_DEADLINE_SECONDS, metadata=metadata
            ),
        )
        if listed is None or not listed.conversations:
            return
        chosen = random.choice(listed.conversations).conversation_id
        cursor, last_seq = "", None
        for _ in range(_MOST_PAGES):
            request = GetMessageHistoryRequest(conversation_id=chosen, page_size=_PAGE_SIZE, cursor=cursor)
            seqs = self._page(request, metadata, last_seq)
            if seqs is None:
                return
            cursor, last_seq = seqs
            if not cursor:
                return

    def _page(
        self, request: GetMessageHistoryRequest, metadata: tuple[tuple[str, str], ...], before: int | None
    ) -> tuple[str, int | None] | None:
        """The next cursor and the oldest position of one page, None when it could not be had."""

        def read() -> tuple[str, int | None]:
            page = self.stub.GetMessageHistory(request, timeout=_DEADLINE_SECONDS, metadata=metadata)
            seqs = [message.seq for message in page.messages]
            above = seqs if before is None else [before, *seqs]
            if any(newer <= older for newer, older in itertools.pairwise(above)):
                raise WrongPage(f"not newest first: {above}")
            return page.next_cursor, seqs[-1] if seqs else None

        return self._measured(HISTORY, read)

    def _measured(self, name: str, call: Callable[[], _Answer]) -> _Answer | None:
        """What the call returns, or None when it failed, which is reported."""
        began = time.perf_counter()
        answer, failure = None, None
        try:
            answer = call()
        except grpc.RpcError as error:
            failure = error.code().name if isinstance(error, grpc.Call) else repr(error)
        except WrongPage as error:
            failure = str(error)
        fire(self.environment, GRPC, name, time.perf_counter() - began, failure)
        return answer


def open_stub(deployment: Deployment) -> MessagingServiceStub | None:
    """The service's gRPC contract, or None where the deployment's target was not given."""
    if deployment.grpc_target is None:
        return None
    if deployment.grpc_tls:
        channel = grpc.secure_channel(deployment.grpc_target, grpc.ssl_channel_credentials())
    else:
        channel = grpc.insecure_channel(deployment.grpc_target)
    return MessagingServiceStub(channel)
