"""The sums of analytics: where they stand, how they fold, what is read of them, and what the doctor finds."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agrenting.clock import to_ms
from agrenting.db import rollup_doctor, rollup_sources, rollups
from agrenting.db.transaction import WriterTx
from channels import discovery
from channels.counting import SUMS
from channels.errors import Conflict
from tests import paying
from tests.agrenting.api.market import START
from tests.agrenting.rollup_stage import DAY_MS, FOR_EVER, HOUR_MS, MINUTE_MS, Member, Stage

NOON_MS = to_ms(START)


@pytest.fixture
def stage(tmp_path: Path, empty: Path) -> Iterator[Stage]:
    path = tmp_path / "market.sqlite3"
    shutil.copy(empty, path)
    made = Stage(path)
    yield made
    made.connection.close()


def finish(stage: Stage, client: Member, provider: Member, *, seconds: float = 0, **fields: Any) -> str:
    """A task that was hired, begun and completed; its id."""
    task_id: str = stage.hire(client, provider, **{"hold_seconds": 0, **fields})["id"]
    stage.act(task_id, "progress", {"percent": 1}, provider)
    stage.advance(seconds=seconds)
    assert stage.act(task_id, "complete", {"result": 1}, provider) is not None
    return task_id


def live(stage: Stage) -> None:
    """Something of everything."""
    client, worker, bob, carol = stage.team
    finish(stage, client, bob, seconds=40)
    finish(stage, client, worker, seconds=400)
    held = finish(stage, carol, bob, seconds=70, hold_seconds=7_200)
    stage.act(held, "dispute", {"reason": "bad"}, carol)
    stage.settle(held, "split", client_bps=5_000)
    channel = stage.open_channel(client, bob)
    body = paying.proposal(channel, client.seed, from_agent_id=client.id, amount=300)
    proposed = stage.pay(channel["channel_id"], "propose_transfer", body, client)
    body = paying.acknowledgement(proposed, bob.seed, proposed["pending_proposal"])
    stage.pay(channel["channel_id"], "acknowledge_transfer", body, bob)
    stage.negotiate(client, worker)
    stage.write(client, carol)


def tx_of(stage: Stage) -> WriterTx:
    return WriterTx(stage.connection, {})


class TestFolding:
    def test_moves_past_hours_and_leaves_the_last_one(self, stage: Stage) -> None:
        live(stage)
        stage.now = START + timedelta(hours=1, minutes=59)
        stage.fold()
        assert {row[1] for row in stage.tables()["rollups"]} == {60}
        stage.now = START + timedelta(hours=2)
        assert rollups.pending(tx_of(stage), stage.now) > 0

        stage.fold()

        assert rollups.pending(tx_of(stage), stage.now) == 0
        for name, rows in stage.tables().items():
            if name != "capability_totals":
                assert {row[1] for row in rows} == {3_600, 86_400, 0}
        stage.require_exact()

    def test_goes_in_steps_and_says_when_there_is_no_more(self, stage: Stage) -> None:
        client, _, bob, _ = stage.team
        for _ in range(rollups.FOLDED_AT_ONCE // 4):
            finish(stage, client, bob)
            stage.advance(hours=1)

        stage.now += timedelta(hours=2)

        assert stage.fold() > 1

        assert rollups.pending(tx_of(stage), stage.now) == 0
        stage.require_exact()

    def test_that_is_undone_leaves_everything_as_it_was(self, stage: Stage) -> None:
        live(stage)
        before = stage.tables()

        stage.lose(lambda tx: rollups.fold(tx, START + timedelta(days=1)))

        assert stage.tables() == before

    def test_a_correction_lands_in_its_old_bucket_also_once_that_is_folded(self, stage: Stage) -> None:
        client, _, bob, _ = stage.team
        task_id = finish(stage, client, bob, seconds=5, hold_seconds=14_400)
        stage.advance(hours=3)
        stage.fold()
        stage.act(task_id, "dispute", {"reason": "bad"}, client)
        stage.require_exact()
        noon = {"since": NOON_MS, "until": NOON_MS + HOUR_MS, "span": rollups.HOUR}
        disputed = rollups.sums(tx_of(stage), f"agent:{bob.id}", **noon)
        stage.settle(task_id, "client")

        failed = rollups.sums(tx_of(stage), f"agent:{bob.id}", **noon)

        assert (disputed["tasks_completed"], disputed["tasks_failed"], disputed["executions"]) == (0, 0, 0)
        assert (failed["tasks_completed"], failed["tasks_failed"], failed["execution_ms"]) == (0, 1, 0)
        assert rollups.latencies(tx_of(stage), "global", **noon) == {}
        stage.require_exact()
        assert stage.doctor() == []
        stage.now += timedelta(days=1)
        stage.fold()
        stage.require_exact()
        assert stage.doctor() == []


class TestCounting:
    def test_a_refused_unit_counts_nothing_and_its_neighbours_do(self, stage: Stage) -> None:
        client, _, bob, _ = stage.team
        body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": 1_000}
        hire = stage.command(discovery.HANDLERS["open_task"], discovery.TOPIC, body, client.identity)

        def fails_late(tx: WriterTx) -> None:
            hire(tx)
            raise Conflict("too_late", "No.")

        one, two, three = stage.batch(hire, fails_late, hire)

        assert (one.error, three.error) == (None, None)
        assert isinstance(two.error, Conflict)
        sums = rollups.sums(tx_of(stage), "global", since=0, until=FOR_EVER, span=rollups.ALL_TIME)
        assert (sums["tasks_total"], sums["tasks_hired"]) == (2, 2)
        stage.require_exact()

    def test_a_batch_that_is_lost_counts_nothing_and_the_next_one_does(self, stage: Stage) -> None:
        client, _, bob, _ = stage.team
        before = stage.tables()
        body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": 1_000}
        hire = stage.command(discovery.HANDLERS["open_task"], discovery.TOPIC, body, client.identity)

        stage.lose(hire, hire)
        assert stage.tables() == before

        stage.change(hire)
        sums = rollups.sums(tx_of(stage), "global", since=0, until=FOR_EVER, span=rollups.ALL_TIME)
        assert sums["tasks_total"] == 1
        stage.require_exact()

    def test_a_deal_within_one_house_counts_once_for_each_part_in_it(self, stage: Stage) -> None:
        client, worker, _, _ = stage.team
        finish(stage, client, worker)
        stage.negotiate(client, worker)

        sums = rollups.sums(tx_of(stage), f"user:{client.owner_id}", since=0, until=FOR_EVER, span=rollups.ALL_TIME)

        assert (sums["tasks_total"], sums["tasks_hired"], sums["negotiations_started"]) == (1, 1, 1)
        assert (sums["revenue_gross"], sums["spend"]) == (1_000, 1_000)

    def test_what_a_deleted_agent_did_still_counts_for_its_owner(self, stage: Stage) -> None:
        client, worker, bob, _ = stage.team
        task_id = finish(stage, client, bob, hold_seconds=600)
        stage.delete(bob)
        stage.act(task_id, "release", {}, client)

        assert stage.doctor() == []
        stage.require_exact()
        earned = rollups.sums(tx_of(stage), f"user:{bob.owner_id}", since=0, until=FOR_EVER, span=rollups.ALL_TIME)
        assert earned["revenue_gross"] == 1_000
        assert stage.connection.execute("SELECT agent_id, owner_id FROM former_agents").fetchall() == [
            (bob.id, bob.owner_id)
        ]
        assert worker.owner_id != bob.owner_id


class TestReading:
    def test_a_series_has_the_buckets_that_count(self, stage: Stage) -> None:
        client, _, bob, _ = stage.team
        finish(stage, client, bob, seconds=61)
        stage.advance(hours=5)
        finish(stage, client, bob)
        stage.fold()

        over = {"since": NOON_MS - DAY_MS, "until": NOON_MS + DAY_MS}
        columns = ("tasks_completed", "tasks_total")
        scope = f"agent:{bob.id}"
        hours = rollups.series(tx_of(stage), scope, **over, span=rollups.HOUR, columns=columns)
        days = rollups.series(tx_of(stage), scope, **over, span=rollups.DAY, columns=columns)
        minutes = rollups.series(
            tx_of(stage), scope, since=NOON_MS + 5 * HOUR_MS, until=NOON_MS + 6 * HOUR_MS, span=60, columns=columns
        )

        assert hours == [(NOON_MS, 1, 1), (NOON_MS + 5 * HOUR_MS, 1, 1)]
        assert days == [(NOON_MS - NOON_MS % DAY_MS, 2, 2)]
        assert minutes == [(NOON_MS + 5 * HOUR_MS + MINUTE_MS, 1, 1)]

    def test_only_columns_of_the_table_can_be_asked_for(self, stage: Stage) -> None:
        with pytest.raises(AssertionError):
            rollups.series(tx_of(stage), "global", since=0, until=1, span=60, columns=("1; DROP TABLE rollups",))

    def test_a_reputation_is_told_at_the_end_of_each_bucket_in_which_it_changed(self, stage: Stage) -> None:
        client, _, bob, _ = stage.team
        finish(stage, client, bob)
        stage.advance(days=1, hours=2)
        task_id = finish(stage, client, bob)
        assert task_id
        scope = f"agent:{bob.id}"
        expected = [(NOON_MS, 375), (NOON_MS + DAY_MS + 2 * HOUR_MS, 393)]
        over = {"since": NOON_MS - DAY_MS, "until": NOON_MS + 2 * DAY_MS}

        for _ in range(2):
            told = rollups.reputations(tx_of(stage), scope, **over, span=rollups.HOUR)
            before = [
                rollups.reputation_before(tx_of(stage), scope, until=until, span=rollups.HOUR)
                for until in (NOON_MS, NOON_MS + HOUR_MS, NOON_MS + 2 * DAY_MS)
            ]
            assert told == expected
            assert before == [None, 375, 393]
            stage.now += timedelta(days=1)
            stage.fold()

    def test_data_begins_with_the_first_bucket(self, stage: Stage) -> None:
        client, _, bob, _ = stage.team
        assert rollups.first_start(tx_of(stage), f"user:{bob.owner_id}") is None
        stage.advance(minutes=150)
        finish(stage, client, bob)
        assert rollups.first_start(tx_of(stage), f"user:{bob.owner_id}") == NOON_MS + 150 * MINUTE_MS
        stage.now += timedelta(days=1)
        stage.fold()
        assert rollups.first_start(tx_of(stage), f"user:{bob.owner_id}") == NOON_MS + 2 * HOUR_MS
        assert rollups.first_start(tx_of(stage), "user:nobody") is None

    def test_the_largest_earnings_come_first_and_no_more_than_asked_for(self, stage: Stage) -> None:
        client, _, bob, carol = stage.team
        finish(stage, carol, bob)
        finish(stage, client, bob)
        finish(stage, client, bob)
        over = {"since": 0, "until": FOR_EVER, "span": rollups.ALL_TIME}
        scope = f"agent:{bob.id}"

        assert rollups.revenue_by(tx_of(stage), scope, "counterparty", **over) == [
            (client.id, 2_000, 100), (carol.id, 1_000, 50),
        ]  # fmt: skip
        assert rollups.revenue_by(tx_of(stage), scope, "counterparty", **over, limit=1) == [(client.id, 2_000, 100)]
        assert rollups.revenue_by(tx_of(stage), scope, "capability", **over) == [("translate", 3_000, 150)]

    def test_reads_go_by_ranges_of_an_index_and_nothing_else(self, stage: Stage) -> None:
        asked: list[str] = []
        stage.connection.set_trace_callback(asked.append)
        tx, over = tx_of(stage), {"since": 0, "until": FOR_EVER, "span": rollups.HOUR}
        rollups.sums(tx, "global", **over)
        rollups.series(tx, "global", **over, columns=("spend",))
        rollups.reputations(tx, "global", **over)
        rollups.reputation_before(tx, "global", until=FOR_EVER, span=rollups.HOUR)
        rollups.latencies(tx, "global", **over)
        rollups.latency_series(tx, "global", **over)
        rollups.revenue_by(tx, "global", "capability", **over)
        rollups.heatmap(tx, "global", since=0, until=FOR_EVER)
        rollups.first_start(tx, "global")
        rollups.fold(tx, START)
        stage.connection.set_trace_callback(None)

        assert len(asked) >= 12
        for sql in asked:
            plan = [row[3] for row in stage.connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
            assert all("SCAN" not in step for step in plan), (sql, plan)


SPOILS = (
    *(
        f"UPDATE rollups SET {column} = {column} + 1 WHERE scope = 'global' AND span = :span AND start = :start"  # noqa: S608 - names of our own
        for column in SUMS
    ),
    "UPDATE rollups SET reputation_centi = reputation_centi + 1 WHERE reputation_centi IS NOT NULL AND span = :span",
    "UPDATE rollup_revenue SET gross = gross + 1 WHERE kind = 'capability' AND span = :span",
    "UPDATE rollup_revenue SET fees = fees - 1 WHERE kind = 'counterparty' AND span = :span",
    "UPDATE rollup_latencies SET count = count + 1 WHERE scope = 'global' AND span = :span",
    "DELETE FROM rollup_latencies WHERE scope = 'global' AND span = :span",
    "DELETE FROM rollup_revenue WHERE span = :span",
    "UPDATE rollups SET scope = 'user:nobody' WHERE scope = 'global' AND span = :span",
)
TOTALS = ("completed", "failed", "execution_ms", "executions")


class TestTheDoctor:
    @pytest.mark.parametrize("span", [rollups.MINUTE, rollups.HOUR, rollups.DAY, rollups.ALL_TIME])
    def test_finds_whatever_is_wrong_in_any_bucket(self, stage: Stage, span: int) -> None:
        live(stage)
        if span != rollups.MINUTE:
            stage.now += timedelta(days=1)
            stage.fold()
        assert stage.doctor() == []
        (start,) = stage.connection.execute(
            "SELECT min(start) FROM rollups WHERE span = ? AND scope = 'global'", (span,)
        ).fetchone()

        for spoil in SPOILS:
            stage.connection.execute("BEGIN")
            named = {"span": span, "start": start}
            assert stage.connection.execute(spoil, named).rowcount > 0, spoil
            assert stage.doctor() != [], spoil
            stage.connection.execute("ROLLBACK")

    @pytest.mark.parametrize("column", TOTALS)
    def test_finds_what_is_wrong_in_the_totals_by_capability(self, stage: Stage, column: str) -> None:
        live(stage)
        stage.connection.execute(f"UPDATE capability_totals SET {column} = {column} + 1")  # noqa: S608 - a name from above
        differences = stage.doctor()
        assert len(differences) == 2
        assert all(f"has {column} " in difference for difference in differences)

    def test_says_whose_number_is_wrong_when_and_by_how_much(self, stage: Stage) -> None:
        client, _, bob, _ = stage.team
        finish(stage, client, bob)
        stage.connection.execute("UPDATE rollups SET spend = 7 WHERE scope = ?", (f"agent:{client.id}",))

        assert stage.doctor() == [
            f"agent:{client.id} has spend 7 in the hour from 2030-01-01T12:00Z, its sources say 1000"
        ]

    def test_tells_so_many_differences_and_counts_the_rest(self, stage: Stage) -> None:
        live(stage)
        for name in SUMS:
            stage.connection.execute(f"UPDATE rollups SET {name} = {name} + 1")  # noqa: S608 - a name of our own
        *told, last = stage.doctor()
        assert len(told) == 100
        assert last.startswith("and ")
        assert last.endswith(" more differences of the sums")

    def test_misses_no_messages_that_are_still_kept_and_forgives_those_that_are_not(self, stage: Stage) -> None:
        client, _, _, carol = stage.team
        stage.write(client, carol)
        stage.connection.execute("DELETE FROM messages")
        assert stage.doctor() != []
        stage.now += timedelta(days=8)
        stage.write(client, carol)

        def look() -> list[str]:
            return rollup_doctor.doctor(tx_of(stage), messages_since=stage.now - timedelta(days=7))

        assert look() == []
        stage.connection.execute("UPDATE rollups SET messages_in = 0")
        assert look() != []


class TestMakingAgain:
    def test_reads_each_agents_sources_by_an_index_of_its_own(self, stage: Stage) -> None:
        live(stage)
        asked: list[str] = []
        stage.connection.set_trace_callback(asked.append)
        found = list(rollup_sources.all_facts(tx_of(stage)))
        stage.connection.set_trace_callback(None)

        assert len(found) == len(stage.team) + 3 + 1
        of_agents = [sql for sql in asked if "UNION SELECT DISTINCT" not in sql]
        assert any("postings" in sql for sql in of_agents)
        for sql in of_agents:
            plan = [row[3] for row in stage.connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
            assert all("SCAN" not in step for step in plan), (sql, plan)
            assert "SEARCH p " not in plan[0], (sql, plan)

    def test_makes_every_row_that_was_there_and_no_other(self, stage: Stage) -> None:
        live(stage)
        stage.advance(hours=5)
        live(stage)
        stage.fold()
        before = stage.tables()

        stage.change(lambda tx: rollup_sources.rebuild(tx, now=stage.now))

        assert nonzero(stage.tables()) == nonzero(before)
        assert stage.doctor() == []
        stage.require_exact()


def nonzero(tables: dict[str, list[tuple[object, ...]]]) -> dict[str, list[tuple[object, ...]]]:
    """Rows that count something: a dispute and its settlement leave some that do not."""
    return {
        name: [row for row in rows if any(number for number in row[3:] if isinstance(number, int))]
        for name, rows in tables.items()
    }
