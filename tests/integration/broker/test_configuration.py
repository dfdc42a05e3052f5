"""A wrong configuration stops the broker, with a sentence that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from devstack.mosquitto import JwtOptions
from devstack.server_process import ServerFailed
from tests.integration.broker.conftest import Enter, KeyPair, MakeBroker

SECRET = "secret-of-the-tests-with-enough-bytes-for-hs256"


def with_lines(*lines: str) -> Callable[[str], str]:
    """Puts these lines in the place of all options of the token."""

    def edit(text: str) -> str:
        kept = [line for line in text.splitlines() if not line.startswith("plugin_opt_")]
        at = next(i for i, line in enumerate(kept) if line.startswith("plugin ")) + 1
        return "\n".join([*kept[:at], *lines, *kept[at:], ""])

    return edit


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "plugin_opt_jwt_algorithm is missing; it is HS256, RS256 or ES256."),
        (["jwt_algorithm none"], "plugin_opt_jwt_algorithm is HS256, RS256 or ES256, not none."),
        (["jwt_algorithm HS512", f"jwt_secret {SECRET}"], "HS256, RS256 or ES256, not HS512."),
        (["jwt_algorithm hs256", f"jwt_secret {SECRET}"], "HS256, RS256 or ES256, not hs256."),
        (
            ["jwt_algorithm HS256", f"jwt_secret {SECRET}", "commands_per_second many"],
            "plugin_opt_commands_per_second is a number from 0 to 1000000, not many.",
        ),
        (
            ["jwt_algorithm HS256", f"jwt_secret {SECRET}", "waiting_commands 30001"],
            "plugin_opt_waiting_commands is a number from 0 to 30000, not 30001.",
        ),
        (
            ["jwt_algorithm HS256", f"jwt_secret {SECRET}", "commands_per_second -1"],
            "plugin_opt_commands_per_second is a number from 0 to 1000000, not -1.",
        ),
        (["jwt_algorithm HS256"], "needs either plugin_opt_jwt_secret or plugin_opt_jwt_secret_file."),
        (
            ["jwt_algorithm HS256", f"jwt_secret {SECRET}", "jwt_secret_file {public_key}"],
            "needs either plugin_opt_jwt_secret or plugin_opt_jwt_secret_file.",
        ),
        (["jwt_algorithm HS256", "jwt_secret short"], "the secret has 5 bytes, but HS256 needs 32."),
        (["jwt_algorithm HS256", "jwt_secret_file {folder}/none"], "/none: No such file or directory."),
        (["jwt_algorithm HS256", "jwt_secret_file {folder}"], "it must be a text of 1 to"),
        (
            ["jwt_algorithm HS256", f"jwt_secret {SECRET}", "jwt_public_key_file {public_key}"],
            "plugin_opt_jwt_public_key_file is not for HS256.",
        ),
        (["jwt_algorithm RS256"], "RS256 needs plugin_opt_jwt_public_key_file."),
        (["jwt_algorithm ES256"], "ES256 needs plugin_opt_jwt_public_key_file."),
        (["jwt_algorithm RS256", f"jwt_secret {SECRET}"], "a secret is only for HS256, not for RS256."),
        (["jwt_algorithm RS256", "jwt_public_key_file {private_key}"], "holds no public key in PEM."),
        (
            ["jwt_algorithm HS256", f"jwt_secret {SECRET}", "jwt_secrets x"],
            "unknown option plugin_opt_jwt_secrets.",
        ),
        (
            ["jwt_algorithm HS256", f"jwt_secret {SECRET}", f"jwt_secret {SECRET}"],
            "plugin_opt_jwt_secret is given twice.",
        ),
        (
            ["jwt_algorithm HS256", f"jwt_secret {SECRET}", 'jwt_audience say "hi"'],
            "plugin_opt_jwt_audience has a quote or a backslash.",
        ),
        (
            ["jwt_algorithm HS256", f"jwt_secret {SECRET}", "jwt_require_cid yes"],
            "plugin_opt_jwt_require_cid is true or false, not yes.",
        ),
        *[
            (
                ["jwt_algorithm HS256", f"jwt_secret {SECRET}", f"topic_root {root}"],
                f"plugin_opt_topic_root is no topic such as chat/v1: {root}.",
            )
            for root in ["/chat", "chat/", "chat/+", "#", "$SYS"]
        ],
    ],
)
def test_a_wrong_configuration_stops_the_broker_with_one_sentence(
    make_broker: MakeBroker, rs256: KeyPair, tmp_path: Path, lines: list[str], sentence: str
) -> None:
    (tmp_path / "private.pem").write_text(rs256.private_pem)
    given = [
        "plugin_opt_"
        + line.format(public_key=rs256.public_key_file, private_key=tmp_path / "private.pem", folder=tmp_path)
        for line in lines
    ]
    broker = make_broker(JwtOptions(secret=SECRET), edit=with_lines(*given))
    with pytest.raises(ServerFailed):
        broker.start()
    said = [line for line in broker.log_tail().splitlines() if "jwt_access: " in line]
    assert len(said) == 1
    assert said[0].endswith(sentence) or sentence in said[0]
    assert SECRET not in broker.log_tail()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
async def test_the_secret_can_be_in_a_file(
    make_broker: MakeBroker, tmp_path: Path, enter: Enter, jwt_secret: str, ending: str
) -> None:
    file = tmp_path / "secret"
    file.write_bytes((jwt_secret + ending).encode())
    options = with_lines("plugin_opt_jwt_algorithm HS256", f"plugin_opt_jwt_secret_file {file}")
    broker = make_broker(JwtOptions(secret=jwt_secret), edit=options)
    broker.start()
    await enter("alice", broker=broker)


async def test_the_topic_root_is_that_of_protocol_version_1_by_default(
    make_broker: MakeBroker, enter: Enter, jwt_secret: str
) -> None:
    options = with_lines("plugin_opt_jwt_algorithm HS256", f"plugin_opt_jwt_secret {jwt_secret}")
    broker = make_broker(JwtOptions(secret=jwt_secret), edit=options)
    broker.start()
    alice = await enter("alice", broker=broker)
    assert await alice.subscribe("chat/v1/users/alice/events/+") == [1]
