"""Payloads that no service can process, by what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

_KEY = "0b0e7a1e-4c55-4f55-9e55-0a53a8b6f001"


@dataclass(frozen=True, slots=True)
class Poison:
    """A command that is answered with an error for what it is, and told to the platform as a dead letter."""

    command: str
    payload: bytes
    code: str = "INVALID_PAYLOAD"


def poisons(word: str, peer: str) -> Mapping[str, Poison]:
    """One of each kind; all hold `word` where they can hold any."""

    def message(**fields: object) -> bytes:
        good = {"recipientId": peer, "clientMessageId": _KEY, "text": word}
        return json.dumps({**good, **fields}).encode()

    unfinished = message()[:-1]
    sends = {
        "not JSON": word.encode(),
        "not UTF-8": b"\xff\xfe" + word.encode(),
        "empty": b"",
        "not an object": f'["{word}"]'.encode(),
        "cut off": unfinished,
        "nested 16,000 deep": b"[" * 16_000 + b"]" * 16_000,
        "nested in a field": unfinished + b',"x":' + b"[" * 15_000 + b"]" * 15_000 + b"}",
        "NaN": unfinished + b',"x":NaN}',
        "a lone surrogate": message(text=f"{word}?").replace(b"?", b"\\udc00"),
        "NUL in the text": message(text=f"{word}\0"),
        "an empty text": message(text=""),
        "5,001 characters": message(text=word + "x" * (5_001 - len(word))),
        "a number for a text": message(text=1),
        "an object for a key": message(clientMessageId={word: word}),
        "a wildcard for a user": message(recipientId="+"),
        "both targets": message(conversationId=_KEY),
        "no target": message(recipientId=None),
    }
    return {
        **{name: Poison("sendMessage", payload) for name, payload in sends.items()},
        "over 32 KiB": Poison("sendMessage", message(pad=word * 3_000), "PAYLOAD_TOO_LARGE"),
        "nested 100,000 deep": Poison("sendMessage", b"[" * 100_000 + b"]" * 100_000, "PAYLOAD_TOO_LARGE"),
        "a mark of nothing": Poison("markAsRead", json.dumps({"conversationId": word}).encode()),
        "a sync from nowhere": Poison("sync", json.dumps({"afterSeq": word}).encode()),
        "no such command": Poison("danceTango", word.encode(), "UNKNOWN_COMMAND"),
    }
