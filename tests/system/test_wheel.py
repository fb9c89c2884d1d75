"""The wheel holds the page that was built, and nothing of what it was built from; whatever is installed serves it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from agrenting.pages import DIST
from tests.system.harness import ROOT, MarketProcess, free_environment

pytestmark = pytest.mark.timeout(300)
"""A wheel is built."""

PAGE = "agrenting/dashboard/"
CLIENT = "agrenting/client/"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel of this checkout."""
    require_page()
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def require_page() -> None:
    """Skip where there is no page."""
    if not (DIST / "index.html").exists():
        pytest.skip("The dashboard was not built: `make dashboard` does that.")


def test_the_wheel_holds_the_built_page_and_none_of_its_sources(wheel: zipfile.ZipFile) -> None:
    held = {name.removeprefix(PAGE) for name in wheel.namelist() if name.startswith(PAGE)}
    built = {
        f"dist/{path.relative_to(DIST).as_posix()}"
        for path in DIST.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }

    assert held == built
    assert "dist/index.html" in held
    assert {Path(name).suffix for name in held if name.startswith("dist/assets/")} >= {".js", ".css"}


def test_the_wheel_holds_what_the_server_needs_beside_its_code(wheel: zipfile.ZipFile) -> None:
    assert {"agrenting/py.typed", "channels/PROTOCOL.md", "crypto/SIGNING.md", "migrations/script.py.mako"} <= {
        *wheel.namelist()
    }


def test_the_wheel_holds_the_client_and_nothing_of_what_builds_the_clients_own_wheel(wheel: zipfile.ZipFile) -> None:
    held = {name.removeprefix(CLIENT) for name in wheel.namelist() if name.startswith(CLIENT)}

    assert {"agent.py", "py.typed", "shell/hire.py"} <= held
    assert {name for name in held if not name.endswith(".py")} == {"py.typed"}
    assert "hatch_build.py" not in held


def test_what_is_installed_from_the_wheel_finds_its_page(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    asked = "from agrenting import pages; print(pages.__file__); print(*pages.built_files(pages.DIST))"

    done = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=tmp_path,
        env={**free_environment(), "PYTHONPATH": str(tmp_path / "site")},
        check=True,
        capture_output=True,
        text=True,
    )

    module, addresses = done.stdout.splitlines()
    assert module.startswith(str(tmp_path))
    assert "/" in addresses.split()
    assert any(address.startswith("/assets/") for address in addresses.split())


def test_a_server_from_a_checkout_serves_the_page_with_all_that_it_names(market: MarketProcess) -> None:
    require_page()
    with httpx.Client(base_url=market.url, timeout=30) as browser:
        index = browser.get("/")
        named = [f"/assets/{path.name}" for path in (DIST / "assets").iterdir() if f"assets/{path.name}" in index.text]
        statuses = {path: browser.get(path).status_code for path in named}

    assert index.status_code == 200
    assert len(statuses) >= 2
    assert set(statuses.values()) == {200}
