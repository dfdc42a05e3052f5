"""The map of error codes to gRPC statuses."""

from __future__ import annotations

import grpc
import pytest

from service.domain.errors import RETRYABLE, ErrorCode, Rejection
from service.grpc_api.errors import STATUS, error_metadata


def test_every_error_code_has_a_status() -> None:
    assert set(STATUS) == set(ErrorCode)
    assert grpc.StatusCode.OK not in STATUS.values()


def test_unavailable_is_exactly_what_may_be_retried_apart_from_defects() -> None:
    passing = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
    unavailable = {code for code, status in STATUS.items() if status in passing}
    assert unavailable == RETRYABLE - {ErrorCode.INTERNAL}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_metadata_carries_the_code_and_whether_to_retry(code: ErrorCode) -> None:
    metadata = dict(error_metadata(Rejection(code, "words")))
    retryable = "true" if code in RETRYABLE else "false"
    assert metadata == {"error-code": code.value, "error-retryable": retryable}


def test_metadata_carries_the_time_to_wait_when_there_is_one() -> None:
    metadata = dict(error_metadata(Rejection(ErrorCode.STORAGE_UNAVAILABLE, "words", 1_000)))
    assert metadata["error-retry-after-ms"] == "1000"
