"""The demo page in a real Chromium, against the running system."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Request, Route, expect

from tests.conftest import MintToken
from tests.end_to_end.browser import PATIENCE_MS, Pane, Viewport, chromium, keep_screenshot, open_page
from tests.end_to_end.device import Received, device
from tests.end_to_end.stack import PageStack

pytestmark = pytest.mark.timeout(120)

SPECIAL_TEXTS = [
    "😀👩‍👩‍👧‍👦🏴󠁧󠁢󠁳󠁣󠁴󠁿 emoji",
    "שלום עולם, مرحبا بالعالم 123 abc",
    "Z̸̡̢a̴l̵g̷o̶ e\u0301 é",
    '<img src=x onerror="document.title=1"> &amp; <b>bold</b>',
    "line one\nline two   three spaces",
]


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    """Chromium, for one test."""
    async with chromium() as running:
        yield running


def has_answers(count: int, events: list[Received]) -> bool:
    """Whether so many messages were acknowledged."""
    return sum(event.name == "messageSent" for event in events) >= count


async def exchange(page_stack: PageStack, token: MintToken, count: int) -> None:
    """Lets Alice and Bob write to each other in turn: "message 1", "message 2", ..."""
    port = page_stack.mosquitto.mqtt_port
    async with (
        device(port, "alice", token("alice"), device_id="seed") as alice,
        device(port, "bob", token("bob"), device_id="seed") as bob,
    ):
        for number in range(1, count + 1):
            sender, peer = (alice, "bob") if number % 2 else (bob, "alice")
            await sender.send(f"message {number}", recipientId=peer)
            await sender.until(partial(has_answers, (number + 1) // 2))


async def test_what_alice_writes_appears_at_bobs_and_is_marked_as_sent(
    page_stack: PageStack, browser: Browser
) -> None:
    page = await open_page(browser, page_stack.page_url)
    alice, bob = Pane(page, "alice"), Pane(page, "bob")
    await alice.expect_connection("connected")
    await bob.expect_connection("connected")
    await expect(alice.chat.get_by_test_id("empty-state")).to_be_visible()
    await keep_screenshot(page, "side-by-side-empty-desktop")
    await alice.write("Hello Bob")
    await bob.expect_message("Hello Bob", "received")
    await alice.expect_message("Hello Bob", "sent")
    await bob.write("Hello Alice, how are you?")
    await alice.expect_message("Hello Alice, how are you?", "received")
    assert await alice.texts() == await bob.texts() == ["Hello Bob", "Hello Alice, how are you?"]
    assert await alice.positions() == await bob.positions() == [1, 2]
    await expect(alice.chat.get_by_test_id("announcer")).to_have_text("Bob: Hello Alice, how are you?")


async def test_every_text_arrives_as_it_was_written_and_is_never_html(
    page_stack: PageStack, browser: Browser
) -> None:
    page = await open_page(browser, page_stack.page_url)
    alice, bob = Pane(page, "alice"), Pane(page, "bob")
    for number, text in enumerate(SPECIAL_TEXTS, start=1):
        await alice.write(text)
        await expect(bob.messages).to_have_count(number, timeout=PATIENCE_MS)
    await expect(alice.chat.locator('[data-testid="message"][data-seq]')).to_have_count(
        len(SPECIAL_TEXTS), timeout=PATIENCE_MS
    )
    assert await alice.texts() == await bob.texts() == SPECIAL_TEXTS
    assert await page.locator(".bubble img, .bubble b").count() == 0
    await keep_screenshot(page, "side-by-side-special-texts-desktop")


async def scroll_to(pane: Pane, offset: int, row: Locator) -> float:
    """Scrolls, and says how far below the list's upper edge the row is then, in CSS pixels."""
    await pane.scroller.evaluate("(list, offset) => { list.scrollTop = offset }", offset)
    return await distance_to_top(pane, row)


async def distance_to_top(pane: Pane, row: Locator) -> float:
    """How far below the list's upper edge the row begins, in CSS pixels."""
    inside, outside = await row.bounding_box(), await pane.scroller.bounding_box()
    assert inside is not None
    assert outside is not None
    return inside["y"] - outside["y"]


async def test_scrolling_back_loads_all_history_and_keeps_the_readers_place(
    page_stack: PageStack, browser: Browser, token: MintToken
) -> None:
    await exchange(page_stack, token, 130)
    page = await open_page(browser, f"{page_stack.page_url}/?user=alice&with=bob")
    alice = Pane(page, "alice")
    await alice.expect_message("message 130", "received")
    await expect(alice.message("message 130")).to_be_in_viewport()
    assert await alice.positions() == list(range(81, 131))
    in_view = alice.message("message 90")
    history_is_read = asyncio.Event()

    async def hold_back(route: Route) -> None:
        await history_is_read.wait()
        await route.continue_()

    await page.route("**/messages?*", hold_back)
    before = await scroll_to(alice, 250, in_view)
    history_is_read.set()
    await expect(alice.messages).to_have_count(100, timeout=PATIENCE_MS)
    assert await distance_to_top(alice, in_view) == pytest.approx(before, abs=1)
    await scroll_to(alice, 0, in_view)
    await expect(alice.messages).to_have_count(130, timeout=PATIENCE_MS)
    await scroll_to(alice, 0, in_view)
    await expect(alice.chat.get_by_test_id("list-top")).to_have_attribute("data-status", "start")
    assert await alice.positions() == list(range(1, 131))
    assert await alice.texts() == [f"message {number}" for number in range(1, 131)]
    await keep_screenshot(page, "history-start-desktop")


async def test_a_message_to_somebody_not_connected_is_refused_in_plain_words(
    page_stack: PageStack, browser: Browser
) -> None:
    page = await open_page(browser, f"{page_stack.page_url}/?user=alice")
    alice = Pane(page, "alice")
    await alice.choose("carol")
    await alice.write("Hello Carol")
    await alice.expect_message("Hello Carol", "failed")
    await expect(alice.chat.get_by_test_id("message-error")).to_have_text(
        "You and Carol aren’t connected, so this message was not sent."
    )
    await keep_screenshot(page, "refused-desktop")
    await page.reload()
    await alice.expect_message("Hello Carol", "failed")
    await alice.chat.get_by_test_id("discard").click()
    await expect(alice.messages).to_have_count(0)


@pytest.mark.parametrize("viewport", ["desktop", "phone"])
async def test_a_reload_keeps_conversation_and_order(
    page_stack: PageStack, browser: Browser, token: MintToken, viewport: Viewport
) -> None:
    await exchange(page_stack, token, 6)
    page = await open_page(browser, f"{page_stack.page_url}/?user=bob", viewport=viewport)
    bob = Pane(page, "bob")
    await expect(bob.root.get_by_test_id("unread-badge")).to_have_text("3")
    await keep_screenshot(page, f"contacts-{viewport}")
    await bob.choose("alice")
    await bob.expect_message("message 6", "sent")
    await bob.input.fill("one more")
    await bob.chat.get_by_test_id("composer-send").click()
    await bob.expect_message("one more", "sent")
    await page.reload()
    await bob.expect_message("one more", "sent")
    assert await bob.positions() == list(range(1, 8))
    await keep_screenshot(page, f"conversation-{viewport}")


async def test_an_address_with_oneself_opens_nobodys_conversation(
    page_stack: PageStack, browser: Browser, token: MintToken
) -> None:
    await exchange(page_stack, token, 2)
    page = await open_page(browser, f"{page_stack.page_url}/?user=bob&with=bob")
    bob = Pane(page, "bob")
    await expect(bob.root.get_by_test_id("unread-badge")).to_have_text("1")
    await expect(bob.root.get_by_test_id("nothing-chosen")).to_be_visible()
    await expect(bob.chat).to_have_count(0)


async def test_the_page_recovers_from_a_killed_broker_and_sends_what_was_written_meanwhile(
    page_stack: PageStack, browser: Browser
) -> None:
    page = await open_page(browser, page_stack.page_url)
    alice, bob = Pane(page, "alice"), Pane(page, "bob")
    await alice.write("before")
    await bob.expect_message("before", "received")
    await asyncio.to_thread(page_stack.mosquitto.kill)
    await alice.expect_connection("reconnecting")
    await alice.write("first, while away")
    await alice.write("second, while away")
    await alice.expect_message("first, while away", "sending")
    await keep_screenshot(page, "reconnecting-desktop")
    await asyncio.to_thread(page_stack.mosquitto.start)
    await alice.expect_connection("connected")
    await bob.expect_message("first, while away", "received")
    await bob.expect_message("second, while away", "received")
    await alice.expect_message("second, while away", "sent")
    expected = ["before", "first, while away", "second, while away"]
    assert await alice.texts() == await bob.texts() == expected
    assert await bob.positions() == [1, 2, 3]


async def test_a_message_written_without_a_broker_survives_a_reload_of_the_page(
    page_stack: PageStack, browser: Browser
) -> None:
    page = await open_page(browser, f"{page_stack.page_url}/?user=alice&with=bob")
    alice = Pane(page, "alice")
    await alice.expect_connection("connected")
    await asyncio.to_thread(page_stack.mosquitto.kill)
    await alice.expect_connection("reconnecting")
    await alice.write("still here")
    await alice.expect_message("still here", "sending")
    await page.reload()
    await alice.expect_message("still here", "sending")
    await asyncio.to_thread(page_stack.mosquitto.start)
    await alice.expect_message("still here", "sent")
    assert await alice.positions() == [1]


async def test_the_page_recovers_from_a_killed_service_and_sends_what_was_written_meanwhile(
    page_stack: PageStack, browser: Browser
) -> None:
    page = await open_page(browser, page_stack.page_url)
    alice, bob = Pane(page, "alice"), Pane(page, "bob")
    await alice.write("before")
    await bob.expect_message("before", "received")
    await asyncio.to_thread(page_stack.service.process.kill)
    await alice.write("while the service was away")
    await alice.expect_message("while the service was away", "sending")
    await asyncio.to_thread(page_stack.service.process.start)
    await bob.expect_message("while the service was away", "received")
    await alice.expect_message("while the service was away", "sent")
    assert await bob.positions() == [1, 2]


async def test_tokens_are_replaced_before_they_expire_and_nothing_is_lost_meanwhile(
    page_stack: PageStack, browser: Browser
) -> None:
    program = page_stack.gateway.program
    short_lived = {**program.settings, "MESSAGING_GATEWAY_TOKEN_LIFETIME_S": "5"}
    page_stack.gateway.program = replace(program, settings=short_lived)
    await asyncio.to_thread(page_stack.gateway.restart)
    page = await open_page(browser, page_stack.page_url)
    tokens_asked_for = 0

    def count(request: Request) -> None:
        nonlocal tokens_asked_for
        tokens_asked_for += request.url.endswith("/api/dev/token")

    page.on("request", count)
    alice, bob = Pane(page, "alice"), Pane(page, "bob")
    texts: list[str] = []
    # Both panes replace theirs at least three times, one of them in the middle of something.
    while tokens_asked_for < 8:
        texts.append(f"while {tokens_asked_for} tokens were asked for, message {len(texts)}")
        await alice.write(texts[-1])
        await bob.expect_message(texts[-1], "received")
        await alice.expect_message(texts[-1], "sent")
    assert await alice.texts() == await bob.texts() == texts


async def test_two_windows_of_one_user_show_the_same(page_stack: PageStack, browser: Browser) -> None:
    address = f"{page_stack.page_url}/?user=alice&with=bob"
    first = await open_page(browser, address)
    second = await first.context.new_page()
    await second.goto(address)
    one, other = Pane(first, "alice"), Pane(second, "alice")
    await one.expect_connection("connected")
    await other.expect_connection("connected")
    await one.write("from the first window")
    await other.expect_message("from the first window", "sent")
    await other.write("from the second window")
    await one.expect_message("from the second window", "sent")
    assert await one.texts() == await other.texts() == ["from the first window", "from the second window"]


async def test_on_a_phone_both_users_are_behind_tabs_and_lists_behind_a_back_button(
    page_stack: PageStack, browser: Browser
) -> None:
    page = await open_page(browser, page_stack.page_url, viewport="phone", scheme="dark")
    alice, bob = Pane(page, "alice"), Pane(page, "bob")
    await alice.input.fill("Hi Bob")
    await alice.chat.get_by_test_id("composer-send").tap()
    await alice.expect_message("Hi Bob", "sent")
    await expect(bob.root).to_be_hidden()
    await keep_screenshot(page, "side-by-side-phone-dark")
    await page.get_by_role("button", name="Bob", exact=False).first.tap()
    await expect(bob.message("Hi Bob")).to_be_visible()
    await page.get_by_role("link", name="Bob").tap()
    # The old page has the same list, and is there until the new one is.
    await page.wait_for_url("**/?user=bob")
    await bob.choose("alice")
    await expect(bob.message("Hi Bob")).to_be_visible()
    await page.get_by_role("button", name="Back to conversations").tap()
    await expect(bob.root.get_by_test_id("contact-list")).to_be_visible()
