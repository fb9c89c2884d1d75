"""Disputes, and chains that are handed in, by REST; Alice opens, Bob answers."""

from typing import Any

import pytest

from agrenting.db import channel_steps
from tests import paying
from tests.agrenting.api.market import Marketplace, Player
from tests.agrenting.api.payers import (
    DEPOSIT,
    Json,
    accepted,
    at,
    close,
    hand_in,
    money,
    pending,
    propose,
    require_sound,
)

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


@pytest.mark.parametrize("count", [1_000, 1_001])
async def test_evidence_of_too_many_transfers_is_not_looked_up(
    alice: Player, bob: Player, offline: Json, monkeypatch: pytest.MonkeyPatch, *, count: int
) -> None:
    await hand_in(offline, alice, bob, 1)
    asked: list[int] = []
    at_nonces = channel_steps.at_nonces

    def noted(tx: Any, channel_id: str, nonces: list[int]) -> Any:
        asked.append(len(nonces))
        return at_nonces(tx, channel_id, nonces)

    monkeypatch.setattr(channel_steps, "at_nonces", noted)
    evidence = {"transfers": [{"nonce": 1}] * count}
    refused = await bob.refused("POST", at(offline, "dispute"), {"reason": "x", "evidence": evidence})

    assert refused.why == (422, "invalid_payload")
    assert asked == ([count, count] if count == 1_000 else [])  # Once to rehearse it, once to decide.


# Chains.


async def test_a_chain_is_applied_whole_and_once(
    market: Marketplace, alice: Player, bob: Player, offline: Json
) -> None:
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
    alice: Player, bob: Player, offline: Json, index: int, *, wrong: Json, cause: str
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


async def test_chains_are_taken_while_closing_and_disputed_but_not_before_or_after(alice: Player, bob: Player) -> None:
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
