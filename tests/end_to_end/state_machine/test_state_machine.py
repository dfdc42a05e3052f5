"""Random walks of several people and devices through the real system, compared with a model at every step.

`STATE_MACHINE_EXAMPLES` and `STATE_MACHINE_STEPS` make more and longer walks; more than the usual
number of them also shrink what they find.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from traceback import format_exception
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.conftest import MintToken
from tests.end_to_end.grpc_reader import grpc_reader
from tests.end_to_end.stack import Stack
from tests.end_to_end.state_machine.world import DEVICES, World, new_key

USUAL_EXAMPLES = 20
EXAMPLES = int(os.environ.get("STATE_MACHINE_EXAMPLES", USUAL_EXAMPLES))
STEPS = int(os.environ.get("STATE_MACHINE_STEPS", "25"))
STEP_DEADLINE_S = 60

NUMBERS = st.integers(min_value=0, max_value=DEVICES - 1)
CHOICES = st.integers(min_value=0, max_value=1_000)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
SENDS = st.lists(st.tuples(NUMBERS, CHOICES, TEXTS), min_size=2, max_size=12)
RARELY = st.sampled_from([False, False, False, True])
MARKS = st.lists(st.tuples(NUMBERS, CHOICES, CHOICES, st.booleans(), RARELY), min_size=1, max_size=6)

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Conversations(RuleBasedStateMachine):
    """Each rule is one step; `compare` follows every one. Subclasses say on which system."""

    new_world: ClassVar[Callable[[], World]]
    run: ClassVar[Run]
    """Runs a coroutine where the system's clients live, and returns when it has ended."""
    failures: ClassVar[list[BaseException]]
    """What went wrong, each time: Hypothesis calls it flaky where a repetition goes another way."""

    def __init__(self) -> None:
        super().__init__()
        self.world = type(self).new_world()
        self.restarts = 0
        self.is_sound = True

    def step(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            type(self).run(work)
        except BaseException as error:
            self.is_sound = False
            type(self).failures.append(error)
            raise

    def may_restart(self, wanted: bool) -> bool:
        """Once in a walk: it takes a second."""
        self.restarts += wanted
        return wanted and self.restarts == 1

    @initialize()
    def everybody_connects(self) -> None:
        self.step(self.world.start())

    @rule(number=NUMBERS, choice=CHOICES, text=TEXTS)
    def send(self, number: int, choice: int, text: str) -> None:
        self.step(self._send(number, choice, new_key(), text))

    @rule(sends=SENDS, restart=RARELY)
    def send_all_at_once(self, sends: list[tuple[int, int, str]], restart: bool) -> None:
        self.step(self._send_all(sends, self.may_restart(restart)))

    @rule(number=NUMBERS, choice=CHOICES, old=CHOICES, text=st.none() | TEXTS)
    def use_a_key_again(self, number: int, choice: int, old: int, text: str | None) -> None:
        """With the same text it is a resend; with another one, or elsewhere, a conflict."""
        self.step(self._use_again(number, choice, old, text))

    @rule(number=NUMBERS, texts=st.lists(TEXTS, min_size=1, max_size=8), choice=CHOICES)
    def break_off_while_sending(self, number: int, texts: list[str], choice: int) -> None:
        self.step(self._break_off(number, texts, choice))

    @rule(marks=MARKS, restart=RARELY)
    def mark(self, marks: list[tuple[int, int, int, bool, bool]], restart: bool) -> None:
        """Old messages and own ones included, sometimes one of another conversation."""
        self.step(self._mark(marks, self.may_restart(restart)))

    @rule(number=NUMBERS)
    def drop(self, number: int) -> None:
        self.world.devices[number].drop()

    @rule(number=NUMBERS)
    def reconnect(self, number: int) -> None:
        device = self.world.devices[number]
        device.drop()
        self.step(self.world.reconnect(device))

    @rule(number=NUMBERS, events=st.integers(min_value=1, max_value=4))
    def lose_events(self, number: int, events: int) -> None:
        self.world.lose(self.world.devices[number], events)

    @rule(number=NUMBERS)
    def sync(self, number: int) -> None:
        self.step(self._sync(number))

    @invariant()
    def is_as_in_the_model(self) -> None:
        self.step(self.world.compare())

    def teardown(self) -> None:
        try:
            if self.is_sound:
                self.step(self._everybody_back())
        finally:
            type(self).run(self.world.stop())

    async def _send(self, number: int, choice: int, key: str, text: str) -> None:
        device = await self.world.acting(number)
        id_, _ = self.world.conversation(device, choice)
        await self.world.send([(device, id_, key, text)])

    async def _send_all(self, sends: list[tuple[int, int, str]], restart: bool) -> None:
        prepared = []
        for number, choice, text in sends:
            device = await self.world.acting(number)
            prepared.append((device, self.world.conversation(device, choice)[0], new_key(), text))
        requests = self.world.publish(prepared)
        if restart:
            await self.world.restart_service()
        await self.world.take_answers(requests)

    async def _use_again(self, number: int, choice: int, old: int, text: str | None) -> None:
        device = await self.world.acting(number)
        own = [message for message in self.world.model.written() if message.sender == device.user_id]
        if own:
            used = own[old % len(own)]
            id_ = used.conversation_id
            if text is not None:
                id_, _ = self.world.conversation(device, choice)
            await self.world.send([(device, id_, used.key, text or used.text)])

    async def _break_off(self, number: int, texts: list[str], choice: int) -> None:
        device = await self.world.acting(number)
        id_, _ = self.world.conversation(device, choice)
        requests = self.world.publish([(device, id_, new_key(), text) for text in texts])
        device.drop()
        await self.world.reconnect(device)
        await self.world.take_answers(requests)

    async def _mark(self, marks: list[tuple[int, int, int, bool, bool]], restart: bool) -> None:
        for number, choice, message, is_read, elsewhere in marks:
            device = await self.world.acting(number)
            id_, conversation = self.world.conversation(device, choice)
            # A conversation comes into being with its first message.
            if conversation.messages:
                among = self.world.model.written() if elsewhere else conversation.messages
                chosen = among[message % len(among)]
                await self.world.mark(device, id_, chosen, is_read=is_read, restart=restart)
                restart = False

    async def _sync(self, number: int) -> None:
        await self.world.repair(await self.world.acting(number))

    async def _everybody_back(self) -> None:
        for device in self.world.devices:
            if not device.is_connected:
                await self.world.reconnect(device)
            await self.world.repair(device)
        await self.world.compare()


@pytest.mark.timeout(90 + 20 * EXAMPLES)
async def test_any_walk_of_people_and_devices_stays_equal_to_the_model(
    stack: Stack, token: MintToken
) -> None:
    loop = asyncio.get_running_loop()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(STEP_DEADLINE_S)

    async with grpc_reader(stack.service.grpc_target, token) as reader:
        failures: list[BaseException] = []
        system = {
            "new_world": staticmethod(lambda: World(stack, reader, token)),
            "run": staticmethod(run),
            "failures": failures,
        }
        try:
            await asyncio.to_thread(
                run_state_machine_as_test,
                type("Walk", (Conversations,), system),
                settings=_settings(),
            )
        except BaseException as error:
            for first in failures[:1]:
                error.add_note("First of all failed:\n" + "".join(format_exception(first)))
            raise


def _settings() -> settings:
    return settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if EXAMPLES > USUAL_EXAMPLES else [Phase.generate],
    )
