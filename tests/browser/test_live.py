"""What happens is seen as it happens, without loading anew: deals, streams, transfers, requests, alerts."""

from playwright.async_api import expect

from tests.browser.acting import acting
from tests.browser.books import Books, at_one_time
from tests.browser.history import CHUNKS, DOLLAR, Cast
from tests.browser.screen import Screens
from tests.browser.written import count, dollars
from tests.system.harness import MarketProcess

Alive = tuple[MarketProcess, Cast]

STATS_WITHIN_MS = 60_000
"""The market's figures are told every 30 seconds."""
LINES = ("Ein Markt ist ein Ort, ", "wo sich trifft, ", "wer etwas ", "zu geben hat.")


@at_one_time
async def test_an_operator_sees_the_numbers_change_while_deals_run(alive: Alive, screens: Screens) -> None:
    market, cast = alive
    screen = await (await screens.screen(market.url)).log_in(cast.user_keys["olga"])
    page, books = screen.page, Books(cast.folder)
    total = page.get_by_test_id("stat-total-tasks")
    before = int(books.one("SELECT count(*) FROM tasks"))
    await expect(total).to_have_text(count(before))
    await page.evaluate("window.isStillThisLoad = true")

    async with acting(market, cast) as agents:
        for _ in range(3):
            await agents.deal("alice/reader", "bob/translator")
        feed = page.get_by_role("list", name="Live activity")
        await expect(feed.get_by_role("listitem").first).to_contain_text("Task completed")
        await expect(feed.get_by_role("listitem").first).to_contain_text("alice/reader")
        await expect(total).to_have_text(count(before + 3), timeout=STATS_WITHIN_MS)

    await expect(page.get_by_test_id("stat-volume-24h")).to_have_attribute(
        "title", dollars(books.stats()["volume_24h"])
    )
    assert await page.evaluate("window.isStillThisLoad") is True
    books.close()


@at_one_time
async def test_an_owner_sees_a_deal_of_its_agent_at_once(alive: Alive, screens: Screens) -> None:
    market, cast = alive
    screen = await (await screens.screen(market.url)).log_in(cast.user_keys["bob"])
    done, books = screen.page.get_by_test_id("metric-tasks-completed"), Books(cast.folder)
    mine = books.agents_of(cast.user_ids["bob"])
    before = books.today(mine)["tasks_completed"]
    await expect(done).to_have_text(count(before))

    async with acting(market, cast) as agents:
        await agents.deal("alice/reader", "bob/translator")

    await expect(done).to_have_text(count(before + 1))
    await expect(screen.page.get_by_test_id("metric-revenue-net")).to_have_attribute(
        "title", dollars(books.today(mine)["revenue_net"])
    )
    books.close()


async def test_a_stream_is_followed_live_and_a_reload_in_between_shows_the_same(alive: Alive, screens: Screens) -> None:
    market, cast = alive
    task = cast.open["task"]
    screen = await (await screens.screen(market.url)).log_in(cast.user_keys["bob"])
    await screen.go(f"#/agents/{cast.agents['bob/translator'].id}/tasks/{task}")
    page = screen.page
    output = page.get_by_test_id("stream-output-text")
    await expect(page.get_by_test_id("stream-input-text")).to_have_text("".join(CHUNKS))
    await expect(output).to_have_text(LINES[0].strip())

    async with acting(market, cast) as agents:
        await agents.say("bob/translator", task, LINES[1], 1)
        await expect(output).to_have_text("".join(LINES[:2]).strip())
        await page.reload()
        await expect(output).to_have_text("".join(LINES[:2]).strip())
        await agents.say("bob/translator", task, LINES[2], 2)
        await agents.say("bob/translator", task, LINES[3], 3)
        await agents.finish("bob/translator", task, "".join(LINES))
        await expect(output).to_have_text("".join(LINES))
        await agents.post("bob/translator", f"/tasks/{task}/complete", {"result": {"words": 11}})

    await expect(page.get_by_test_id("task-view")).to_have_attribute("data-status", "completed")
    await expect(page.get_by_test_id("task-result")).to_contain_text('"words": 11')
    await expect(page.get_by_test_id("stream-output-chunks")).to_have_text("4")
    await expect(page.get_by_test_id("stream-output").get_by_text("verified")).to_be_visible()


async def test_transfers_are_followed_live(alive: Alive, screens: Screens) -> None:
    market, cast = alive
    channel = cast.open["channel"]
    screen = await (await screens.screen(market.url)).log_in(cast.user_keys["bob"])
    await screen.go(f"#/agents/{cast.agents['bob/translator'].id}/channels/{channel}")
    page, books = screen.page, Books(cast.folder)
    own, other = books.rows(
        "SELECT state ->> 'balance_b', state ->> 'balance_a' FROM payment_channels WHERE id = ?", channel
    )[0]
    await expect(page.get_by_test_id("balance-own")).to_have_text(dollars(own))
    steps = page.get_by_role("table", name="Transfers").get_by_role("row")
    rows = 1 + int(books.one("SELECT count(*) FROM channel_steps WHERE channel_id = ?", channel))
    await expect(steps).to_have_count(rows)

    async with acting(market, cast) as agents:
        await agents.pay(channel, "alice/reader", "bob/translator", 2 * DOLLAR)
        after = await agents.pay(channel, "alice/reader", "bob/translator", 345_678)

    await expect(page.get_by_test_id("balance-own")).to_have_text(dollars(own + 2 * DOLLAR + 345_678))
    await expect(page.get_by_test_id("balance-other")).to_have_text(dollars(other - 2 * DOLLAR - 345_678))
    await expect(steps).to_have_count(rows + 2)
    newest = steps.nth(1)
    await expect(newest).to_contain_text("Received")
    await expect(newest).to_contain_text(dollars(345_678))
    await expect(newest).to_contain_text(count(after["last_nonce"]))
    books.close()


async def test_an_owner_approves_a_request_by_keyboard_and_the_market_knows(alive: Alive, screens: Screens) -> None:
    market, cast = alive
    screen = await (await screens.screen(market.url)).log_in(cast.user_keys["bob"])
    page, keyboard = screen.page, screen.page.keyboard
    await screen.reach(page.get_by_role("link", name="Inbox"))
    await keyboard.press("Enter")
    request = page.get_by_test_id(f"request-{cast.open['request']}")
    await expect(request).to_contain_text("grace/scout")
    await expect(request).to_contain_text("May I send you my reports?")

    await screen.reach(request.get_by_role("button", name="Approve grace/scout"))
    await keyboard.press("Enter")
    await screen.reach(page.get_by_role("dialog").get_by_role("button", name="Approve"))
    await keyboard.press("Enter")
    await expect(page.get_by_text("grace/scout: approved.")).to_be_visible()

    async with acting(market, cast) as agents:
        contacts = await agents.get("bob/proofreader", "/agent/contacts")
    assert "grace/scout" in {contact["handle"] for contact in contacts}
    books = Books(cast.folder)
    assert books.one("SELECT status FROM contact_requests WHERE id = ?", cast.open["request"]) == "approved"
    books.close()


async def test_a_request_that_comes_in_is_seen_and_can_be_rejected(alive: Alive, screens: Screens) -> None:
    market, cast = alive
    screen = await (await screens.screen(market.url)).log_in(cast.user_keys["carol"])
    await screen.go("#/inbox")
    await expect(screen.page.get_by_text("Nobody waits for an answer")).to_be_visible()

    async with acting(market, cast) as agents:
        asked = {"handle": "carol/digest", "message": "Please."}
        id_ = (await agents.post("grace/scout", "/agent/contacts/add", asked))["id"]
        request = screen.page.get_by_test_id(f"request-{id_}")
        await request.get_by_role("button", name="Reject grace/scout").click()
        await screen.page.get_by_role("dialog").get_by_role("button", name="Reject").click()
        await expect(screen.page.get_by_text("grace/scout: rejected.")).to_be_visible()
        contacts = await agents.get("carol/digest", "/agent/contacts")

    assert "grace/scout" not in {contact["handle"] for contact in contacts}


async def test_an_alert_comes_by_itself_and_can_be_acknowledged_and_resolved(alive: Alive, screens: Screens) -> None:
    market, cast = alive
    screen = await (await screens.screen(market.url)).log_in(cast.user_keys["erin"])
    page = screen.page
    await screen.go("#/alerts")
    await expect(page.get_by_test_id("connection")).to_have_text("Live")

    async with acting(market, cast) as agents:
        task = await agents.hire("alice/reader", "erin/verba")
        await agents.post("erin/verba", f"/tasks/{task}/progress", {"percent": 5, "message": "started"})
        await agents.post("erin/verba", f"/tasks/{task}/error", {"type": "out_of_words", "details": None})
        books = Books(cast.folder)
        alert = books.one(
            "SELECT id FROM alerts WHERE subject = ? AND owner_id = ?", f"task:{task}", cast.user_ids["erin"]
        )
        line = page.get_by_test_id(f"alert-{alert}")
        await line.get_by_role("button", name="Acknowledge").click()
        await page.get_by_role("radio", name="Acknowledged").check()
        await line.get_by_role("button", name="Resolve").click()
        await expect(line).to_have_count(0)

    assert books.one("SELECT status FROM alerts WHERE id = ?", alert) == "resolved"
    books.close()
