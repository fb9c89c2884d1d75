"""A market with a past, for views that are only looked at and for tests that change it; and Chromium before it."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser.history import Cast, write_history
from tests.browser.screen import Screens, open_browser, open_screens, require_browser
from tests.system.harness import MarketProcess


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these tests in the one event loop in which the browser is open."""
    for item in items:
        if item.path.parent == Path(__file__).parent and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Cast:
    """Twelve days of trade in a data folder that nobody serves."""
    require_browser()
    return write_history(tmp_path_factory.mktemp("history") / "var")


def served(written: Cast, folder: Path) -> Iterator[tuple[MarketProcess, Cast]]:
    """A server on a copy of that."""
    shutil.copytree(written.folder, folder)
    process = MarketProcess(folder).start()
    yield process, written._replace(folder=folder)
    if process.process is not None:
        assert process.stop() == 0, "\n".join(process.log)


@pytest.fixture(scope="module")
def shown(written: Cast, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MarketProcess, Cast]]:
    """A server that the tests of a module share, and do not change."""
    yield from served(written, tmp_path_factory.mktemp("shown") / "var")


@pytest.fixture
def alive(written: Cast, tmp_path: Path) -> Iterator[tuple[MarketProcess, Cast]]:
    """A server of the test's own."""
    yield from served(written, tmp_path / "var")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, which takes as long to start as most tests take."""
    async with open_browser() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def screens(browser: Browser) -> AsyncIterator[Screens]:
    """Tabs, each with a profile of its own, which must have done nothing wrong in the end."""
    async with open_screens(browser) as opened:
        yield opened
