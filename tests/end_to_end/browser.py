"""A real headless Chromium, and one user's part of the demo page as a test sees it."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Locator, Page, async_playwright, expect

ARTEFACTS = Path(__file__).parents[2] / "test-artefacts"
"""Where screenshots are kept; not under version control."""

PATIENCE_MS = 20_000
"""How long a test waits for what must come, in milliseconds."""

_DURABLE = re.compile("^(sent|delivered|read)$")

Viewport = Literal["desktop", "phone"]
Scheme = Literal["light", "dark"]

_SIZES: dict[Viewport, tuple[int, int]] = {"desktop": (1280, 800), "phone": (390, 844)}

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The system's Chromium.

    Raises:
        RuntimeError: there is none.
    """
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        raise RuntimeError("The page's tests need Chromium: sudo apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


async def open_page(
    browser: Browser, url: str, *, viewport: Viewport = "desktop", scheme: Scheme = "light"
) -> Page:
    """A page with storage of its own; an uncaught error in it fails the next `Pane` expectation."""
    width, height = _SIZES[viewport]
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        device_scale_factor=2 if viewport == "phone" else 1,
        is_mobile=viewport == "phone",
        has_touch=viewport == "phone",
        color_scheme=scheme,
        locale="en-GB",
    )
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    await page.goto(url)
    return page


async def keep_screenshot(page: Page, name: str) -> None:
    """Saves what the page shows now as `test-artefacts/{name}.png`."""
    ARTEFACTS.mkdir(exist_ok=True)
    await page.screenshot(path=ARTEFACTS / f"{name}.png", animations="disabled")


class Pane:
    """One user's part of the page."""

    def __init__(self, page: Page, user_id: str) -> None:
        self.root = page.locator(f'[data-testid="pane"][data-user="{user_id}"]')
        self.chat = self.root.get_by_test_id("chat")
        self.messages = self.chat.get_by_test_id("message")
        self.scroller = self.chat.get_by_test_id("message-scroller")
        self.input = self.chat.get_by_test_id("composer-input")

    def message(self, text: str) -> Locator:
        """Messages with exactly that text."""
        exactly = re.compile(f"^{re.escape(text)}$")
        same_text = self.root.page.get_by_test_id("message-text").filter(has_text=exactly)
        return self.messages.filter(has=same_text)

    async def write(self, text: str) -> None:
        """Types into the composer and presses Enter."""
        await self.input.fill(text)
        await self.input.press("Enter")

    async def expect_message(self, text: str, status: str) -> None:
        """Waits until there is exactly one such message, with that status; "sent" may have come further."""
        wanted = _DURABLE if status == "sent" else status
        await expect(self.message(text)).to_have_attribute("data-status", wanted, timeout=PATIENCE_MS)

    async def expect_exactly(self, text: str, status: str) -> None:
        """Waits until there is exactly one such message, with exactly that status."""
        await expect(self.message(text)).to_have_attribute("data-status", status, timeout=PATIENCE_MS)

    async def expect_presence(self, state: str) -> None:
        """Waits until the line under the other one's name says so."""
        line = self.chat.get_by_test_id("presence")
        await expect(line).to_have_attribute("data-state", state, timeout=PATIENCE_MS)

    async def expect_badge(self, count: int) -> None:
        """Waits until the list of conversations shows so many unread messages in all."""
        badge = self.root.get_by_test_id("unread-badge")
        if count == 0:
            await expect(badge).to_have_count(0, timeout=PATIENCE_MS)
        else:
            await expect(badge).to_have_text(str(count), timeout=PATIENCE_MS)

    async def expect_connection(self, status: str) -> None:
        """Waits until the pill of the conversation says so."""
        pill = self.chat.get_by_test_id("connection-state")
        await expect(pill).to_have_attribute("data-status", status, timeout=PATIENCE_MS)

    async def expect_loaded(self) -> None:
        """Waits until the conversation's newest messages were read."""
        await expect(self.chat).to_have_attribute("data-loaded", "true", timeout=PATIENCE_MS)

    async def texts(self) -> list[str]:
        """All messages that the list holds, from top to bottom."""
        return await self.chat.get_by_test_id("message-text").all_text_contents()

    async def positions(self) -> list[int]:
        """`seq` of all acknowledged messages, from top to bottom."""
        values = await self.messages.evaluate_all("rows => rows.map(row => row.dataset.seq)")
        return [int(value) for value in values if value is not None]

    async def choose(self, peer: str) -> None:
        """Opens the conversation with a person out of the list."""
        await self.root.locator(f'[data-testid="contact"][data-user="{peer}"]').click()
