"""When the Python client replaces its token."""

from __future__ import annotations

import base64
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging_client.tokens import expires_at, renewal_delay


def _token(claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.signature"


def test_expiry_of_a_real_token_is_read() -> None:
    token = jwt.encode({"sub": "alice", "exp": 1_900_000_000}, "k" * 32, algorithm="HS256")
    assert expires_at(token) == 1_900_000_000


@pytest.mark.parametrize(
    "token",
    ["", "a.b", "a.b.c.d", "e30.!!!.x", "e30.bm90anNvbg.x", _token([1]), _token({}), _token({"exp": "soon"})],
)
def test_a_token_that_cannot_be_read_has_no_known_expiry(token: str) -> None:
    assert expires_at(token) is None


def test_true_is_no_expiry() -> None:
    assert expires_at(_token({"exp": True})) is None


def test_renewal_comes_within_the_margin_before_expiry() -> None:
    assert renewal_delay(4_600, 1_000, 60, lambda: 0.0) == 3_570
    assert renewal_delay(4_600, 1_000, 60, lambda: 1.0) == 3_540


def test_short_lived_tokens_use_three_quarters_of_their_life() -> None:
    assert renewal_delay(1_008, 1_000, 60, lambda: 1.0) == 6


def test_no_renewal_is_planned_without_expiry_or_when_clocks_disagree() -> None:
    assert renewal_delay(None, 1_000, 60, lambda: 0.5) is None
    assert renewal_delay(999, 1_000, 60, lambda: 0.5) is None


@given(remaining=st.floats(0.001, 1e7), margin=st.floats(0, 3_600), jitter=st.floats(0, 1))
def test_renewals_never_follow_each_other_without_a_pause(
    remaining: float, margin: float, jitter: float
) -> None:
    delay = renewal_delay(1_000 + remaining, 1_000, margin, lambda: jitter)
    assert delay is not None
    assert delay >= 1
    assert delay <= max(1, remaining + 1e-6)
