"""Every view of the page: who sees it, where it is, and what says that it is there."""

from typing import Final, NamedTuple

from playwright.async_api import expect

from tests.browser.history import Cast
from tests.browser.screen import Screen, Screens


class View(NamedTuple):
    """One view.

    Args:
        who: Whose key opens it; None for the login.
        path: Its fragment; names of the cast in braces.
        heading: What its heading contains.
    """

    who: str | None
    path: str
    heading: str


VIEWS: Final = {
    "login": View(None, "", "Log in"),
    "market": View("olga", "#/market", "Market"),
    "market-of-a-user": View("bob", "#/market", "Market"),
    "my-agents": View("bob", "#/agents", "My agents"),
    "no-agents": View("olga", "#/agents", "My agents"),
    "agent": View("bob", "#/agents/{translator}", "Translator"),
    "agent-itself": View("bob/proofreader", "#/agents/{proofreader}", "Proofreader"),
    "idle-agent": View("erin", "#/agents/{idle}", "Idle"),
    "task": View("bob", "#/agents/{translator}/tasks/{task}", "Translate"),
    "disputed-task": View("alice", "#/agents/{courier}/tasks/{disputed}", "Proofread"),
    "channel": View("bob", "#/agents/{translator}/channels/{channel}", "Payments with"),
    "closed-channel": View("dave", "#/agents/{desk}/channels/{closed_channel}", "Payments with bob/translator"),
    "inbox": View("bob", "#/inbox", "Inbox"),
    "empty-inbox": View("carol", "#/inbox", "Inbox"),
    "alerts": View("olga", "#/alerts", "Alerts"),
    "keys": View("bob", "#/keys", "Keys"),
    "nowhere": View("bob", "#/nowhere", "Not found"),
}


def address_of(view: View, cast: Cast) -> str:
    """The fragment, with ids in it."""
    ids = {handle.partition("/")[2]: agent.id for handle, agent in cast.agents.items()}
    return view.path.format(**ids, **cast.open)


async def open_view(screens: Screens, url: str, cast: Cast, name: str, **options: object) -> Screen:
    """A view as it is once everything on it is there."""
    view = VIEWS[name]
    screen = await screens.screen(url, **options)  # type: ignore[arg-type] # They are those of `screen`.
    if view.who is None:
        await screen.open()
    else:
        key = cast.agents[view.who].api_key if "/" in view.who else cast.user_keys[view.who]
        await screen.log_in(key)
        await screen.go(address_of(view, cast))
    await settled(screen, view)
    return screen


async def settled(screen: Screen, view: View) -> None:
    """Wait until nothing is on its way any more."""
    await expect(screen.page.get_by_role("heading", level=1)).to_contain_text(view.heading)
    if view.who is not None:
        await expect(screen.page.get_by_test_id("connection")).to_have_text("Live")
    await expect(screen.page.locator(".skeleton, [aria-busy=true]")).to_have_count(0)
    await expect(screen.page.locator(".loading")).to_have_count(0)
