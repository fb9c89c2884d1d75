"""Agents: registered with a proof, changed by their owners, seen by others as discovery shows them."""

import json
from typing import Any

import pytest

from agrenting import registry
from agrenting.api.call import Call
from agrenting.ids import new_id
from crypto import did_from_public_key, format_public_key, generate_secret_key, public_key_of
from tests.agrenting.api.friends import ADD, BLOCK, RESPOND
from tests.agrenting.api.market import Caller, Marketplace, Player

DRAFT = {"name": "Research Bot", "description": "Finds things out"}


@pytest.fixture
async def carol(market: Marketplace) -> Caller:
    """A user without agents."""
    return await market.user("carol")


def public(seed: bytes) -> str:
    return format_public_key(public_key_of(seed))


async def keyed(market: Marketplace, owner: Caller, **changed: Any) -> tuple[dict[str, Any], bytes]:
    """A new agent with a signing key, registered by REST; and its seed."""
    seed = generate_secret_key()
    body = {**DRAFT, "public_key": public(seed), "proof": await market.proof(owner, seed), **changed}
    return await owner.post("/agents", body), seed


async def test_registering_shows_the_key_once(market: Marketplace, carol: Caller) -> None:
    answer = await carol.call("POST", "/agents", json=DRAFT)
    agent = answer.json()["data"]

    assert answer.status_code == 201
    assert (agent["handle"], agent["status"], agent["reputation"]) == ("carol/research-bot", "active", 3.5)
    assert (await market.with_key(agent["api_key"]).get("/agent/me"))["id"] == agent["id"]
    assert "api_key" not in await carol.get(f"/agents/{agent['id']}")


async def test_a_public_key_is_registered_with_its_proof(market: Marketplace, carol: Caller) -> None:
    agent, seed = await keyed(market, carol)

    assert agent["public_key"] == public(seed)
    assert agent["did"] == did_from_public_key(public_key_of(seed))


async def test_a_did_is_a_public_key_too(market: Marketplace, carol: Caller) -> None:
    seed = generate_secret_key()
    body = {**DRAFT, "did": did_from_public_key(public_key_of(seed)), "proof": await market.proof(carol, seed)}

    assert (await carol.post("/agents", body))["public_key"] == public(seed)


async def test_a_key_that_one_does_not_hold_is_refused(market: Marketplace, carol: Caller) -> None:
    proof = await market.proof(carol, generate_secret_key())
    body = {**DRAFT, "public_key": public(generate_secret_key()), "proof": proof}

    assert (await carol.refused("POST", "/agents", body)).why == (422, "invalid_signature")


async def test_a_key_without_a_proof_is_refused(carol: Caller) -> None:
    refused = await carol.refused("POST", "/agents", {**DRAFT, "public_key": public(generate_secret_key())})

    assert refused.why == (422, "proof_required")
    assert list(refused.details) == ["/proof"]


async def test_a_proof_without_a_key_is_refused(market: Marketplace, carol: Caller) -> None:
    body = {**DRAFT, "proof": await market.proof(carol, generate_secret_key())}

    assert (await carol.refused("POST", "/agents", body)).why == (422, "invalid_payload")


async def test_a_challenge_is_good_once(market: Marketplace, carol: Caller) -> None:
    seed = generate_secret_key()
    proof = await market.proof(carol, seed)
    agent = await carol.post("/agents", {**DRAFT, "public_key": public(seed), "proof": proof})
    await carol.patch(f"/agents/{agent['id']}", {"public_key": None})

    refused = await carol.refused("POST", "/agents", {**DRAFT, "public_key": public(seed), "proof": proof})

    assert refused.why == (410, "challenge_expired")


async def test_a_challenge_is_good_for_ten_minutes(market: Marketplace, carol: Caller) -> None:
    seed = generate_secret_key()
    proof = await market.proof(carol, seed)
    market.clock.advance(minutes=10)

    refused = await carol.refused("POST", "/agents", {**DRAFT, "public_key": public(seed), "proof": proof})

    assert refused.why == (410, "challenge_expired")


async def test_a_challenge_is_good_for_its_user_alone(market: Marketplace, carol: Caller) -> None:
    mallory, seed = await market.user("mallory"), generate_secret_key()
    proof = await market.proof(carol, seed)

    refused = await mallory.refused("POST", "/agents", {**DRAFT, "public_key": public(seed), "proof": proof})

    assert refused.why == (410, "challenge_expired")


async def test_a_refused_proof_leaves_the_challenge_good(market: Marketplace, carol: Caller) -> None:
    seed = generate_secret_key()
    proof = await market.proof(carol, seed)
    other = {**DRAFT, "public_key": public(generate_secret_key()), "proof": proof}
    await carol.refused("POST", "/agents", other)

    assert await carol.post("/agents", {**DRAFT, "public_key": public(seed), "proof": proof})


async def test_a_key_serves_one_agent(market: Marketplace, carol: Caller) -> None:
    _, seed = await keyed(market, carol)
    body = {**DRAFT, "public_key": public(seed), "proof": await market.proof(carol, seed)}

    assert (await carol.refused("POST", "/agents", body)).why == (409, "public_key_taken")


@pytest.mark.parametrize(
    ("changed", "why", "pointer"),
    [
        ({"name": "n" * 101}, (422, "invalid_payload"), "/name"),
        ({"name": None}, (422, "invalid_payload"), "/name"),
        ({"name": "!!!"}, (422, "invalid_handle"), ""),
        ({"description": " "}, (422, "invalid_payload"), "/description"),
        ({"capabilities": [{"name": "No Spaces"}]}, (422, "invalid_capability"), "/capabilities/0"),
        ({"capabilities": [{"price": 1}]}, (422, "invalid_payload"), "/capabilities/0/name"),
        ({"base_price": 10**15 + 1}, (422, "invalid_price"), "/base_price"),
        ({"pricing_model": "gift"}, (422, "invalid_payload"), "/pricing_model"),
        ({"status": "banned"}, (422, "invalid_payload"), "/status"),
        ({"public_key": "nonsense"}, (422, "invalid_public_key"), "/public_key"),
        ({"metadata": {"status": "busy"}}, (422, "invalid_payload"), "/metadata/status"),
        ({"organisation": "Nowhere"}, (404, "not_found"), None),
    ],
)
async def test_registering_is_refused_with_the_field(
    carol: Caller, changed: dict[str, Any], why: tuple[int, str], pointer: str | None
) -> None:
    refused = await carol.refused("POST", "/agents", {**DRAFT, **changed})

    assert refused.why == why
    if pointer is not None:
        assert list(refused.details) == [pointer]
    assert await carol.get("/agents") == []


@pytest.mark.parametrize(
    ("name", "reason"), [("翻译", "invalid_handle"), ("A.d.m.i.n", "reserved_handle"), ("Sh1t Bot", "profane_handle")]
)
async def test_a_name_that_makes_no_handle_is_refused_with_the_reason(carol: Caller, name: str, reason: str) -> None:
    assert (await carol.refused("POST", "/agents", {**DRAFT, "name": name})).why == (422, reason)
    assert await carol.get("/agents") == []


@pytest.mark.parametrize("changed", [{"is_global": True}, {"owner": "olga"}])
async def test_only_operators_go_beyond_their_own(carol: Caller, changed: dict[str, Any]) -> None:
    assert (await carol.refused("POST", "/agents", {**DRAFT, **changed})).why == (403, "operator_required")


async def test_an_operator_registers_for_others(market: Marketplace, olga: Caller, carol: Caller) -> None:
    agent = await olga.post("/agents", {**DRAFT, "owner": "@carol", "is_global": True})

    assert (agent["handle"], agent["is_global"]) == ("carol/research-bot", True)
    assert [own["id"] for own in await carol.get("/agents")] == [agent["id"]]


async def test_an_agent_is_shared_with_ones_own_organisation_alone(market: Marketplace, olga: Caller) -> None:
    for name in ("Acme", "Other"):
        await olga.post("/admin/organisations", {"name": name})
    dave = await market.user("dave", organisation="Acme")

    shared = await dave.post("/agents", {**DRAFT, "organisation": "Acme"})
    refused = await dave.refused("POST", "/agents", {**DRAFT, "organisation": "Other"})

    assert shared["organisation_id"] is not None
    assert refused.why == (403, "not_a_member")


async def test_the_agents_key_has_no_more_than_its_makers(market: Marketplace, carol: Caller) -> None:
    narrow = await carol.post("/keys", {"name": "narrow", "scopes": ["discover"], "max_amount": 5})

    agent = await market.with_key(narrow["api_key"]).post("/agents", DRAFT)

    own = (await market.with_key(agent["api_key"]).get("/keys"))[0]
    assert (own["scopes"], own["max_amount"], own["parent_id"]) == (["discover"], 5, narrow["id"])


async def test_a_change_leaves_the_rest(carol: Caller) -> None:
    agent = await carol.post("/agents", DRAFT)
    del agent["api_key"]

    after = await carol.patch(f"/agents/{agent['id']}", {"name": "Other Bot", "base_price": "0.5"})

    assert after == {**agent, "name": "Other Bot", "base_price": 500_000}


async def test_nobody_changes_what_is_anothers(market: Marketplace, carol: Caller, mallory: Player) -> None:
    agent = await carol.post("/agents", DRAFT)
    owner = market.with_key(market.user_keys["mallory"])

    assert (await owner.refused("PATCH", f"/agents/{agent['id']}", {})).why == (404, "not_found")
    assert (await owner.refused("DELETE", f"/agents/{agent['id']}")).why == (404, "not_found")
    assert (await owner.refused("POST", f"/agents/{agent['id']}/keys", {"name": "x"})).why == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"is_global": True}, (403, "operator_required")),
        ({"status": "draft"}, (409, "invalid_transition")),
        ({"name": ""}, (422, "invalid_payload")),
        ({"proof": {"challenge": "x", "signature": "y"}}, (422, "invalid_payload")),
    ],
)
async def test_a_change_is_refused(carol: Caller, body: dict[str, Any], why: tuple[int, str]) -> None:
    agent = await carol.post("/agents", DRAFT)

    assert (await carol.refused("PATCH", f"/agents/{agent['id']}", body)).why == why


async def test_a_new_key_needs_a_proof_for_this_very_agent(market: Marketplace, carol: Caller) -> None:
    agent, _ = await keyed(market, carol)
    path, seed = f"/agents/{agent['id']}", generate_secret_key()
    change = {"public_key": public(seed)}

    for_a_new_agent = await carol.refused("PATCH", path, {**change, "proof": await market.proof(carol, seed)})
    proof = await market.proof(carol, seed, agent_id=agent["id"])
    after = await carol.patch(path, {**change, "proof": proof})

    assert (await carol.refused("PATCH", path, {"public_key": public(generate_secret_key())})).why == (
        422,
        "proof_required",
    )
    assert for_a_new_agent.why == (422, "invalid_signature")
    assert after["public_key"] == public(seed)


async def test_the_key_stays_while_a_negotiation_is_open(market: Marketplace, alice: Player, bob: Player) -> None:
    session = await alice.post("/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})
    owner = market.with_key(market.user_keys["bob"])

    refused = await owner.refused("PATCH", f"/agents/{bob.id}", {"public_key": None})
    await alice.post(f"/negotiations/{session['id']}/reject")

    assert refused.why == (409, "key_in_use")
    assert (await owner.patch(f"/agents/{bob.id}", {"public_key": None}))["did"] is None


async def test_an_agent_in_use_is_not_deleted(market: Marketplace, alice: Player) -> None:
    owner = market.with_key(market.user_keys["alice"])

    refused = await owner.refused("DELETE", f"/agents/{alice.id}", params={"force": "true"})

    assert refused.why == (409, "agent_in_use")


async def test_a_deleted_agent_is_gone_with_its_keys(market: Marketplace, carol: Caller) -> None:
    agent = await carol.post("/agents", DRAFT)
    _, socket = await market.socket(agent["api_key"])

    assert await carol.delete(f"/agents/{agent['id']}") == {"status": "deleted"}

    assert socket.closed_with == 1001
    assert (await market.with_key(agent["api_key"]).refused("GET", "/agent/me")).why == (401, "invalid_credential")
    assert (await carol.refused("GET", f"/agents/{agent['id']}")).why == (404, "not_found")


async def test_others_see_what_discovery_shows(market: Marketplace, alice: Player, bob: Player) -> None:
    found = (await alice.get("/discover"))[0]

    assert await alice.get(f"/agents/{bob.id}") == found
    assert "public_key" not in found
    assert (await bob.get(f"/agents/{bob.id}"))["public_key"]


async def test_what_discovery_hides_is_not_found(market: Marketplace, carol: Caller, mallory: Player) -> None:
    agent = await carol.post("/agents", DRAFT)
    path = f"/agents/{agent['id']}"

    assert (await mallory.refused("GET", path)).why == (404, "not_found")
    await carol.patch(path, {"tags": ["research"]})
    assert (await mallory.get(path))["contact_required"] is True
    await carol.patch(path, {"status": "inactive"})
    assert (await mallory.refused("GET", path)).why == (404, "not_found")
    assert (await carol.get(path))["status"] == "inactive"


async def test_a_contact_sees_what_strangers_do_not(market: Marketplace, carol: Caller, mallory: Player) -> None:
    agent = await carol.post("/agents", DRAFT)
    path, own = f"/agents/{agent['id']}", market.with_key(agent["api_key"])
    asked = await mallory.post(ADD, {"handle": agent["handle"]})

    before = await mallory.refused("GET", path)
    await own.post(RESPOND, {"action": "approve", "request_id": asked["id"]})

    seen = await mallory.get(path)
    assert before.why == (404, "not_found")
    assert (seen["is_contact"], seen["contact_required"]) == (True, False)


@pytest.mark.parametrize("by", ["the agent", "the caller"])
async def test_neither_side_of_a_block_sees_the_other(
    market: Marketplace, mallory: Player, alice: Player, bob: Player, by: str
) -> None:
    blocker, blocked = (bob, alice) if by == "the agent" else (alice, bob)
    before = await alice.get(f"/agents/{bob.id}")
    await blocker.post(BLOCK, {"handle": blocked.handle})

    refused = await alice.refused("GET", f"/agents/{bob.id}")
    nobody = await alice.refused("GET", f"/agents/{new_id()}")

    assert before["handle"] == bob.handle
    assert refused.why == nobody.why == (404, "not_found")
    assert refused.error["message"] == nobody.error["message"]
    assert (await mallory.get(f"/agents/{bob.id}"))["handle"] == bob.handle


async def test_a_price_that_is_asked_for_no_capability_is_the_base_price(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    await market.with_key(market.user_keys["bob"]).patch(f"/agents/{bob.id}", {"base_price": 7})

    assert (await alice.get(f"/agents/{bob.id}"))["price"] == 7


async def test_an_operator_sees_every_agent_whole(olga: Caller, mallory: Player) -> None:
    assert (await olga.get(f"/agents/{mallory.id}"))["owner_id"]


async def test_new_capabilities_are_told_to_the_market(market: Marketplace, alice: Player, bob: Player) -> None:
    sockets = {}
    for player in (alice, bob):
        connection, sockets[player.id] = await market.socket(player.api_key)
        connection.receive(json.dumps(["1", "1", "agents:discovery", "phx_join", {}]))
    await market.server.database.commits.drain()
    owner = market.with_key(market.user_keys["bob"])
    heard = len(sockets[alice.id].sent)

    await owner.patch(f"/agents/{bob.id}", {"capabilities": [{"name": "sing", "price": 5}], "name": "Singer"})

    told = sockets[alice.id].sent[heard:]
    assert [message[3] for message in told] == ["agent_updated", "presence_diff"]
    assert told[0][4]["capabilities"] == ["sing"]
    assert told[1][4]["joins"][bob.id]["metas"][0]["name"] == "Singer"


async def test_a_change_of_status_disconnects(market: Marketplace, bob: Player) -> None:
    _, socket = await market.socket(bob.api_key)

    await market.with_key(market.user_keys["bob"]).patch(f"/agents/{bob.id}", {"status": "inactive"})

    assert socket.closed_with == 1001


async def test_reading_an_agent_that_has_just_gone_is_not_found(
    market: Marketplace, mallory: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The credential was good at the guard; the agent is gone at the question."""
    found = await market.server.database.read(lambda tx: registry.require_agent(tx, mallory.handle))
    read = Call.read

    async def read_behind_its_end(call: Call, question: Any) -> Any:
        await market.server.database.write(lambda tx: tx.run("DELETE FROM agents WHERE id = :id", id=found.id))
        return await read(call, question)

    monkeypatch.setattr(Call, "read", read_behind_its_end)

    refused = await mallory.refused("GET", "/agent/me")

    assert refused.why == (404, "not_found")
