"""A database that is migrated once, and copied for every test; and whole servers on real ports over such copies."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agrenting.db.migrate import migrate
from tests.agrenting.api.market import settings_of
from tests.agrenting.dacp_stage import Floor, floor


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with an empty database of the newest schema."""
    folder = tmp_path_factory.mktemp("migrated")
    migrate(settings_of(folder).database_path)
    return folder


@pytest.fixture(scope="session")
def empty(migrated: Path) -> Path:
    """That database."""
    return settings_of(migrated).database_path


@pytest.fixture
def folder(tmp_path: Path, migrated: Path) -> Path:
    """A data folder of the test's own."""
    shutil.copytree(migrated, tmp_path / "var")
    return tmp_path / "var"


@pytest.fixture
async def hall(folder: Path) -> AsyncIterator[Floor]:
    """A server that hardly waits for who is gone."""
    async with floor(folder, private_grace_s=0.05) as running:
        yield running


@pytest.fixture
async def calm(folder: Path) -> AsyncIterator[Floor]:
    """A server that waits long for who is gone."""
    async with floor(folder, private_grace_s=600.0) as running:
        yield running
