"""What each change adds to the sums of analytics: in which minute, for whom, and what it takes back."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from channels.changes import Changed, Posted, Stepped
from channels.channel_steps import ChannelStep, StepKind
from channels.counting import (
    MINUTE_MS,
    SUMS,
    Facts,
    count_end,
    count_started,
    execution_ms_of,
    minute_of,
    scopes_of,
)
from channels.facts import facts_of
from channels.histograms import bucket_of
from channels.ledger import Posting, deposit, refund, release, split
from channels.negotiation_state import NegotiationSession
from channels.negotiation_state import Phase as SessionPhase
from channels.task_state import Escrow, Phase, Progress, Settlement, Task
from tests.channels.roles import NOW, agent_named

ALICE, BOB = agent_named("alice", number=1), agent_named("bob", number=2)
SISTER = agent_named("sister", number=3, owner_id=ALICE.owner_id)
OWNERS = {agent.id: agent.owner_id for agent in (ALICE, BOB, SISTER)}
CLIENT_SCOPES = {f"agent:{ALICE.id}", f"user:{ALICE.owner_id}", "global"}
PROVIDER_SCOPES = {f"agent:{BOB.id}", f"user:{BOB.owner_id}", "global"}
MINUTE = minute_of(NOW)
TASK = Task(
    id="t-1",
    client_agent_id=ALICE.id,
    provider_agent_id=BOB.id,
    client_owner_id=ALICE.owner_id,
    is_countable=True,
    capability="translate",
    price=1_000,
    fee=50,
    fee_bps=500,
    escrow_status=Escrow.HELD,
    created_at=NOW,
    deadline=NOW + timedelta(days=1),
)
STARTED = msgspec.structs.replace(TASK, status=Phase.IN_PROGRESS, started_at=NOW + timedelta(seconds=61))
COMPLETED = msgspec.structs.replace(STARTED, status=Phase.COMPLETED, ended_at=NOW + timedelta(seconds=125))
DISPUTED = msgspec.structs.replace(COMPLETED, status=Phase.DISPUTED)
SESSION = NegotiationSession(
    id="n-1",
    client_agent_id=ALICE.id,
    provider_agent_id=BOB.id,
    client_public_key="",
    provider_public_key="",
    capability="translate",
    base_max=10,
    max_offer=20,
    max_rounds=5,
    terms=None,
    session_digest="",
    created_at=NOW,
    expires_at=NOW + timedelta(hours=1),
)


def counted(*happened: Any, owners: dict[str, str] = OWNERS) -> dict[tuple[str, int], dict[str, int]]:
    """What a unit adds, by scope and by minutes after NOW, but for zeros."""
    facts = facts_of(happened, owners.get)
    return {
        (scope, (minute - MINUTE) // MINUTE_MS): {name: n for name, n in zip(SUMS, row, strict=True) if n}
        for (scope, minute), row in facts.sums.items()
    }


def changed(before: Any, after: Any, store: str = "task") -> Changed:
    return Changed(store, before, after)


def scopes(found: dict[tuple[str, int], dict[str, int]], name: str) -> set[str]:
    """Who counts something."""
    return {scope for (scope, _), row in found.items() if name in row}


class TestTasks:
    def test_an_opening_counts_for_the_provider_and_as_a_hire_for_the_client(self) -> None:
        found = counted(changed(None, TASK))
        assert scopes(found, "tasks_total") == PROVIDER_SCOPES
        assert scopes(found, "tasks_hired") == CLIENT_SCOPES
        assert found["global", 0] == {"tasks_total": 1, "tasks_hired": 1}

    def test_a_task_within_one_house_counts_once_in_each_part(self) -> None:
        task = msgspec.structs.replace(TASK, provider_agent_id=SISTER.id)
        assert counted(changed(None, task))[f"user:{ALICE.owner_id}", 0] == {"tasks_total": 1, "tasks_hired": 1}

    def test_a_start_counts_in_its_own_minute(self) -> None:
        assert counted(changed(TASK, STARTED)) == {(scope, 1): {"tasks_started": 1} for scope in PROVIDER_SCOPES}

    def test_an_end_counts_with_how_long_it_took(self) -> None:
        end = {"tasks_completed": 1, "execution_ms": 64_000, "executions": 1}
        assert counted(changed(STARTED, COMPLETED)) == {(scope, 2): end for scope in PROVIDER_SCOPES}
        facts = facts_of([changed(STARTED, COMPLETED)], OWNERS.get)
        assert facts.latencies == {(scope, MINUTE + 2 * MINUTE_MS, bucket_of(64_000)): 1 for scope in PROVIDER_SCOPES}
        assert facts.totals == {("translate", BOB.id, BOB.owner_id): [1, 0, 64_000, 1]}

    @pytest.mark.parametrize(
        ("status", "name", "totals"),
        [(Phase.FAILED, "tasks_failed", {("translate", BOB.id, BOB.owner_id): [0, 1, 0, 0]}),
         (Phase.CANCELLED, "tasks_cancelled", {})],
    )  # fmt: skip
    def test_an_end_without_work_counts_no_time(self, status: Phase, name: str, totals: Any) -> None:
        ended = msgspec.structs.replace(STARTED, status=status, ended_at=NOW)
        assert counted(changed(STARTED, ended)) == {(scope, 0): {name: 1} for scope in PROVIDER_SCOPES}
        assert facts_of([changed(STARTED, ended)], OWNERS.get).totals == totals

    def test_a_dispute_takes_the_end_back_and_a_settlement_puts_it_where_it_was(self) -> None:
        back = {"tasks_completed": -1, "execution_ms": -64_000, "executions": -1}
        assert counted(changed(COMPLETED, DISPUTED)) == {(scope, 2): back for scope in PROVIDER_SCOPES}
        failed = msgspec.structs.replace(DISPUTED, status=Phase.FAILED)
        assert counted(changed(DISPUTED, failed)) == {(scope, 2): {"tasks_failed": 1} for scope in PROVIDER_SCOPES}

    def test_a_life_within_one_unit_counts_whole(self) -> None:
        found = counted(changed(None, TASK), changed(TASK, STARTED), changed(STARTED, COMPLETED))
        assert [found["global", minute].keys() for minute in range(3)] == [
            {"tasks_total", "tasks_hired"}, {"tasks_started"}, {"tasks_completed", "execution_ms", "executions"},
        ]  # fmt: skip

    def test_a_dispute_that_is_settled_in_the_same_unit_corrects_the_end(self) -> None:
        failed = msgspec.structs.replace(DISPUTED, status=Phase.FAILED)
        found = counted(changed(COMPLETED, DISPUTED), changed(DISPUTED, failed))
        assert found["global", 2] == {
            "tasks_completed": -1, "execution_ms": -64_000, "executions": -1, "tasks_failed": 1,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (STARTED, msgspec.structs.replace(STARTED, progress=Progress(percent=5))),
            (COMPLETED, msgspec.structs.replace(COMPLETED, escrow_status=Escrow.RELEASED)),
            (TASK, TASK),
        ],
    )
    def test_what_changes_nothing_that_counts_adds_nothing(self, before: Task, after: Task) -> None:
        facts = facts_of([changed(before, after)], OWNERS.get)
        assert not facts
        assert facts.scopes == frozenset()

    def test_an_agent_that_nobody_knows_counts_for_itself_and_the_market(self) -> None:
        assert scopes(counted(changed(None, TASK), owners={}), "tasks_total") == {f"agent:{BOB.id}", "global"}
        assert list(facts_of([changed(STARTED, COMPLETED)], lambda _id: None).totals) == [("translate", BOB.id, "")]
        assert scopes_of(ALICE.id, lambda _id: None) == (f"agent:{ALICE.id}", "global")

    def test_a_clock_that_was_put_back_makes_no_time_negative(self) -> None:
        early = msgspec.structs.replace(COMPLETED, ended_at=NOW)
        assert execution_ms_of(early) == 0

    def test_what_has_not_started_or_ended_counts_no_start_and_no_end(self) -> None:
        facts = Facts()
        count_started(facts, TASK, ("global",))
        count_end(facts, STARTED, ("global",), owner_id=None)
        assert not facts


class TestMoney:
    def paid(self, *entries: Any, task: Task = COMPLETED) -> Facts:
        at = NOW + timedelta(minutes=5)
        return facts_of([changed(task, task), *(Posted(entry, at) for entry in entries)], OWNERS.get)

    def test_a_price_is_earned_with_its_fee_and_spent(self) -> None:
        entry = release(task_id="t-1", provider_agent_id=BOB.id, price=1_000, fee=50)
        facts = self.paid(*entry)
        minute = MINUTE + 5 * MINUTE_MS
        row = dict(zip(SUMS, facts.sums["global", minute], strict=True))
        assert (row["revenue_gross"], row["fees"], row["spend"], row["revenue_streamed"]) == (1_000, 50, 1_000, 0)
        assert facts.revenue == {
            (scope, minute, kind, name): [1_000, 50]
            for scope in PROVIDER_SCOPES - {"global"}
            for kind, name in (("capability", "translate"), ("counterparty", ALICE.id))
        }
        assert facts.scopes == CLIENT_SCOPES | PROVIDER_SCOPES

    def test_of_a_split_the_providers_part_is_earned(self) -> None:
        entry = split(
            task_id="t-1", client_agent_id=ALICE.id, to_client=300, provider_agent_id=BOB.id, to_provider=700, fee=35
        )
        row = dict(zip(SUMS, self.paid(*entry).sums["global", MINUTE + 5 * MINUTE_MS], strict=True))
        assert (row["revenue_gross"], row["fees"], row["spend"]) == (700, 35, 700)

    def test_a_fee_that_is_all_of_it_is_earned_and_paid(self) -> None:
        entry = release(task_id="t-1", provider_agent_id=BOB.id, price=10, fee=10)
        row = dict(zip(SUMS, self.paid(*entry).sums["global", MINUTE + 5 * MINUTE_MS], strict=True))
        assert (row["revenue_gross"], row["fees"]) == (10, 10)
        assert Posting("platform:fees", 10) in entry[0].postings

    def test_what_is_given_back_or_put_in_is_nobodys_revenue(self) -> None:
        back = refund(task_id="t-1", client_agent_id=ALICE.id, price=1_000)
        assert not self.paid(*back, deposit(agent_id=ALICE.id, amount=5))

    def test_an_entry_of_no_task_counts_nothing(self) -> None:
        entry = release(task_id="t-9", provider_agent_id=BOB.id, price=1_000, fee=50)
        assert not self.paid(*entry)


def step(kind: StepKind = StepKind.TRANSFER, *, task_id: str | None = None) -> Stepped:
    details = {"amount": 70, "from_agent_id": ALICE.id, "to_agent_id": BOB.id, "task_id": task_id}
    made = ChannelStep(
        number=2, kind=kind, at=NOW, agent_id=BOB.id, balance_a=0, balance_b=0, last_nonce=1, details=details
    )
    return Stepped("c-1", made)


class TestTransfers:
    def test_a_transfer_counts_on_both_sides(self) -> None:
        found = counted(step())
        assert scopes(found, "transfers_in") == PROVIDER_SCOPES
        assert scopes(found, "transfers_out") == CLIENT_SCOPES
        assert found[f"agent:{BOB.id}", 0] == {"transfers_in": 1, "transfers_in_amount": 70}
        assert found[f"agent:{ALICE.id}", 0] == {"transfers_out": 1, "transfers_out_amount": 70}

    def test_other_steps_count_nothing(self) -> None:
        assert counted(step(StepKind.VOIDED)) == {}

    def test_one_that_pays_a_task_is_its_price_without_a_fee(self) -> None:
        paid = msgspec.structs.replace(STARTED, paid=70)
        facts = facts_of([changed(STARTED, paid), step(task_id="t-1")], OWNERS.get)
        row = dict(zip(SUMS, facts.sums["global", MINUTE], strict=True))
        assert (row["revenue_gross"], row["revenue_streamed"], row["fees"], row["spend"]) == (70, 70, 0, 70)
        assert (row["transfers_in"], row["transfers_out_amount"]) == (1, 70)
        assert facts.revenue[f"agent:{BOB.id}", MINUTE, "counterparty", ALICE.id] == [70, 0]

    @pytest.mark.parametrize("beside", [[], [changed(None, TASK)], [changed(STARTED, STARTED)]])
    def test_one_that_names_a_task_and_pays_nothing_of_it_is_a_transfer(self, beside: list[Changed]) -> None:
        assert scopes(counted(*beside, step(task_id="t-1")), "revenue_gross") == set()


class TestNegotiations:
    def test_a_session_counts_for_both_and_once_for_the_market(self) -> None:
        found = counted(changed(None, SESSION, "negotiation"))
        assert found == {(scope, 0): {"negotiations_started": 1} for scope in CLIENT_SCOPES | PROVIDER_SCOPES}

    def test_one_within_a_house_counts_once_for_its_owner(self) -> None:
        own = msgspec.structs.replace(SESSION, provider_agent_id=SISTER.id)
        assert counted(changed(None, own, "negotiation"))[f"user:{ALICE.owner_id}", 0] == {"negotiations_started": 1}

    def test_an_agreement_counts_once_at_its_end(self) -> None:
        agreed = msgspec.structs.replace(SESSION, status=SessionPhase.AGREED, ended_at=NOW + timedelta(minutes=3))
        used = msgspec.structs.replace(agreed, task_id="t-1")
        found = counted(changed(SESSION, agreed, "negotiation"), changed(agreed, used, "negotiation"))
        assert found == {(scope, 3): {"negotiations_completed": 1} for scope in CLIENT_SCOPES | PROVIDER_SCOPES}

    def test_another_end_counts_nothing(self) -> None:
        rejected = msgspec.structs.replace(SESSION, status=SessionPhase.REJECTED, ended_at=NOW)
        assert counted(changed(SESSION, rejected, "negotiation")) == {}


class Letter(msgspec.Struct):
    """What counts of a message."""

    to_agent_id: str
    inserted_at: datetime


class TestTheRest:
    def test_a_message_counts_when_it_is_stored_and_never_again(self) -> None:
        letter = Letter(BOB.id, NOW)
        assert counted(changed(None, letter, "message")) == {
            (scope, 0): {"messages_in": 1} for scope in PROVIDER_SCOPES
        }
        assert counted(changed(letter, letter, "message")) == {}

    def test_what_is_not_counted_adds_nothing(self) -> None:
        assert counted(changed(None, object(), "room")) == {}

    def test_a_new_agent_has_its_first_reputation(self) -> None:
        facts = facts_of([changed(None, BOB, "agent")], OWNERS.get)
        assert facts.reputations == {(f"agent:{BOB.id}", MINUTE): 350}
        assert facts.scopes == {f"agent:{BOB.id}"}

    def test_a_reputation_bears_the_time_of_the_end_that_changed_it(self) -> None:
        better = msgspec.structs.replace(BOB, tasks_completed=1)
        facts = facts_of([changed(STARTED, COMPLETED), changed(BOB, better, "agent")], OWNERS.get)
        assert facts.reputations == {(f"agent:{BOB.id}", MINUTE + 2 * MINUTE_MS): 375}

    def test_a_reputation_bears_the_time_of_the_settlement_that_corrected_it(self) -> None:
        settlement = Settlement(
            decision="client",
            decided_by="operator",
            to_client=1_000,
            to_provider=0,
            fee=0,
            reason="",
            settled_at=NOW + timedelta(hours=1),
        )
        failed = msgspec.structs.replace(DISPUTED, status=Phase.FAILED, settlement=settlement)
        worse = msgspec.structs.replace(BOB, tasks_failed=1, dispute_delta_centi=-15)
        facts = facts_of([changed(DISPUTED, failed), changed(BOB, worse, "agent")], OWNERS.get)
        assert facts.reputations == {(f"agent:{BOB.id}", MINUTE + 60 * MINUTE_MS): worse.reputation_centi}

    def test_another_change_of_an_agent_is_no_new_reputation(self) -> None:
        renamed = msgspec.structs.replace(BOB, name="Robert")
        better = msgspec.structs.replace(BOB, tasks_completed=1)
        assert not facts_of([changed(BOB, renamed, "agent")], OWNERS.get)
        assert not facts_of([changed(BOB, better, "agent")], OWNERS.get).reputations  # Of no task that is known here.


class TestGathering:
    def test_what_units_add_adds_up(self) -> None:
        one = facts_of([changed(None, TASK), step()], OWNERS.get)
        entry = release(task_id="t-1", provider_agent_id=BOB.id, price=1_000, fee=50)
        two = facts_of([changed(STARTED, COMPLETED), *(Posted(it, NOW) for it in entry)], OWNERS.get)
        both = Facts()
        for part in (one, two, two):
            both.merge(part)

        row = dict(zip(SUMS, both.sums["global", MINUTE], strict=True))
        assert (row["tasks_total"], row["transfers_in"], row["revenue_gross"]) == (1, 1, 2_000)
        assert both.revenue[f"agent:{BOB.id}", MINUTE, "capability", "translate"] == [2_000, 100]
        assert set(both.latencies.values()) == {2}
        assert both.totals == {("translate", BOB.id, BOB.owner_id): [2, 0, 128_000, 2]}
        assert one.sums["global", MINUTE] is not both.sums["global", MINUTE]

    def test_the_last_reputation_is_the_one_that_counts(self) -> None:
        both = facts_of([changed(None, BOB, "agent")], OWNERS.get)
        later = Facts()
        later.reputations[f"agent:{BOB.id}", MINUTE] = 400
        both.merge(later)
        assert both.reputations == {(f"agent:{BOB.id}", MINUTE): 400}

    def test_a_whole_row_is_added_to_its_bucket(self) -> None:
        facts = Facts()
        for _ in range(2):
            facts.add_row("global", MINUTE, range(len(SUMS)))
        assert facts.sums["global", MINUTE] == [2 * number for number in range(len(SUMS))]

    def test_what_was_gathered_before_adds_up_with_the_rest(self) -> None:
        entry = release(task_id="t-1", provider_agent_id=BOB.id, price=1_000, fee=50)
        happened: list[Any] = [changed(STARTED, COMPLETED), *(Posted(it, NOW) for it in entry)]
        noted, gathered = facts_of(happened, OWNERS.get), facts_of(happened, OWNERS.get)
        assert gathered.sums
        assert gathered.revenue
        assert gathered.latencies
        both = Facts()
        both.merge(gathered)
        both.merge(noted)
        assert both
        assert both.scopes == noted.scopes
        assert both.sums == {bucket: [2 * number for number in row] for bucket, row in gathered.sums.items()}
        assert both.revenue == {part: [2 * number for number in row] for part, row in gathered.revenue.items()}
        assert both.latencies == {key: 2 * count for key, count in gathered.latencies.items()}
