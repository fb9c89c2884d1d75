"""PROTOCOL.md is true of alerts: what they are, who gets which, and how they end."""

import json

import msgspec
import pytest

from channels.alert_rules import ENDS_MAX, Funds, Over, Raise, verdict_on_funds, verdict_on_ledger, verdict_on_rate
from channels.alerts import (
    ACKNOWLEDGE,
    MOVES,
    RESOLVE,
    RETENTION,
    AlertType,
    Phase,
    Severity,
    resolved,
    shown,
    whole,
)
from channels.errors import Refusal
from channels.handlers import Empty
from channels.payment_state import Phase as ChannelPhase
from channels.routes import CLOCKS
from channels.task_state import Phase as TaskPhase
from tests.channels.alarmed import (
    NOBODY,
    a_channel,
    a_message,
    a_task,
    an_alert,
    disputed,
    failed,
    follows,
    name_of,
)
from tests.channels.protocol_text import chapter, code, codes, table
from tests.channels.roles import BOB, MARKET, context
from tests.channels.test_alert_rules import LOST, channel
from tests.channels.test_protocol_told import fields, require_fits

ALERTS = chapter("Alerts")
ROWS = {code(row["alert type"]): row for row in table("alert type", ALERTS)}
LOW = tuple((str(number), number < 4) for number in range(ENDS_MAX))
FAIR = tuple((str(number), number < 5) for number in range(ENDS_MAX))
BEGUN: dict[AlertType, list[Raise | Over]] = {
    AlertType.TASK_FAILED: follows("task", a_task(), failed()),
    AlertType.SUCCESS_RATE_LOW: [*verdict_on_rate(FAIR, LOW, agent_id=BOB.id, name_of=name_of)],
    AlertType.DISPUTE_OPENED: follows("task", a_task(), disputed(None)),
    AlertType.CHANNEL_DISPUTE: follows("payment", a_channel(), channel(ChannelPhase.DISPUTED)),
    AlertType.CHANNEL_STATE_LOST: follows("payment", a_channel(), a_channel(state_lost=LOST)),
    AlertType.DELIVERY_EXHAUSTED: follows("message", a_message(), a_message("expired")),
    AlertType.BALANCE_LOW: [
        *verdict_on_funds(
            Funds(available=1, low_below=1),
            Funds(available=0, low_below=1),
            agent_id=BOB.id,
            name_of=name_of,
            market=MARKET,
        )
    ],
    AlertType.LEDGER_MISMATCH: [*verdict_on_ledger(1)],
}
"""What each condition raises when it begins."""

ENDED: dict[AlertType, list[Raise | Over]] = {
    AlertType.TASK_FAILED: [],
    AlertType.SUCCESS_RATE_LOW: [*verdict_on_rate(LOW, FAIR, agent_id=BOB.id, name_of=name_of)],
    AlertType.DISPUTE_OPENED: follows("task", disputed(), a_task(TaskPhase.COMPLETED)),
    AlertType.CHANNEL_DISPUTE: follows("payment", channel(ChannelPhase.DISPUTED), a_channel()),
    AlertType.CHANNEL_STATE_LOST: follows(
        "payment", a_channel(state_lost=LOST), channel(ChannelPhase.CLOSED, state_lost=LOST)
    ),
    AlertType.DELIVERY_EXHAUSTED: [],
    AlertType.BALANCE_LOW: [
        *verdict_on_funds(
            Funds(available=0, low_below=1),
            Funds(available=1, low_below=1),
            agent_id=BOB.id,
            name_of=name_of,
            market=MARKET,
        )
    ],
    AlertType.LEDGER_MISMATCH: [*verdict_on_ledger(0)],
}
"""What its end resolves."""


def test_the_types_are_those_of_the_code() -> None:
    assert [*ROWS] == [*AlertType] == [*BEGUN] == [*ENDED]


@pytest.mark.parametrize("type_", AlertType)
def test_what_is_raised_is_as_severe_and_whose_and_has_the_data_that_its_row_says(type_: AlertType) -> None:
    raised = [one for one in BEGUN[type_] if isinstance(one, Raise)]
    row = ROWS[type_]

    assert {one.type for one in raised} == {type_}
    assert [*dict.fromkeys(str(one.severity) for one in raised)] == codes(row["severity"])
    for one in raised:
        named = {name for name in codes(row["data"]) if name in {*one.data}}
        assert named == {*one.data}
    assert {name for one in raised for name in one.data} <= {*codes(row["data"])}
    assert ("the whole market's" in row["whose"]) is (None in {one.agent_id for one in raised})
    assert ("both parties'" in row["whose"]) is (len({one.agent_id for one in raised} - {None}) == 2 and type_ in {
        AlertType.CHANNEL_DISPUTE, AlertType.CHANNEL_STATE_LOST
    })  # fmt: skip


@pytest.mark.parametrize("type_", AlertType)
def test_what_resolves_itself_is_said_to(type_: AlertType) -> None:
    over = [one.type for one in ENDED[type_] if isinstance(one, Over)]

    assert over == ([] if ROWS[type_]["resolves itself when"] == "–" else [type_])


def test_an_alert_is_what_its_table_says() -> None:
    require_fits(json.loads(msgspec.json.encode(shown(an_alert()))), fields("alert field", ALERTS), where="alert")
    assert {*whole(an_alert())} - {*shown(an_alert())} == {"acknowledged_by", "resolved_by"}
    assert "`acknowledged_by` and `resolved_by`" in ALERTS


def test_the_words_of_severity_and_status_are_those_of_the_code() -> None:
    rows = {code(row["alert field"]): row for row in table("alert field", ALERTS)}

    assert codes(rows["severity"]["meaning"]) == [*Severity]
    assert codes(rows["status"]["meaning"]) == [*Phase]


def test_the_states_of_an_alert_follow_as_the_table_says() -> None:
    moves = {("–", "it is raised", str(an_alert().status))}
    for source in Phase:
        for name, handler in (("acknowledge", ACKNOWLEDGE), ("resolve", RESOLVE)):
            try:
                after = handler.decide(an_alert(source), Empty(), context(BOB)).state
            except Refusal:
                continue
            moves |= set() if after is None else {(source, f"POST /api/v1/alerts/{{id}}/{name}", after.status)}
        if Phase.RESOLVED in MOVES[source]:
            moves.add(
                (source, "it resolves itself", resolved(an_alert(source), by=NOBODY, now=context(BOB).now).status)
            )

    listed = {(code(row["from"]) or "–", row["on"].strip("`"), code(row["to"])) for row in table("from", ALERTS)}
    assert moves == listed


def test_the_timer_is_the_one_of_the_code() -> None:
    (row,) = table("timer", ALERTS)

    assert code(row["timer"]) == RETENTION
    assert RETENTION in CLOCKS
