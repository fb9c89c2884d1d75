"""Alerts are seen and answered by those whose they are, go where the table of moves says, and are kept for a while."""

import re
from datetime import timedelta

import msgspec
import pytest

from channels import alerts
from channels.alerts import (
    ACKNOWLEDGE,
    MOVES,
    RESOLVE,
    RETENTION,
    SET_THRESHOLDS,
    SUBSCRIBE_ALERTS,
    Alert,
    OpenAlerts,
    OwnThresholds,
    Phase,
    SetThresholds,
    Thresholds,
    acknowledge,
    forget,
    moved,
    resolve,
    resolved,
    set_thresholds,
    shown,
    subscribe_alerts,
    told_of,
    whole,
)
from channels.changes import DropAlert, SetThreshold, Timer
from channels.handlers import Access, Context, Decision, Empty, Handler
from channels.identity import Identity
from tests.channels.alarmed import BOBS_OWNER, LATER, OLGA, an_alert, of_the_market
from tests.channels.roles import ALICE, BOB, FRESH_ID, MARKET, NOW, Player, context, identity_of, refused

BOBS_OTHER = identity_of(msgspec.structs.replace(BOB.agent, id="another", handle="bob/other"))
OWNERS = pytest.mark.parametrize("who", [BOB, BOBS_OWNER, BOBS_OTHER], ids=["itself", "its owner", "its sibling"])
STRANGERS = pytest.mark.parametrize("who", [ALICE, OLGA], ids=["another agent", "an operator"])
KEPT = Timer(RETENTION, f"alert:{FRESH_ID}", LATER + timedelta(days=30))


def answer(handler: Handler, alert: Alert | None, who: Player | Identity) -> Decision:
    return handler.decide(alert, Empty(), context(who, now=LATER))


def on_the_topic_of_bob(who: Player | Identity) -> Context:
    return msgspec.structs.replace(context(who), topic=f"analytics:agent:{BOB.id}")


# Who gets what.


def test_an_alert_of_an_agent_is_told_to_it_and_to_its_owner_as_far_as_they_have_asked() -> None:
    told = told_of(an_alert())

    assert [one.topic for one in told] == [f"analytics:agent:{BOB.id}", f"analytics:user:{BOB.agent.owner_id}"]
    assert all(one.event == "alert" and one.is_asked_for and one.payload == shown(an_alert()) for one in told)


def test_an_alert_of_the_market_is_told_on_the_global_topic_alone() -> None:
    (told,) = told_of(of_the_market())

    assert (told.topic, told.event, told.is_asked_for) == ("analytics:global", "alert", True)


def test_what_is_told_has_the_fields_of_the_specification_and_nothing_of_who_answered() -> None:
    assert [*shown(an_alert())] == [
        "id", "severity", "type", "message", "agent_id", "data", "status", "inserted_at", "updated_at"
    ]  # fmt: skip
    assert {*whole(an_alert())} - {*shown(an_alert())} == {"acknowledged_by", "resolved_by"}


def test_who_subscribes_gets_the_active_alerts_and_takes_what_comes() -> None:
    found = OpenAlerts((an_alert(),), has_more=True, owner_id=BOB.agent.owner_id)

    decision = subscribe_alerts(found, Empty(), on_the_topic_of_bob(BOB))

    assert decision == Decision(reply={"alerts": [shown(an_alert())], "has_more": True}, takes="alert")


@STRANGERS
def test_who_may_not_see_a_topic_subscribes_to_nothing_of_it(who: Player | Identity) -> None:
    found = OpenAlerts((an_alert(),), has_more=True, owner_id=BOB.agent.owner_id)

    refusal = refused(lambda: subscribe_alerts(found, Empty(), on_the_topic_of_bob(who)))

    assert refusal.reason == "unauthorized"


def test_subscribing_is_decided_in_order_with_what_raises_alerts() -> None:
    assert (SUBSCRIBE_ALERTS.access, SUBSCRIBE_ALERTS.scope) == (Access.WRITE, "analytics")


# Answering one.


@OWNERS
def test_whose_it_is_acknowledges_it_and_all_are_told(who: Player | Identity) -> None:
    decision = answer(ACKNOWLEDGE, an_alert(), who)

    by = who.identity.id if isinstance(who, Player) else who.id
    after = an_alert(Phase.ACKNOWLEDGED, updated_at=LATER, acknowledged_by=by)
    assert decision == Decision(state=after, reply=whole(after), broadcasts=told_of(after))


@OWNERS
@pytest.mark.parametrize("status", [Phase.ACTIVE, Phase.ACKNOWLEDGED])
def test_whose_it_is_resolves_it_and_it_is_kept_for_a_while(who: Player | Identity, status: Phase) -> None:
    decision = answer(RESOLVE, an_alert(status), who)

    by = who.identity.id if isinstance(who, Player) else who.id
    after = an_alert(Phase.RESOLVED, updated_at=LATER, resolved_by=by)
    assert decision == Decision(state=after, reply=whole(after), broadcasts=told_of(after), changes=(KEPT,))


@pytest.mark.parametrize("handler", [ACKNOWLEDGE, RESOLVE])
def test_an_operator_answers_what_is_the_whole_markets(handler: Handler) -> None:
    assert answer(handler, of_the_market(), OLGA).state.status in {Phase.ACKNOWLEDGED, Phase.RESOLVED}


@pytest.mark.parametrize("handler", [ACKNOWLEDGE, RESOLVE])
@pytest.mark.parametrize("status", Phase)
@STRANGERS
def test_somebody_elses_alert_is_not_there(handler: Handler, status: Phase, who: Player | Identity) -> None:
    assert refused(answer, handler, an_alert(status), who).reason == "not_found"


@pytest.mark.parametrize("handler", [ACKNOWLEDGE, RESOLVE])
@pytest.mark.parametrize("who", [BOB, BOBS_OWNER], ids=["an agent", "a user"])
def test_the_whole_markets_alerts_are_not_there_for_others(handler: Handler, who: Player | Identity) -> None:
    assert refused(answer, handler, of_the_market(), who).reason == "not_found"


@pytest.mark.parametrize("handler", [ACKNOWLEDGE, RESOLVE])
def test_an_alert_that_is_not_there_is_not_found(handler: Handler) -> None:
    assert refused(answer, handler, None, OLGA).reason == "not_found"


def test_acknowledging_twice_is_a_duplicate_and_the_first_stands() -> None:
    alert = an_alert(Phase.ACKNOWLEDGED, acknowledged_by="somebody")

    assert answer(ACKNOWLEDGE, alert, BOB) == Decision(reply={**whole(alert), "duplicate": True})


def test_resolving_twice_is_a_duplicate_and_the_first_stands() -> None:
    alert = an_alert(Phase.RESOLVED, resolved_by="house")

    assert answer(RESOLVE, alert, BOB) == Decision(reply={**whole(alert), "duplicate": True})


def test_a_resolved_alert_is_not_acknowledged() -> None:
    refusal = refused(answer, ACKNOWLEDGE, an_alert(Phase.RESOLVED), BOB)

    assert (refusal.reason, refusal.context) == ("terminal_state", {"status": "resolved"})


# The machine.


@pytest.mark.parametrize("source", Phase)
@pytest.mark.parametrize("target", Phase)
def test_an_alert_moves_as_the_table_says_and_no_other_way(source: Phase, target: Phase) -> None:
    if target in MOVES[source]:
        assert moved(an_alert(source), target, now=LATER) == an_alert(target, updated_at=LATER)
    else:
        with pytest.raises(AssertionError, match=f"no alert goes from {source} to {target}"):
            moved(an_alert(source), target, now=LATER)


@pytest.mark.parametrize("source", Phase)
def test_what_handlers_do_in_each_phase_is_a_move_of_the_table(source: Phase) -> None:
    for handler in (acknowledge, resolve):
        if source is Phase.RESOLVED and handler is acknowledge:
            continue
        after = handler(an_alert(source), Empty(), context(BOB)).state
        assert after is None or after.status in MOVES[source]


def test_the_drawing_has_every_phase() -> None:
    assert alerts.__doc__ is not None
    assert {*re.findall(r"[A-Z]{6,}", alerts.__doc__)} == {phase.name for phase in Phase}


def test_an_alert_that_resolves_itself_says_so() -> None:
    after = resolved(an_alert(Phase.ACKNOWLEDGED, acknowledged_by="x"), by=alerts.HOUSE, now=LATER)

    assert (after.status, after.resolved_by, after.acknowledged_by) == (Phase.RESOLVED, "house", "x")


# Its end.


def ended(alert: Alert | None, *, after: timedelta) -> tuple[object, ...]:
    return forget(alert, Empty(), context(BOB, now=NOW + after)).changes


def test_a_resolved_alert_is_deleted_by_the_clock() -> None:
    assert ended(an_alert(Phase.RESOLVED), after=timedelta(days=30)) == (DropAlert(FRESH_ID),)


def test_it_is_not_deleted_a_moment_earlier() -> None:
    due = Timer(RETENTION, f"alert:{FRESH_ID}", NOW + timedelta(days=30))

    assert ended(an_alert(Phase.RESOLVED), after=timedelta(days=30, microseconds=-1)) == (due,)


@pytest.mark.parametrize("alert", [None, an_alert(), an_alert(Phase.ACKNOWLEDGED)])
def test_what_is_gone_or_is_not_resolved_is_not_deleted(alert: Alert | None) -> None:
    assert ended(alert, after=timedelta(days=400)) == ()


# Thresholds.


def own(below: int | None) -> OwnThresholds:
    return OwnThresholds(Thresholds(agent_id=BOB.id, balance_below=below), BOB.agent.owner_id)


def set_to(below: int | None, who: Player | Identity, before: OwnThresholds | None) -> Decision:
    return set_thresholds(before, SetThresholds(balance_below=below), context(who))


@pytest.mark.parametrize("who", [BOB, BOBS_OWNER], ids=["itself", "its owner"])
@pytest.mark.parametrize("below", [0, 5_000, None])
def test_an_agent_and_its_owner_set_its_threshold(who: Player | Identity, below: int | None) -> None:
    decision = set_to(below, who, own(1_000))

    reply = {"agent_id": BOB.id, "balance_below": below, "currency": MARKET.currency, "exponent": MARKET.exponent}
    assert decision == Decision(reply=reply, changes=(SetThreshold(BOB.id, below),))


@pytest.mark.parametrize("below", [None, 1_000])
def test_the_threshold_that_is_set_already_changes_nothing(below: int | None) -> None:
    assert set_to(below, BOB, own(below)).changes == ()


@pytest.mark.parametrize("who", [ALICE, OLGA, BOBS_OTHER], ids=["another", "an operator", "a sibling"])
def test_others_have_no_part_in_it(who: Player | Identity) -> None:
    assert refused(set_to, 1, who, own(None)).reason == "not_found"


def test_an_agent_that_is_not_there_has_no_thresholds() -> None:
    assert refused(set_to, 1, BOB, None).reason == "not_found"


def test_thresholds_are_set_in_order_with_what_moves_money() -> None:
    assert (SET_THRESHOLDS.access, SET_THRESHOLDS.scope) == (Access.WRITE, "analytics")
