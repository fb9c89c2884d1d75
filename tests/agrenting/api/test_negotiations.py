"""Negotiations by REST: the same rules as on the wire, and the receipt."""

import json
from typing import Any

import pytest

from crypto import verify_receipt
from tests.agrenting.api.market import PRICE, Caller, Marketplace, Player


@pytest.fixture
async def session(alice: Player, bob: Player) -> dict[str, Any]:
    """An open negotiation."""
    opened: dict[str, Any] = await alice.post("/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})
    return opened


async def agreed(alice: Player, bob: Player, session: dict[str, Any]) -> dict[str, Any]:
    session = await alice.post(f"/negotiations/{session['id']}/offer", alice.offer(session, 800))
    session = await bob.post(f"/negotiations/{session['id']}/offer", bob.offer(session, 901))
    after: dict[str, Any] = await alice.post(f"/negotiations/{session['id']}/accept", alice.acceptance(session))
    return after


async def test_a_negotiation_runs_from_opening_to_agreement(
    alice: Player, bob: Player, session: dict[str, Any]
) -> None:
    after = await agreed(alice, bob, session)

    assert (after["status"], after["amount"], after["accepted_by"]) == ("agreed", 850, alice.id)
    assert await bob.get(f"/negotiations/{session['id']}") == after


async def test_opening_a_negotiation_answers_created(alice: Player, bob: Player) -> None:
    body = {"provider_agent_id": bob.id, "capability": "translate", "terms": {"due": "soon"}}

    answer = await alice.call("POST", "/negotiations", json=body)

    assert answer.status_code == 201
    assert answer.json()["data"]["base_max"] == PRICE


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"provider_agent_id": "nobody"}, (404, "not_found")),
        ({"capability": "sing"}, (409, "capability_not_offered")),
        ({"terms": {"rate": 0.5}}, (422, "invalid_terms")),
        ({"terms": []}, (422, "invalid_payload")),
        ({"capability": None}, (422, "invalid_payload")),
    ],
)
async def test_opening_is_refused(alice: Player, bob: Player, changed: dict[str, Any], why: tuple[int, str]) -> None:
    body = {"provider_agent_id": bob.id, "capability": "translate", **changed}

    refused = await alice.refused("POST", "/negotiations", body)

    assert refused.why == why


async def test_nobody_bargains_with_itself(bob: Player) -> None:
    refused = await bob.refused("POST", "/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})

    assert refused.why == (422, "same_agent")


async def test_strangers_need_a_contact(market: Marketplace, alice: Player, mallory: Player) -> None:
    refused = await alice.refused("POST", "/negotiations", {"provider_agent_id": mallory.id, "capability": "snoop"})

    assert refused.why == (403, "contact_required")


async def test_bargaining_needs_a_signing_key(market: Marketplace, bob: Player) -> None:
    await market.user("carol")
    keyless = await market.agent("carol", "Keyless", public_key=None)

    refused = await keyless.refused("POST", "/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})

    assert refused.why == (409, "public_key_required")


async def test_an_offer_out_of_range_says_the_highest_one(alice: Player, session: dict[str, Any]) -> None:
    body = {**alice.offer(session, 800), "amount": 2 * PRICE + 1}

    refused = await alice.refused("POST", f"/negotiations/{session['id']}/offer", body)

    assert refused.why == (422, "amount_out_of_range")
    assert refused.error["context"] == {"max_offer": 2 * PRICE}
    assert refused.details == {"": [refused.error["message"]]}


async def test_an_offer_signed_by_somebody_else_is_refused(alice: Player, bob: Player, session: dict[str, Any]) -> None:
    forged = {**alice.offer(session, 800), "signature": bob.offer(session, 800)["signature"]}

    refused = await alice.refused("POST", f"/negotiations/{session['id']}/offer", forged)

    assert refused.why == (422, "invalid_signature")
    assert refused.error["context"]["expected_round"] == 1


async def test_nobody_offers_twice_in_a_row(alice: Player, session: dict[str, Any]) -> None:
    path = f"/negotiations/{session['id']}/offer"
    after = await alice.post(path, alice.offer(session, 800))

    refused = await alice.refused("POST", path, alice.offer(after, 810))

    assert refused.why == (409, "not_your_turn")
    assert refused.details == {"turn": after["turn"]}


async def test_repeating_an_offer_is_a_duplicate(alice: Player, session: dict[str, Any]) -> None:
    path, body = f"/negotiations/{session['id']}/offer", alice.offer(session, 800)
    first = await alice.post(path, body)

    again = await alice.post(path, body)

    assert again == {**first, "duplicate": True}


async def test_an_offer_of_another_round_is_stale(alice: Player, session: dict[str, Any]) -> None:
    body = {**alice.offer(session, 800), "round": 2}

    refused = await alice.refused("POST", f"/negotiations/{session['id']}/offer", body)

    assert refused.why == (409, "stale_state")


async def test_nobody_accepts_before_both_have_offered(alice: Player, session: dict[str, Any]) -> None:
    body = {"amount": 1, "signature": "A" * 88}

    refused = await alice.refused("POST", f"/negotiations/{session['id']}/accept", body)

    assert refused.why == (409, "no_counter_offer")


async def test_an_acceptance_of_another_amount_says_the_midpoint(
    alice: Player, bob: Player, session: dict[str, Any]
) -> None:
    path = f"/negotiations/{session['id']}"
    session = await alice.post(f"{path}/offer", alice.offer(session, 800))
    session = await bob.post(f"{path}/offer", bob.offer(session, 901))

    refused = await alice.refused("POST", f"{path}/accept", {**alice.acceptance(session), "amount": 851})

    assert refused.why == (422, "amount_mismatch")
    assert refused.error["context"] == {"expected_amount": 850}


async def test_a_rejected_negotiation_has_ended(alice: Player, bob: Player, session: dict[str, Any]) -> None:
    path = f"/negotiations/{session['id']}"
    after = await bob.post(f"{path}/reject", {"reason": "too cheap"})

    refused = await alice.refused("POST", f"{path}/offer", alice.offer(session, 800))

    assert (after["status"], after["reason"], after["ended_by"]) == ("rejected", "too cheap", bob.id)
    assert refused.why == (409, "terminal_state")
    assert refused.details == {"status": "rejected"}


async def test_a_rejection_needs_no_body(alice: Player, session: dict[str, Any]) -> None:
    after = await alice.post(f"/negotiations/{session['id']}/reject")

    assert (after["status"], after["reason"]) == ("rejected", "")


@pytest.mark.parametrize("event", ["offer", "accept", "reject"])
async def test_the_clock_ends_a_negotiation(
    market: Marketplace, alice: Player, session: dict[str, Any], event: str
) -> None:
    body = {} if event == "reject" else alice.offer(session, 800)
    market.clock.advance(minutes=30)

    refused = await alice.refused("POST", f"/negotiations/{session['id']}/{event}", body)

    assert refused.why == (410, "expired")


@pytest.mark.parametrize(
    ("method", "rest"), [("GET", ""), ("GET", "/receipt"), ("POST", "/offer"), ("POST", "/accept"), ("POST", "/reject")]
)
async def test_a_stranger_finds_no_negotiation(
    mallory: Player, session: dict[str, Any], method: str, rest: str
) -> None:
    body = {"amount": 1, "signature": "x"} if method == "POST" else None

    refused = await mallory.refused(method, f"/negotiations/{session['id']}{rest}", body)

    assert refused.why == (404, "not_found")


async def test_the_receipt_of_an_agreement_verifies_offline(
    market: Marketplace, alice: Player, bob: Player, session: dict[str, Any]
) -> None:
    await agreed(alice, bob, session)

    receipt = await bob.get(f"/negotiations/{session['id']}/receipt")

    report = verify_receipt(receipt, platform_key=market.server.public_key)
    assert (report.kind, report.id) == ("agreement", session["id"])


async def test_the_receipt_comes_bare_as_a_file(alice: Player, bob: Player, session: dict[str, Any]) -> None:
    await agreed(alice, bob, session)
    path = f"/negotiations/{session['id']}/receipt"

    answer = await alice.call("GET", path, headers={"accept": "application/agrenting-receipt+json"})

    assert json.loads(answer.content) == await alice.get(path)
    assert answer.headers["content-type"] == "application/agrenting-receipt+json"
    assert session["id"] in answer.headers["content-disposition"]


async def test_there_is_no_receipt_before_the_agreement(alice: Player, session: dict[str, Any]) -> None:
    refused = await alice.refused("GET", f"/negotiations/{session['id']}/receipt")

    assert refused.why == (409, "not_agreed")


async def test_the_other_side_hears_on_its_socket_what_comes_by_rest(
    market: Marketplace, alice: Player, bob: Player, session: dict[str, Any]
) -> None:
    connection, socket = await market.socket(bob.api_key)
    connection.receive(json.dumps(["1", "1", f"negotiation:{session['id']}", "phx_join", {}]))
    await market.server.database.commits.drain()

    await alice.post(f"/negotiations/{session['id']}/offer", alice.offer(session, 800))

    assert socket.events() == ["phx_reply", "offer"]


async def test_the_list_knows_roles_and_statuses(alice: Player, bob: Player, session: dict[str, Any]) -> None:
    other = await alice.post("/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})
    await alice.post(f"/negotiations/{session['id']}/reject")

    async def ids(caller: Caller, **query: str) -> list[str]:
        return [item["id"] for item in await caller.get("/negotiations", params=query)]

    assert await ids(alice) == [other["id"], session["id"]]
    assert await ids(alice, role="client", status="rejected") == [session["id"]]
    assert await ids(bob, role="provider", status="open") == [other["id"]]
    assert await ids(bob, role="client") == []


@pytest.mark.parametrize("query", [{"role": "owner"}, {"status": "paused"}])
async def test_a_filter_that_does_not_exist_is_refused(alice: Player, query: dict[str, str]) -> None:
    refused = await alice.refused("GET", "/negotiations", params=query)

    assert refused.why == (422, "invalid_payload")
    assert list(refused.details) == [f"/{next(iter(query))}"]
