"""What the client finds out by itself: each lie of a server has an error of its own, and leaves nothing behind."""

import copy

import msgspec
import pytest

from agrenting.client import Signer, errors
from agrenting.client.errors import (
    ForgedOffer,
    LyingServer,
    MalformedAnswer,
    RolledBack,
    WrongAgreement,
    WrongAnswer,
    WrongBalance,
    WrongMarket,
    WrongMidpoint,
    WrongPayout,
    WrongPrice,
    WrongSession,
    telling,
)
from agrenting.client.lies import (
    Order,
    require_balance,
    require_channel_ordered,
    require_later,
    require_ordered,
    require_released,
    require_task,
)
from agrenting.client.sessions import require_continued, require_opened
from tests.agrenting.lie_desk import OTHER_ID, Change, Json, put, session_of
from tests.crypto.bargains import agreement
from tests.crypto.hires import CHANNEL_ID, PER_CHUNK, TASK_ID
from tests.crypto.roles import ALICE, BOB, DOMAIN, MALLORY, SESSION_ID


def test_the_tree_of_errors_names_every_one_in_its_place() -> None:
    found: set[tuple[str, str]] = set()

    def walk(kind: type[Exception]) -> None:
        for inner in kind.__subclasses__():
            if inner.__module__ == errors.__name__:
                found.add((kind.__name__, inner.__name__))
                walk(inner)

    walk(errors.ClientError)
    assert _drawn(errors.__doc__ or "") == found


def _drawn(tree: str) -> set[tuple[str, str]]:
    """Parent and child of each branch of a drawn tree."""
    path, found = ["ClientError"], set[tuple[str, str]]()
    for line in tree.splitlines():
        drawing, branch, rest = line.partition("── ")
        if branch:
            depth = len(drawing) // 4 + 1
            path[depth:] = [rest.split()[0]]
            found.add((path[depth - 1], path[depth]))
    return found


def test_a_lie_says_what_it_would_have_been_and_what_was_told() -> None:
    lie = WrongPrice("too much", expected=800, told=900)

    assert (str(lie), lie.expected, lie.told) == ("too much", 800, 900)


# Sessions.


SIGNER = Signer(ALICE.secret_key, DOMAIN)


@pytest.mark.parametrize(
    ("session", "amount"),
    [
        (session_of(), 800),
        (session_of((600, 1001, 700), acceptor=BOB), 850),
        (session_of((700, 700), acceptor=None), 700),
    ],
    ids=["accepted by Alice", "accepted by Bob", "equal offers"],
)
def test_an_agreement_that_both_have_signed_holds(session: Json, amount: int) -> None:
    assert SIGNER.agreed(session, agent_id=ALICE.agent_id) == amount


AGREEMENT_LIES: dict[str, tuple[type[LyingServer], Json]] = {
    "another amount": (WrongAgreement, {"amount": 801}),
    "no amount": (WrongAgreement, {"amount": None}),
    "not agreed": (WrongAgreement, {"status": "open"}),
    "nobody has accepted": (WrongAgreement, {"accepted_by": None, "accept_signature": None}),
    "accepted by who made the last offer": (WrongAgreement, {"accepted_by": BOB.agent_id}),
    "accepted by a stranger": (WrongAgreement, {"accepted_by": MALLORY.agent_id}),
    "a signature of nobody": (WrongAgreement, {"accept_signature": "A" * 86 + "=="}),
    "no signature": (WrongAgreement, {"accept_signature": None}),
    "no offers": (WrongAgreement, {"offers": [], "midpoint": None}),
    "another midpoint": (WrongMidpoint, {"midpoint": 801}),
    "a midpoint of nothing": (WrongMidpoint, {"offers": []}),
    "other terms": (WrongSession, {"terms": {"due": "never"}}),
    "another deployment": (WrongMarket, {"signing_domain": "another.test"}),
    "something else": (MalformedAnswer, {"offers": None}),
}


@pytest.mark.parametrize("name", AGREEMENT_LIES)
def test_an_agreement_that_was_not_made_is_not_believed(name: str) -> None:
    kind, lie = AGREEMENT_LIES[name]

    with pytest.raises(kind) as found:
        SIGNER.agreed(session_of() | lie, agent_id=ALICE.agent_id)

    assert type(found.value) is kind


def test_an_offer_with_another_amount_is_forged_and_not_just_malformed() -> None:
    session = session_of()
    session["offers"][1]["amount"] += 1

    with pytest.raises(ForgedOffer):
        SIGNER.agreed(session, agent_id=ALICE.agent_id)


@pytest.mark.parametrize(
    ("amounts", "told", "is_right"),
    [
        ((600, 1001), ALICE.agent_id, True),
        ((600, 1001), BOB.agent_id, False),
        ((600, 1001), None, False),
        ((600,), BOB.agent_id, True),
        ((600,), None, False),
        ((), None, True),
        ((700, 700), None, True),
        ((700, 700), ALICE.agent_id, False),
    ],
)
def test_after_an_offer_it_is_the_other_sides_turn(
    amounts: tuple[int, ...], told: str | None, *, is_right: bool
) -> None:
    offers = agreement((*amounts, 1, 1)[:2])["document"]["offers"][: len(amounts)]
    midpoint = sum(amounts) // 2 if len(amounts) > 1 else None
    open_now = session_of() | {"status": "open", "turn": told, "offers": offers, "midpoint": midpoint}

    if is_right:
        SIGNER.check(open_now, agent_id=ALICE.agent_id)
        return
    with pytest.raises(WrongSession):
        SIGNER.check(open_now, agent_id=ALICE.agent_id)


def test_what_is_told_in_another_shape_is_malformed() -> None:
    for wrong in (KeyError("seq"), TypeError("text"), AttributeError("get"), IndexError(0)):
        with pytest.raises(MalformedAnswer), telling("a chunk"):
            raise wrong
    with pytest.raises(WrongPrice), telling("a task"):
        raise WrongPrice("it is told as it is")


def test_a_session_goes_on_from_where_it_was() -> None:
    before, after = session_of((600, 1001)), session_of((600, 1001, 700), acceptor=BOB)

    require_continued(before, after)
    require_continued(before, before)


def _without_last(session: Json) -> None:
    session["offers"].pop()


def _put_digest(session: Json) -> None:
    session["offers"][0]["digest"] = "0" * 64


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (_without_last, RolledBack),
        (_put_digest, RolledBack),
        (put(id=OTHER_ID), WrongAnswer),
        (put(session_digest="0" * 64), WrongSession),
        (put(provider_public_key=MALLORY.public_key_text), WrongSession),
        (put(terms=None), WrongSession),
        (put(offers=7), MalformedAnswer),
    ],
)
def test_a_session_that_is_behind_what_was_told_is_not_gone_on_with(change: Change, kind: type[LyingServer]) -> None:
    before = session_of()
    after = copy.deepcopy(before)
    change(after)

    with pytest.raises(kind):
        require_continued(before, after)


@pytest.mark.parametrize(
    ("lie", "kind"),
    [
        ({"provider_agent_id": MALLORY.agent_id}, WrongAnswer),
        ({"client_agent_id": MALLORY.agent_id}, WrongAnswer),
        ({"capability": "transcribe"}, WrongAnswer),
        ({"terms": {"due": "never"}}, WrongSession),
    ],
)
def test_a_new_session_is_the_one_that_was_asked_for(lie: Json, kind: type[LyingServer]) -> None:
    session = session_of()
    asked: Json = {
        "client_agent_id": ALICE.agent_id,
        "provider_agent_id": BOB.agent_id,
        "capability": "translate",
        "terms": session["terms"],
    }

    require_opened(session, **asked)
    with pytest.raises(kind):
        require_opened(session | lie, **asked)


# Tasks.


ORDER = Order(
    client_agent_id=ALICE.agent_id,
    provider_agent_id=BOB.agent_id,
    capability="translate",
    input={"languages": ("en", "de")},
    price=1250,
    price_max=1250,
    negotiation_session_id=SESSION_ID,
    hold_seconds=60,
)

ORDERED: Json = {
    "id": TASK_ID,
    "client_agent_id": ALICE.agent_id,
    "provider_agent_id": BOB.agent_id,
    "capability": "translate",
    "input": {"languages": ["en", "de"]},
    "negotiation_session_id": SESSION_ID,
    "hold_seconds": 60,
    "channel_id": None,
    "created_at": "2026-11-01T12:00:00Z",
    "signing_domain": DOMAIN,
    "currency": "USD",
    "exponent": 6,
    "price": 1250,
    "fee": 62,
    "fee_bps": 500,
    "net": 1188,
    "status": "pending",
    "escrow_status": "held",
    "stream_price": None,
    "paid": 0,
    "settlement": None,
}


def test_the_task_that_was_ordered_is_taken() -> None:
    require_ordered(ORDERED, ORDER)


ORDER_LIES: dict[str, tuple[type[LyingServer], Json]] = {
    "another provider": (WrongAnswer, {"provider_agent_id": MALLORY.agent_id}),
    "another capability": (WrongAnswer, {"capability": "transcribe"}),
    "another input": (WrongAnswer, {"input": {"languages": ["en", "fr"]}}),
    "another agreement": (WrongAnswer, {"negotiation_session_id": OTHER_ID}),
    "another hold": (WrongAnswer, {"hold_seconds": 0}),
    "another price": (WrongPrice, {"price": 1260, "fee": 63, "net": 1197}),
    "a fee that does not follow": (WrongPrice, {"fee": 63, "net": 1187}),
    "a net that does not follow": (WrongPrice, {"net": 1250}),
    "a price below nothing": (WrongPrice, {"price": -1250}),
    "paid as it streams": (WrongPrice, {"stream_price": PER_CHUNK}),
    "released before it began": (WrongPayout, {"escrow_status": "released"}),
    "no price any more": (WrongPayout, {"escrow_status": "none"}),
    "a state that is none": (MalformedAnswer, {"status": "forgotten"}),
    "a price that is none": (MalformedAnswer, {"price": "1250"}),
}


@pytest.mark.parametrize("name", ORDER_LIES)
def test_a_task_that_was_not_ordered_is_not_taken(name: str) -> None:
    kind, lie = ORDER_LIES[name]

    with pytest.raises(kind) as found:
        require_ordered(ORDERED | lie, ORDER)

    assert type(found.value) is kind


def test_a_list_price_above_the_ceiling_is_not_taken() -> None:
    order = msgspec.structs.replace(ORDER, price=None, price_max=1249)

    with pytest.raises(WrongPrice) as found:
        require_ordered(ORDERED, order)

    assert (found.value.expected, found.value.told) == (1249, 1250)


def test_a_task_that_is_paid_as_it_streams_has_the_price_of_a_unit_that_was_asked_for() -> None:
    asked = {"amount": 40, "per": "chunk", "credit": 2}
    order = msgspec.structs.replace(
        ORDER, price=0, price_max=None, negotiation_session_id=None, channel_id=CHANNEL_ID, stream_price=asked
    )
    free = {"price": 0, "fee": 0, "net": 0, "escrow_status": "none", "negotiation_session_id": None}
    told = ORDERED | free | {"channel_id": CHANNEL_ID, "stream_price": PER_CHUNK}

    require_ordered(told, order)
    for lie in ({"amount": 41}, {"credit": 1}):
        with pytest.raises(WrongPrice):
            require_ordered(told | {"stream_price": PER_CHUNK | lie}, order)
    with pytest.raises(WrongPrice):
        require_ordered(told | {"stream_price": None}, order)
    with pytest.raises(WrongAnswer):
        require_ordered(told | {"channel_id": OTHER_ID}, order)


COMPLETED = ORDERED | {"status": "completed"}
RELEASED = COMPLETED | {"escrow_status": "released"}
FAILED = ORDERED | {"status": "failed", "escrow_status": "refunded"}


@pytest.mark.parametrize("after", [ORDERED, COMPLETED, RELEASED, FAILED, ORDERED | {"status": "disputed"}])
def test_a_task_goes_on_to_its_end(after: Json) -> None:
    require_later(ORDERED, after)


LATER_LIES: dict[str, tuple[type[LyingServer], Json, Json]] = {
    "another price": (WrongPrice, ORDERED, {"price": 1240, "fee": 62, "net": 1178}),
    "another rate": (WrongPrice, ORDERED, {"fee_bps": 501}),
    "another task": (WrongAnswer, ORDERED, {"id": OTHER_ID}),
    "another client": (WrongAnswer, ORDERED, {"client_agent_id": MALLORY.agent_id}),
    "another input": (WrongAnswer, ORDERED, {"input": None}),
    "another deployment": (WrongAnswer, ORDERED, {"signing_domain": "another.test"}),
    "it goes on after its end": (RolledBack, FAILED, {"status": "in_progress", "escrow_status": "held"}),
    "it failed after it was completed": (RolledBack, RELEASED, {"status": "failed", "escrow_status": "refunded"}),
    "its price is held again": (RolledBack, RELEASED, {"escrow_status": "held"}),
    "it goes on after it was completed": (RolledBack, COMPLETED, {"status": "in_progress"}),
    "less is paid": (RolledBack, ORDERED | {"paid": 7}, {"paid": 6}),
}


@pytest.mark.parametrize("name", LATER_LIES)
def test_a_task_never_becomes_another(name: str) -> None:
    kind, before, lie = LATER_LIES[name]

    with pytest.raises(kind) as found:
        require_later(before, before | lie)

    assert type(found.value) is kind


def test_a_release_pays_the_price_and_nothing_else() -> None:
    require_released(COMPLETED, RELEASED)
    with pytest.raises(WrongPayout):
        require_released(COMPLETED, COMPLETED)
    with pytest.raises(WrongPrice):
        require_released(COMPLETED, RELEASED | {"price": 1251, "fee": 62, "net": 1189})


def settled(decision: str, *, to_client: int, to_provider: int, fee: int) -> Json:
    status, escrow = {
        "client": ("failed", "refunded"),
        "provider": ("completed", "released"),
        "split": ("completed", "split"),
    }[decision]
    settlement = {"decision": decision, "to_client": to_client, "to_provider": to_provider, "fee": fee}
    return ORDERED | {"status": status, "escrow_status": escrow, "settlement": settlement}


SPLIT = settled("split", to_client=416, to_provider=834, fee=41)


@pytest.mark.parametrize(
    "after",
    [
        SPLIT,
        settled("client", to_client=1250, to_provider=0, fee=0),
        settled("provider", to_client=0, to_provider=1250, fee=62),
    ],
)
def test_a_settlement_pays_out_the_price(after: Json) -> None:
    require_task(after)


@pytest.mark.parametrize(
    "lie",
    [
        settled("split", to_client=417, to_provider=834, fee=41),
        settled("split", to_client=416, to_provider=834, fee=42),
        settled("split", to_client=-1, to_provider=1251, fee=62),
        SPLIT | {"escrow_status": "released"},
    ],
)
def test_a_settlement_that_pays_something_else_is_not_believed(lie: Json) -> None:
    with pytest.raises(WrongPayout):
        require_task(lie)


# Channels that are opened, and money.


def test_a_new_channel_is_the_one_that_was_asked_for() -> None:
    channel: Json = {
        "agent_a_id": ALICE.agent_id,
        "agent_b_id": BOB.agent_id,
        "mode": "online",
        "window_s": 60,
        "deposit_a": 500,
    }
    asked: Json = {"agent_a_id": ALICE.agent_id, "agent_b_id": BOB.agent_id, "mode": "online", "deposit": 500}

    require_channel_ordered(channel, **asked, window_s=60)
    require_channel_ordered(channel, **asked, window_s=None)
    lies: list[tuple[Json, type[LyingServer]]] = [
        ({"agent_b_id": MALLORY.agent_id}, WrongAnswer),
        ({"mode": "offline"}, WrongAnswer),
        ({"window_s": 61}, WrongAnswer),
        ({"deposit_a": 400}, WrongBalance),
    ]
    for lie, kind in lies:
        with pytest.raises(kind):
            require_channel_ordered(channel | lie, **asked, window_s=60)


def test_an_agents_money_adds_up() -> None:
    balance: Json = {"available": 100, "escrow": 20, "channels": 3, "total": 123}

    require_balance(balance)
    for lie in ({"total": 124}, {"available": -1}, {"escrow": 30}):
        with pytest.raises(WrongBalance):
            require_balance(balance | lie)
    for malformed in ({"total": None}, {"channels": "3"}, {"escrow": True}):
        with pytest.raises(MalformedAnswer):
            require_balance(balance | malformed)
