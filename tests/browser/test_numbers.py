"""Every number on every view is the number that the source tables give; see books.py for how that one is found."""

import statistics
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from playwright.async_api import Locator, expect

from tests.browser.books import Books, Span, at_one_time, buckets_of, now_utc, span_of
from tests.browser.history import Cast
from tests.browser.screen import Screen, Screens
from tests.browser.views import VIEWS, open_view, settled
from tests.browser.written import AMOUNT, NOTHING, count, dollars, milliseconds, minor_units, numbers, percent
from tests.system.harness import MarketProcess

Shown = tuple[MarketProcess, Cast]

HOUR_S, DAY_S = 3_600, 86_400
CELLS: Final = """rows => rows.map(row => [...row.cells].map(cell => {
    const titles = [cell, ...cell.querySelectorAll("[title]")].map(node => node.title);
    const whole = titles.filter(title => title.includes("$"));
    return whole.length ? whole.join("\\n") : cell.innerText.trim();
}))"""
PERIODS: Final = {"1 h": "1h", "24 h": "24h", "7 d": "7d", "30 d": "30d", "90 d": "90d", "All": "all"}
CHARTED: Final = {
    "Tasks opened": "tasks_total",
    "Tasks completed": "tasks_completed",
    "Tasks failed": "tasks_failed",
    "Success rate": "success_rate",
    "Volume": "revenue_gross",
    "Net revenue": "revenue_net",
    "Spend": "spend",
    "Execution time, mean": "avg_execution_time_ms",
    "Transfers": "transfers_in",
    "Transferred": "transfers_in_amount",
    "Negotiations agreed": "negotiations_completed",
    "Messages received": "messages_in",
}
"""The charts' names, and the questions. The percentiles are estimates by design, and are looked at apart."""
MONEY: Final = {"revenue_gross", "revenue_net", "spend", "transfers_in_amount"}
ESTIMATE: Final = 0.04
"""A percentile comes from a histogram; it is 3.2 per cent off at most, and then rounded for the eye."""


@pytest.fixture
def books(shown: Shown) -> Iterator[Books]:
    """The database's file."""
    opened = Books(shown[1].folder)
    yield opened
    opened.close()


def scope_of(name: str, cast: Cast, books: Books) -> tuple[str, ...]:
    """Whose numbers a view shows."""
    view = VIEWS[name]
    if name.startswith("market"):
        return books.everybody()
    if "agent" in name and name != "my-agents":
        return (cast.agents[f"{view.who}/translator" if "/" not in str(view.who) else str(view.who)].id,)
    return books.agents_of(cast.user_ids[str(view.who)])


async def pick(screen: Screen, group: str, period: str) -> None:
    """Another period."""
    await screen.page.get_by_role("group", name=group, exact=True).get_by_role("radio", name=period, exact=True).check()


async def cells(table: Locator) -> list[list[str]]:
    """A table's body as text, row by row; amounts as they stand in full where the cell rounds them."""
    rows: list[list[str]] = await table.locator("tbody tr").evaluate_all(CELLS)
    return rows


# Tiles.


@at_one_time
async def test_the_markets_tiles(shown: Shown, screens: Screens, books: Books) -> None:
    market, cast = shown
    screen = await open_view(screens, market.url, cast, "market")
    stats, page = books.stats(), screen.page

    await expect(page.get_by_test_id("stat-total-agents")).to_have_text(count(stats["total_agents"]))
    await expect(page.get_by_test_id("stat-online-agents")).to_have_text("0")
    await expect(page.get_by_test_id("stat-total-tasks")).to_have_text(count(stats["total_tasks"]))
    await expect(page.get_by_test_id("stat-active-tasks")).to_have_text(count(stats["active_tasks"]))
    await expect(page.get_by_test_id("stat-volume-24h")).to_have_attribute("title", dollars(stats["volume_24h"]))
    await expect(page.get_by_test_id("stat-tasks-per-minute")).to_have_text("0")
    (load,) = numbers(await page.get_by_test_id("stat-system-load").inner_text())
    assert 0 <= load <= 100


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("name", ["my-agents", "agent"])
@at_one_time
async def test_the_tiles_of_a_period(shown: Shown, screens: Screens, books: Books, name: str, period: str) -> None:
    market, cast = shown
    screen = await open_view(screens, market.url, cast, name)
    await pick(screen, "Period of the figures", period)
    await settled(screen, VIEWS[name])
    true = books.metrics(scope_of(name, cast, books), span_of(PERIODS[period], now_utc()))
    page = screen.page

    async def is_(test_id: str, text: str) -> None:
        await expect(page.get_by_test_id(test_id)).to_have_text(text)

    async def amounts(test_id: str, minor: int) -> None:
        await expect(page.get_by_test_id(test_id)).to_have_attribute("title", dollars(minor))

    def hint(test_id: str) -> Locator:
        return page.locator(".stat", has=page.get_by_test_id(test_id)).locator(".stat-hint")

    await amounts("metric-revenue-net", true["revenue_net"])
    await amounts("metric-spend", true["spend"])
    await is_("metric-tasks-completed", count(true["tasks_completed"]))
    await is_("metric-success-rate", percent(true["success_rate"]))
    await is_("metric-negotiations", count(true["negotiations_completed"]))
    assert numbers(await hint("metric-tasks-completed").inner_text()) == [true["tasks_failed"], true["tasks_active"]]
    assert numbers(await hint("metric-negotiations").inner_text()) == [true["negotiations_started"]]
    assert numbers(await hint("metric-spend").inner_text()) == [true["tasks_hired"]]
    gross, fees = numbers(await hint("metric-revenue-net").inner_text())
    assert (gross, fees) == pytest.approx((true["revenue_gross"] / 1e6, true["fees"] / 1e6), abs=0.005_1)
    assert numbers(await page.get_by_test_id("metric-transfers").inner_text())[0] == true["transfers_in"]
    stars = [books.stars(agent) for agent in scope_of(name, cast, books)]
    told = float(await page.get_by_test_id("metric-reputation").inner_text())
    assert told == pytest.approx(sum(stars) / len(stars), abs=0.010_1)
    took = milliseconds(await page.get_by_test_id("metric-execution-time").inner_text())
    agents, span = scope_of(name, cast, books), span_of(PERIODS[period], now_utc())
    assert took == pytest.approx(books.within_ms(agents, span, 50), ESTIMATE)
    slow = milliseconds((await hint("metric-execution-time").inner_text()).partition("within ")[2])
    assert slow == pytest.approx(books.within_ms(agents, span, 95), ESTIMATE)
    received, sent = numbers(await hint("metric-transfers").inner_text())
    assert (received, sent) == pytest.approx(
        (true["transfers_in_amount"] / 1e6, true["transfers_out_amount"] / 1e6), abs=0.005_1
    )


async def test_how_an_agent_stands_to_the_others(shown: Shown, screens: Screens, books: Books) -> None:
    market, cast = shown
    screen = await (await screens.screen(market.url)).log_in(cast.agents["bob/translator"].api_key)
    row = screen.page.get_by_test_id("benchmarks").locator("tbody tr")
    await expect(row).to_have_count(1)
    texts = await row.locator("td").all_inner_texts()
    peers = books.peers("translate")
    prices, rates, times = zip(*peers.values(), strict=True)
    price, rate, took = peers["bob/translator"]

    assert len({handle.partition("/")[0] for handle in peers}) == 5
    assert None not in (*rates, *times)
    assert rate is not None
    assert numbers(texts[0]) == pytest.approx((price / 1e6, statistics.median(prices) / 1e6), abs=0.005_1)
    assert numbers(texts[1]) == pytest.approx((rate * 100, statistics.median(rates) * 100), abs=0.051)
    told, median = texts[2].split("median")
    assert (milliseconds(told), milliseconds(median)) == pytest.approx((took, statistics.median(times)), ESTIMATE)


@pytest.mark.parametrize("handle", ["bob/translator", "alice/reader"])
async def test_an_agents_balance(shown: Shown, screens: Screens, books: Books, handle: str) -> None:
    market, cast = shown
    agent = cast.agents[handle]
    screen = await (await screens.screen(market.url)).log_in(agent.api_key)
    await expect(screen.page.get_by_test_id("agent-view")).to_be_visible()

    for name, minor in books.balance(agent.id).items():
        await expect(screen.page.get_by_test_id(f"balance-{name}")).to_have_attribute("title", dollars(minor))


@at_one_time
async def test_the_table_of_an_owners_agents(shown: Shown, screens: Screens, books: Books) -> None:
    market, cast = shown
    screen = await open_view(screens, market.url, cast, "my-agents")

    rows = {row[0].split()[-1]: row for row in await cells(screen.page.get_by_role("table", name="My agents"))}

    assert rows.keys() == {"bob/translator", "bob/proofreader"}
    for handle, (_name, presence, available, net, stars) in rows.items():
        agent = cast.agents[handle].id
        assert presence == "offline"
        assert minor_units(available) == books.balance(agent)["available"]
        assert minor_units(net) == books.today((agent,))["revenue_net"]
        assert float(stars) == pytest.approx(books.stars(agent), abs=0.005_1)


# Charts, which show the same numbers as tables.


async def as_table(card: Locator, label: str) -> Locator:
    """A chart as the table that it can be turned into."""
    switch = card.get_by_role("button", name=f"Table of {label}")
    await switch.wait_for()
    if await switch.get_attribute("aria-pressed") != "true":
        await switch.click()
    return card.get_by_role("table", name=label)


def value_of(text: str, metric: str) -> Any:
    """What a cell of a chart's table says."""
    if text == NOTHING:
        return None
    if metric in MONEY:
        return minor_units(text)
    return milliseconds(text) if metric.endswith("_ms") else numbers(text)[0]


def shown_of(value: Any, metric: str) -> Any:
    """What a cell may say of a true value."""
    if metric == "success_rate" and value is not None:
        return pytest.approx(value * 100, abs=0.05)
    if metric.endswith("_ms") and value is not None:
        return pytest.approx(value, abs=50.1)  # A tenth of a second is what is written.
    return value


@pytest.mark.parametrize("period", ["24 h", "30 d"])
@pytest.mark.parametrize("name", ["market", "my-agents"])
@at_one_time
async def test_the_charts_over_time(shown: Shown, screens: Screens, books: Books, name: str, period: str) -> None:
    market, cast = shown
    screen = await open_view(screens, market.url, cast, name)
    card = screen.page.get_by_test_id("metric-chart")
    await card.get_by_role("radio", name=period, exact=True).check()
    span = span_of(PERIODS[period], now_utc())
    buckets = buckets_of(span, HOUR_S if period == "24 h" else DAY_S)
    agents = scope_of(name, cast, books)
    offered = await card.get_by_role("combobox", name="Metric").locator("option").all_inner_texts()
    true = [books.metrics(agents, bucket) for bucket in buckets]

    for label in offered:
        if label not in CHARTED:
            continue
        metric = CHARTED[label]
        await card.get_by_role("combobox", name="Metric").select_option(label=label)
        if not any(one[metric] for one in true):
            await expect(card.get_by_text(f"{label}: nothing in")).to_be_visible()
            continue
        table = await as_table(card, label)
        await expect(table.locator("tbody tr")).to_have_count(len(buckets))
        told = [value_of(row[-1], metric) for row in reversed(await cells(table))]
        assert told == [shown_of(one[metric], metric) for one in true], label

    assert len([label for label in offered if label in CHARTED]) >= 8


@pytest.mark.parametrize("name", ["my-agents", "agent"])
@at_one_time
async def test_the_revenue(shown: Shown, screens: Screens, books: Books, name: str) -> None:
    market, cast = shown
    screen = await open_view(screens, market.url, cast, name)
    agents, span = scope_of(name, cast, books), span_of("30d", now_utc())
    page = screen.page

    card = page.get_by_test_id("revenue-by-day")
    table = await as_table(card, "Revenue by day")
    days = [[minor_units(cell) for cell in row[1:]] for row in reversed(await cells(table))]
    earned = [books.earned(agents, day) for day in buckets_of(span, DAY_S)]
    assert days == [[gross - fees, fees] for gross, fees in earned]
    await expect(card).to_contain_text(dollars(sum(gross - fees for gross, fees in earned)))

    for part, question in (("capability", "capability"), ("counterparty", "client")):
        found = books.earned_by(agents, span, question)
        rows = await ranking(page.get_by_test_id(f"revenue-by-{part}"))
        expected = sorted(found.items(), key=lambda one: -(one[1][0]))
        assert rows == [(who, gross - fees, gross) for who, (gross, fees) in expected]


async def ranking(card: Locator) -> list[tuple[str, int, int]]:
    """Name, net and gross, as they stand."""
    rows = []
    for name, value in await cells(card.get_by_role("table")):
        net, gross = amounts_in([value])
        rows.append((name.strip(), net, gross))
    return rows


@pytest.mark.parametrize("name", ["market", "my-agents", "agent"])
@at_one_time
async def test_the_heatmap(shown: Shown, screens: Screens, books: Books, name: str) -> None:
    market, cast = shown
    screen = await open_view(screens, market.url, cast, name)

    table = screen.page.get_by_test_id("heatmap").get_by_role("table")
    told = [[int(cell) for cell in row[1:]] for row in await cells(table)]

    assert told == books.heat(scope_of(name, cast, books), span_of("30d", now_utc()))


# One task, one channel, and what waits.


async def test_a_task(shown: Shown, screens: Screens, books: Books) -> None:
    market, cast = shown
    screen = await open_view(screens, market.url, cast, "task")
    page = screen.page
    price, fee = books.rows("SELECT state ->> 'price', state ->> 'fee' FROM tasks WHERE id = ?", cast.open["task"])[0]

    await expect(page.get_by_test_id("task-price")).to_have_text(dollars(price))
    await expect(page.get_by_test_id("task-fee")).to_have_text(dollars(fee))
    await expect(page.get_by_test_id("task-net")).to_have_text(dollars(price - fee))
    for direction in ("input", "output"):
        chunks, size = books.stream(cast.open["task"], direction)
        assert chunks > 0
        await expect(page.get_by_test_id(f"stream-{direction}-chunks")).to_have_text(count(chunks))
        await expect(page.get_by_test_id(f"stream-{direction}-size")).to_have_text(f"{size} B")


@pytest.mark.parametrize("name", ["channel", "closed-channel"])
async def test_a_channel(shown: Shown, screens: Screens, books: Books, name: str) -> None:
    market, cast = shown
    screen = await open_view(screens, market.url, cast, name)
    id_ = cast.open["channel" if name == "channel" else "closed_channel"]
    is_opener = name == "closed-channel"
    steps = books.steps(id_)

    table = screen.page.get_by_role("table", name="Transfers")
    titles = await table.locator("thead th").all_inner_texts()
    rows = [dict(zip(titles, row, strict=True)) for row in await cells(table)]

    assert len(rows) == len(steps)
    for row, (nonce, amount, balance_a, balance_b) in zip(rows, reversed(steps), strict=True):
        own, other = (balance_a, balance_b) if is_opener else (balance_b, balance_a)
        assert (minor_units(row["This agent has"]), minor_units(row["The other has"])) == (own, other)
        if nonce is not None:
            assert (int(row["Nonce"]), minor_units(row["Amount"])) == (nonce, amount)
    _, _, balance_a, balance_b = steps[-1]
    own, other = (balance_a, balance_b) if is_opener else (balance_b, balance_a)
    await expect(screen.page.get_by_test_id("balance-own")).to_have_text(dollars(own))
    await expect(screen.page.get_by_test_id("balance-other")).to_have_text(dollars(other))


LISTS: Final = {
    "Tasks": ("agent-tasks", "tasks"),
    "Negotiations": ("agent-negotiations", "negotiations"),
    "Channels": ("agent-channels", "payment_channels"),
}
"""Tabs, the cards below them, and the tables of the database."""


@pytest.mark.parametrize("tab", LISTS)
async def test_the_lists_of_an_agent(shown: Shown, screens: Screens, books: Books, tab: str) -> None:
    test_id, table = LISTS[tab]
    market, cast = shown
    screen = await open_view(screens, market.url, cast, "agent")
    await screen.page.get_by_role("tab", name=tab).click()
    card = screen.page.get_by_test_id(test_id)
    agent = cast.agents["bob/translator"].id
    amounts = books.amounts_of(table, agent)

    more = card.get_by_role("button", name="Show more")
    await expect(card.get_by_role("row").nth(1)).to_be_visible()
    while await more.count():
        rows = await card.get_by_role("row").count()
        await more.click()
        await expect(card.get_by_role("row").nth(rows)).to_be_visible()

    told = await cells(card.get_by_role("table"))
    assert [amounts_in(row) for row in told] == amounts


def amounts_in(row: Sequence[str]) -> list[int]:
    """The amounts of a row, in order."""
    return [minor_units(found.group()) for cell in row for found in AMOUNT.finditer(cell)]


async def test_what_waits_is_counted_beside_its_place(shown: Shown, screens: Screens, books: Books) -> None:
    market, cast = shown
    screen = await open_view(screens, market.url, cast, "my-agents")
    bob, navigation = cast.user_ids["bob"], screen.page.get_by_role("navigation", name="Main")
    waiting = books.one(
        "SELECT count(*) FROM contact_requests WHERE status = 'pending' AND recipient_id IN "
        "(SELECT id FROM agents WHERE owner_id = ? UNION SELECT ?)", bob, bob
    )  # fmt: skip
    alerts = books.one("SELECT count(*) FROM alerts WHERE status = 'active' AND owner_id = ?", bob)

    assert waiting > 0
    assert alerts > 0
    await expect(navigation.get_by_role("link", name="Inbox")).to_contain_text(str(waiting))
    await expect(navigation.get_by_role("link", name="Alerts")).to_contain_text(str(alerts))
    await expect(screen.page.get_by_test_id("pending-contacts")).to_contain_text(str(waiting))


def test_the_books_are_of_what_has_happened(books: Books) -> None:
    """Numbers that are all 0 would prove nothing."""
    everything = books.metrics(books.everybody(), Span(0, int(datetime(2100, 1, 1, tzinfo=UTC).timestamp() * 1_000)))

    assert {name for name, value in everything.items() if not value} == set()
