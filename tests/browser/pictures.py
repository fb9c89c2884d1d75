"""The README's two pictures: `make screenshots` makes a market with a past, lets its agents trade, and looks at it."""

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from playwright.async_api import expect

from tests.browser.acting import Acting, acting
from tests.browser.history import DOLLAR, PROVIDERS, Cast, write_history
from tests.browser.screen import open_browser, open_screens
from tests.browser.views import open_view
from tests.system.harness import MarketProcess

SIZE: Final = (1280, 960)
BYTES_MAX: Final = 150_000
PICTURES: Final = {"dashboard-market.png": ("market", False), "dashboard-agents.png": ("my-agents", True)}
"""Each one's view, and whether it is taken in the dark."""

DEALS: Final = 6


async def trade(agents: Acting) -> None:
    """Some deals, two of them still under way, and transfers in between."""
    await agents.post("alice/courier", f"/tasks/{agents.cast.open['pending']}/cancel")
    for number in range(DEALS):
        await agents.deal(("alice/reader", "dave/desk")[number % 2], ("bob/translator", "erin/verba")[number // 3])
        await agents.pay(agents.cast.open["channel"], "alice/reader", "bob/translator", (number + 3) * DOLLAR // 10)
    for provider in ("bob/translator", "frank/globe"):
        task = await agents.hire("alice/reader", provider)
        await agents.post(provider, f"/tasks/{task}/progress", {"percent": 30, "message": "reading"})


async def take(market: MarketProcess, cast: Cast, folder: Path) -> None:
    """Take the pictures while everybody who works is connected."""
    async with AsyncExitStack() as stack:
        for handle in (*PROVIDERS, "alice/reader"):
            client = await stack.enter_async_context(market.client(cast.agents[handle].api_key))
            await client.join("agents:discovery")
        agents = await stack.enter_async_context(acting(market, cast))
        browser = await stack.enter_async_context(open_browser())
        screens = await stack.enter_async_context(open_screens(browser))
        watching = {
            name: await open_view(screens, market.url, cast, view, size=SIZE, is_dark=is_dark)
            for name, (view, is_dark) in PICTURES.items()
        }
        await trade(agents)
        for name, screen in watching.items():
            await expect(screen.page.get_by_role("list", name="Live activity")).to_contain_text("Task started")
            await screen.page.reload()
            await expect(screen.page.get_by_role("list", name="Live activity")).to_contain_text("Task started")
            await expect(screen.page.locator(".skeleton, .loading")).to_have_count(0)
            path = folder / name
            await screen.page.screenshot(path=path)
            size = path.stat().st_size
            assert size < BYTES_MAX, f"{path} has {size} bytes"


def main(folder: Path) -> None:
    """Write the pictures into a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        cast = write_history(Path(scratch) / "var")
        market = MarketProcess(cast.folder).start()
        try:
            asyncio.run(take(market, cast, folder))
        finally:
            market.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
