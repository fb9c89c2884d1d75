"""What the end of an agent, of a contact or of a membership does to payment channels; Alice opens, Bob answers."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from crypto import format_public_key, generate_secret_key, public_key_of
from tests import paying
from tests.agrenting.api.friends import ADD, BLOCK, REMOVE, RESPOND, join
from tests.agrenting.api.market import Caller, Marketplace, Player
from tests.agrenting.api.payers import (
    CHANNELS,
    DEPOSIT,
    WITH,
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
    terms,
)


def owner_of(market: Marketplace, handle: str) -> Caller:
    return market.with_key(market.user_keys[handle])


# Deletion and keys.


@pytest.mark.parametrize("status", ["pending", "open", "closing", "disputed"])
async def test_an_agent_with_a_channel_is_not_deleted_and_keeps_its_key(
    market: Marketplace, alice: Player, bob: Player, status: str
) -> None:
    channel = await pending(alice, bob, deposit=WITH)  # Neither can spend anything.
    if status != "pending":
        await bob.post(at(channel, "accept"))
    if status == "closing":
        await bob.post(at(channel, "force-close"))
    if status == "disputed":
        await bob.post(at(channel, "dispute"), {"reason": "no"})

    for agent, handle in ((alice, "alice"), (bob, "bob")):
        owner, seed = owner_of(market, handle), generate_secret_key()
        owner.headers["x-user-id"] = (await owner.get("/me"))["id"]
        for path in (f"/agents/{agent.id}", f"/me/agents/{agent.id}"):
            assert (await owner.refused("DELETE", path)).why == (409, "agent_in_use")
        proof = await market.proof(owner, seed, agent_id=agent.id)
        change = {"public_key": format_public_key(public_key_of(seed)), "proof": proof}
        assert (await owner.refused("PATCH", f"/agents/{agent.id}", change)).why == (409, "key_in_use")
        assert (await owner.refused("PATCH", f"/agents/{agent.id}", {"public_key": None})).why == (409, "key_in_use")
    await require_sound(market, locked=WITH)


async def test_after_the_end_an_agent_changes_its_key_and_goes(market: Marketplace, alice: Player, bob: Player) -> None:
    channel = await accepted(alice, bob)
    await pay(channel, alice, bob, 100)
    await close(channel, alice, bob, (DEPOSIT, 0))
    owner = owner_of(market, "bob")

    assert (await owner.patch(f"/agents/{bob.id}", {"public_key": None}))["did"] is None
    await owner.delete(f"/agents/{bob.id}")

    assert (await alice.get(at(channel)))["agent_b_id"] == bob.id  # What it did stays on record.
    assert (await alice.get(at(channel, "receipt")))["document"]["public_key_b"] == channel["public_key_b"]
    await require_sound(market, locked=0)


# Suspension.


async def test_a_suspended_agent_opens_nothing_and_finishes_what_there_is(
    market: Marketplace, olga: Caller, alice: Player, bob: Player
) -> None:
    channel, offline = await accepted(alice, bob), await accepted(alice, bob, mode="offline")
    waiting = await pending(alice, bob)
    await olga.post(f"/admin/agents/{bob.id}/suspend")

    assert (await alice.refused("POST", CHANNELS, terms(bob))).why == (409, "agent_unavailable")
    assert (await bob.refused("POST", at(waiting, "accept"))).why == (409, "agent_unavailable")
    assert (await bob.post(at(waiting, "decline")))["status"] == "declined"
    assert (await pay(channel, alice, bob, 300))["balance_b"] == 300
    assert (await hand_in(offline, alice, bob, 200))["balance_b"] == 200
    await bob.post(at(offline, "force-close"))
    await close(channel, alice, bob)
    market.clock.advance(days=1)
    await market.server.timers.run_due()

    assert await money(bob) == (500, 0)
    await require_sound(market, locked=0)


async def test_what_a_suspended_opener_has_opened_is_not_accepted_while_it_is(
    market: Marketplace, olga: Caller, alice: Player, bob: Player
) -> None:
    waiting = await pending(alice, bob)
    await olga.post(f"/admin/agents/{alice.id}/suspend")

    assert (await bob.refused("POST", at(waiting, "accept"))).why == (409, "agent_unavailable")
    await olga.post(f"/admin/agents/{alice.id}/reinstate")
    assert (await bob.post(at(waiting, "accept")))["status"] == "open"


# Ban.


@pytest.mark.parametrize("banned", ["alice", "bob"])
async def test_a_ban_refunds_what_is_pending_and_force_closes_what_is_open(
    market: Marketplace, olga: Caller, alice: Player, bob: Player, banned: str
) -> None:
    who, other = (alice, bob) if banned == "alice" else (bob, alice)
    waiting, channel = await pending(alice, bob), await accepted(alice, bob)
    offline, disputed = await accepted(alice, bob, mode="offline"), await accepted(alice, bob)
    await pay(channel, alice, bob, 400)
    await propose(channel, alice, 50)
    await other.post(at(disputed, "dispute"), {"reason": "no"})
    reply, ears = await join(market, other.api_key, f"payment:{channel['id']}")
    assert reply["status"] == "ok"

    await olga.post(f"/admin/agents/{who.id}/ban")

    ended = await other.get(at(waiting))
    assert (ended["status"], ended["cause"]) == ("declined", "banned")
    closing = await other.get(at(channel))
    assert (closing["status"], closing["closing"]["by"], closing["is_revoked"]) == ("closing", None, True)
    assert (closing["pending_proposal"], closing["last_nonce"]) == (None, 2)
    assert closing["closing"]["ends_at"] == "2030-01-02T12:00:00Z"
    assert (await other.get(at(disputed)))["status"] == "disputed"
    told = [(message[3], message[4].get("change") or message[4].get("reason")) for message in ears.sent]
    assert told == [("transfer_voided", "banned"), ("channel_updated", "revoked"), ("channel_updated", "force_close")]
    history = await other.get(at(waiting, "history"))
    assert (history[-1]["kind"], history[-1]["agent_id"], history[-1]["details"]) == (
        "declined", None, {"reason": "banned"},
    )  # fmt: skip
    await require_sound(market, locked=3 * DEPOSIT)
    body = {"transfers": paying.chain(offline, alice.seed, bob.seed, [70])}
    assert (await other.post(at(offline, "submit_transfers"), body))["applied"] == 1  # The other one is not cut short.
    assert (await who.call("GET", at(channel))).status_code == 401

    market.clock.advance(days=1)
    await market.server.timers.run_due()

    for one, paid in ((channel, 400), (offline, 70), (disputed, 0)):
        closed = await other.get(at(one))
        assert (closed["status"], closed["final_balance_b"]) == ("closed", paid)
    assert await money(other) == ((470, 0) if banned == "alice" else (WITH - 470, 0))
    held = await olga.get("/admin/ledger")
    assert (held["agents"], held["channels"]) == (WITH, 0)  # Also what is the banned one's.
    await require_sound(market, locked=0)


# The end of a contact.


End = Callable[[Player, Player], Awaitable[Any]]


async def _remove(alice: Player, dave: Player) -> None:
    await alice.post(REMOVE, {"handle": dave.handle})


async def _remove_back(alice: Player, dave: Player) -> None:
    await dave.post(REMOVE, {"handle": alice.handle})


async def _block(alice: Player, dave: Player) -> None:
    await alice.post(BLOCK, {"handle": dave.handle})


async def _block_back(alice: Player, dave: Player) -> None:
    await dave.post(BLOCK, {"handle": alice.handle})


@pytest.fixture
async def dave(market: Marketplace, alice: Player) -> Player:
    """Dave's writer, a contact of Alice's client."""
    await market.user("dave")
    writer = await market.agent("dave", "Writer", deposit=1_000)
    await alice.post(ADD, {"handle": writer.handle})
    await writer.post(RESPOND, {"action": "approve", "handle": alice.handle})
    return writer


@pytest.mark.parametrize("end", [_remove, _remove_back, _block, _block_back])
async def test_the_end_of_a_contact_restricts_channels_and_refunds_pending_ones(
    market: Marketplace, alice: Player, dave: Player, end: End
) -> None:
    waiting, channel = await pending(alice, dave), await accepted(alice, dave, deposit=100)
    offline = await accepted(alice, dave, mode="offline")
    await pay(channel, alice, dave, 400)
    proposed = await propose(channel, alice, 50)

    await end(alice, dave)

    ended = await dave.get(at(waiting))
    assert (ended["status"], ended["cause"], ended["final_balance_a"]) == ("declined", "contact_revoked", DEPOSIT)
    restricted = await alice.get(at(channel))
    assert (restricted["status"], restricted["is_revoked"], restricted["pending_proposal"]) == ("open", True, None)
    assert restricted["last_nonce"] == 2
    steps = await dave.get(at(channel, "history"))
    assert [(step["kind"], step["agent_id"]) for step in steps[-2:]] == [("voided", None), ("revoked", None)]
    assert steps[-2]["details"]["reason"] == "contact_revoked"
    for who in (alice, dave):
        offer = paying.proposal(restricted, who.seed, from_agent_id=who.id, amount=1)
        refused = await who.refused("POST", at(channel, "propose_transfer"), offer)
        assert refused.why == (409, "contact_revoked")
        assert (await who.refused("POST", at(channel, "deposit"), {"amount": 1})).why == (409, "contact_revoked")
    body = paying.acknowledgement(proposed, dave.seed, proposed["pending_proposal"])
    assert (await dave.refused("POST", at(channel, "acknowledge_transfer"), body)).why == (409, "nonce_replayed")
    assert (await alice.call("POST", CHANNELS, json=terms(dave))).status_code in {403, 404, 409}
    assert (await hand_in(offline, alice, dave, 30))["applied"] == 1
    await dave.post(at(offline, "dispute"), {"reason": "no"})
    await close(channel, alice, dave)
    await close(offline, alice, dave)

    assert await money(dave) == (1_430, 0)
    await require_sound(market, locked=0)


async def test_a_block_of_an_agent_that_everybody_reaches_restricts_too(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    waiting, channel = await pending(alice, bob), await accepted(alice, bob)

    await bob.post(BLOCK, {"handle": alice.handle})

    assert (await alice.get(at(waiting)))["cause"] == "contact_revoked"
    assert (await alice.get(at(channel)))["is_revoked"] is True
    assert (await alice.refused("POST", CHANNELS, terms(bob))).why == (404, "not_found")
    assert (await bob.refused("POST", CHANNELS, terms(alice, deposit=1))).why == (409, "blocked_by_you")
    await alice.post(at(channel, "force-close"))
    market.clock.advance(days=1)
    await market.server.timers.run_due()
    await require_sound(market, locked=0)


async def test_channels_with_others_are_not_touched(
    market: Marketplace, alice: Player, bob: Player, dave: Player
) -> None:
    theirs, other = await accepted(alice, dave), await accepted(alice, bob)

    await alice.post(REMOVE, {"handle": dave.handle})

    assert (await alice.get(at(theirs)))["is_revoked"] is True
    assert (await alice.get(at(other)))["is_revoked"] is False
    assert (await pay(other, alice, bob, 5))["balance_b"] == 5


async def test_friends_again_a_restricted_channel_stays_so(alice: Player, dave: Player) -> None:
    channel = await accepted(alice, dave)
    await alice.post(REMOVE, {"handle": dave.handle})
    await alice.post(ADD, {"handle": dave.handle})
    await dave.post(RESPOND, {"action": "approve", "handle": alice.handle})

    assert (await alice.refused("POST", at(channel, "deposit"), {"amount": 1})).why == (409, "contact_revoked")
    assert (await pending(alice, dave))["status"] == "pending"


async def test_who_leaves_an_organisation_opens_no_more_and_ends_what_there_is(
    market: Marketplace, olga: Caller
) -> None:
    await olga.post("/admin/organisations", {"name": "Acme"})
    alice, bob = await market.user("alice", organisation="Acme"), await market.user("bob", organisation="Acme")
    client = await market.agent("alice", "Client", deposit=WITH)
    made = await bob.post("/agents", {"name": "Shared", "description": "ours", "organisation": "Acme"})
    seed = generate_secret_key()
    proof = await market.proof(bob, seed, agent_id=made["id"])
    await bob.patch(f"/agents/{made['id']}", {"public_key": format_public_key(public_key_of(seed)), "proof": proof})
    shared = Player(
        market.http, id_=made["id"], handle=made["handle"], api_key=made["api_key"], seed=seed, domain=client.domain
    )
    channel = await accepted(client, shared)
    await fund(market, shared, 10)

    await olga.post(f"/admin/users/{alice.headers['x-user-id']}/organisation", {"organisation": None})

    assert (await client.refused("POST", CHANNELS, terms(shared))).why == (403, "contact_required")
    after = await client.get(at(channel))
    assert (after["status"], after["is_revoked"]) == ("open", False)  # As with tasks: what was opened goes on.
    assert (await pay(channel, client, shared, 40))["balance_b"] == 40
    await close(channel, client, shared)
    assert await money(shared) == (50, 0)
    await require_sound(market, locked=0)
