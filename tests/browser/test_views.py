"""Every view on a phone and on a desk, in the dark and by day, for the eye, the keyboard and the screen reader."""

import pytest
from playwright.async_api import expect

from tests.browser.history import Cast
from tests.browser.screen import DESKTOP, PHONE, Screen, Screens
from tests.browser.views import VIEWS, open_view, settled
from tests.system.harness import MarketProcess

Shown = tuple[MarketProcess, Cast]

LUMINANCE = """isDark => {
    const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number);
    const luminance = (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
    return isDark ? luminance < 0.1 : luminance > 0.9;
}"""
TARGETS_TOO_SMALL = """() => [...document.querySelectorAll("a, button, select, input:not([type=radio])")]
    .map((node) => [node, node.getBoundingClientRect()])
    .filter(([node, box]) => box.width > 0 && box.height < 24 && getComputedStyle(node).display !== "inline")
    .filter(([node]) => !node.closest(".visually-hidden, .skip"))
    .map(([node, box]) => `${node.outerHTML.slice(0, 80)}: ${box.height}`)
"""
"""Source: WCAG 2.2, 2.5.8: a target is 24 pixels high at least, but for links in a text."""


async def in_theme(screen: Screen, *, is_dark: bool) -> None:
    """The system's wish changes; the page follows."""
    await screen.page.emulate_media(color_scheme="dark" if is_dark else "light")
    await screen.page.wait_for_function(LUMINANCE, arg=is_dark)


@pytest.mark.parametrize("name", VIEWS)
async def test_a_view_fits_a_phone(shown: Shown, screens: Screens, name: str) -> None:
    market, cast = shown
    screen = await open_view(screens, market.url, cast, name, size=PHONE)

    assert await screen.overflow() == []
    assert await screen.page.evaluate(TARGETS_TOO_SMALL) == []
    for is_dark in (False, True):
        await in_theme(screen, is_dark=is_dark)
        await screen.picture(f"{name}-360-{'dark' if is_dark else 'light'}")


@pytest.mark.parametrize("name", VIEWS)
async def test_a_view_is_dark_in_the_dark_and_light_by_day(shown: Shown, screens: Screens, name: str) -> None:
    market, cast = shown
    screen = await open_view(screens, market.url, cast, name, size=DESKTOP)

    assert await screen.overflow() == []
    for is_dark in (False, True):
        await in_theme(screen, is_dark=is_dark)
        await screen.picture(f"{name}-1280-{'dark' if is_dark else 'light'}")


@pytest.mark.parametrize("name", VIEWS)
async def test_axe_finds_nothing_serious(shown: Shown, screens: Screens, name: str) -> None:
    market, cast = shown
    screen = await open_view(screens, market.url, cast, name, has_policy=False)

    found = {"light": await screen.findings()}
    await in_theme(screen, is_dark=True)
    found["dark"] = await screen.findings()
    width, height = PHONE
    await screen.page.set_viewport_size({"width": width, "height": height})
    await settled(screen, VIEWS[name])
    found["dark, on a phone"] = await screen.findings()

    assert found == {"light": [], "dark": [], "dark, on a phone": []}


async def test_axe_would_find_something(shown: Shown, screens: Screens) -> None:
    """Otherwise the tests above would prove nothing."""
    market, cast = shown
    screen = await open_view(screens, market.url, cast, "login", has_policy=False)

    await screen.page.evaluate("document.body.append(document.createElement('button'))")

    assert [finding for finding in await screen.findings() if "button-name" in finding]


async def test_a_theme_that_was_chosen_stays(shown: Shown, screens: Screens) -> None:
    market, cast = shown
    screen = await open_view(screens, market.url, cast, "keys")

    await screen.page.get_by_role("radio", name="Dark").check()
    await screen.page.wait_for_function(LUMINANCE, arg=True)
    await screen.page.reload()

    await screen.page.wait_for_function(LUMINANCE, arg=True)


async def test_the_page_is_walked_by_keyboard_alone(shown: Shown, screens: Screens) -> None:
    market, cast = shown
    screen = await (await screens.screen(market.url)).open()
    page, keyboard = screen.page, screen.page.keyboard
    await expect(page.get_by_label("API key")).to_be_focused()
    await keyboard.insert_text(cast.user_keys["bob"])
    await keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("My agents")

    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text("My agents")
    await keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    await expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    await keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()

    await screen.reach(page.get_by_role("link", name="bob/translator").first)
    await keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Translator")
    await expect(page.get_by_role("heading", level=1)).to_be_focused()

    for place, heading in (("Inbox", "Inbox"), ("Alerts", "Alerts"), ("Keys", "Keys"), ("Market", "Market")):
        await screen.reach(page.get_by_role("navigation", name="Main").get_by_role("link", name=place))
        await keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        await expect(page.get_by_role("heading", level=1)).to_be_focused()
        await expect(page).to_have_title(f"{heading} · Agrenting")


@pytest.mark.parametrize("name", ["market", "my-agents", "agent", "task", "channel", "inbox", "alerts", "keys"])
async def test_what_has_the_focus_is_seen_to_have_it(shown: Shown, screens: Screens, name: str) -> None:
    market, cast = shown
    screen = await open_view(screens, market.url, cast, name)
    seen: set[str] = set()

    for _ in range(25):
        await screen.page.keyboard.press("Tab")
        seen.add(await screen.page.evaluate(FOCUS))

    assert [one for one in seen if one.endswith("unseen")] == []
    assert len(seen) > 5


FOCUS = """() => {
    const node = document.activeElement;
    const shown = [node, node.parentElement].some((one) => {
        const style = getComputedStyle(one);
        return (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
    });
    return `${node.outerHTML.slice(0, 100)} ${shown || node === document.body ? "seen" : "unseen"}`;
}"""
