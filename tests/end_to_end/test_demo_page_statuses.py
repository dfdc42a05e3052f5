"""What users see of each other in the demo page: statuses, badges, typing and presence, as they happen."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.end_to_end.browser import PATIENCE_MS, Pane, chromium, keep_screenshot, open_page
from tests.end_to_end.stack import PageStack

pytestmark = pytest.mark.timeout(120)


@pytest_asyncio.fixture
async def browser_of_alice() -> AsyncIterator[Browser]:
    """Chromium, for one test."""
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture
async def browser_of_bob() -> AsyncIterator[Browser]:
    """Another Chromium: two processes, which share nothing."""
    async with chromium() as running:
        yield running


async def open_chat(page_stack: PageStack, browser: Browser, user: str, peer: str) -> tuple[Page, Pane]:
    """A user's window with a conversation open, connected."""
    page = await open_page(browser, f"{page_stack.page_url}/?user={user}&with={peer}")
    pane = Pane(page, user)
    await pane.expect_connection("connected")
    return page, pane


async def test_a_message_goes_from_sending_over_sent_and_delivered_to_read(
    page_stack: PageStack, browser_of_alice: Browser, browser_of_bob: Browser
) -> None:
    alice_page, alice = await open_chat(page_stack, browser_of_alice, "alice", "bob")
    await asyncio.to_thread(page_stack.service.process.kill)
    await alice.write("Are we still on for tonight?")
    await alice.expect_exactly("Are we still on for tonight?", "sending")
    await keep_screenshot(alice_page, "status-1-sending")
    await asyncio.to_thread(page_stack.service.process.start)
    await alice.expect_exactly("Are we still on for tonight?", "sent")
    await keep_screenshot(alice_page, "status-2-sent")
    bob_page = await open_page(browser_of_bob, f"{page_stack.page_url}/?user=bob")
    bob = Pane(bob_page, "bob")
    await bob.expect_badge(1)
    await alice.expect_exactly("Are we still on for tonight?", "delivered")
    await keep_screenshot(alice_page, "status-3-delivered")
    await bob.choose("alice")
    await bob.expect_message("Are we still on for tonight?", "received")
    await alice.expect_exactly("Are we still on for tonight?", "read")
    await keep_screenshot(alice_page, "status-4-read")
    await bob.expect_badge(0)
    await alice_page.reload()
    await alice.expect_exactly("Are we still on for tonight?", "read")


async def test_a_message_that_was_read_clears_the_badge_in_all_windows_of_its_reader(
    page_stack: PageStack, browser_of_alice: Browser, browser_of_bob: Browser
) -> None:
    _, alice = await open_chat(page_stack, browser_of_alice, "alice", "bob")
    one_page = await open_page(browser_of_bob, f"{page_stack.page_url}/?user=bob")
    other_page = await one_page.context.new_page()
    await other_page.goto(f"{page_stack.page_url}/?user=bob")
    one, other = Pane(one_page, "bob"), Pane(other_page, "bob")
    for number, text in enumerate(("first", "second", "third"), start=1):
        await alice.write(text)
        await one.expect_badge(number)
        await other.expect_badge(number)
    await keep_screenshot(other_page, "unread-before")
    await one.choose("alice")
    await one.expect_badge(0)
    await other.expect_badge(0)
    await keep_screenshot(other_page, "unread-after")
    await other_page.reload()
    await expect(other.root.get_by_test_id("contact-preview").first).to_have_text("third")
    await other.expect_badge(0)


async def test_read_marks_made_without_a_connection_arrive_later(
    page_stack: PageStack, browser_of_alice: Browser, browser_of_bob: Browser
) -> None:
    _, alice = await open_chat(page_stack, browser_of_alice, "alice", "bob")
    bob_page = await open_page(browser_of_bob, f"{page_stack.page_url}/?user=bob")
    bob = Pane(bob_page, "bob")
    await alice.write("read me later")
    await bob.expect_badge(1)
    await alice.expect_exactly("read me later", "delivered")
    await asyncio.to_thread(page_stack.service.process.kill)
    await bob.choose("alice")
    await asyncio.to_thread(page_stack.service.process.start)
    await alice.expect_exactly("read me later", "read")
    await bob.expect_badge(0)


async def test_typing_is_shown_while_it_lasts(
    page_stack: PageStack, browser_of_alice: Browser, browser_of_bob: Browser
) -> None:
    alice_page, alice = await open_chat(page_stack, browser_of_alice, "alice", "bob")
    _, bob = await open_chat(page_stack, browser_of_bob, "bob", "alice")
    await alice.write("What do you think?")
    await bob.expect_message("What do you think?", "received")
    line = alice.chat.get_by_test_id("typing")
    await bob.input.press_sequentially("Let me ")
    await expect(line).to_be_visible(timeout=PATIENCE_MS)
    await expect(line).to_have_text("Bob is typing…")
    await keep_screenshot(alice_page, "typing")
    await bob.input.press("Enter")
    await alice.expect_message("Let me", "received")
    await expect(line).to_be_hidden()
    await bob.input.press_sequentially("I ")
    await expect(line).to_be_visible(timeout=PATIENCE_MS)
    await bob.input.blur()
    await expect(line).to_be_hidden(timeout=PATIENCE_MS)


async def test_presence_follows_a_user_who_comes_turns_away_and_goes(
    page_stack: PageStack, browser_of_alice: Browser, browser_of_bob: Browser
) -> None:
    alice_page, alice = await open_chat(page_stack, browser_of_alice, "alice", "bob")
    bob_page, bob = await open_chat(page_stack, browser_of_bob, "bob", "alice")
    await bob.write("Here I am")
    await alice.expect_presence("online")
    await bob.expect_presence("online")
    await keep_screenshot(alice_page, "presence-1-online")
    await bob_page.evaluate(
        "Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    await alice.expect_presence("away")
    await keep_screenshot(alice_page, "presence-2-away")
    await bob_page.close()
    await alice.expect_presence("offline")
    last_seen = alice.chat.get_by_test_id("presence")
    await expect(last_seen).to_have_text(re.compile(r"^last seen today at \d\d:\d\d$"))
    await keep_screenshot(alice_page, "presence-3-last-seen")
    await alice_page.reload()
    await expect(last_seen).to_have_text(re.compile(r"^last seen today at \d\d:\d\d$"), timeout=PATIENCE_MS)
