"""The receipt of a task: there is one once nothing is held, and every end of a task has one that verifies offline."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels.documents import LEVELS_MAX
from channels.handlers import Decision, Empty
from channels.task_disputes import DecideTask, DisputeTask, decide_task, decision_due, dispute
from channels.task_ends import (
    Cancel,
    Complete,
    ReportError,
    cancel,
    complete,
    deadline_passed,
    error,
    hold_passed,
    release_price,
)
from channels.task_receipts import receipt_document
from channels.task_state import Escrow, StreamPrice, StreamState, Task, started
from crypto import (
    ReceiptReport,
    canonical_digest,
    checksum_of,
    format_public_key,
    next_digest,
    public_key_of,
    receipt_message,
    sign,
    verify_chunks,
    verify_receipt,
    verify_stream,
)
from tests.channels.roles import ALICE, BOB, FRESH_ID, MARKET, NOW, OTHER_ID, Player, as_told, context, refused

Json = dict[str, Any]

PLATFORM = bytes([0xE]) * 32
PRICE, FEE = 1_010, 50
HELLO = (b"hello ", b"world")
HALLO = (b"hallo ", b"welt")
DAY = timedelta(days=1)


def stream(*chunks: bytes, is_closed: bool = False) -> StreamState:
    """A stream after those chunks."""
    state = StreamState(next_seq=len(chunks), size=sum(map(len, chunks)))
    for seq, chunk in enumerate(chunks):
        state = msgspec.structs.replace(state, digest=next_digest(state.digest, seq=seq, chunk=chunk))
    if not is_closed:
        return state
    return msgspec.structs.replace(state, is_complete=True, checksum=checksum_of(chunks).hexdigest())


def hired(**changed: Any) -> Task:
    """A task that waits for Bob, whose price is held for an hour once it is completed."""
    fields: Json = {
        "id": FRESH_ID,
        "client_agent_id": ALICE.id,
        "provider_agent_id": BOB.id,
        "client_owner_id": ALICE.agent.owner_id,
        "is_countable": True,
        "capability": "translate",
        "input": {"to": "de"},
        "price": PRICE,
        "fee": FEE,
        "fee_bps": 500,
        "escrow_status": Escrow.HELD,
        "hold_seconds": 3_600,
        "created_at": NOW,
        "deadline": NOW + 7 * DAY,
    }
    return Task(**(fields | changed))


def begun(**changed: Any) -> Task:
    """Bob has sent a part of his output."""
    streams = {"input_stream": stream(*HELLO, is_closed=True), "output_stream": stream(HALLO[0])}
    return started(hired(**(streams | changed)), NOW)


def delivered(**changed: Any) -> Task:
    """Bob has sent and closed his output."""
    return begun(output_stream=stream(*HALLO, is_closed=True), **changed)


def streamed(**changed: Any) -> Task:
    """Nothing is held: each chunk is paid as it comes. One is paid, and a second one has come on credit."""
    fields: Json = {
        "price": 0,
        "fee": 0,
        "escrow_status": Escrow.NONE,
        "hold_seconds": 0,
        "channel_id": OTHER_ID,
        "stream_price": StreamPrice(amount=40, per="chunk"),
        "paid": 79,
        "output_stream": stream(*HALLO),
    }
    return begun(**(fields | changed))


def after(decision: Decision) -> Task:
    state = decision.state
    assert isinstance(state, Task)
    return state


def at(who: Player, later: timedelta = DAY) -> Any:
    return context(who, now=NOW + later)


def completed(task: Task, result: Any = None) -> Task:
    return after(complete(task, Complete(result=result), at(BOB)))


def released(task: Task) -> Task:
    return after(release_price(task, Empty(), at(ALICE)))


def disputed(task: Task) -> Task:
    return after(dispute(task, DisputeTask(reason="It is not German."), at(ALICE)))


def decided(task: Task, decision: Any, client_bps: int | None = None) -> Task:
    request = DecideTask(decision=decision, client_bps=client_bps, reason="It is half of it.")
    return after(decide_task(disputed(task), request, at(ALICE, 2 * DAY)))


def undecided(task: Task) -> Task:
    return after(decision_due(disputed(task), at(ALICE, 10 * DAY)))


def document_of(task: Task) -> Json:
    document: Json = as_told(receipt_document(task, MARKET))
    return document


def receipt_of(task: Task) -> Json:
    """As the platform signs it."""
    document = document_of(task)
    message = receipt_message(
        signing_domain=MARKET.signing_domain,
        kind="task",
        document_id=task.id,
        document_digest=canonical_digest(document),
    )
    signed = {"public_key": format_public_key(public_key_of(PLATFORM)), "signature": sign(PLATFORM, message)}
    return {
        "kind": "task",
        "id": task.id,
        "signing_domain": MARKET.signing_domain,
        "document": document,
        "platform": signed,
    }


def proved(task: Task) -> ReceiptReport:
    return verify_receipt(receipt_of(task), platform_key=public_key_of(PLATFORM))


def money_of(task: Task) -> tuple[int, int, int]:
    document = document_of(task)
    return document["to_client"], document["to_provider"], document["fee"]


ENDS: dict[str, tuple[Callable[[], Task], str, tuple[int, int, int]]] = {
    "released early": (lambda: released(completed(delivered())), "released", (0, PRICE - FEE, FEE)),
    "released by the clock": (
        lambda: after(hold_passed(completed(delivered()), at(ALICE, 2 * DAY))),
        "released",
        (0, PRICE - FEE, FEE),
    ),
    "released at once": (lambda: completed(delivered(hold_seconds=0), "done"), "released", (0, PRICE - FEE, FEE)),
    "a result alone": (lambda: completed(hired(hold_seconds=0), "done"), "released", (0, PRICE - FEE, FEE)),
    "completed by the deadline": (
        lambda: released(after(deadline_passed(delivered(), at(BOB, 7 * DAY)))),
        "released",
        (0, PRICE - FEE, FEE),
    ),
    "failed by the deadline": (
        lambda: after(deadline_passed(begun(), at(BOB, 7 * DAY))),
        "refunded",
        (PRICE, 0, 0),
    ),
    "given up": (lambda: after(error(begun(), ReportError(type="broken"), at(BOB))), "refunded", (PRICE, 0, 0)),
    "given up with all of the output": (
        lambda: after(error(delivered(), ReportError(type="broken"), at(BOB))),
        "refunded",
        (PRICE, 0, 0),
    ),
    "taken back": (lambda: after(cancel(hired(), Cancel(), at(ALICE))), "refunded", (PRICE, 0, 0)),
    "declined": (lambda: after(cancel(begun(), Cancel(), at(BOB))), "refunded", (PRICE, 0, 0)),
    "free": (
        lambda: completed(delivered(price=0, fee=0, escrow_status=Escrow.NONE), {"words": 2}),
        "none",
        (0, 0, 0),
    ),
    "refunded at once": (lambda: disputed(started(hired(), NOW)), "refunded", (PRICE, 0, 0)),
    "decided for the client": (lambda: decided(begun(), "client"), "refunded", (PRICE, 0, 0)),
    "decided for the client after completion": (
        lambda: decided(after(complete(delivered(), Complete(result=1), at(BOB))), "client"),
        "refunded",
        (PRICE, 0, 0),
    ),
    "decided for the provider": (lambda: decided(begun(), "provider"), "released", (0, PRICE - FEE, FEE)),
    "split": (lambda: decided(begun(), "split", 3_333), "split", (336, 641, 33)),
    "split to the last": (lambda: decided(begun(), "split", 1), "split", (0, PRICE - FEE, FEE)),
    "undecided and delivered": (lambda: undecided(delivered()), "released", (0, PRICE - FEE, FEE)),
    "undecided and not delivered": (lambda: undecided(begun()), "refunded", (PRICE, 0, 0)),
    "streamed and stopped": (lambda: after(cancel(streamed(), Cancel(), at(ALICE))), "none", (0, 0, 0)),
    "streamed to the end": (
        lambda: completed(streamed(output_stream=stream(*HALLO, is_closed=True))),
        "none",
        (0, 0, 0),
    ),
    "streamed with a gap": (
        lambda: after(cancel(streamed(output_stream=StreamState(ahead=((1, 4),))), Cancel(), at(ALICE))),
        "none",
        (0, 0, 0),
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_every_end_has_a_receipt_that_says_where_the_price_went_and_verifies(end: str) -> None:
    make, escrow_status, money = ENDS[end]
    task = make()

    report = proved(task)

    assert (report.kind, report.id, report.unproven) == ("task", task.id, ())
    assert document_of(task)["escrow_status"] == escrow_status
    assert document_of(task)["status"] == task.status
    assert money_of(task) == money
    assert sum(money) == task.price


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (hired, "pending"),
        (begun, "in_progress"),
        (lambda: completed(delivered()), "completed"),
        (lambda: disputed(begun()), "disputed"),
        (lambda: disputed(completed(delivered())), "disputed"),
    ],
)
def test_while_it_goes_on_or_its_price_is_held_there_is_none(make: Callable[[], Task], status: str) -> None:
    refusal = refused(receipt_document, make(), MARKET)

    assert (refusal.kind, refusal.reason) == ("conflict", "not_settled")
    assert refusal.context == {"status": status, "escrow_status": "held"}


def test_what_holds_nothing_has_none_either_while_it_goes_on() -> None:
    refusal = refused(receipt_document, streamed(), MARKET)

    assert (refusal.reason, refusal.context) == ("not_settled", {"status": "in_progress", "escrow_status": "none"})


def test_it_says_what_flowed_and_files_are_held_against_it() -> None:
    task = released(completed(delivered(), {"words": 2}))

    receipt = receipt_of(task)

    assert receipt["document"]["streams"]["output"] == {
        "chunks": 2,
        "total_size": 10,
        "digest": task.output_stream.digest,
        "complete": True,
        "checksum": task.output_stream.checksum,
    }
    verify_stream(receipt, direction="input", blocks=[b"hello world"])
    verify_chunks(receipt, direction="output", chunks=HALLO)


def test_an_output_that_was_stopped_is_proved_chunk_by_chunk_as_far_as_it_came() -> None:
    task = after(cancel(streamed(), Cancel(), at(ALICE)))

    document = document_of(task)

    assert (document["units"], document["paid_up_to"], document["paid"]) == (2, 1, 79)
    assert document["stream_price"] == {"amount": 40, "per": "chunk", "unit_bytes": None, "credit": 1}
    assert document["channel_id"] == OTHER_ID
    verify_chunks(receipt_of(task), direction="output", chunks=HALLO)


def test_what_is_paid_after_the_end_stands_in_a_later_receipt() -> None:
    task = after(cancel(streamed(), Cancel(), at(ALICE)))

    later = msgspec.structs.replace(task, paid=80)

    assert document_of(later)["paid_up_to"] == 2
    proved(later)


def test_a_settlement_says_who_decided_what_and_when() -> None:
    assert document_of(decided(begun(), "split", 5_000))["settlement"] == {
        "decision": "split",
        "decided_by": "operator",
        "reason": "It is half of it.",
        "disputed_at": as_told(NOW + DAY),
        "settled_at": as_told(NOW + 2 * DAY),
    }
    assert document_of(undecided(begun()))["settlement"]["decided_by"] == "default"
    assert document_of(disputed(started(hired(), NOW)))["settlement"]["decided_by"] == "automatic"
    assert document_of(completed(delivered(hold_seconds=0)))["settlement"] is None


def test_input_and_result_stand_there_as_the_digests_of_their_canonical_json() -> None:
    document = document_of(completed(hired(hold_seconds=0), {"b": 1, "a": [True]}))

    assert document["input_digest"] == canonical_digest({"to": "de"})
    assert document["result_digest"] == canonical_digest({"a": [True], "b": 1})
    assert document["result_given"] is True


def deepest() -> Any:
    value: Any = []
    for _ in range(LEVELS_MAX - 1):
        value = [value]
    return value


@pytest.mark.parametrize("result", [False, 0, "", deepest()])
def test_every_result_but_null_is_one_and_has_a_digest(result: Any) -> None:
    document = document_of(completed(hired(hold_seconds=0), result))

    assert (document["result_given"], document["result_digest"]) == (True, canonical_digest(result))


def test_what_was_not_given_has_no_digest() -> None:
    document = document_of(completed(delivered(hold_seconds=0, input=None)))

    assert (document["input_digest"], document["result_digest"], document["result_given"]) == (None, None, False)


def test_what_holds_fractions_has_no_digest_and_was_given_all_the_same() -> None:
    task = completed(hired(hold_seconds=0, input={"rate": 0.5}), [1.5])

    document = document_of(task)

    assert (document["input_digest"], document["result_digest"], document["result_given"]) == (None, None, True)
    proved(task)


def test_it_names_the_two_what_was_hired_and_by_which_agreement() -> None:
    document = document_of(completed(delivered(hold_seconds=0, negotiation_session_id=OTHER_ID)))

    assert (document["task_id"], document["client_agent_id"], document["provider_agent_id"]) == (
        FRESH_ID, ALICE.id, BOB.id,
    )  # fmt: skip
    assert (document["capability"], document["negotiation_session_id"]) == ("translate", OTHER_ID)
    assert (document["price"], document["fee_bps"]) == (PRICE, 500)
    assert (document["currency"], document["exponent"]) == (MARKET.currency, MARKET.exponent)
    assert [document[f"{moment}_at"] for moment in ("created", "started", "ended")] == [
        as_told(NOW), as_told(NOW), as_told(NOW + DAY),
    ]  # fmt: skip
