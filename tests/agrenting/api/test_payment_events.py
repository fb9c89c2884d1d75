"""The events of a payment channel by REST: transfers, closes, disputes, chains; Alice opens, Bob answers."""

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
    hand_in,
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


@pytest.fixture
async def offline(alice: Player, bob: Player) -> Json:
    """The same, for transfers that are signed elsewhere."""
    return await accepted(alice, bob, mode="offline")


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


# Disputes.


async def test_a_dispute_freezes_and_its_withdrawal_goes_back(alice: Player, bob: Player, channel: Json) -> None:
    await propose(channel, alice, 1)
    body = {"reason": "he does not answer", "evidence": {"words": ["a", 1, None]}}

    disputed = await bob.post(at(channel, "dispute"), body)
    again = await bob.post(at(channel, "dispute"), body)

    assert (disputed["status"], disputed["pending_proposal"], disputed["last_nonce"]) == ("disputed", None, 1)
    assert disputed["dispute"] == {
        "agent_id": bob.id,
        **body,
        "opened_at": "2030-01-01T12:00:00Z",
        "ends_at": "2030-01-02T12:00:00Z",
    }
    assert (again["duplicate"], disputed["disputes_used"]) == (True, [bob.id])
    frozen = await alice.get(at(channel))
    refused = await alice.refused("POST", at(channel, "propose_transfer"), offered(frozen, alice, 1))
    assert (refused.why, refused.details) == ((409, "channel_not_open"), {"status": "disputed"})
    assert (await alice.refused("POST", at(channel, "dispute"), {"reason": "I too"})).why == (409, "channel_not_open")
    refused = await alice.refused("POST", at(channel, "withdraw_dispute"))
    assert (refused.why, refused.details) == ((403, "forbidden_role"), {"role": "disputer"})
    assert (await bob.post(at(channel, "withdraw_dispute")))["status"] == "open"
    assert (await bob.refused("POST", at(channel, "withdraw_dispute"))).why == (409, "not_disputed")
    assert (await bob.refused("POST", at(channel, "dispute"), {"reason": "again"})).why == (409, "dispute_used")
    assert (await alice.post(at(channel, "dispute"), {"reason": "I too"}))["disputes_used"] == [bob.id, alice.id]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": None},
        {"reason": "x" * 2_001},
        {"reason": "no", "evidence": 1.5},
        {"reason": "no", "evidence": 2**53},
        {"reason": "no", "evidence": "x" * 65_535},
    ],
)
async def test_what_is_no_dispute_is_refused(alice: Player, channel: Json, body: Json) -> None:
    refused = await alice.refused("POST", at(channel, "dispute"), body)

    assert refused.why[0] in {400, 422}
    assert (await alice.get(at(channel)))["status"] == "open"


async def test_evidence_has_its_size(alice: Player, channel: Json) -> None:
    body = {"reason": "", "evidence": "x" * 65_534}  # And two quotation marks.

    assert (await alice.post(at(channel, "dispute"), body))["status"] == "disputed"


async def test_what_has_not_begun_or_has_ended_is_not_disputed(alice: Player, bob: Player, channel: Json) -> None:
    waiting = await pending(alice, bob)
    await close(channel, alice, bob)

    assert (await alice.refused("POST", at(waiting, "dispute"), {"reason": ""})).why == (409, "channel_not_open")
    assert (await alice.refused("POST", at(channel, "dispute"), {"reason": ""})).why == (409, "terminal_state")
    assert (await alice.refused("POST", at(channel, "withdraw_dispute"))).why == (409, "terminal_state")


async def test_evidence_that_is_a_chain_settles_an_offline_dispute(
    market: Marketplace, alice: Player, bob: Player, offline: Json
) -> None:
    await alice.post(at(offline, "force-close"))
    chain = paying.chain(offline, alice.seed, bob.seed, [100, 200])

    settled = await bob.post(at(offline, "dispute"), {"reason": "paid", "evidence": {"transfers": chain}})

    assert (settled["status"], settled["dispute"], settled["balance_b"]) == ("closing", None, 300)
    market.clock.advance(days=1)
    assert (await bob.get(at(offline)))["final_balance_b"] == 300
    await market.server.timers.run_due()
    assert await money(bob) == (300, 0)
    await require_sound(market, locked=0)


async def test_a_chain_that_is_not_good_is_no_evidence(alice: Player, bob: Player, offline: Json) -> None:
    chain = paying.chain(offline, alice.seed, bob.seed, [100, 200])
    chain[1]["signature_a"] = NO_SIGNATURE

    refused = await bob.refused("POST", at(offline, "dispute"), {"reason": "x", "evidence": {"transfers": chain}})

    assert refused.why == (422, "bad_transfer")
    assert refused.error["context"].items() >= {"index": 1, "cause": "invalid_signature"}.items()
    shown = await bob.get(at(offline))
    assert (shown["status"], shown["disputes_used"], shown["last_nonce"]) == ("open", [], 0)


# Chains.


async def test_a_chain_is_applied_whole_and_once(market: Marketplace, alice: Player, bob: Player, offline: Json) -> None:
    chain = paying.chain(offline, alice.seed, bob.seed, [500, -200, 50])

    first = await bob.post(at(offline, "submit_transfers"), {"transfers": chain[:2]})
    rest = await alice.post(at(offline, "submit_transfers"), {"transfers": chain})
    again = await bob.post(at(offline, "submit_transfers"), {"transfers": chain})

    assert [(one["applied"], one["duplicates"]) for one in (first, rest, again)] == [(2, 0), (1, 2), (0, 3)]
    assert (again["balance_a"], again["balance_b"], again["last_nonce"]) == (DEPOSIT - 350, 350, 3)
    assert (await money(alice), await money(bob)) == ((90_000, DEPOSIT - 350), (0, 350))
    await require_sound(market, locked=DEPOSIT)


@pytest.mark.parametrize(
    ("index", "wrong", "cause"),
    [
        (1, {"nonce": 3}, "nonce_gap"),
        (0, {"signature_b": NO_SIGNATURE}, "invalid_signature"),
        (1, {"amount": 101}, "invalid_signature"),
        (1, {"amount": 0}, "amount_out_of_range"),
        (2, {"amount": DEPOSIT + 1}, "insufficient_channel_balance"),
        (0, {"from_agent_id": "nobody"}, "not_a_party"),
        (2, {"task_id": "nothing"}, "invalid_task_id"),
    ],
)
async def test_a_chain_with_a_flaw_is_not_applied_at_all(
    alice: Player, bob: Player, offline: Json, index: int, wrong: Json, cause: str
) -> None:
    chain = paying.chain(offline, alice.seed, bob.seed, [100, 100, 100])
    chain[index] |= wrong

    refused = await bob.refused("POST", at(offline, "submit_transfers"), {"transfers": chain})

    assert refused.why == (422, "bad_transfer")
    assert refused.error["context"].items() >= {
        "index": index, "cause": cause, "expected_nonce": index + 1,
    }.items()  # fmt: skip
    assert (await bob.get(at(offline)))["last_nonce"] == 0


async def test_another_transfer_at_a_used_nonce_is_refused(alice: Player, bob: Player, offline: Json) -> None:
    await hand_in(offline, alice, bob, 100, 100)
    other = paying.chain(offline, alice.seed, bob.seed, [100, 99])

    refused = await bob.refused("POST", at(offline, "submit_transfers"), {"transfers": other})

    assert (refused.why, refused.details) == ((409, "nonce_replayed"), {"index": 1, "expected_nonce": 3})


@pytest.mark.parametrize("count", [0, 1_001])
async def test_a_chain_has_its_length(alice: Player, bob: Player, offline: Json, count: int) -> None:
    one = paying.chain(offline, alice.seed, bob.seed, [1])

    refused = await bob.refused("POST", at(offline, "submit_transfers"), {"transfers": one * count})

    assert refused.why == (422, "invalid_payload")


async def test_the_modes_do_not_mix(alice: Player, bob: Player, channel: Json, offline: Json) -> None:
    body = {"transfers": paying.chain(channel, alice.seed, bob.seed, [1])}
    refused = await bob.refused("POST", at(channel, "submit_transfers"), body)
    assert (refused.why, refused.details) == ((409, "wrong_mode"), {"mode": "online"})

    answer = {"amount": 1, "nonce": 1, "signature": NO_SIGNATURE}
    for event, payload in (
        ("propose_transfer", offered(offline, alice, 1)),
        ("acknowledge_transfer", answer),
        ("reject_transfer", {}),
    ):
        refused = await alice.refused("POST", at(offline, event), payload)
        assert (refused.why, refused.details) == ((409, "wrong_mode"), {"mode": "offline"})


async def test_chains_are_taken_while_closing_and_disputed_but_not_before_or_after(
    alice: Player, bob: Player
) -> None:
    channel = await pending(alice, bob, mode="offline")
    chain = paying.chain(channel, alice.seed, bob.seed, [1, 2, 3])
    path = at(channel, "submit_transfers")

    assert (await bob.refused("POST", path, {"transfers": chain})).why == (409, "channel_not_open")
    await bob.post(at(channel, "accept"))
    await alice.post(at(channel, "force-close"))
    assert (await bob.post(path, {"transfers": chain[:1]}))["applied"] == 1
    await alice.post(at(channel, "dispute"), {"reason": "no"})
    assert (await bob.post(path, {"transfers": chain[:2]}))["status"] == "disputed"
    await close(channel, alice, bob)
    assert (await bob.refused("POST", path, {"transfers": chain})).why == (409, "terminal_state")


async def test_a_signed_transfer_is_idempotent_by_key_too(alice: Player, bob: Player, offline: Json) -> None:
    body = {"transfers": paying.chain(offline, alice.seed, bob.seed, [5])}
    headers = {"idempotency-key": "chain"}

    first = await bob.post(at(offline, "submit_transfers"), body, headers=headers)
    again = await bob.call("POST", at(offline, "submit_transfers"), json=body, headers=headers)

    assert again.json()["data"] == first  # Not that of a duplicate: the first answer.
    assert again.headers["idempotency-replayed"] == "true"
    other = await bob.refused("POST", at(offline, "submit_transfers"), {"transfers": []}, headers=headers)
    assert other.why == (422, "idempotency_mismatch")
