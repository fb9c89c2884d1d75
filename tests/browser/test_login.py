"""Who is let in, and what a page keeps of the key: nothing. And what the page may do: reach this server alone."""

import pytest
from playwright.async_api import expect

from tests.browser.history import Cast
from tests.browser.screen import Screens
from tests.system.harness import MarketProcess

Shown = tuple[MarketProcess, Cast]


async def test_a_wrong_key_is_refused_with_a_sentence(shown: Shown, screens: Screens) -> None:
    market, _ = shown
    screen = await screens.screen(market.url)
    await screen.open()

    await screen.page.get_by_label("API key").fill("agk_mallory-has-made-this-one-up")
    await screen.page.get_by_role("button", name="Log in").click()

    refusal = screen.page.get_by_role("alert")
    await expect(refusal).to_be_visible()
    assert len((await refusal.inner_text()).split()) > 3
    await expect(screen.page.get_by_label("API key")).to_be_editable()
    await expect(screen.page.get_by_role("navigation", name="Main")).to_have_count(0)


async def test_a_key_is_typed_where_nobody_reads_along(shown: Shown, screens: Screens) -> None:
    market, _ = shown
    screen = await (await screens.screen(market.url)).open()

    field = screen.page.get_by_label("API key")

    await expect(field).to_have_attribute("type", "password")
    await expect(field).to_be_focused()


@pytest.mark.parametrize(
    ("who", "heading"), [("olga", "Market"), ("bob", "My agents"), ("bob/translator", "Translator")]
)
async def test_everybody_begins_where_their_work_is(shown: Shown, screens: Screens, who: str, heading: str) -> None:
    market, cast = shown
    key = cast.agents[who].api_key if "/" in who else cast.user_keys[who]

    screen = await (await screens.screen(market.url)).log_in(key)

    await expect(screen.page.get_by_role("heading", level=1)).to_contain_text(heading)
    await expect(screen.page.get_by_test_id("connection")).to_have_text("Live")
    await expect(screen.page.get_by_role("banner")).to_contain_text(who)


async def test_the_key_is_nowhere_once_it_has_been_used(shown: Shown, screens: Screens) -> None:
    market, cast = shown
    key = cast.user_keys["bob"]
    screen = await (await screens.screen(market.url)).log_in(key)
    await expect(screen.page.get_by_test_id("connection")).to_have_text("Live")

    everything = await screen.everything_stored()

    assert key not in everything
    assert "bob" in everything  # So we do see what the page shows and keeps.
    assert [url for url in screen.watch.asked if key in url] == []
    assert key not in "\n".join(market.log)


async def test_a_reload_keeps_the_session_and_another_tab_has_none(shown: Shown, screens: Screens) -> None:
    market, cast = shown
    screen = await (await screens.screen(market.url)).log_in(cast.user_keys["bob"])

    await screen.page.reload()
    await expect(screen.page.get_by_role("heading", level=1)).to_have_text("My agents")

    other = await screen.page.context.new_page()
    await other.goto(market.url)
    await expect(other.get_by_label("API key")).to_be_visible()


async def test_who_logs_out_leaves_nothing_behind(shown: Shown, screens: Screens) -> None:
    market, cast = shown
    screen = await (await screens.screen(market.url)).log_in(cast.user_keys["bob"])
    token = await screen.page.evaluate("JSON.parse(sessionStorage.getItem('agrenting.session')).token")

    await screen.page.get_by_role("button", name="Log out").click()
    await expect(screen.page.get_by_label("API key")).to_be_visible()

    await expect(screen.page.get_by_text("You are logged out.")).to_be_visible()
    assert token not in await screen.everything_stored()
    with market.rest(None) as rest:
        assert rest.get("/api/v1/me", headers={"authorization": f"Bearer {token}"}).status_code == 401


async def test_the_socket_is_opened_on_this_server_with_the_key_nowhere(shown: Shown, screens: Screens) -> None:
    market, cast = shown
    key = cast.agents["bob/translator"].api_key

    screen = await (await screens.screen(market.url)).log_in(key)
    await expect(screen.page.get_by_test_id("connection")).to_have_text("Live")

    sockets = [url for url in screen.watch.asked if url.startswith("ws")]
    assert sockets
    assert all(url.startswith(market.url.replace("http", "ws")) for url in sockets)
    assert [url for url in screen.watch.asked if key in url] == []


@pytest.mark.parametrize(
    "attempt",
    [
        "fetch('http://elsewhere.example/').catch(() => {})",
        "new WebSocket('ws://elsewhere.example/')",
        "document.body.append(Object.assign(new Image(), { src: 'http://elsewhere.example/a.png' }))",
        "document.head.append(Object.assign(document.createElement('script'), { textContent: 'window.isOurs = 1' }))",
        "document.body.setAttribute('style', 'color: red')",
    ],
    ids=["fetch", "socket", "image", "inline script", "inline style"],
)
async def test_what_the_page_must_not_do_is_stopped_and_noticed(shown: Shown, screens: Screens, attempt: str) -> None:
    """Otherwise no test here would tell if the page did it."""
    market, _ = shown
    screen = await (await screens.screen(market.url, is_watched=False)).open()
    await screen.page.get_by_label("API key").wait_for()

    async with screen.page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        await screen.page.evaluate(f"() => {{ {attempt} }}")

    assert screen.watch.violations
    with pytest.raises(AssertionError):
        screen.watch.require_clean()
