"""The connection is lost and comes back: the page says both, and what happened in between is there."""

from urllib.parse import urlsplit

from playwright.async_api import expect

from tests.browser.acting import acting
from tests.browser.books import Books
from tests.browser.history import DOLLAR, Cast
from tests.browser.screen import Screens
from tests.browser.written import dollars
from tests.system.harness import MarketProcess

Alive = tuple[MarketProcess, Cast]

BACK_WITHIN_MS = 60_000


async def test_a_killed_server_is_noticed_and_its_return_brings_what_was_missed(alive: Alive, screens: Screens) -> None:
    market, cast = alive
    task = cast.open["task"]
    screen = await (await screens.screen(market.url)).log_in(cast.user_keys["bob"])
    await screen.go(f"#/agents/{cast.agents['bob/translator'].id}/tasks/{task}")
    page = screen.page
    output, banner = page.get_by_test_id("stream-output-text"), page.get_by_test_id("reconnect-banner")
    async with acting(market, cast) as agents:
        await agents.say("bob/translator", task, "wo sich trifft, ", 1)
    await expect(output).to_contain_text("wo sich trifft, ")

    market.kill()
    await expect(banner).to_be_visible()
    await expect(page.get_by_test_id("connection")).to_have_text("Reconnecting")
    await expect(output).to_contain_text("wo sich trifft, ")  # What is known stays in sight.

    market.start(port=str(urlsplit(screen.url).port))
    async with acting(market, cast) as agents:
        await agents.say("bob/translator", task, "wer etwas ", 2)
    await page.get_by_role("button", name="Try now").or_(page.get_by_test_id("connection")).first.click()
    await expect(page.get_by_test_id("connection")).to_have_text("Live", timeout=BACK_WITHIN_MS)
    await expect(banner).to_have_count(0)
    await expect(output).to_have_text("Ein Markt ist ein Ort, wo sich trifft, wer etwas")
    async with acting(market, cast) as agents:
        await agents.say("bob/translator", task, "zu geben hat.", 3)
    await expect(output).to_have_text("Ein Markt ist ein Ort, wo sich trifft, wer etwas zu geben hat.")


async def test_a_killed_server_takes_no_transfer_with_it(alive: Alive, screens: Screens) -> None:
    market, cast = alive
    channel = cast.open["channel"]
    screen = await (await screens.screen(market.url)).log_in(cast.user_keys["bob"])
    await screen.go(f"#/agents/{cast.agents['bob/translator'].id}/channels/{channel}")
    books = Books(cast.folder)
    own = int(books.one("SELECT state ->> 'balance_b' FROM payment_channels WHERE id = ?", channel))
    await expect(screen.page.get_by_test_id("balance-own")).to_have_text(dollars(own))
    steps = screen.page.get_by_role("table", name="Transfers").get_by_role("row")
    rows = 1 + int(books.one("SELECT count(*) FROM channel_steps WHERE channel_id = ?", channel))
    await expect(steps).to_have_count(rows)

    market.kill()
    await expect(screen.page.get_by_test_id("reconnect-banner")).to_be_visible()
    market.start(port=str(urlsplit(screen.url).port))
    async with acting(market, cast) as agents:
        for _ in range(3):
            await agents.pay(channel, "alice/reader", "bob/translator", DOLLAR)

    await expect(screen.page.get_by_test_id("connection")).to_have_text("Live", timeout=BACK_WITHIN_MS)
    await expect(screen.page.get_by_test_id("balance-own")).to_have_text(dollars(own + 3 * DOLLAR))
    await expect(steps).to_have_count(rows + 3)
    books.close()


async def test_a_view_that_is_opened_without_a_network_says_so_and_fills_when_it_is_back(
    alive: Alive, screens: Screens
) -> None:
    market, cast = alive
    screen = await (await screens.screen(market.url)).log_in(cast.user_keys["bob"])
    page = screen.page
    await expect(page.get_by_test_id("connection")).to_have_text("Live")

    await page.context.set_offline(offline=True)
    await screen.go("#/keys")
    await expect(page.get_by_role("alert").filter(has_text="This could not be loaded.")).to_be_visible()
    await page.context.set_offline(offline=False)
    await page.get_by_role("button", name="Try again").click()

    await expect(page.get_by_test_id("keys")).to_be_visible()


async def test_a_session_that_was_ended_elsewhere_leads_back_to_the_login(alive: Alive, screens: Screens) -> None:
    market, cast = alive
    screen = await (await screens.screen(market.url)).log_in(cast.user_keys["bob"])
    await expect(screen.page.get_by_test_id("connection")).to_have_text("Live")

    market.here("key", "rotate", "bob")

    await expect(screen.page.get_by_label("API key")).to_be_visible()
    await expect(screen.page.get_by_role("status").filter(has_text="session")).to_be_visible()
