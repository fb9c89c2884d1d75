"""Each rule fires where it must: on the change that begins it, for those whom it concerns, and not otherwise."""

import itertools
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels.alert_rules import (
    RULES,
    Funds,
    Over,
    Raise,
    amount_text,
    grown,
    is_notable,
    merged,
    verdict_on_funds,
    verdict_on_ledger,
)
from channels.alerts import PAST, AlertType, Phase, Severity
from channels.messages import Phase as MessagePhase
from channels.payment_state import Dispute, PaymentChannel, StateLost
from channels.payment_state import Phase as ChannelPhase
from channels.task_state import Phase as TaskPhase
from channels.task_state import Task
from tests.channels.alarmed import (
    LATER,
    PRICE,
    SETTLED,
    a_channel,
    a_message,
    a_task,
    an_alert,
    disputed,
    failed,
    follows,
    name_of,
    over,
    raised,
)
from tests.channels.roles import ALICE, BOB, MARKET, NOW, OTHER_ID

HEADLINE_CHARS_MAX = 80
TASK = f"task:{OTHER_ID}"
CHANNEL = f"payment:{OTHER_ID}"
DISPUTE = Dispute(agent_id=ALICE.id, reason="late", evidence=None, opened_at=NOW, ends_at=LATER)
LOST = StateLost(
    nonce=7,
    amount=1,
    from_agent_id=ALICE.id,
    balance_a=1,
    balance_b=1,
    task_id=None,
    signature_a="a",
    signature_b="b",
    reported_by=BOB.id,
    reported_at=NOW,
)


def texts(found: list[Raise | Over]) -> list[str]:
    return [one.message for one in found if isinstance(one, Raise)]


def data(found: list[Raise | Over]) -> list[dict[str, Any]]:
    return [one.data for one in found if isinstance(one, Raise)]


# What nothing follows from.


@pytest.mark.parametrize("store", ["agent", "negotiation", "room", "private", "contact", "alert"])
def test_nothing_follows_from_other_states(store: str) -> None:
    assert not is_notable(store, a_task(), failed())


@pytest.mark.parametrize(("store", "state"), [("task", failed()), ("payment", a_channel()), ("message", a_message())])
def test_nothing_follows_from_what_is_new(store: str, state: Any) -> None:
    assert not is_notable(store, None, state)


@pytest.mark.parametrize("status", TaskPhase)
def test_nothing_follows_from_a_change_within_a_phase(status: TaskPhase) -> None:
    assert not is_notable("task", a_task(status), a_task(status, paid=5))


def test_nothing_follows_from_a_transfer() -> None:
    before = a_channel()

    assert not is_notable("payment", before, msgspec.structs.replace(before, balance_a=0, last_nonce=8))


# Tasks.


def brought(status: TaskPhase) -> Task:
    return {TaskPhase.FAILED: failed(), TaskPhase.DISPUTED: disputed()}.get(status, a_task(status))


@pytest.mark.parametrize(("source", "target"), [*itertools.permutations(TaskPhase, 2)])
def test_a_task_raises_and_resolves_by_where_it_comes_from_and_where_it_goes(
    source: TaskPhase, target: TaskPhase
) -> None:
    expected = {
        TaskPhase.FAILED: [("task_failed", "error", BOB.id), ("task_failed", "warning", ALICE.id)],
        TaskPhase.DISPUTED: [("dispute_opened", "error", BOB.id)],
    }

    assert raised("task", brought(source), brought(target)) == expected.get(target, [])
    assert over("task", brought(source), brought(target)) == (
        [("dispute_opened", TASK)] if source is TaskPhase.DISPUTED else []
    )


def test_a_failure_says_to_each_side_what_happened_and_what_to_do() -> None:
    provider, client = texts(follows("task", a_task(), failed("out_of_memory")))

    assert provider == (
        "Task failed: translate for alice/bot. bob/bot reported the error out_of_memory. The price of 8.50 USD is back"
        " with alice/bot. Look into it before the next one: failures lower the success rate and the reputation."
    )
    assert client == (
        "Task failed: translate by bob/bot. bob/bot reported the error out_of_memory. The price of 8.50 USD is back"
        " with alice/bot. Open it again, with this agent or another one."
    )


def test_programs_read_the_role_and_the_error_of_a_failure() -> None:
    common = {"task_id": OTHER_ID, "error": "broken", "capability": "translate"}

    assert data(follows("task", a_task(), failed())) == [
        common | {"role": "provider"},
        common | {"role": "client"},
    ]


@pytest.mark.parametrize("type_", ["deadline", "dispute", "bad_input"])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ended_by": None}, "Its deadline was over before anything was delivered."),
        ({"ended_by": None, "settlement": SETTLED}, "Its dispute was decided for the client."),
        ({"ended_by": ALICE.id, "settlement": SETTLED}, "Its dispute was decided for the client."),
        ({"ended_by": BOB.id}, "bob/bot reported the error {}."),
    ],
)
def test_a_failure_says_why_by_what_has_happened_whatever_word_the_provider_gave(
    type_: str, fields: dict[str, Any], words: str
) -> None:
    for text in texts(follows("task", a_task(), failed(type_, **fields))):
        assert f". {words.format(type_)} The price" in text


def test_a_failure_without_an_error_says_so() -> None:
    after = msgspec.structs.replace(failed(), error=None)

    assert [one["error"] for one in data(follows("task", a_task(), after))] == ["unknown"] * 2


def test_a_failure_of_what_costs_nothing_speaks_of_no_price() -> None:
    for text in texts(follows("task", a_task(price=0), failed(price=0))):
        assert "price" not in text
        assert "  " not in text


def test_a_dispute_that_a_ban_has_opened_concerns_both() -> None:
    found = raised("task", a_task(), disputed(None))

    assert found == [("dispute_opened", "error", BOB.id), ("dispute_opened", "error", ALICE.id)]
    assert all(
        text.startswith("Task disputed by a ban: translate of bob/bot for alice/bot. ")
        for text in texts(follows("task", a_task(), disputed(None)))
    )


def test_a_dispute_says_what_is_held_and_until_when() -> None:
    (text,) = texts(follows("task", a_task(), disputed()))
    (told,) = data(follows("task", a_task(), disputed()))

    assert "8.50 USD stay held until an operator decides; without a decision by 2026-03-01 13:00 UTC" in text
    assert told == {
        "task_id": OTHER_ID,
        "role": "provider",
        "opened_by": ALICE.id,
        "reason": "it is wrong",
        "amount": PRICE,
        "decides_at": LATER,
    }


def test_a_dispute_that_is_settled_at_once_is_a_failure_and_no_dispute() -> None:
    after = msgspec.structs.replace(failed("dispute"), dispute=disputed().dispute)

    assert [type_ for type_, _, _ in raised("task", a_task(), after)] == ["task_failed"] * 2
    assert over("task", a_task(), after) == []


def test_a_dispute_that_the_client_wins_is_over_before_the_failure_is_told() -> None:
    found = follows("task", disputed(), failed("dispute"))

    assert [type(one) for one in found] == [Over, Raise, Raise]


# Payment channels.


def channel(status: ChannelPhase, **fields: Any) -> PaymentChannel:
    dispute = DISPUTE if status is ChannelPhase.DISPUTED else None
    return a_channel(status, dispute=dispute, **fields)


@pytest.mark.parametrize(("source", "target"), [*itertools.permutations(ChannelPhase, 2)])
@pytest.mark.parametrize("lost", [None, LOST], ids=["known", "lost"])
def test_a_channel_raises_and_resolves_by_where_it_comes_from_and_where_it_goes(
    source: ChannelPhase, target: ChannelPhase, lost: StateLost | None
) -> None:
    before, after = channel(source, state_lost=lost), channel(target, state_lost=lost)
    dispute = [("channel_dispute", "error", ALICE.id), ("channel_dispute", "error", BOB.id)]
    dispute_over = [("channel_dispute", CHANNEL)] if source is ChannelPhase.DISPUTED else []
    lost_over = [("channel_state_lost", CHANNEL)] if lost is not None and after.is_final else []

    assert raised("payment", before, after) == (dispute if target is ChannelPhase.DISPUTED else [])
    assert over("payment", before, after) == dispute_over + lost_over


def test_a_dispute_of_a_channel_says_who_gets_what_and_when() -> None:
    text, same = texts(follows("payment", a_channel(), channel(ChannelPhase.DISPUTED)))

    assert text == same
    assert text == (
        "Payment channel disputed by alice/bot. It is the one of alice/bot and bob/bot. At 2026-03-01 13:00 UTC it is"
        " paid out by its balances, 7.50 USD to alice/bot and 1.00 USD to bob/bot, unless both sign a close before, an"
        " operator decides, or alice/bot withdraws the dispute."
    )
    assert data(follows("payment", a_channel(), channel(ChannelPhase.DISPUTED)))[0] == {
        "channel_id": OTHER_ID,
        "opened_by": ALICE.id,
        "reason": "late",
        "balance_a": 7_500_000,
        "balance_b": 1_000_000,
        "ends_at": LATER,
    }


@pytest.mark.parametrize("status", [phase for phase in ChannelPhase if not channel(phase).is_final])
def test_lost_states_are_critical_to_both_parties_and_to_the_market(status: ChannelPhase) -> None:
    found = raised("payment", channel(status), channel(status, state_lost=LOST))

    assert found == [("channel_state_lost", "critical", who) for who in (ALICE.id, BOB.id, None)]


def test_what_the_market_is_told_of_lost_states_names_no_party_and_no_amount() -> None:
    found = follows("payment", a_channel(), a_channel(state_lost=LOST))
    (told,) = [one for one in found if isinstance(one, Raise) and one.agent_id is None]

    assert told.data == {"channel_id": OTHER_ID}
    assert not any(word in told.message for word in ("alice", "bob", "USD", ALICE.id, BOB.id))


def test_the_parties_are_told_which_nonce_is_missing() -> None:
    parties = data(follows("payment", a_channel(), a_channel(state_lost=LOST)))[:2]

    assert parties == [{"channel_id": OTHER_ID, "nonce": 7}] * 2


def test_states_that_are_lost_on_a_channel_which_ends_with_that_are_no_condition() -> None:
    after = channel(ChannelPhase.CLOSED, state_lost=LOST)

    assert raised("payment", a_channel(), after) == []


def test_states_are_lost_once() -> None:
    later = msgspec.structs.replace(LOST, nonce=9)

    assert follows("payment", a_channel(state_lost=LOST), a_channel(state_lost=later)) == []


# Messages.


@pytest.mark.parametrize(("source", "target"), [*itertools.permutations(MessagePhase, 2)])
def test_a_message_that_expires_is_told_to_both_and_no_other(source: MessagePhase, target: MessagePhase) -> None:
    found = raised("message", a_message(source), a_message(target))

    exhausted = [("delivery_exhausted", "warning", BOB.id), ("delivery_exhausted", "warning", ALICE.id)]
    assert found == (exhausted if target is MessagePhase.EXPIRED else [])


@pytest.mark.parametrize("from_agent_id", [None, ALICE.id], ids=["its own", "of what Alice does"])
def test_what_the_market_has_sent_is_told_to_its_receiver_alone(from_agent_id: str | None) -> None:
    fields: dict[str, Any] = {"from_agent_id": from_agent_id, "is_from_market": True}
    before, after = a_message(**fields), a_message("expired", **fields)

    assert raised("message", before, after) == [("delivery_exhausted", "warning", BOB.id)]
    assert "unanswered, the market to bob/bot." in texts(follows("message", before, after))[0]


@pytest.mark.parametrize(
    ("delivered_at", "words"), [(None, "was not fetched: bob/bot was not there"), (NOW, "was pushed and not answered")]
)
def test_an_expiry_says_how_far_the_message_came(delivered_at: Any, words: str) -> None:
    found = expired("1", delivered_at=delivered_at)

    assert texts(found) == [
        f"1 message expired unanswered, alice/bot to bob/bot. It is of type status_update, and {words}. {next_step}"
        for next_step in (
            "Join the mailbox's topic, and acknowledge what comes.",
            "Send it again once the receiver is there, or turn to another agent.",
        )
    ]
    assert [one["role"] for one in data(found)] == ["receiver", "sender"]
    assert {one.subject for one in found} == {f"messages:{BOB.id}"}


def expired(id_: str, *, at: Any = NOW, **fields: Any) -> list[Raise | Over]:
    """What follows when one of Alice's messages to Bob expires."""
    return follows("message", a_message(id=id_), a_message("expired", id=id_, ended_at=at, **fields))


def test_messages_that_expire_at_once_are_told_once_to_each_with_their_count() -> None:
    fourth = expired("4", at=LATER, from_agent_id=None, is_from_market=True)
    found = [*merged((*expired("1"), *expired("2"), *expired("3", at=LATER, type="x_last"), *fourth))]

    receivers, senders = data(found)
    assert (receivers["count"], receivers["message_id"], receivers["from_agent_id"]) == (4, "4", None)
    assert (senders["count"], senders["message_id"], senders["message_type"]) == (3, "3", "x_last")
    assert {(one["first_at"], one["last_at"]) for one in (receivers, senders)} == {(NOW, LATER)}
    assert texts(found)[1].startswith(
        "3 messages expired unanswered, alice/bot to bob/bot. The newest is of type x_last,"
    )


def test_what_does_not_grow_is_not_merged_and_keeps_its_place() -> None:
    verdict = (*follows("task", a_task(), failed()), *expired("1"), *follows("task", disputed(), failed()))

    assert merged(verdict) == verdict


@pytest.mark.parametrize("status", [Phase.ACTIVE, Phase.ACKNOWLEDGED])
def test_an_alert_that_stands_counts_what_comes_on_top_and_stays_as_it_stands(status: Phase) -> None:
    (first, _), (second, _) = expired("1"), expired("2", at=LATER)
    assert isinstance(first, Raise)
    assert isinstance(second, Raise)
    alert = an_alert(status, type=first.type, message=first.message, data={**first.data, "count": 9})

    after = grown(alert, second, now=LATER)

    assert after.message.startswith("10 messages expired unanswered, alice/bot to bob/bot. The newest is of type")
    assert (after.data["count"], after.data["message_id"], after.data["first_at"]) == (10, "2", NOW)
    assert (after.status, after.updated_at, after.inserted_at, after.id) == (status, LATER, NOW, alert.id)


# Money.


def on_funds(before: tuple[int, int | None], after: tuple[int, int | None]) -> tuple[Raise | Over, ...]:
    first, second = (Funds(available=has, low_below=below) for has, below in (before, after))
    return verdict_on_funds(first, second, agent_id=BOB.id, name_of=name_of, market=MARKET)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((1_000, 500), (500, 500), None),
        ((1_000, 500), (499, 500), Raise),
        ((499, 500), (0, 500), None),
        ((499, 500), (500, 500), Over),
        ((100, None), (0, None), None),
        ((100, None), (100, 101), Raise),
        ((100, None), (100, 100), None),
        ((100, 101), (100, 100), Over),
        ((100, 101), (100, None), Over),
        ((100, 101), (100, 5_000), None),
        ((0, 0), (0, 0), None),
        ((5, 0), (0, 0), None),
    ],
)
def test_a_balance_is_low_below_its_threshold_alone(
    before: tuple[int, int | None], after: tuple[int, int | None], expected: type | None
) -> None:
    assert [type(one) for one in on_funds(before, after)] == ([expected] if expected else [])


def test_a_low_balance_says_how_low_with_its_currency() -> None:
    (found,) = on_funds((PRICE, PRICE), (PRICE - 1, PRICE))

    assert isinstance(found, Raise)
    assert (found.type, found.severity, found.subject) == ("balance_low", "warning", f"agent:{BOB.id}")
    assert found.message == (
        "Balance low: bob/bot has 8.499999 USD available. That is less than the 8.50 USD that are set as its least."
        " Deposit more, or it cannot pay for what it opens next."
    )
    assert found.data == {"available": PRICE - 1, "balance_below": PRICE}


@pytest.mark.parametrize(
    ("amount", "exponent", "text"),
    [
        (0, 6, "0.00 USD"),
        (1, 6, "0.000001 USD"),
        (8_500_000, 6, "8.50 USD"),
        (8_510_000, 6, "8.51 USD"),
        (8_512_300, 6, "8.5123 USD"),
        (12, 0, "12 USD"),
        (12, 1, "1.2 USD"),
        (10, 1, "1.0 USD"),
        (1_234, 2, "12.34 USD"),
        (10**18, 18, "1.00 USD"),
    ],
)
def test_amounts_are_exact_and_have_their_currency(amount: int, exponent: int, text: str) -> None:
    assert amount_text(amount, msgspec.structs.replace(MARKET, exponent=exponent)) == text


# The ledger.


def test_a_sound_ledger_is_no_condition_any_more() -> None:
    assert verdict_on_ledger(0) == (Over(AlertType.LEDGER_MISMATCH, "ledger"),)


@pytest.mark.parametrize(
    ("count", "words"),
    [(1, "The ledger does not add up: 1 difference. "), (3, "The ledger does not add up: 3 differences. ")],
)
def test_a_ledger_that_does_not_add_up_is_critical_to_the_whole_market(count: int, words: str) -> None:
    (found,) = verdict_on_ledger(count)

    assert isinstance(found, Raise)
    assert (found.severity, found.agent_id, found.subject) == (Severity.CRITICAL, None, "ledger")
    assert found.message.startswith(words)
    assert found.data == {"differences": count}


# All of them.


def test_every_message_says_what_to_do_next() -> None:
    found = [
        *follows("task", a_task(), failed()),
        *follows("task", a_task(), disputed()),
        *follows("task", a_task(), disputed(None)),
        *follows("payment", a_channel(), channel(ChannelPhase.DISPUTED)),
        *follows("payment", a_channel(), a_channel(state_lost=LOST)),
        *follows("message", a_message(), a_message("expired", delivered_at=NOW + timedelta(1))),
        *on_funds((1, 0), (1, 2)),
        *verdict_on_ledger(2),
    ]

    assert {one.type for one in found} == {*AlertType} - {AlertType.SUCCESS_RATE_LOW}
    assert all(len(one.headline) < HEADLINE_CHARS_MAX for one in found if isinstance(one, Raise))
    assert all(text.count(".") >= 1 and text.endswith(".") and "None" not in text for text in texts(found))


def test_what_is_past_is_what_does_not_resolve_itself() -> None:
    lasting = {AlertType.SUCCESS_RATE_LOW, AlertType.DISPUTE_OPENED, AlertType.CHANNEL_DISPUTE}
    lasting |= {AlertType.CHANNEL_STATE_LOST, AlertType.BALANCE_LOW, AlertType.LEDGER_MISMATCH}

    assert {*PAST} == {*AlertType} - lasting


def test_there_is_a_rule_for_each_kind_of_state_that_has_one() -> None:
    assert {*RULES} == {"task", "payment", "message"}
