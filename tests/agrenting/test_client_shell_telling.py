"""What the shell says of tasks: how they stand, where their price is, and what to do next."""

import argparse
import asyncio
import json
from types import SimpleNamespace
from typing import Any, ClassVar, Self, cast

import pytest

from agrenting.client import Agent, Disconnected, RefusedByServer
from agrenting.client.amounts import format_amount
from agrenting.client.connection import State
from agrenting.client.credentials import Credentials
from agrenting.client.errors import FolderInUse, MalformedAnswer
from agrenting.client.hired_task import HiredTask
from agrenting.client.job import Job
from agrenting.client.keys import ApiKey, SigningKey
from agrenting.client.shell import hire as hiring
from agrenting.client.shell import provide as providing
from agrenting.client.shell.outcomes import outcome_of, shown, standing_of
from agrenting.client.shell.running import next_step, sentence
from agrenting.client.shell.telling import Losses, Teller, minor_units

Json = dict[str, Any]
LATER = "2030-01-01T00:00:00Z"


def task(**fields: Any) -> Json:
    """A task of Alice's, which Bob has done."""
    return {
        "id": "t1",
        "client_agent_id": "alice",
        "provider_agent_id": "bob",
        "capability": "upper",
        "status": "completed",
        "escrow_status": "held",
        "price": 1_500_000,
        "net": 1_425_000,
        "paid": 0,
        "stream_price": None,
        "hold_ends_at": None,
        "deadline": LATER,
        "error": None,
        "reason": None,
        "ended_by": None,
        "dispute": None,
        "settlement": None,
        "streams": {"input": {"complete": True}, "output": {"complete": True}},
        **fields,
    }


def money(minor: int) -> str:
    return format_amount(minor, currency="USD", exponent=6)


HELD: Json = {"hold_ends_at": LATER}
PAID: Json = {**HELD, "escrow_status": "released"}
REFUNDED: Json = {"escrow_status": "refunded"}
FREE: Json = {"price": 0, "net": 0, "escrow_status": "none"}
STREAMED: Json = {**FREE, "paid": 300_000, "stream_price": {"amount": 100_000}}
DISPUTED: Json = {
    "status": "disputed",
    "dispute": {"opened_by": "alice", "reason": "It is\x1b[2J empty.", "decides_at": LATER},
}
SPLIT: Json = {**HELD, "escrow_status": "split", "settlement": {"to_client": 500_000, "to_provider": 950_000}}


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (HELD, f"completed; USD 1.50 is held until {LATER}, unless the client pays before"),
        (PAID, "completed and paid: USD 1.425, which is USD 1.50 less the fee"),
        (FREE, "completed; it costs nothing"),
        (STREAMED, "completed; USD 0.30 was paid as it streamed"),
        (SPLIT, "completed; the dispute is decided: USD 0.95 to the provider, USD 0.50 to the client"),
        (DISPUTED, f'disputed by its client: "It is [2J empty."; an operator decides on USD 1.50, by {LATER} at'),
        (
            {**DISPUTED, "dispute": {"opened_by": None, "reason": "banned", "decides_at": LATER}},
            'disputed by the market: "banned"',
        ),
        (
            {"status": "failed", **REFUNDED, "error": {"type": "command_failed", "details": {"exit_code": 3}}},
            'failed: command_failed {"details":{"exit_code":3}}; USD 1.50 is back with the client',
        ),
        (
            {"status": "failed", **REFUNDED, "error": {"type": "deadline", "details": None}},
            "failed: deadline; USD 1.50 is back with the client",
        ),
        (
            {"status": "cancelled", **REFUNDED, "ended_by": "alice", "reason": "rain"},
            'cancelled by its client: "rain"; USD 1.50 is back',
        ),
        ({"status": "cancelled", **REFUNDED, "ended_by": "bob", "reason": ""}, "cancelled by its provider; USD 1.50"),
        ({"status": "cancelled", **REFUNDED, "reason": "banned"}, 'cancelled by the market: "banned"; USD 1.50'),
        ({"status": "in_progress"}, "in progress; USD 1.50 is held"),
    ],
)
def test_a_task_is_told_with_its_end_its_reason_and_its_price(fields: Json, line: str) -> None:
    assert outcome_of(standing_of(task(**fields)), money).startswith(line)


def test_what_another_agent_has_written_does_nothing_to_a_terminal_and_is_short() -> None:
    assert shown("one\ntwo\x1b[31m\x9b") == '"one two [31m "'
    assert len(shown("x" * 10_000)) == 203


def test_what_is_no_task_is_refused() -> None:
    with pytest.raises(MalformedAnswer):
        standing_of({"id": "t1"})


# What a provider tells.


def teller(*, as_json_lines: bool = False) -> Teller:
    one = Teller(as_json_lines=as_json_lines)
    one.of(cast("Agent", SimpleNamespace(handle="bob/tool", money=money, amount=lambda _value: 1_500_000)))
    return one


def job(task_id: str) -> Job:
    return cast("Job", SimpleNamespace(task_id=task_id, client_handle="alice/reader", client_agent_id="alice"))


def test_a_task_has_two_lines_and_one_that_has_not_ended_is_named_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bob = teller()
    for task_id in ("t0", "t1", "t2"):
        bob.started(job(task_id))
    bob.exited(job("t0"), 0)  # How it ends is not learnt, but nothing of it is left.
    for _ in range(2):
        bob.stopping(20)
    for task_id in ("t1", "t2"):
        bob.exited(job(task_id), 0)
    bob.ended(task(**PAID))
    bob.stopped()

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "task t0: started for alice/reader",
        "task t1: started for alice/reader",
        "task t2: started for alice/reader",
        "2 tasks are finished first, up to 20 s; Ctrl-C again does not wait",
        "task t1: completed and paid: USD 1.425, which is USD 1.50 less the fee",
        "bob/tool has stopped; left for the next start: t2",
    ]


def test_a_connection_is_told_of_once_it_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    bob = teller()
    states = (State.CONNECTING, State.CONNECTED, State.RECONNECTING, State.CONNECTED, State.CLOSED)

    for state in states:
        bob.state(state)

    assert capsys.readouterr().err.splitlines() == [
        "the connection is lost, and is tried again; Ctrl-C stops it",
        "connected again",
    ]


def test_a_client_is_told_of_a_lost_connection_too(capsys: pytest.CaptureFixture[str]) -> None:
    losses = Losses("gives up")

    for state in (State.CONNECTED, State.RECONNECTING, State.CONNECTED, State.RECONNECTING, State.CLOSED):
        losses.tell(state)

    lost = "the connection is lost, and is tried again; Ctrl-C gives up"
    assert capsys.readouterr().err.splitlines() == [lost, "connected again", lost]


def test_who_is_idle_stops_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    teller().stopping(20)

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("value", "exponent", "line"),
    [
        (1, 6, "--price 1 is USD 0.000001; for whole units write 1.00"),
        (1, 1, "--price 1 is USD 0.000001; for whole units write 1.0"),
        (1, 0, None),
        (0, 6, None),
        ("1.00", 6, None),
    ],
)
def test_a_whole_number_is_told_as_the_money_that_it_is(value: int | str, exponent: int, line: str | None) -> None:
    agent = cast("Agent", SimpleNamespace(money=money, market=SimpleNamespace(exponent=exponent)))

    assert minor_units(agent, "--price", value) == line


def test_programs_are_told_everything_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    bob = teller(as_json_lines=True)
    bob.state(State.CONNECTED)
    bob.serving(argparse.Namespace(price="1.50", capability="upper"))
    bob.started(job("t1"))
    bob.exited(job("t1"), -9)
    bob.ended(task(status="failed", error={"type": "command_failed", "details": {"a": 1}}, **REFUNDED))
    bob.stopped()

    said = capsys.readouterr()
    told = [json.loads(line) for line in said.out.splitlines()]
    assert said.err == ""
    assert [one.pop("event") for one in told] == ["state", "serving", "started", "exited", "ended", "stopped"]
    assert told[4] == {
        "task_id": "t1",
        "status": "failed",
        "price": 1_500_000,
        "net": 1_425_000,
        "paid": 0,
        "escrow_status": "refunded",
        "error": "command_failed",
        "reason": None,
        "ended_by": None,
    }


# Why nobody finds a provider.


class Rest:
    """REST, in the place of the market's."""

    agent: ClassVar[Json] = {}
    contacts: tuple[Json, ...] = ()
    refusal: Exception | None = None

    def __init__(self, *_address: object) -> None:
        return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        return

    async def get(self, _path: str) -> Json:
        if self.refusal is not None:
            raise self.refusal
        return self.agent

    async def items(self, _path: str, **_query: object) -> Any:
        for contact in self.contacts:
            yield contact


OWNER: Json = {"type": "User"}
CAROL: Json = {"type": "Agent"}
LONE: Json = {"status": "active", "is_global": False, "is_listed": True, "organisation_id": None, "tags": []}


async def hints(
    monkeypatch: pytest.MonkeyPatch,
    agent: Json,
    *contacts: Json,
    key: bool = True,
    accepts: bool = False,
    refusal: Exception | None = None,
) -> list[str]:
    monkeypatch.setattr(providing, "RestClient", Rest)
    monkeypatch.setattr(Rest, "agent", {**LONE, **agent})
    monkeypatch.setattr(Rest, "contacts", contacts)
    monkeypatch.setattr(Rest, "refusal", refusal)
    credentials = Credentials("http://127.0.0.1:1", ApiKey("agk_of-bobs-tool"), SigningKey.generate() if key else None)
    bob = cast("Agent", SimpleNamespace(id="bob", handle="bob/tool"))
    return await providing.hints(bob, credentials, accepts_contacts=accepts)


async def test_who_has_no_contacts_is_told_how_to_get_some(monkeypatch: pytest.MonkeyPatch) -> None:
    (lonely,) = await hints(monkeypatch, {}, OWNER)
    asked, untagged = await hints(monkeypatch, {}, OWNER, accepts=True)

    assert "bob/tool has no contacts" in lonely
    assert "--accept-contacts" in lonely
    assert "agrenting hire --ask" in asked
    assert "a tag" in untagged


@pytest.mark.parametrize(
    ("agent", "contacts"), [({}, (OWNER, CAROL)), ({"is_global": True}, ()), ({"organisation_id": "o1"}, (OWNER,))]
)
async def test_who_can_be_hired_is_told_nothing(
    monkeypatch: pytest.MonkeyPatch, agent: Json, contacts: tuple[Json, ...]
) -> None:
    assert await hints(monkeypatch, agent, *contacts) == []


@pytest.mark.parametrize(
    ("status", "next_step"), [("suspended", "agrenting agent reinstate"), ("inactive", "PATCH /api/v1/agents")]
)
async def test_who_is_not_active_is_told_who_ends_that(
    monkeypatch: pytest.MonkeyPatch, status: str, next_step: str
) -> None:
    (hint,) = await hints(monkeypatch, {"status": status}, CAROL)

    assert (f"bob/tool is {status}" in hint, next_step in hint) == (True, True)


async def test_without_a_signing_key_nobody_bargains_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (hint,) = await hints(monkeypatch, {}, CAROL, key=False)

    assert ("no signing key" in hint, "register --save" in hint) == (True, True)


@pytest.mark.parametrize("error", [RefusedByServer("missing_scope", "", {}), Disconnected("it is gone")])
async def test_not_being_able_to_look_is_no_hindrance(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    assert await hints(monkeypatch, {}, refusal=error) == []


@pytest.mark.parametrize(
    ("error", "next_step"),
    [
        (FolderInUse("/state/bob"), "end it (/state/bob)"),
        (RefusedByServer("agent_banned", "This agent has been banned by the operator.", {}), "Ask who runs the market"),
        (RefusedByServer("missing_scope", "It may not.", {}), "key rotate"),
        (RefusedByServer("output_delivered", "Too late.", {}), "task dispute TASK --reason TEXT"),
        (Disconnected("it is gone"), "Is the market running"),
    ],
    ids=str,
)
def test_a_failure_says_what_to_do_next(error: Exception, next_step: str) -> None:
    assert next_step in sentence(error)[1]


# Giving up what was hired.


class Hired:
    """A task of Alice's, in the place of a `HiredTask`."""

    id = "t1"

    def __init__(self, status: str, failure: Exception | None = None, *, is_slow: bool = False) -> None:
        self.status = status
        self.cancelled = 0
        self._failure, self._is_slow = failure, is_slow

    async def cancel(self, _reason: str) -> None:
        self.cancelled += 1
        if self._is_slow:
            await asyncio.Event().wait()
        if self._failure is not None:
            raise self._failure


async def given_up(monkeypatch: pytest.MonkeyPatch, hired: Hired, **fields: Any) -> None:
    """Alice gives a task up, which then stands so."""
    monkeypatch.setattr(hiring, "RestClient", Rest)
    monkeypatch.setattr(hiring, "GIVE_UP_S", 0.01 if hired._is_slow else 20.0)  # noqa: SLF001 - it is ours
    monkeypatch.setattr(Rest, "agent", task(**fields))
    deal = hiring.Deal(
        cast("Agent", SimpleNamespace(money=money)),
        Credentials("http://127.0.0.1:1", ApiKey("agk_of-alices-reader")),
        argparse.Namespace(program="agrenting", as_file="my own.toml"),
    )
    await deal.give_up(cast("HiredTask", hired))


@pytest.mark.parametrize(
    ("as_file", "shown_as"), [(None, ""), ("me.toml", " --as me.toml"), ("my own.toml", " --as 'my own.toml'")]
)
def test_a_next_step_runs_as_it_is_shown(as_file: str | None, shown_as: str) -> None:
    chosen = argparse.Namespace(program="agrenting", as_file=as_file)

    assert next_step(chosen, "task list") == f"agrenting task list{shown_as}"


OPEN: Json = {"status": "in_progress"}
UNSENT: Json = {"streams": {"input": {"complete": False}, "output": {"complete": False}}}
TOO_LATE = RefusedByServer("output_delivered", "", {})
AS = "--as 'my own.toml'"
SETTLE = f"To verify and pay it: agrenting task settle t1 {AS}"
DISPUTE = f"To refuse it: agrenting task dispute t1 --reason TEXT {AS}"
UNREACHED = [
    "task t1 may go on: the market was not reached",
    f"To see how it stands: agrenting task list {AS}",
    SETTLE,
    f"To take it back, before its first output: agrenting task cancel t1 {AS}",
    DISPUTE,
]


@pytest.mark.parametrize(
    ("hired", "fields", "lines"),
    [
        (Hired("pending"), {"status": "cancelled", **REFUNDED, "ended_by": "alice"}, ["cancelled by its client;"]),
        (Hired("in_progress", TOO_LATE), {**OPEN, **UNSENT}, ["in progress; USD 1.50 is held", DISPUTE]),
        (
            Hired("in_progress", TOO_LATE),
            OPEN,
            ["in progress; USD 1.50 is held", SETTLE, DISPUTE],
        ),
        (Hired("completed"), HELD, ["completed; USD 1.50 is held until", SETTLE, DISPUTE]),
        (Hired("completed"), PAID, ["completed and paid"]),
        (Hired("in_progress", TOO_LATE), DISPUTED, ["disputed by its client"]),
        (Hired("pending", Disconnected("it is gone")), {}, UNREACHED),
        (Hired("pending", MalformedAnswer("that is no task")), {}, ["that is no task", *UNREACHED[1:]]),
        (Hired("pending", is_slow=True), {}, UNREACHED),
    ],
)
async def test_what_is_given_up_leaves_a_clear_state(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hired: Hired, fields: Json, lines: list[str]
) -> None:
    await given_up(monkeypatch, hired, **fields)

    first, *said = capsys.readouterr().err.splitlines()
    assert first.startswith("giving up task t1")
    assert len(said) == len(lines)
    assert [part in line for part, line in zip(lines, said, strict=True)] == [True] * len(lines)
    assert hired.cancelled == (hired.status != "completed")


async def test_what_has_failed_needs_no_giving_up_and_its_price_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hired = Hired("failed")

    await given_up(monkeypatch, hired, status="failed", **REFUNDED)

    said = "task t1: failed; USD 1.50 is back with the client\n"
    assert (hired.cancelled, capsys.readouterr().err) == (0, said)


async def test_a_refusal_is_told_as_what_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Rest, "refusal", RefusedByServer("agent_banned", "It is banned.", {}))

    await given_up(monkeypatch, Hired("pending"))
    await given_up(monkeypatch, Hired("cancelled"))

    _, first, *steps, last = capsys.readouterr().err.splitlines()
    assert first.startswith("task t1 may go on: It is banned. (agent_banned) Ask who")
    assert steps == UNREACHED[1:]
    assert last.startswith("task t1 is cancelled; where its price is could not be learnt: It is banned.")
