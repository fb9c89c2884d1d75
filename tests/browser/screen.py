"""Chromium before the dashboard of a running server: how it is opened, what it is asked, and what it must never do.

Whatever a test does, its browser asks no other host for anything, nothing offends the page's policy, and no script
fails: `Watch` notes all of that, and `open_screens` refuses to end quietly otherwise.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    WebSocket,
    async_playwright,
    expect,
)

from agrenting.pages import DIST
from tests.system.harness import ROOT

SCREENSHOTS: Final = ROOT / "build" / "screenshots"
AXE: Final = ROOT / "tests/system/js/node_modules/axe-core/axe.min.js"
WITHIN_MS: Final = 30_000
DESKTOP: Final = (1280, 800)
PHONE: Final = (360, 740)
FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
expect.set_options(timeout=WITHIN_MS)

OVERFLOWING: Final = """() => {
    const width = document.documentElement.clientWidth;
    const clips = (node) => {
        for (let up = node.parentElement; up && up !== document.body; up = up.parentElement) {
            const isClipping = getComputedStyle(up).overflowX !== "visible";
            if (isClipping && up.getBoundingClientRect().right <= width + 1) return true;
        }
        return false;
    };
    const wide = [...document.body.querySelectorAll("*")]
        .filter((node) => node.getBoundingClientRect().right > width + 1 && !clips(node))
        .map((node) => `${node.tagName.toLowerCase()}.${node.className} to ${node.getBoundingClientRect().right}`);
    return { scrolls: document.documentElement.scrollWidth > width, wide };
}"""
EVERYTHING_STORED: Final = """async () => {
    const databases = await indexedDB.databases();
    const cached = await caches.keys();
    return [
        document.documentElement.outerHTML, location.href, document.cookie, JSON.stringify(history.state), window.name,
        JSON.stringify({ ...localStorage }), JSON.stringify({ ...sessionStorage }),
        [...document.querySelectorAll("input, textarea")].map((field) => field.value).join(" "),
        JSON.stringify(databases), JSON.stringify(cached),
    ].join("\\n");
}"""


def require_browser() -> str:
    """Where Chromium is.

    A test is skipped where it, the built page or axe is missing; under CI that fails it.
    """
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("Chromium is missing: install the package chromium (`apt-get install chromium`).")
    if not (DIST / "index.html").exists() or not AXE.exists():
        pytest.skip("The dashboard was not built, or axe-core is missing: `make setup` does both.")
    return found


class Watch:
    """What the pages of a browser asked for, and what went wrong in them.

    Args:
        origin: The server's; also after it has been started anew, on the same port.
    """

    def __init__(self, origin: str) -> None:
        self.host = urlsplit(origin).netloc
        self.asked: list[str] = []
        self.violations: list[str] = []
        self.errors: list[str] = []

    def follow(self, page: Page) -> None:
        """Watch a page from now on."""
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", self._connected)
        page.on("console", self._told)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _connected(self, socket: WebSocket) -> None:
        self.asked.append(socket.url)

    def _told(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "violates" in message.text:
            self.violations.append(message.text)

    @property
    def strangers(self) -> list[str]:
        """Addresses of other hosts; what a page carries in itself (`data:`, `blob:`) asks nobody."""
        return [url for url in self.asked if urlsplit(url).scheme not in {"data", "blob"} and self._is_strange(url)]

    def _is_strange(self, url: str) -> bool:
        return urlsplit(url).netloc != self.host

    def require_clean(self) -> None:
        """Nothing of all that has happened."""
        problems = [*self.strangers, *self.violations, *self.errors]
        assert not problems, "\n".join(problems)


class Screen:
    """One tab on one server.

    Args:
        page: The tab.
        url: The server's.
        watch: What it must not do.
    """

    def __init__(self, page: Page, url: str, watch: Watch) -> None:
        self.page = page
        self.url = url
        self.watch = watch

    async def open(self, fragment: str = "") -> Self:
        """Load the dashboard, at a view if one is named."""
        await self.page.goto(f"{self.url}/{fragment}")
        return self

    async def log_in(self, key: str) -> Self:
        """Load the dashboard and log in with a key."""
        await self.open()
        await self.page.get_by_label("API key").fill(key)
        await self.page.get_by_role("button", name="Log in").click()
        await self.page.get_by_role("navigation", name="Main").wait_for()
        return self

    async def go(self, fragment: str) -> Self:
        """Another view, as a link leads there: without loading anew."""
        await self.page.evaluate("fragment => { location.hash = fragment }", fragment)
        return self

    async def reach(self, target: Locator, steps_max: int = 80) -> Self:
        """Go on by the tab key until a thing has the focus."""
        await target.wait_for()
        for _ in range(steps_max):
            if await target.evaluate("node => node === document.activeElement"):
                return self
            await self.page.keyboard.press("Tab")
        raise AssertionError(f"{steps_max} tabs do not lead to {target}")

    async def everything_stored(self) -> str:
        """All that the page shows, and all that the browser keeps of it."""
        stored: str = await self.page.evaluate(EVERYTHING_STORED)
        return stored

    async def overflow(self) -> list[str]:
        """What is wider than the window; the window itself if it scrolls sideways."""
        found: dict[str, Any] = await self.page.evaluate(OVERFLOWING)
        return [*found["wide"], *(["the window"] if found["scrolls"] else [])]

    async def findings(self) -> list[str]:
        """What axe has to say of the page that is serious or critical."""
        await self.page.evaluate(AXE.read_text("utf-8"))
        found: Any = await self.page.evaluate("async () => (await axe.run(document)).violations")
        return [
            f"{rule['impact']}: {rule['id']}: {rule['help']}: {[node['html'][:160] for node in rule['nodes']]}"
            for rule in found
            if rule["impact"] in {"serious", "critical"}
        ]

    async def picture(self, name: str) -> Path:
        """Keep a picture of the whole view among the tests' artefacts."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        size = self.page.viewport_size
        assert size is not None
        # A window as high as the view: bars that stay in place would stand in its middle otherwise.
        height = await self.page.evaluate("document.documentElement.scrollHeight")
        await self.page.set_viewport_size({"width": size["width"], "height": max(height, size["height"])})
        await self.page.screenshot(path=path)
        await self.page.set_viewport_size(size)
        return path


class Screens:
    """A browser whose tabs are opened for a server.

    Args:
        browser: Chromium.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._watches: list[Watch] = []

    async def screen(
        self,
        url: str,
        *,
        size: tuple[int, int] = DESKTOP,
        is_dark: bool = False,
        has_policy: bool = True,
        is_watched: bool = True,
    ) -> Screen:
        """A tab with a profile of its own.

        Args:
            url: The server's.
            size: Width and height of the window, in pixels.
            is_dark: What the system prefers.
            has_policy: False lets a test put scripts of its own into the page.
            is_watched: False for a tab that is to do what is never right.
        """
        width, height = size
        context: BrowserContext = await self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if is_dark else "light",
            reduced_motion="reduce",
            bypass_csp=not has_policy,
            locale="en-GB",
            timezone_id="UTC",
            has_touch=size == PHONE,
        )
        context.set_default_timeout(WITHIN_MS)
        page = await context.new_page()
        watch = Watch(url)
        watch.follow(page)
        if is_watched:
            self._watches.append(watch)
        return Screen(page, url, watch)

    def require_clean(self) -> None:
        """No tab has done what it must not."""
        for watch in self._watches:
            watch.require_clean()

    async def close(self) -> None:
        """Close every tab."""
        for context in self._browser.contexts:
            await context.close()


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """Chromium, until the block ends."""
    path = require_browser()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=[*FLAGS])
        yield browser
        await browser.close()


@asynccontextmanager
async def open_screens(browser: Browser) -> AsyncIterator[Screens]:
    """Tabs of a browser, until the block ends; nothing in them may have gone wrong by then."""
    screens = Screens(browser)
    try:
        yield screens
    finally:
        await screens.close()
    screens.require_clean()
