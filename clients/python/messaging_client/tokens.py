"""When a token has to be replaced. Tokens are read here, never verified: that is the broker's part."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

_SHORTEST = 1.0
"""Seconds between two renewals at the least, whatever the token says."""


def expires_at(token: str) -> float | None:
    """The claim `exp` (seconds since the epoch) of a JWT; None when it cannot be read."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    expiry = claims.get("exp") if isinstance(claims, dict) else None
    if isinstance(expiry, bool) or not isinstance(expiry, int | float):
        return None
    return float(expiry)


def renewal_delay(
    expiry: float | None, now: float, margin: float, jitter: Callable[[], float]
) -> float | None:
    """Seconds until the client should reconnect with a fresh token; None for never.

    Up to `margin` seconds before the expiry, a quarter of the remaining time
    for short-lived tokens; spread over half the margin. None also for a token
    that seems to have expired: the broker accepted it, so the clocks differ,
    and the broker will end the session when it thinks it time.
    """
    if expiry is None or expiry <= now:
        return None
    remaining = expiry - now
    ahead = min(margin, remaining / 4)
    return max(_SHORTEST, remaining - ahead * (0.5 + 0.5 * jitter()))
