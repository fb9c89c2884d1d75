"""The demo's market after the story: how its traders go on when something fails, and what its parent counts."""

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from agrenting.client import Disconnected, RefusedByServer
from agrenting.demo.agent import Told
from agrenting.demo.children import Line
from agrenting.demo.desk import DemoFailed, Desk, Owner, Rest
from agrenting.demo.ensemble import Ensemble, Stopped
from agrenting.demo.living import ADMITTED_AT_ONCE, REPORT_S, ROLES, LivingMarket
from agrenting.demo.show import Show
from agrenting.demo.trading import CAPABILITIES, attempt, share


@pytest.mark.parametrize(("price", "percent", "part"), [(1_000, 95, 950), (999, 50, 499), (1, 50, 1), (7, 110, 7)])
def test_a_part_of_a_price_is_rounded_down_and_never_nothing(price: int, percent: int, part: int) -> None:
    assert share(price, percent) == part


async def fail(error: Exception) -> None:
    raise error


async def test_what_fails_in_one_errand_is_told_and_the_trade_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    refusal = RefusedByServer("contact_required", "Ask first.", {})

    assert not await attempt("a bargain", fail(refusal))
    assert await attempt("nothing", asyncio.sleep(0))

    told = json.loads(capsys.readouterr().out)
    assert told == {"step": "gives up a bargain: contact_required: Ask first.", "outcome": "given up"}


async def test_a_trader_whose_server_is_gone_ends() -> None:
    with pytest.raises(Disconnected):
        await attempt("a bargain", fail(Disconnected("it is gone")))


# The parent.


def test_the_cast_shares_its_capabilities_among_five_owners_and_more() -> None:
    workers = {role.owner for role in ROLES if role.program == "worker"}

    assert len(workers) == 5
    assert len({role.owner for role in ROLES}) >= 5
    assert len(ROLES) >= 8
    assert len(CAPABILITIES) == 3
    assert [role.owner for role in ROLES if role.program == "worker" and not role.is_open] == [ROLES[0].owner]


class Market:
    """A living market whose traders are lines in a queue, and whose desk is this."""

    def __init__(self, folder: Path, *, verbose: bool = False) -> None:
        self.inbox: SimpleQueue[Line | None] = SimpleQueue()
        self.unit, self.url = 10, "http://127.0.0.1:4000"
        self.deposits: list[tuple[str, int]] = []
        self.approved: list[str] = []
        self.amounts = {"held in tasks": 0, "locked in channels": 0, "sum over all accounts": 0}
        self.now = 0.0
        self.ensemble = Ensemble(Show(verbose=verbose, environment={}), self.inbox, folder, lambda _told: None)
        self.ensemble.is_quiet = True
        self.living = LivingMarket(self.ensemble, cast("Desk", self), "")
        owner = SimpleNamespace(approve=lambda id_, **_scope: self.approved.append(id_))
        self.living.accounts["dora/editor"] = cast("Any", SimpleNamespace(handle="dora/editor", owner=owner))

    def deposit(self, account: Any, amount: int) -> None:
        self.deposits.append((account.handle, amount))

    def ledger(self, *_accounts: Any) -> dict[str, int]:
        return self.amounts

    def money(self, amount: int) -> str:
        return str(amount)


@pytest.fixture
def market(tmp_path: Path) -> Market:
    return Market(tmp_path)


def test_who_runs_low_gets_money_and_deals_are_counted(market: Market) -> None:
    for told in (Told(is_low=True), Told(outcome="done"), Told(outcome="failed"), Told(outcome="done")):
        market.living.take("dora/editor", told)

    assert market.deposits == [("dora/editor", 1_000)]
    assert market.living.deals_done == 2


def test_all_requests_but_the_first_are_left_to_a_person(market: Market) -> None:
    for number in range(4):
        market.living.take("dora/editor", Told(left_to_owner=f"r-{number}"))

    assert market.approved == [f"r-{number}" for number in range(ADMITTED_AT_ONCE)]


def test_the_market_says_now_and_then_that_it_lives_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(s=0.0)
    monkeypatch.setattr("agrenting.demo.living.time.monotonic", lambda: clock.s)
    market = Market(tmp_path)
    for outcome in ("done", "failed", "done"):
        market.living.take("dora/editor", Told(outcome=outcome))

    said: list[int] = []
    for later_s in (1.0, REPORT_S, 1.0, REPORT_S):
        clock.s += later_s
        market.living.report()
        said.append(capsys.readouterr().out.count("lives at http://127.0.0.1:4000/: 2 done, 1 failed"))

    assert said == [0, 1, 0, 1]


@pytest.mark.parametrize("place", ["held in tasks", "locked in channels", "sum over all accounts"])
def test_money_that_is_not_with_its_owners_at_the_end_fails_the_demo(market: Market, place: str) -> None:
    market.living.require_balance()
    market.amounts[place] = 5

    with pytest.raises(DemoFailed, match=f"the books do not balance, in minor units: {place}: 5"):
        market.living.require_balance()


@pytest.mark.parametrize("verbose", [False, True])
def test_steps_of_traders_are_shown_where_everything_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, verbose: bool
) -> None:
    market = Market(tmp_path, verbose=verbose)
    trader = cast("Any", SimpleNamespace(name="dora/editor"))
    market.inbox.put(Line(trader, '{"step":"finds no price","outcome":"not agreed"}'))

    name, told = market.ensemble.hear_from()

    assert (name, told.outcome) == ("dora/editor", "not agreed")
    assert ("finds no price" in capsys.readouterr().out) is verbose


def test_who_asks_for_the_end_is_heard_unless_it_ends_by_itself(market: Market) -> None:
    trader = cast("Any", SimpleNamespace(name="dora/editor"))
    market.inbox.put(None)
    with pytest.raises(Stopped):
        market.ensemble.hear()

    market.ensemble.is_closing = True
    market.inbox.put(None)
    market.inbox.put(Line(trader, '{"is_ready":true}'))
    assert market.ensemble.hear().is_ready


def test_a_market_that_is_stopped_before_anybody_is_there_ends_well(
    market: Market, capsys: pytest.CaptureFixture[str]
) -> None:
    def be_stopped(_handle: str) -> Any:
        raise Stopped

    market.welcome = be_stopped  # type: ignore[attr-defined]  # A desk makes users.
    with ExitStack() as stack:
        market.living.run(stack)

    assert "closes once the deals at hand are done" in capsys.readouterr().out


def answered(code: str) -> httpx.Response:
    return httpx.Response(409, json={"error": {"code": code, "message": "No.", "details": {}}})


def test_a_request_that_somebody_at_the_page_has_answered_already_is_left_at_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rest = Rest("http://127.0.0.1:9", "key")
    owner = Owner({"id": "u-1", "handle": "dora", "api_key": "key"}, rest)

    monkeypatch.setattr(rest, "_ask", lambda *_: answered("request_resolved"))
    owner.approve("r-1", kinds=("task",), max_price=1)

    monkeypatch.setattr(rest, "_ask", lambda *_: answered("conflict"))
    with pytest.raises(DemoFailed, match=r"POST /me/contacts/requests/r-1/approve was answered 409: .*conflict"):
        owner.approve("r-1", kinds=("task",), max_price=1)
    rest.close()
