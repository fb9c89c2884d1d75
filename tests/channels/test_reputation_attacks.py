"""Nobody's reputation moves by tasks that cost nothing: no client lowers it, and no pair raises it.

The marketplace is the one in memory, and its ends are counted by the server's own counting, in a database. `recounted`
counts again, by the rules as they are written for people, from the tasks as they have ended.
"""

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from agrenting.db import agents, states
from agrenting.db.changes import count_outcome
from agrenting.db.database import open_writer
from agrenting.db.migrate import migrate
from agrenting.db.transaction import WriterTx
from channels.agents import Agent, Capability
from channels.changes import Outcome
from channels.ending import ban_task
from channels.errors import Refusal
from channels.handlers import Decision
from channels.identity import Identity
from channels.ledger import FEES
from channels.task_state import Task
from tests.channels.roles import ALICE, CAROL, Player, agent_named, identity_of, player, secret_of
from tests.channels.work import GLOBAL_BOB, decide, push, topic_of
from tests.channels.work import closing as honest_closing
from tests.channels.world import THE_HOUSE, World

BOB: Final = GLOBAL_BOB
DAY_S: Final = 86_400
WEEK_S: Final = 7 * DAY_S
NEW: Final = 350
"""The reputation of a new agent, in hundredths."""

PRICE: Final = 1_000
PURSE: Final = 1_000_000


def of_the_owner(of: Player, name: str, number: int) -> Player:
    """Another agent of the same owner."""
    agent = agent_named(name, number=number, owner_id=of.agent.owner_id, organisation_id=None)
    agent = msgspec.structs.replace(agent, owner_organisation_id=of.agent.owner_organisation_id)
    return Player(agent=agent, secret_key=secret_of(number), identity=identity_of(agent))


ALICES_OTHER: Final = of_the_owner(ALICE, "alices", 0xE)
BOBS_OTHER: Final = of_the_owner(BOB, "bobs", 0xF)
NEIGHBOUR: Final = player("neighbour", number=0x9)
"""Of Alice's organisation, as a provider."""

EVERYBODY: Final = (ALICE, ALICES_OTHER, CAROL, BOB, BOBS_OTHER, NEIGHBOUR)


class Town(World):
    """A marketplace that counts as the server does.

    Args:
        tx: Of a database that has no agents yet.
    """

    def __init__(self, tx: WriterTx) -> None:
        super().__init__(*EVERYBODY)
        self.tx = tx
        self.ended: list[str] = []
        """Tasks in the order in which they have ended."""
        for who in EVERYBODY:
            agents.insert(tx, who.agent)
            self.deposit(who, PURSE)

    def _carry_out(self, decision: Decision, sender: Identity, store: str) -> None:
        super()._carry_out(decision, sender, store)
        task = decision.state
        if isinstance(task, Task) and task.ended_at is not None and task.id not in self.ended:
            self.ended.append(task.id)

    def _change(self, change: Any, sender: Identity) -> Any:
        if isinstance(change, Outcome):
            count_outcome(self.tx, change, now=self.now)
        return super()._change(change, sender)

    def ban(self, task_id: str, who: Player) -> None:
        """What the ban of an agent does to a task of its."""
        decision = ban_task(self.task(task_id), self.context(THE_HOUSE, topic_of(task_id)), agent_id=who.id)
        self._carry_out(decision, THE_HOUSE, "task")

    def counted(self, who: Player = BOB) -> tuple[int, int, int]:
        """Completed and failed tasks of an agent, and what decisions have added, in hundredths."""
        agent: Agent = states.load(self.tx, "agent", who.id)
        return agent.tasks_completed, agent.tasks_failed, agent.dispute_delta_centi

    def reputation(self, who: Player = BOB) -> int:
        """In hundredths."""
        agent: Agent = states.load(self.tx, "agent", who.id)
        return agent.reputation_centi


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path: Path = tmp_path_factory.mktemp("reputation") / "agrenting.sqlite3"
    migrate(path)
    with closing(open_writer(path, busy_timeout_s=5.0)) as connection:
        yield connection


@pytest.fixture
def town(database: sqlite3.Connection) -> Iterator[Town]:
    database.execute("BEGIN")
    yield Town(WriterTx(database, {}))
    database.execute("ROLLBACK")


# How tasks are opened, and how they end.


def opened(town: Town, client: Player = ALICE, provider: Player = BOB, *, price: int = PRICE) -> str:
    """A task at that price, which is held for an hour after completion."""
    town.change_agent(provider, capabilities=(Capability("translate", price),))
    asked = {"provider_agent_id": provider.id, "capability": "translate", "max_price": price}
    task_id: str = town.open_task(client, **asked)["task_id"]
    return task_id


def streamed(town: Town) -> str:
    """A task that is paid as it streams."""
    town.change_agent(BOB, capabilities=(Capability("translate", PRICE),))
    channel_id = next(iter(town.states["payment"]), None)
    if channel_id is None:
        channel_id = town.open_channel(ALICE, counterparty_agent_id=BOB.id, deposit=10 * PRICE)["id"]
        town.rest(BOB, f"payment:{channel_id}", "accept")
    price = {"amount": PRICE, "per": "chunk"}
    asked = {"provider_agent_id": BOB.id, "capability": "translate", "channel_id": channel_id, "stream_price": price}
    task_id: str = town.open_task(ALICE, **asked)["task_id"]
    return task_id


FOR_NOTHING: Final[dict[str, Callable[["Town"], str]]] = {
    "price 0": lambda town: opened(town, price=0),
    "no fee": lambda town: opened(town, price=19),
    "one owner": lambda town: opened(town, BOBS_OTHER),
    "one organisation": lambda town: opened(town, ALICE, NEIGHBOUR),
    "paid as it streams": streamed,
}
"""Tasks that cost nobody anything, or only money that stays in the house."""

MOVES: Final[dict[str, tuple[str, str, dict[str, Any] | None]]] = {
    "progress": ("provider", "progress", {"percent": 50}),
    "chunk": ("provider", "output_stream", {"chunk": "x", "seq": 0}),
    "close": ("provider", "output_complete", None),
    "complete": ("provider", "complete", {"result": "done"}),
    "error": ("provider", "error", {"type": "broken"}),
    "provider cancels": ("provider", "cancel", {}),
    "client cancels": ("client", "cancel", {}),
    "release": ("client", "release", {}),
    "dispute": ("client", "dispute", {"reason": "bad"}),
}
WAYS: Final = {
    "failed by its provider": ("progress", "error"),
    "given up by its provider": ("progress", "provider cancels"),
    "failed by the clock": ("progress", "wait"),
    "completed": ("complete", "release"),
    "completed, and the hold over": ("complete", "wait"),
    "completed by the clock": ("chunk", "close", "wait"),
    "disputed and lost by the clock": ("chunk", "dispute", "wait"),
    "disputed and won by the clock": ("complete", "dispute", "wait"),
    **{
        f"disputed and decided: {decision}": ("complete", "dispute", decision)
        for decision in ("client", "provider", "split")
    },
    **{
        f"disputed in the middle and decided: {decision}": ("chunk", "dispute", decision)
        for decision in ("client", "provider", "split")
    },
}
"""How a task ends that was begun."""

TAKEN_BACK: Final = {
    "before the start, by the client": ("client cancels",),
    "before the start, by the provider": ("provider cancels",),
    "before the start, by an error": ("error",),
    "before the start, by the clock": ("wait",),
    "by the client": ("progress", "client cancels"),
    "by a dispute before any output": ("progress", "dispute"),
    "by a dispute of an empty output": ("close", "dispute"),
    "by the client, which blocks the provider": ("block",),
    "by the client's ban": ("progress", "chunk", "ban client"),
    "by the provider's ban": ("progress", "chunk", "ban provider"),
}
"""Ends of a task with a fee, that count nothing: the client has not paid, and the provider has not failed it."""


def players_of(town: Town, task_id: str) -> dict[str, Player]:
    task = town.task(task_id)
    known = {who.id: who for who in EVERYBODY}
    return {"client": known[task.client_agent_id], "provider": known[task.provider_agent_id]}


def do(town: Town, task_id: str, move: str) -> None:
    """One move, which may be refused."""
    parts = players_of(town, task_id)
    if move == "wait":
        for _ in range(4):
            town.advance(WEEK_S)
    elif move == "block":
        town.call(parts["client"], "block", handle=parts["provider"].agent.handle)
    elif move.startswith("ban "):
        town.ban(task_id, parts[move.removeprefix("ban ")])
    elif move in MOVES:
        role, event, payload = MOVES[move]
        payload = honest_closing(town, task_id, "output") if payload is None else payload
        push(town, parts[role], task_id, event, **payload)
    else:
        decide(town, task_id, move, **({"client_bps": 1} if move == "split" else {}))


def lived(town: Town, task_id: str, *moves: str) -> None:
    """These moves, of which none is refused."""
    for move in moves:
        do(town, task_id, move)


def tried(town: Town, task_id: str, *moves: str) -> None:
    """These moves, as far as they are allowed."""
    for move in moves:
        try:
            do(town, task_id, move)
        except Refusal:
            continue


# What counts, by the rules as they are written for people.


def recounted(town: Town, provider: Player) -> tuple[int, int, int]:
    """Completed, failed, and what decisions add, of all tasks that have ended."""
    firsts: dict[tuple[str, Any], bool] = {}
    delta = 0
    parties = {who.id: who.agent for who in EVERYBODY}
    for task_id in town.ended:
        task = town.task(task_id)
        client, worker = parties[task.client_agent_id], parties[task.provider_agent_id]
        houses = [{one.owner_id, one.organisation_id, one.owner_organisation_id} - {None} for one in (client, worker)]
        costs_nothing = task.price * 500 // 10_000 == 0 or bool(houses[0] & houses[1])
        if task.provider_agent_id != provider.id or costs_nothing or task.started_at is None:
            continue
        settled = task.settlement
        if settled is not None and settled.decided_by == "operator":
            delta += {"client": -15, "provider": 10, "split": -5}[settled.decision]
        is_taken_back = task.status == "cancelled" and task.ended_by != task.provider_agent_id
        if is_taken_back or (settled is not None and settled.decided_by == "automatic"):
            continue
        assert task.ended_at is not None
        is_completed = task.status in {"completed", "disputed"}  # Completed, and disputed since: nobody has decided.
        firsts.setdefault((client.owner_id, task.ended_at.date()), is_completed)
    return sum(firsts.values()), len(firsts) - sum(firsts.values()), delta


@pytest.mark.parametrize("kind", FOR_NOTHING)
@pytest.mark.parametrize("way", [*WAYS, *TAKEN_BACK])
def test_tasks_that_cost_nothing_count_nothing_however_they_end(town: Town, kind: str, way: str) -> None:
    task_id = FOR_NOTHING[kind](town)
    provider = players_of(town, task_id)["provider"]

    tried(town, task_id, *({**WAYS, **TAKEN_BACK}[way]))

    assert (town.counted(provider), town.reputation(provider)) == ((0, 0, 0), NEW)


@pytest.mark.parametrize("way", TAKEN_BACK)
def test_a_client_cannot_lower_it_by_taking_its_money_back(town: Town, way: str) -> None:
    task_id = opened(town)

    lived(town, task_id, *TAKEN_BACK[way])

    task = town.task(task_id)
    assert (task.is_final, town.available(ALICE), town.accounts[FEES]) == (True, PURSE, 0)
    assert (town.counted(), town.reputation()) == ((0, 0, 0), NEW)


def test_disputing_again_and_again_before_any_output_lowers_nothing(town: Town) -> None:
    for _ in range(30):
        lived(town, opened(town), "progress", "dispute")
        town.advance(DAY_S)

    assert (town.counted(), town.available(ALICE)) == ((0, 0, 0), PURSE)


@pytest.mark.parametrize(
    ("way", "counted"),
    [
        ("failed by its provider", (0, 1, 0)),
        ("given up by its provider", (0, 1, 0)),
        ("failed by the clock", (0, 1, 0)),
        ("completed", (1, 0, 0)),
        ("completed, and the hold over", (1, 0, 0)),
        ("completed by the clock", (1, 0, 0)),
        ("disputed and lost by the clock", (0, 1, 0)),
        ("disputed and won by the clock", (1, 0, 0)),
        ("disputed and decided: client", (0, 1, -15)),
        ("disputed and decided: provider", (1, 0, 10)),
        ("disputed and decided: split", (1, 0, -5)),
        ("disputed in the middle and decided: client", (0, 1, -15)),
        ("disputed in the middle and decided: provider", (1, 0, 10)),
        ("disputed in the middle and decided: split", (1, 0, -5)),
    ],
)
def test_what_costs_a_fee_counts_once_and_only_operators_add_to_it(
    town: Town, way: str, counted: tuple[int, int, int]
) -> None:
    task_id = opened(town)

    lived(town, task_id, *WAYS[way])

    assert town.counted() == counted
    completed, failed, delta = counted
    assert town.reputation() == pytest.approx(500 * (completed + 3.5) / (completed + failed + 5) + delta, abs=0.5)


@pytest.mark.parametrize(("way", "counted"), [("completed", (1, 0, 0)), ("failed by its provider", (0, 1, 0))])
def test_a_pair_moves_it_once_a_day_whatever_it_pays_and_however_many_agents_it_has(
    town: Town, way: str, counted: tuple[int, int, int]
) -> None:
    for number in range(20):
        lived(town, opened(town, (ALICE, ALICES_OTHER)[number % 2]), *WAYS[way])

    assert town.counted() == counted

    town.advance(DAY_S)
    lived(town, opened(town), *WAYS[way])

    assert town.counted() == tuple(2 * count for count in counted)


def test_a_day_is_one_of_utc_and_not_a_span_of_24_hours(town: Town) -> None:
    lived(town, opened(town), "complete", "release")
    town.advance(11 * 3_600 + 3_599)  # The clock began at noon.
    lived(town, opened(town), "complete", "release")
    assert town.counted() == (1, 0, 0)

    town.advance(1)
    lived(town, opened(town), "complete", "release")

    assert town.counted() == (2, 0, 0)


def test_another_owner_counts_on_the_same_day(town: Town) -> None:
    lived(town, opened(town), "complete", "release")
    lived(town, opened(town, CAROL), "progress", "error")

    assert town.counted() == (1, 1, 0)


class TestCorrections:
    def test_of_a_task_that_was_counted_take_its_place(self, town: Town) -> None:
        task_id = opened(town)
        lived(town, task_id, "complete")
        assert town.counted() == (1, 0, 0)

        lived(town, task_id, "dispute", "client")

        assert town.counted() == (0, 1, -15)

    def test_of_a_task_that_was_passed_over_count_nothing_but_the_decision(self, town: Town) -> None:
        """Else a client would have two outcomes on one day: the first that ends, and any that it disputes."""
        first, second = opened(town), opened(town)
        lived(town, first, "complete")
        lived(town, second, "complete")

        lived(town, second, "dispute", "client")

        assert town.counted() == (1, 0, -15)

    @pytest.mark.parametrize("days", [0, 1, 6])
    def test_are_of_the_day_on_which_it_ended(self, town: Town, days: int) -> None:
        """Else a dispute that is decided later would take another day's place, or have one of its own."""
        disputed = opened(town)
        lived(town, disputed, "complete", "dispute")
        town.advance(days * DAY_S)
        lived(town, disputed, "client")

        lived(town, opened(town), "complete", "release")

        assert town.counted() == ((0, 1, -15) if days == 0 else (1, 1, -15))

    def test_by_the_clock_add_nothing(self, town: Town) -> None:
        """Else a pair would win disputes against itself that nobody looks at."""
        for _ in range(10):
            lived(town, opened(town), "complete", "dispute", "wait")
            town.advance(DAY_S)

        assert town.counted() == (10, 0, 0)

    @pytest.mark.parametrize("decision", ["client", "provider", "split"])
    def test_are_made_once(self, town: Town, decision: str) -> None:
        task_id = opened(town)
        lived(town, task_id, "complete", "dispute", decision)
        before = town.counted()

        tried(town, task_id, "client", "provider", "split", "dispute", "release", "error", "client cancels", "wait")

        assert town.counted() == before


@pytest.mark.parametrize(("decision", "bound"), [("client", 0), ("provider", 500)])
def test_no_number_of_decisions_takes_it_out_of_its_bounds(town: Town, decision: str, bound: int) -> None:
    seen = []
    for _ in range(60):
        lived(town, opened(town), "complete", "dispute", decision)
        town.advance(DAY_S)
        seen.append(town.reputation())

    assert all(0 <= reputation <= 500 for reputation in seen)
    assert seen[-1] == bound


def test_at_random_it_is_what_the_rules_count(town: Town) -> None:
    """Many tasks of many, side by side, on a few days: what is counted is what is recounted, and it has cost a fee."""
    chance = random.Random(5)
    clients = (ALICE, ALICES_OTHER, CAROL)
    moves = (*MOVES, *MOVES, "client", "provider", "split", "ban client", "ban provider")
    tasks: list[str] = []
    for _ in range(3_000):
        if chance.random() < 0.15:
            is_paid = chance.random() < 0.6
            kind = chance.choice(tuple(FOR_NOTHING.values()))
            tasks.append(opened(town, chance.choice(clients)) if is_paid else kind(town))
        if tasks:
            tried(town, chance.choice(tasks[-8:]), chance.choice(moves))
        if chance.random() < 0.05:
            town.advance(chance.choice((600, 3_600, 6 * 3_600, DAY_S)))
        if chance.random() < 0.02:
            town.advance(WEEK_S)
        assert town.counted() == recounted(town, BOB)
    do(town, tasks[-1], "wait")

    completed, failed, delta = town.counted()
    assert (completed, failed, delta) == recounted(town, BOB)
    assert min(completed, failed, abs(delta)) > 10, "else this has shown little"
    assert town.counted(NEIGHBOUR) == (0, 0, 0)
    paid = [task for task in map(town.task, tasks) if task.escrow_status in {"released", "split"} and task.fee]
    assert completed <= len(paid), "whatever has raised it has paid a fee"
    town.require_balance()
