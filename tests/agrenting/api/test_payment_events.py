"""Transfers and closes of a payment channel by REST; Alice opens, Bob answers."""

from typing import Any

import pytest

from tests import paying
from tests.agrenting.api.market import PRICE, Marketplace, Player
from tests.agrenting.api.payers import (
    DEPOSIT,
    Json,
    accepted,
    at,
    close,
    fund,
    money,
    pay,
    pending,
    propose,
    require_sound,
)

OUT_OF_RANGE = (422, "amount_out_of_range")
NO_SIGNATURE = "A" * 86 + "=="


@pytest.fixture
async def channel(alice: Player, bob: Player) -> Json:
    """An open online channel with Alice's 10,000 in it."""
    return await accepted(alice, bob)


def offered(channel: Json, payer: Player, of: int, **fields: Any) -> Json:
    return {**paying.proposal(channel, payer.seed, from_agent_id=payer.id, amount=of), **fields}


# Transfers.


async def test_a_transfer_is_proposed_and_acknowledged(
    market: Marketplace, alice: Player, bob: Player, channel: Json
) -> None:
    proposed = await propose(channel, alice, 300, memo="for the words")
    standing = proposed["pending_proposal"]
    paid = await bob.post(at(channel, "acknowledge_transfer"), paying.acknowledgement(proposed, bob.seed, standing))

    assert (standing["from_agent_id"], standing["to_agent_id"], standing["memo"]) == (
        alice.id, bob.id, "for the words",
    )  # fmt: skip
    assert (standing["balance_a"], standing["balance_b"], standing["expires_at"]) == (
        DEPOSIT - 300, 300, "2030-01-01T12:05:00Z",
    )  # fmt: skip
    assert (proposed["balance_a"], proposed["last_nonce"]) == (DEPOSIT, 0)
    assert (paid["balance_a"], paid["balance_b"], paid["last_nonce"], paid["next_nonce"]) == (DEPOSIT - 300, 300, 1, 2)
    assert paid["pending_proposal"] is None
    assert set(paid["last_transfer"]) == {
        *("nonce", "amount", "from_agent_id", "to_agent_id", "balance_a", "balance_b", "task_id"),
        *("signature_a", "signature_b", "completed_at"),
    }
    assert paid == await alice.get(at(channel))
    await require_sound(market, locked=DEPOSIT)


async def test_amounts_of_transfers_come_in_both_forms_and_are_signed_in_minor_units(
    alice: Player, bob: Player, channel: Json
) -> None:
    proposed = await alice.post(at(channel, "propose_transfer"), offered(channel, alice, 1_500, amount="0.0015"))
    body = paying.acknowledgement(proposed, bob.seed, proposed["pending_proposal"])
    paid = await bob.post(at(channel, "acknowledge_transfer"), {**body, "amount": "0.001500"})
    shut = paying.close(paid, alice.seed, bob.seed, (9_000, 1_000))
    asked = {"final_balance_a": "0.009", "final_balance_b": "0.001"}
    await alice.post(at(channel, "close_request"), {**asked, "signature": shut["signature_a"]})
    closed = await bob.post(at(channel, "close"), {**shut, **asked})

    assert (paid["balance_b"], paid["last_transfer"]["amount"]) == (1_500, 1_500)
    assert (closed["status"], closed["final_balance_a"], closed["final_balance_b"]) == ("closed", 9_000, 1_000)


@pytest.mark.parametrize("amount", [1.5, "1e3", "-1", "0.0000001", None, "", True])
@pytest.mark.parametrize("event", ["propose_transfer", "acknowledge_transfer"])
async def test_what_is_no_amount_is_refused(alice: Player, channel: Json, event: str, amount: Any) -> None:
    body = {"amount": amount, "nonce": 1, "signature": NO_SIGNATURE}

    refused = await alice.refused("POST", at(channel, event), body)

    assert refused.answer.status_code == 422
    assert refused.error["code"] in {"invalid_amount", "invalid_payload"}


@pytest.mark.parametrize(
    ("fields", "why", "told"),
    [
        ({"amount": 0}, OUT_OF_RANGE, {"minimum": 1}),
        ({"amount": -5}, (422, "invalid_amount"), {}),
        (
            {"amount": DEPOSIT + 1},
            (409, "insufficient_channel_balance"),
            {"balance": DEPOSIT, "required": DEPOSIT + 1},
        ),
        ({"nonce": 0}, (409, "nonce_replayed"), {"expected_nonce": 1}),
        ({"nonce": -1}, (409, "nonce_replayed"), {"expected_nonce": 1}),
        ({"nonce": 2}, (409, "nonce_gap"), {"expected_nonce": 1}),
        (
            {"signature": NO_SIGNATURE},
            (422, "invalid_signature"),
            {"expected_nonce": 1, "balance_a": DEPOSIT - 100, "balance_b": 100},
        ),
        ({"signature": "short"}, (422, "invalid_signature"), {"expected_nonce": 1}),
        ({"memo": "x" * 201}, (422, "invalid_payload"), {}),
        ({"task_id": "nothing"}, (404, "not_found"), {}),
        ({"task_id": "00000000-0000-0000-0000-000000000000"}, (404, "not_found"), {}),
    ],
)
async def test_a_proposal_that_cannot_be_is_refused(
    alice: Player, channel: Json, fields: Json, why: tuple[int, str], told: Json
) -> None:
    refused = await alice.refused("POST", at(channel, "propose_transfer"), offered(channel, alice, 100, **fields))

    assert refused.why == why
    said = refused.error.get("context", {}) if why[0] == 422 else refused.error.get("details", {})
    assert told.items() <= said.items()
    assert (await alice.get(at(channel)))["pending_proposal"] is None


async def test_a_task_that_a_transfer_names_is_one_of_the_two(
    market: Marketplace, alice: Player, bob: Player, mallory: Player, channel: Json
) -> None:
    hire = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE}
    own, foreign = await alice.post("/tasks", hire), await mallory.post("/tasks", hire)

    refused = await alice.refused(
        "POST",
        at(channel, "propose_transfer"),
        paying.proposal(channel, alice.seed, from_agent_id=alice.id, amount=1, task_id=foreign["id"]),
    )
    proposed = await propose(channel, alice, 1, task_id=own["id"])

    assert refused.why == (404, "not_found")
    assert proposed["pending_proposal"]["task_id"] == own["id"]


async def test_one_transfer_is_pending_at_most(market: Marketplace, alice: Player, bob: Player) -> None:
    await fund(market, bob, 50)
    channel = await accepted(alice, bob, deposit=50)
    await propose(channel, alice, 1)

    for who in (alice, bob):
        refused = await who.refused("POST", at(channel, "propose_transfer"), offered(channel, who, 2))
        assert (refused.why, refused.details) == ((409, "transfer_pending"), {"nonce": 1})


async def test_an_acknowledgement_repeats_the_proposal_exactly(alice: Player, bob: Player, channel: Json) -> None:
    path = at(channel, "acknowledge_transfer")
    body = {"amount": 100, "nonce": 1, "signature": NO_SIGNATURE}
    assert (await bob.refused("POST", path, body)).why == (409, "no_pending_transfer")
    proposed = await propose(channel, alice, 100)
    good = paying.acknowledgement(proposed, bob.seed, proposed["pending_proposal"])

    refused = await alice.refused("POST", path, good)
    assert (refused.why, refused.details) == ((403, "forbidden_role"), {"role": "payee"})
    for wrong in ({"amount": 99}, {"nonce": 2}):
        refused = await bob.refused("POST", path, {**good, **wrong})
        assert (refused.why, refused.details) == (
            (409, "proposal_mismatch"), {"expected_nonce": 1, "expected_amount": 100},
        )  # fmt: skip
    assert (await bob.refused("POST", path, body)).why == (422, "invalid_signature")
    assert (await bob.refused("POST", path, {**good, "nonce": 0})).why == (409, "nonce_replayed")
    assert (await bob.post(path, good))["balance_b"] == 100


async def test_what_is_repeated_is_told_its_outcome(alice: Player, bob: Player, channel: Json) -> None:
    offer = offered(channel, alice, 100)
    proposed = await alice.post(at(channel, "propose_transfer"), offer)
    again = await alice.post(at(channel, "propose_transfer"), offer)
    body = paying.acknowledgement(proposed, bob.seed, proposed["pending_proposal"])
    paid = await bob.post(at(channel, "acknowledge_transfer"), body)
    repeated = [
        await alice.post(at(channel, "propose_transfer"), offer),
        await bob.post(at(channel, "acknowledge_transfer"), body),
    ]
    other = await alice.refused("POST", at(channel, "propose_transfer"), offered(channel, alice, 101))

    assert (again["duplicate"], again["outcome"]) == (True, {"nonce": 1, "status": "pending"})
    for one in repeated:
        assert (one["duplicate"], one["outcome"]["status"]) == (True, "completed")
        assert one["outcome"]["signature_b"] == paid["last_transfer"]["signature_b"]
        assert one["balance_b"] == 100
    assert (other.why, other.details) == ((409, "nonce_replayed"), {"expected_nonce": 2})


@pytest.mark.parametrize("is_payer", [False, True])
async def test_a_rejected_or_withdrawn_proposal_has_used_its_nonce(
    alice: Player, bob: Player, channel: Json, *, is_payer: bool
) -> None:
    offer = offered(channel, alice, 100)
    proposed = await alice.post(at(channel, "propose_transfer"), offer)
    body = paying.acknowledgement(proposed, bob.seed, proposed["pending_proposal"])
    who = alice if is_payer else bob
    wrong = await who.refused("POST", at(channel, "reject_transfer"), {"reason": "no", "nonce": 2})

    voided = await who.post(at(channel, "reject_transfer"), {"reason": "no", "nonce": 1})

    assert wrong.why == (409, "proposal_mismatch")
    assert (voided["pending_proposal"], voided["last_nonce"], voided["balance_b"]) == (None, 1, 0)
    assert (await bob.refused("POST", at(channel, "acknowledge_transfer"), body)).why == (409, "nonce_replayed")
    reason = "withdrawn" if is_payer else "rejected"
    outcome = {"nonce": 1, "status": "voided", "reason": reason, "text": "no"}
    assert (await alice.post(at(channel, "propose_transfer"), offer))["outcome"] == outcome
    assert (await who.post(at(channel, "reject_transfer"), {"reason": "no", "nonce": 1}))["outcome"] == outcome
    assert (await who.refused("POST", at(channel, "reject_transfer"), {"reason": "no"})).why == (
        409, "no_pending_transfer",
    )  # fmt: skip


async def test_a_proposal_signed_before_a_deposit_is_stale(alice: Player, bob: Player, channel: Json) -> None:
    offer = offered(channel, alice, 100)
    await alice.post(at(channel, "deposit"), {"amount": 10})

    refused = await alice.refused("POST", at(channel, "propose_transfer"), offer)

    assert refused.why == (409, "stale_state")
    assert refused.details == {"expected_nonce": 1, "balance_a": DEPOSIT - 90, "balance_b": 100}


# Closing.


async def test_a_close_that_both_have_signed_pays_both(
    market: Marketplace, alice: Player, bob: Player, channel: Json
) -> None:
    paid = await pay(channel, alice, bob, 2_500)
    shut = paying.close(paid, alice.seed, bob.seed)
    asked = {name: shut[name] for name in ("final_balance_a", "final_balance_b")}

    offer = await alice.post(at(channel, "close_request"), {**asked, "signature": shut["signature_a"]})
    again = await alice.post(at(channel, "close_request"), {**asked, "signature": shut["signature_a"]})
    closed = await bob.post(at(channel, "close"), shut)
    repeated = await alice.post(at(channel, "close"), shut)

    (request,) = offer["close_requests"]
    assert (request["agent_id"], request["nonce"], request["final_balance_b"]) == (alice.id, 1, 2_500)
    assert (again["duplicate"], again["close_requests"]) == (True, offer["close_requests"])
    assert (closed["status"], closed["cause"], closed["final_balance_a"], closed["final_balance_b"]) == (
        "closed", "joint_close", DEPOSIT - 2_500, 2_500,
    )  # fmt: skip
    assert (closed["close_signature_a"], closed["close_requests"]) == (shut["signature_a"], [])
    assert repeated["duplicate"] is True
    assert (await money(alice), await money(bob)) == ((97_500, 0), (2_500, 0))
    await require_sound(market, locked=0)


@pytest.mark.parametrize("event", ["close", "close_request"])
async def test_a_close_that_does_not_fit_is_refused(alice: Player, bob: Player, channel: Json, event: str) -> None:
    early = paying.close(channel, alice.seed, bob.seed)
    paid = await pay(channel, alice, bob, 100)

    async def refusal(shut: Json, **changed: Any) -> tuple[tuple[int, str], Json]:
        body = {**shut, **changed}
        if event == "close_request":
            body["signature"] = body.pop("signature_a")
            del body["signature_b"]
        refused = await alice.refused("POST", at(channel, event), body)
        return refused.why, refused.error.get("context") or refused.error["details"]

    shut = paying.close(paid, alice.seed, bob.seed)
    expected = {"last_nonce": 1, "balance_a": DEPOSIT - 100, "balance_b": 100}
    assert await refusal(shut, final_balance_a=DEPOSIT) == ((422, "sum_mismatch"), {"total": DEPOSIT})
    assert (await refusal(shut, final_balance_a=DEPOSIT + 1, final_balance_b=-1))[0] == (422, "invalid_amount")
    assert await refusal(shut, signature_a=NO_SIGNATURE) == (
        (422, "invalid_signature"), {"agent_id": alice.id, **expected},
    )  # fmt: skip
    assert await refusal(early) == ((409, "stale_state"), {"agent_id": alice.id, **expected})
    await propose(channel, alice, 1)
    assert await refusal(shut) == ((409, "transfer_pending"), {"nonce": 2})
    if event == "close":
        await bob.post(at(channel, "reject_transfer"), {})
        fresh = await alice.get(at(channel))
        wrong = {**paying.close(fresh, alice.seed, bob.seed), "signature_b": NO_SIGNATURE}
        assert (await refusal(wrong))[1]["agent_id"] == bob.id


async def test_what_has_not_begun_or_has_ended_is_not_closed(alice: Player, bob: Player) -> None:
    channel = await pending(alice, bob)
    shut = paying.close(channel, alice.seed, bob.seed)

    assert (await alice.refused("POST", at(channel, "close"), shut)).why == (409, "channel_not_open")
    await bob.post(at(channel, "decline"))
    refused = await alice.refused("POST", at(channel, "close"), shut)
    assert (refused.why, refused.details) == ((409, "terminal_state"), {"status": "declined"})


@pytest.mark.parametrize("before", ["force-close", "dispute"])
async def test_a_close_ends_what_is_closing_or_disputed(
    market: Marketplace, alice: Player, bob: Player, channel: Json, before: str
) -> None:
    await alice.post(at(channel, before), {"reason": "no"} if before == "dispute" else None)

    assert (await close(channel, alice, bob))["cause"] == "joint_close"
    market.clock.advance(days=9)
    await market.server.timers.run_due()
    await require_sound(market, locked=0)
