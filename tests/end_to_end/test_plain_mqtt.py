"""Every command of `docs/plain-mqtt.md` does what the page says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.asyncapi_schemas import validate_event
from tests.end_to_end.stack import PageStack

_PAGE = Path(__file__).parents[2] / "docs" / "plain-mqtt.md"
_EVENT = re.compile(r"^chat/v1/users/(\w+)/events/(\w+) (\{.*?\})(?: correlation=(.*))?$", re.MULTILINE)


def _blocks(language: str) -> list[str]:
    """All code of the page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", _PAGE.read_text(), re.MULTILINE | re.DOTALL)


async def run(program: Sequence[str], script: str, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *program,
        script,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_the_walk_with_mosquitto_pub_and_mosquitto_sub(page_stack: PageStack) -> None:
    output = await run(
        ["bash", "-euo", "pipefail", "-c"],
        # What still listens when the walk breaks off would keep its output open.
        "trap 'kill $LISTENERS 2>/dev/null || true' EXIT\n" + "\n".join(_blocks("sh")),
        GATEWAY=page_stack.page_url,
        BROKER="127.0.0.1",
        PORT=str(page_stack.mosquitto.mqtt_port),
    )
    told: list[tuple[str, str, dict[str, Any], str]] = [
        (user, event, json.loads(payload), correlation)
        for user, event, payload, correlation in _EVENT.findall(output)
    ]
    for _, event, payload, _ in told:
        validate_event(event, payload)
    assert [(user, event) for user, event, _, _ in told] == [
        ("alice", "messageSent"),
        ("bob", "newMessage"),
        ("alice", "messageDelivered"),
        ("alice", "messageRead"),
        ("bob", "messageRead"),
        ("bob", "syncPage"),
        ("alice", "messageSent"),
        ("alice", "error"),
    ], output
    payloads = [payload for _, _, payload, _ in told]
    assert payloads[0]["text"] == payloads[1]["text"] == payloads[5]["changes"][0]["text"] == "Hello Bob"
    assert (payloads[5]["requestId"], payloads[5]["complete"]) == ("r-1", True)
    assert told[6][3] == "c-2"
    assert payloads[7]["code"] == "INVALID_PAYLOAD"


async def test_the_walk_with_paho(page_stack: PageStack) -> None:
    # As a person does it: set in the shell, and not exported, before the first block.
    given = f"GATEWAY={page_stack.page_url} BROKER=127.0.0.1 PORT={page_stack.mosquitto.mqtt_port}\n"
    first, *_ = _blocks("sh")
    output = await run(
        ["bash", "-euo", "pipefail", "-c"],
        given + first + '"$PYTHON" -c "$SCRIPT"',
        PYTHON=sys.executable,
        SCRIPT="\n".join(_blocks("python")),
    )
    assert [line.split("'seq': ")[1][0] for line in output.splitlines()] == ["1", "1", "2", "2"]
    assert "MQTT 4" in output
    assert "MQTT 5" in output
