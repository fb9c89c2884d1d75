"""Fixtures of the system tests: real servers, and where Node.js is."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import ROOT, MarketProcess

PACKAGES = ROOT / "tests/system/js/node_modules"
ECHO_ROOM = {"AGRENTING_TOPICS": '["examples.echo_room"]'}


@pytest.fixture
def market(tmp_path: Path) -> Iterator[MarketProcess]:
    """A running server with the example topic."""
    process = MarketProcess(tmp_path / "var", **ECHO_ROOM).start()
    yield process
    if process.process is not None:
        assert process.stop() == 0, "\n".join(process.log)


@pytest.fixture
def node() -> str:
    """Node.js: of the environment, else of the machine."""
    own = Path(sys.executable).parent / "node"
    found = str(own) if own.exists() else shutil.which("node")
    if found is None or not all((PACKAGES / name).exists() for name in ("phoenix", "@finos/fdc3-agent-proxy")):
        pytest.skip("Node.js or the npm packages of tests/system/js are missing: `make test` installs both")
    return found
