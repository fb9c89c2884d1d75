"""Receipts of tasks: honest ones do not contradict themselves, and no change of any field goes unnoticed."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import BadDocument, ReceiptError, verify_receipt
from crypto.messages import INTEGER_MAX

from .bargains import agreement, copy_of, platform_signs
from .hires import (
    AT,
    BEGUN,
    CHANNEL_ID,
    FREE,
    HONEST,
    INPUT,
    PER_BYTES,
    REFUNDED,
    STREAMED,
    TASK_ID,
    UNDELIVERED,
    UNUSED,
    Json,
    settlement,
    stream,
    task,
)
from .roles import ALICE, BOB, DOMAIN, MALLORY, PLATFORM, SESSION_ID
from .spoiling import Place, alterations, holder, is_same, places
from .test_receipts import check_of

COMPLETED, SPLIT, BY_CHUNK = HONEST["completed"], HONEST["split"], HONEST["paid by the chunk"]
SPOILED = {name: HONEST[name] for name in ("completed", "split", "paid by the chunk", "paid by bytes", "cancelled")}
OTHER_ID = "99999999-9999-4999-8999-999999999999"
OTHER_DIGEST = "ab" * 32
NOTHING = stream(is_closed=True)["checksum"]


# ------------------------------------------------------------------------------------------------------------ honesty


def test_a_completed_task_is_told_step_by_step() -> None:
    report = verify_receipt(copy_of(COMPLETED))

    assert (report.kind, report.id) == ("task", TASK_ID)
    subject, end, money, given_in, given_out, asked, answered, word, platform = report.checks
    assert subject == (
        f"Client {ALICE.agent_id} has hired provider {BOB.agent_id} for translate, by the agreement {SESSION_ID}."
    )
    assert end == "The task was completed without a dispute being settled."
    assert "Of the price of 1250 minor units the client got 0 back, the provider was paid 1188" in money
    assert "the fee was 62: 500 basis points" in money
    assert given_in.startswith("The input had 2 chunks of 11 bytes in all, closed with the SHA-256 b94d27b9934d3e08")
    assert given_out.startswith("The output had 2 chunks of 10 bytes in all, closed")
    assert COMPLETED["document"]["input_digest"] in asked
    assert COMPLETED["document"]["result_digest"] in answered
    assert "platform's word: neither party has signed it" in word
    assert DOMAIN in platform


@pytest.mark.parametrize("name", HONEST)
def test_every_end_has_a_receipt_that_verifies_under_the_known_key(name: str) -> None:
    report = verify_receipt(copy_of(HONEST[name]), platform_key=PLATFORM.public_key)

    assert report.unproven == ()
    assert report.checks[-1] == "The platform's key is the expected one."


def test_a_stream_that_was_not_closed_is_told_with_its_running_digest() -> None:
    output = HONEST["failed"]["document"]["streams"]["output"]

    assert verify_receipt(HONEST["failed"]).checks[4] == (
        f"The output had 2 chunks of 10 bytes in all, with the running digest {output['digest']}; it was not closed, "
        "so there is no checksum."
    )


def test_what_was_free_says_so() -> None:
    assert verify_receipt(HONEST["free"]).checks[2] == "It had no price."


def test_a_settlement_is_told_with_who_made_it() -> None:
    report = verify_receipt(SPLIT)

    assert report.checks[1] == "A dispute was settled for the split (operator), and the task ended as completed."
    assert "client got 416 back, the provider was paid 793, and the fee was 41" in report.checks[2]


def test_what_was_paid_as_it_streamed_is_told_in_units() -> None:
    by_chunk, by_bytes = (verify_receipt(HONEST[name]).checks[2] for name in ("paid by the chunk", "paid by bytes"))

    assert f"over the payment channel {CHANNEL_ID}" in by_chunk
    assert "40 minor units for each unit (chunk), 3 units delivered, 1 paid by 79 minor units" in by_chunk
    assert "never more than 2 ahead" in by_chunk
    assert "for each unit (8 bytes begun), 2 units delivered, 2 paid by 80 minor units" in by_bytes


def test_a_free_task_without_documents_is_told_in_fewer_sentences() -> None:
    receipt = task(**{**FREE, "negotiation_session_id": None, "input_digest": None, **UNDELIVERED})

    report = verify_receipt(receipt)

    assert report.checks[0].endswith("for translate.")
    assert len(report.checks) == len(verify_receipt(COMPLETED).checks) - 2


@pytest.mark.parametrize("role", ["client", "provider", "opener", "counterparty"])
def test_who_expects_what_a_party_has_signed_is_not_served_with_a_task(role: str) -> None:
    assert check_of(COMPLETED, **{f"{role}_key": ALICE.public_key}) == "pinned_key"


def test_a_receipt_of_another_platform_is_refused_by_who_knows_the_key() -> None:
    assert check_of(COMPLETED, platform_key=MALLORY.public_key) == "pinned_key"


@given(
    price=st.integers(1, INTEGER_MAX),
    fee_bps=st.integers(0, 10_000),
    client_bps=st.integers(1, 9_999),
)
def test_every_honest_split_adds_up(price: int, fee_bps: int, client_bps: int) -> None:
    to_client = price * client_bps // 10_000  # Rounds down.
    fee = (price - to_client) * fee_bps // 10_000  # Rounds down.
    paid: Json = {"price": price, "fee_bps": fee_bps, "to_client": to_client, "fee": fee}

    verify_receipt(
        task(
            settlement=settlement("split", "operator"),
            escrow_status="split",
            to_provider=price - to_client - fee,
            **paid,
        )
    )


@given(
    output=st.lists(st.binary(min_size=1, max_size=8), max_size=12),
    unit_bytes=st.none() | st.just(8),
    is_closed=st.booleans(),
    credit=st.integers(1, 3),
    more=st.integers(0, 200),
)
def test_every_honest_output_that_was_paid_has_a_receipt(
    *, output: list[bytes], unit_bytes: int | None, is_closed: bool, credit: int, more: int
) -> None:
    size = sum(map(len, output))
    units = len(output) if unit_bytes is None else -(-size // unit_bytes)  # Rounds up.
    paid = max(0, units - credit) * 40 + more
    receipt = task(
        **{**STREAMED, **UNDELIVERED, "status": "failed"},
        streams={"input": stream(INPUT), "output": stream(output, is_closed=is_closed)},
        stream_price={
            "amount": 40,
            "per": "chunk" if unit_bytes is None else "bytes",
            "unit_bytes": unit_bytes,
            "credit": credit,
        },
        paid=paid,
        units=units,
        paid_up_to=paid // 40,  # Rounds down.
    )

    assert f"{units} units delivered" in verify_receipt(receipt).checks[2]


# -------------------------------------------------------------------------------------------------- changes afterwards


@pytest.mark.parametrize("place", [(name, *place) for name, honest in SPOILED.items() for place in places(honest)])
def test_no_change_after_signing_goes_unnoticed_at(place: Place) -> None:
    honest, inside = SPOILED[str(place[0])], place[1:]
    value = holder(honest, inside)[inside[-1]]

    for altered in alterations(value):
        receipt = copy_of(honest)
        holder(receipt, inside)[inside[-1]] = altered
        if not is_same(altered, value):
            check_of(receipt)


@pytest.mark.parametrize("place", [(name, *place) for name, honest in SPOILED.items() for place in places(honest)])
def test_nothing_can_be_left_out_at(place: Place) -> None:
    receipt, inside = copy_of(SPOILED[str(place[0])]), place[1:]

    del holder(receipt, inside)[inside[-1]]

    check_of(receipt)


WORDS = {
    "client_agent_id": OTHER_ID,
    "provider_agent_id": OTHER_ID,
    "capability": "summarise",
    "negotiation_session_id": OTHER_ID,
    "created_at": "2026-11-01T11:00:00Z",
    "started_at": "2026-11-01T11:00:00Z",
    "ended_at": "2026-11-02T12:00:00Z",
    "input_digest": OTHER_DIGEST,
    "result_digest": OTHER_DIGEST,
    "currency": "EUR",
    "exponent": 2,
}
"""What nothing else follows from: it rests on the platform's word alone."""


@pytest.mark.parametrize("member", WORDS)
def test_nobody_but_the_platform_changes_its_word_on(member: str) -> None:
    receipt = copy_of(COMPLETED)
    put(receipt, **{member: WORDS[member]})

    assert check_of(receipt) == "platform_signature"
    verify_receipt(platform_signs(receipt))


NEIGHBOURS = (
    "completed",
    "failed",
    "cancelled",
    "none",
    "released",
    "refunded",
    "split",
    "operator",
    "default",
    "chunk",
)
SUMS = {
    f"streams/{direction}/{sum_}"
    for direction in ("input", "output")
    for sum_ in ("chunks", "total_size", "digest", "checksum")
}
"""What only the files themselves prove."""

POSSIBLE = {
    "completed": {"fee_bps"},  # Another rate may make the same fee.
    "split": {"fee_bps", "settlement/reason"},
    "paid by the chunk": {"fee_bps", "status", "units", "paid", "stream_price/amount", "stream_price/credit"},
    "paid by bytes": {"fee_bps", "paid", "stream_price/amount", "stream_price/unit_bytes", "stream_price/credit"},
    "cancelled": {"fee_bps", "status"},
}
"""What else may have been otherwise though all the rest was so."""


@pytest.mark.parametrize("name", SPOILED)
def test_not_even_the_platform_can_change_one_of_the_other_members_alone(name: str) -> None:
    document, taken = SPOILED[name]["document"], set[str]()

    for place in places(document):
        value = holder(document, place)[place[-1]]
        for altered in (*alterations(value), *NEIGHBOURS):
            receipt = copy_of(SPOILED[name])
            holder(receipt["document"], place)[place[-1]] = altered
            if not is_same(altered, value) and is_taken(receipt):
                taken.add("/".join(map(str, place)))

    assert taken - WORDS.keys() - SUMS == POSSIBLE[name]


def is_taken(receipt: Json) -> bool:
    """Whether the receipt verifies with the platform's signature under what it says now."""
    try:
        verify_receipt(platform_signs(receipt))
    except (ReceiptError, BadDocument):
        return False
    return True


# -------------------------------------------------------------------------- changes that the platform itself has signed


def put(receipt: Json, **members: object) -> None:
    receipt["document"].update(members)


def put_stream(receipt: Json, direction: str, **members: object) -> None:
    receipt["document"]["streams"][direction].update(members)


def put_price(receipt: Json, **members: object) -> None:
    receipt["document"]["stream_price"].update(members)


CLIENTS, AT_ONCE = HONEST["settled for the client"], HONEST["settled at once"]
BY_BYTES, FREELY = HONEST["paid by bytes"], HONEST["free"]
PROVIDERS = HONEST["settled by the clock for the provider"]
OPERATOR = settlement("provider", "operator")

CHANGES: dict[str, tuple[str, Json, Callable[[Json], None]]] = {
    "another kind": ("kind", COMPLETED, lambda r: r.update(kind="job")),
    "another id of the receipt": ("identity", COMPLETED, lambda r: r.update(id=OTHER_ID)),
    "another id of the task": ("identity", COMPLETED, lambda r: put(r, task_id=OTHER_ID)),
    "one agent on both sides": ("identity", COMPLETED, lambda r: put(r, provider_agent_id=ALICE.agent_id)),
    "an agent that is none": ("shape", COMPLETED, lambda r: put(r, client_agent_id="Alice")),
    "a status that is none": ("shape", COMPLETED, lambda r: put(r, status="disputed")),
    "an escrow that is held": ("shape", COMPLETED, lambda r: put(r, escrow_status="held")),
    "a time that is none": ("shape", COMPLETED, lambda r: put(r, ended_at=None)),
    "a currency that is none": ("shape", COMPLETED, lambda r: put(r, currency="")),
    "another price": ("sum", COMPLETED, lambda r: put(r, price=1251)),
    "another payment": ("sum", COMPLETED, lambda r: put(r, to_provider=1189)),
    "a payment below nothing": ("shape", COMPLETED, lambda r: put(r, to_provider=-1, to_client=1189)),
    "a fee that was rounded up": ("fee", COMPLETED, lambda r: put(r, fee=63, to_provider=1187)),
    "another rate": ("fee", COMPLETED, lambda r: put(r, fee_bps=505)),
    "a rate above the whole": ("shape", COMPLETED, lambda r: put(r, fee_bps=10_001)),
    "a fee on the client's part too": ("fee", SPLIT, lambda r: put(r, fee=62, to_provider=772)),
    "a price that was nowhere": ("escrow", COMPLETED, lambda r: put(r, escrow_status="none")),
    "no price that was paid": ("escrow", FREELY, lambda r: put(r, escrow_status="released")),
    "a part for the client of what was released": (
        "escrow",
        COMPLETED,
        lambda r: put(r, to_client=250, to_provider=950, fee=50),
    ),
    "a part for the provider of what was refunded": (
        "escrow",
        CLIENTS,
        lambda r: put(r, to_client=1249, to_provider=1),
    ),
    "a split that is all the client's": ("escrow", SPLIT, lambda r: put(r, to_client=1250, to_provider=0, fee=0)),
    "a refund of what was completed": ("status", COMPLETED, lambda r: put(r, **REFUNDED)),
    "a payment for what failed": ("status", COMPLETED, lambda r: put(r, status="failed", **UNDELIVERED)),
    "a split without a dispute": ("status", SPLIT, lambda r: put(r, settlement=None)),
    "a failure of the client's loss": (
        "status",
        COMPLETED,
        lambda r: put(r, settlement=settlement("client", "default")),
    ),
    "a split for the provider": ("status", SPLIT, lambda r: put(r, settlement=OPERATOR)),
    "a cancellation by a dispute": ("status", CLIENTS, lambda r: put(r, status="cancelled")),
    "work that was never started": ("status", COMPLETED, lambda r: put(r, started_at=None)),
    "output that was never started": ("status", HONEST["failed"], lambda r: put(r, started_at=None)),
    "output that was closed but never started": (
        "status",
        HONEST["cancelled"],
        lambda r: put_stream(r, "output", **stream(is_closed=True)),
    ),
    "a result that was never started": ("status", CLIENTS, lambda r: put(r, started_at=None, streams=UNUSED)),
    "a completion of nothing": (
        "status",
        COMPLETED,
        lambda r: put(r, streams={"input": stream(), "output": stream(is_closed=True)}, **UNDELIVERED),
    ),
    "a completion with output that is open": ("status", COMPLETED, lambda r: put(r, streams=BEGUN)),
    "a result of what was cancelled": (
        "status",
        HONEST["cancelled"],
        lambda r: put(r, started_at=AT, result_given=True),
    ),
    "a result of what failed": ("status", HONEST["failed"], lambda r: put(r, result_given=True)),
    "a digest of no result": ("status", COMPLETED, lambda r: put(r, result_given=False)),
    "a result that is neither there nor not": ("shape", COMPLETED, lambda r: put(r, result_given=1)),
    "a settlement that is none": ("shape", SPLIT, lambda r: put(r, settlement="split")),
    "a decision that is none": ("shape", SPLIT, lambda r: put(r, settlement=settlement("nobody", "operator"))),
    "a decision by nobody": ("shape", SPLIT, lambda r: put(r, settlement=settlement("split", "nobody"))),
    "a decision without a time": (
        "shape",
        SPLIT,
        lambda r: put(r, settlement=settlement("split", "operator", settled_at=None)),
    ),
    "an operator without a reason": (
        "settlement",
        SPLIT,
        lambda r: put(r, settlement=settlement("split", "operator", reason=None)),
    ),
    "a clock with a reason": (
        "settlement",
        PROVIDERS,
        lambda r: put(r, settlement=settlement("provider", "default", reason="It is late.")),
    ),
    "a split by the clock": ("settlement", SPLIT, lambda r: put(r, settlement=settlement("split", "default"))),
    "the clock for the client though there is output": (
        "settlement",
        CLIENTS,
        lambda r: put(r, settlement=settlement("client", "default")),
    ),
    "the clock for the provider though there is none": ("settlement", PROVIDERS, lambda r: put(r, streams=BEGUN)),
    "at once though there is a result": (
        "settlement",
        AT_ONCE,
        lambda r: put(r, result_given=True, result_digest=OTHER_DIGEST),
    ),
    "at once though there is output": ("settlement", AT_ONCE, lambda r: put(r, streams=BEGUN)),
    "at once for the provider": (
        "settlement",
        PROVIDERS,
        lambda r: put(r, settlement=settlement("provider", "automatic")),
    ),
    "a third stream": ("shape", COMPLETED, lambda r: r["document"]["streams"].update(more=stream())),
    "a stream that is none": ("shape", COMPLETED, lambda r: put(r, streams={"input": None, "output": stream()})),
    "a closed stream without a checksum": ("stream", COMPLETED, lambda r: put_stream(r, "output", checksum=None)),
    "an open stream with a checksum": ("stream", COMPLETED, lambda r: put_stream(r, "input", complete=False)),
    "a checksum in capitals": (
        "shape",
        COMPLETED,
        lambda r: put_stream(r, "input", checksum=stream(INPUT, is_closed=True)["checksum"].upper()),
    ),
    "bytes without chunks": ("stream", HONEST["cancelled"], lambda r: put_stream(r, "output", total_size=1)),
    "empty chunks": ("stream", COMPLETED, lambda r: put_stream(r, "output", total_size=1)),
    "chunks without a digest": ("stream", COMPLETED, lambda r: put_stream(r, "output", digest="0" * 64)),
    "a digest without chunks": ("stream", HONEST["cancelled"], lambda r: put_stream(r, "output", digest=OTHER_DIGEST)),
    "a checksum of nothing": ("stream", COMPLETED, lambda r: put_stream(r, "output", checksum=NOTHING)),
    "a checksum of something without chunks": (
        "stream",
        COMPLETED,
        lambda r: put_stream(r, "input", **{**stream(is_closed=True), "checksum": OTHER_DIGEST}),
    ),
    "a payment over no channel": ("stream_price", COMPLETED, lambda r: put(r, paid=40)),
    "a channel for nothing": ("stream_price", COMPLETED, lambda r: put(r, channel_id=CHANNEL_ID)),
    "units for nothing": ("stream_price", COMPLETED, lambda r: put(r, units=2)),
    "paid units for nothing": ("stream_price", COMPLETED, lambda r: put(r, paid_up_to=0)),
    "a price of units that was held too": (
        "stream_price",
        COMPLETED,
        lambda r: put(r, channel_id=CHANNEL_ID, stream_price=PER_BYTES, paid=80, units=2, paid_up_to=2),
    ),
    "a price of units by an agreement": ("stream_price", BY_CHUNK, lambda r: put(r, negotiation_session_id=SESSION_ID)),
    "a price of units over no channel": ("shape", BY_CHUNK, lambda r: put(r, channel_id=None)),
    "a price of units of nothing": ("shape", BY_CHUNK, lambda r: put_price(r, amount=0)),
    "a price of units of another kind": ("shape", BY_CHUNK, lambda r: put_price(r, per="token")),
    "a price of units without credit": ("shape", BY_CHUNK, lambda r: put_price(r, credit=0)),
    "a size of a unit that is a chunk": ("stream_price", BY_CHUNK, lambda r: put_price(r, unit_bytes=8)),
    "no size of a unit of bytes": ("stream_price", BY_BYTES, lambda r: put_price(r, unit_bytes=None)),
    "a size of a unit of nothing": ("shape", BY_BYTES, lambda r: put_price(r, unit_bytes=0)),
    "more units paid than the money makes": ("stream_price", BY_CHUNK, lambda r: put(r, paid_up_to=2)),
    "more units than were paid and on credit": ("stream_price", BY_CHUNK, lambda r: put(r, paid=39, paid_up_to=0)),
    "fewer units than came": ("stream_price", BY_CHUNK, lambda r: put(r, units=1)),
    "more units than came in what was closed": ("stream_price", BY_BYTES, lambda r: put(r, units=3)),
    "a chunk above a unit of bytes": (
        "stream_price",
        BY_BYTES,
        lambda r: put(r, streams={"input": stream(), "output": stream([b"hallo welt"], is_closed=True)}),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_document_that_contradicts_itself_is_refused_whoever_signed_it(change: str) -> None:
    check, honest, alter = CHANGES[change]
    receipt = copy_of(honest)

    alter(receipt)

    assert check_of(platform_signs(receipt)) == check


def test_every_check_of_a_task_has_a_change_that_it_finds() -> None:
    assert {check for check, _, _ in CHANGES.values()} == {
        *("kind", "shape", "identity", "sum", "fee", "escrow", "status", "settlement", "stream", "stream_price"),
    }


def test_a_task_is_no_agreement_and_no_agreement_is_a_task() -> None:
    bargain = agreement([1000, 1501])

    assert check_of(platform_signs({**copy_of(COMPLETED), "kind": "agreement"})) == "shape"
    assert check_of(platform_signs({**bargain, "kind": "task"})) == "shape"
