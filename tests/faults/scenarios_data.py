"""What clients send that cannot be processed, and tokens that end while messages are on their way."""

from __future__ import annotations

from functools import partial
from statistics import median
from uuid import UUID

from tests.faults.arena import Arena
from tests.faults.clients import TokenSource, User
from tests.faults.load import Pair
from tests.faults.poison import Poison, poisons
from tests.faults.raw_device import RawDevice, raw_device
from tests.faults.scenario import Scenario
from tests.faults.servers import Servers

_NEXT_SERVED_WITHIN_S = 0.1
_DEAD_LETTER = "command.deadLettered"
_ANSWERED_WITHIN_S = 10.0
_TOKEN_S = 1.0
"""What is left of a short-lived token when it is presented; the broker is patient for 5 s more."""
_WRITTEN_PER_S = 20.0


async def poisoned(arena: Arena) -> None:
    """Whatever is sent gets its one error and its dead letter, and the next message is served as ever."""
    profile = arena.load.pairs[0].first.profile
    heard = arena.load.platform.heard
    before = heard[_DEAD_LETTER]
    sent = 0
    async with raw_device(arena, profile, "poisoner") as device:
        for name, poison in poisons(profile.canary, profile.peer_id).items():
            tries = 3 if arena.short else 20
            times = [await _served_behind(arena, device, name, poison) for _ in range(tries)]
            sent += tries
            if median(times) > _NEXT_SERVED_WITHIN_S and not arena.combined:
                arena.violate("I7", f"behind {name} the next message waited {median(times):.3f} s")
    arena.note("poison payloads", sent)
    # A letter may come twice where something else failed meanwhile, never not at all.
    await arena.until(
        lambda: heard[_DEAD_LETTER] - before >= sent, _ANSWERED_WITHIN_S, "a dead letter for each"
    )


async def _served_behind(arena: Arena, device: RawDevice, name: str, poison: Poison) -> float:
    """Sends the payload and, right behind it, a message; returns how long that waited for its answer."""
    key = str(UUID(int=arena.random.getrandbits(128), version=4))
    errors = len(device.errors)
    began = arena.ledger.now()
    device.publish(poison.command, poison.payload)
    device.send(key, f"{device.profile.canary} {key[:8]} behind {name}")
    await arena.until(
        lambda: key in device.answered_at and len(device.errors) > errors,
        _ANSWERED_WITHIN_S,
        f"{name} and the message behind it are answered",
    )
    codes = {error["code"] for error in device.errors[errors:]}
    if codes != {poison.code}:
        arena.violate("I4", f"{name} was answered with {', '.join(sorted(codes))}")
    return device.answered_at[key] - began


class _ShortLived:
    """Tokens that end at once."""

    def __init__(self, tokens: TokenSource) -> None:
        self._tokens = tokens

    def mint(self, user_id: str, *, role: str | None = None, seconds: float = _TOKEN_S) -> str:
        """See `TokenSource`."""
        return self._tokens.mint(user_id, role=role, seconds=seconds)


async def tokens_expire(arena: Arena) -> None:
    """The broker ends every connection of some users after a few seconds, in the middle of their messages."""
    users = [user for number in range(4) for user in await _new_pair(arena, number)]
    wanted = 2 if arena.short else 8
    links = {user: user.links for user in users}
    await arena.until(
        lambda: all(user.links >= n + wanted for user, n in links.items()), wanted * 15.0, "tokens expire"
    )
    arena.note("tokens that ended", sum(user.links - n for user, n in links.items()))
    for user in users:
        user.writing = False


async def _new_pair(arena: Arena, number: int) -> tuple[User, User]:
    """Two who write to each other with short-lived tokens, some by WebSocket, some by TCP."""
    made = arena.load.new_pair(
        f"brief-{arena.random.getrandbits(32):08x}-{number}", per_second=_WRITTEN_PER_S
    )
    tokens = _ShortLived(arena.load.tokens)
    first, second = (
        User(
            user.profile,
            arena.ledger,
            tokens,
            arena.random,
            partial(_port, arena.servers, is_websocket=user.profile.websocket),
        )
        for user in made.users
    )
    arena.load.pairs[-1] = Pair(first, second, connected=True)
    await arena.servers.connections.connect([made.names])
    for user in (first, second):
        arena.load.add(user)
        user.writing = True
    return first, second


def _port(servers: Servers, *, is_websocket: bool) -> int:
    return servers.websocket_port if is_websocket else servers.mqtt_port


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="poison-payloads",
        run=poisoned,
        fault="payloads that nobody can process",
    ),
    Scenario(name="tokens-expire", run=tokens_expire, fault="tokens end during delivery"),
)
