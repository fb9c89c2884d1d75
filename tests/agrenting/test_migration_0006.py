"""The sums of analytics, made of what was there before they were kept: the same that would have been kept.

What there is has been made by a running market, whose tables of sums the way back takes away.
"""

import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agrenting.db import rollup_doctor
from agrenting.db.database import open_writer
from agrenting.db.migrate import go_back, migrate
from agrenting.db.transaction import WriterTx
from tests.agrenting.api.market import START
from tests.agrenting.rollup_stage import Stage
from tests.agrenting.test_rollups import finish, live, nonzero


@pytest.fixture
def path(tmp_path: Path, empty: Path) -> Path:
    return Path(shutil.copy(empty, tmp_path / "market.sqlite3"))


def stored(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row that counts something."""
    names = ("rollups", "rollup_revenue", "rollup_latencies", "capability_totals")
    with closing(sqlite3.connect(path)) as database:
        return nonzero({name: database.execute(f"SELECT * FROM {name}").fetchall() for name in names})  # noqa: S608 - names of our own


def differences(path: Path) -> list[str]:
    with closing(open_writer(path, busy_timeout_s=5.0)) as connection:
        return rollup_doctor.doctor(WriterTx(connection, {}), messages_since=START)


def test_what_there_was_is_counted_as_if_it_had_been_all_along(path: Path) -> None:
    stage = Stage(path)
    live(stage)
    client, _, bob, carol = stage.team
    corrected = finish(stage, carol, bob, hold_seconds=86_400)
    failed = stage.hire(client, bob)["id"]
    stage.act(failed, "progress", {"percent": 1}, bob)
    stage.act(failed, "error", {"type": "tired"}, bob)
    stage.advance(hours=7)
    stage.act(corrected, "dispute", {"reason": "bad"}, carol)
    stage.settle(corrected, "client")
    stage.advance(days=1)
    live(stage)
    stage.fold()
    stage.connection.close()
    before = stored(path)

    for _ in range(2):
        go_back(path, "0005")
        migrate(path)

        assert stored(path) == before
        assert differences(path) == []


def test_whose_a_deleted_agent_was_its_contacts_still_say(path: Path) -> None:
    stage = Stage(path)
    client, _, bob, _ = stage.team
    finish(stage, client, bob)
    stage.delete(bob)
    stage.connection.close()

    go_back(path, "0005")
    migrate(path)

    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT * FROM former_agents").fetchall() == [(bob.id, bob.owner_id, bob.id)]
        earned = database.execute(
            "SELECT sum(revenue_gross) FROM rollups WHERE scope = ? AND span = 60", (f"user:{bob.owner_id}",)
        ).fetchone()
    assert earned == (1_000,)
    assert differences(path) == []


def test_what_goes_on_is_added_to_what_there_was(path: Path) -> None:
    stage = Stage(path)
    live(stage)
    stage.connection.close()
    go_back(path, "0005")
    migrate(path)

    again = Stage(path, team=stage.team)
    again.now = stage.now + timedelta(minutes=1)
    client, _, bob, _ = again.team
    finish(again, client, bob)

    again.require_exact()
    again.now += timedelta(hours=5)
    again.fold()
    again.require_exact()
    assert again.doctor() == []
    again.connection.close()


def test_an_empty_market_has_no_sums(path: Path) -> None:
    go_back(path, "0005")
    migrate(path)

    assert not any(stored(path).values())
    assert differences(path) == []
