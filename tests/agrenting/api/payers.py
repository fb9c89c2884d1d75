"""Two agents with a payment channel, by REST: Alice's client opens it, Bob's translator answers."""

import json
from typing import Any

from agrenting import registry
from agrenting.db import ledger
from agrenting.db.transaction import Tx
from tests import paying
from tests.agrenting.api.market import Caller, Marketplace, Player

Json = dict[str, Any]

CHANNELS = "/payment-channels"
WITH = 100_000
"""What Alice's client has at first; Bob's translator has nothing."""
DEPOSIT = 10_000
JSON_LINES = {"accept": "application/jsonl"}


def at(channel: Json | str, event: str = "") -> str:
    """The address of a channel, or of what one does with it."""
    id_ = channel if isinstance(channel, str) else channel["id"]
    return f"{CHANNELS}/{id_}/{event}" if event else f"{CHANNELS}/{id_}"


def terms(counterparty: Player, **fields: Any) -> Json:
    """The body that opens a channel."""
    return {"counterparty_agent_id": counterparty.id, "deposit": DEPOSIT, **fields}


async def pending(alice: Player, bob: Player, **fields: Any) -> Json:
    """A channel that Bob has not answered."""
    channel: Json = await alice.post(CHANNELS, terms(bob, **fields))
    return channel


async def accepted(alice: Player, bob: Player, *, deposit: int = 0, **fields: Any) -> Json:
    """An open channel; `deposit` is Bob's."""
    channel = await pending(alice, bob, **fields)
    after: Json = await bob.post(at(channel, "accept"), {"deposit": deposit})
    return after


async def propose(channel: Json, payer: Player, amount: int, **fields: Any) -> Json:
    """A proposal for the next nonce; the channel with it."""
    fresh = await payer.get(at(channel))
    body = paying.proposal(fresh, payer.seed, from_agent_id=payer.id, amount=amount, task_id=fields.get("task_id"))
    after: Json = await payer.post(at(channel, "propose_transfer"), {**body, **fields})
    return after


async def pay(channel: Json, payer: Player, payee: Player, amount: int) -> Json:
    """A transfer that is proposed and acknowledged; the channel after it."""
    proposed = await propose(channel, payer, amount)
    body = paying.acknowledgement(proposed, payee.seed, proposed["pending_proposal"])
    after: Json = await payee.post(at(channel, "acknowledge_transfer"), body)
    return after


async def hand_in(channel: Json, alice: Player, bob: Player, *amounts: int) -> Json:
    """A chain handed in by Bob: a positive amount is paid by Alice, a negative one by him."""
    body = {"transfers": paying.chain(channel, alice.seed, bob.seed, amounts)}
    after: Json = await bob.post(at(channel, "submit_transfers"), body)
    return after


async def close(channel: Json, alice: Player, bob: Player, finals: tuple[int, int] | None = None) -> Json:
    """The channel, closed by both."""
    fresh = await alice.get(at(channel))
    closed: Json = await alice.post(at(channel, "close"), paying.close(fresh, alice.seed, bob.seed, finals))
    return closed


async def freeze(market: Marketplace, channel: Json, alice: Player, bob: Player) -> Json:
    """Bob joins with a state that this server does not have: nonce 5, 300 to him."""
    balances = (DEPOSIT - 300, 300)
    signatures = [
        paying.transfer_signature(channel, who.seed, from_agent_id=alice.id, amount=300, nonce=5, balances=balances)
        for who in (alice, bob)
    ]
    known = {
        "nonce": 5,
        "amount": 300,
        "from_agent_id": alice.id,
        "balance_a": balances[0],
        "balance_b": balances[1],
        "signature_a": signatures[0],
        "signature_b": signatures[1],
    }
    connection, transport = await market.socket(bob.api_key)
    connection.receive(json.dumps(["1", "1", f"payment:{channel['id']}", "phx_join", {"known": known}]))
    await market.server.engine.drain()
    reply: Json = transport.sent[0][4]
    assert reply["status"] == "ok"
    frozen: Json = reply["response"]
    return frozen


async def fund(market: Marketplace, agent: Player, amount: int) -> None:
    """Put money in for an agent."""

    def put(tx: Any) -> None:
        found = registry.require_agent(tx, agent.handle)
        registry.deposit(tx, found, amount, memo="test", now=market.clock())

    await market.server.database.write(put)


async def money(who: Caller) -> tuple[int, int]:
    """What an agent can spend, and its side of its channels."""
    balance = await who.get("/ledger/balance")
    assert balance["total"] == balance["available"] + balance["escrow"] + balance["channels"]
    return balance["available"], balance["channels"]


async def entries(who: Caller, **query: str) -> list[tuple[str, int]]:
    """Kind and amount of an agent's transactions, newest first."""
    found = await who.get("/ledger/transactions", params={"limit": "100", **query})
    return [(entry["kind"], entry["amount"]) for entry in found]


async def require_sound(market: Marketplace, *, locked: int | None = None) -> None:
    """The books balance, and channels hold so much."""

    def look(tx: Tx) -> Json:
        assert ledger.doctor(tx) == []
        return ledger.summary(tx)

    held = await market.server.database.read(look)
    assert locked is None or held["channels"] == locked


async def timers(market: Marketplace) -> list[tuple[str, str]]:
    """Topic and kind of what is armed, but for mailboxes."""
    armed = "SELECT topic, kind FROM timers WHERE kind <> 'mailbox' ORDER BY 1, 2"
    rows = await market.server.database.read(lambda tx: tx.all(armed))
    return [(topic, kind) for topic, kind in rows]
