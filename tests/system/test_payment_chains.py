"""Offline payment channels over real sockets: chains that were signed elsewhere, and a payer who hides."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import AgentAccount, Client, MarketProcess
from tests.system.payers import PURSE, Payers, Snapshot, files_of, refused, topic_of

CHAIN = 1_000


@pytest.fixture
async def pair(market: MarketProcess) -> AsyncIterator[Payers]:
    """Alice and Bob on a running market whose books are in order at the end."""
    async with Payers(market) as payers:
        yield payers
    assert market.cli("doctor")["ok"]


async def test_chains_of_a_thousand_keep_their_order_and_hold_nobody_up(pair: Payers) -> None:
    channel = await pair.open_channel(deposit=100_000, counter=0, mode="offline")
    topic = topic_of(channel)
    transfers = pair.chain(channel, [n % 7 + 1 if n % 5 else -1 for n in range(1, 2 * CHAIN + 1)])
    alice, bob = await pair.socket(pair.alice, topic), await pair.socket(pair.bob, topic)
    carol, dave, trade = await _other_traders(pair)
    answered: list[str] = []

    async def hand_in(first: int) -> Any:
        part = transfers[first : first + CHAIN]
        reply = await alice.push(topic, "submit_transfers", {"transfers": part})
        answered.append(f"chain {first}")
        return reply

    async def trade_on() -> None:
        now = trade
        while len(answered) < 500 and "chain 1000" not in answered:
            proposal = pair.proposal(now, carol[0], 1)
            pending = await carol[1].push(topic_of(trade), "propose_transfer", proposal)
            answer = pair.answer(pending, dave[0])
            now = await dave[1].push(topic_of(trade), "acknowledge_transfer", answer)
            answered.append("transfer")

    chains = [asyncio.create_task(hand_in(first)) for first in (0, CHAIN)]
    await asyncio.sleep(0)  # Both frames are on their way.
    await alice.flush()  # The server has read them both: what another agent sends now comes after them.
    trading = asyncio.create_task(trade_on())
    first, second = await asyncio.gather(*chains)
    await trading

    assert [first["applied"], first["last_nonce"]] == [CHAIN, CHAIN]
    assert [second["applied"], second["last_nonce"]] == [CHAIN, 2 * CHAIN]
    assert answered.index("chain 0") < answered.index("chain 1000")
    assert answered[0] == "transfer", "a durable event of others is answered before the first chain is"
    heard = [await bob.expect("transfers_submitted") for _ in range(2)]
    assert [one["channel"]["last_nonce"] for one in heard] == [CHAIN, 2 * CHAIN]
    now = await pair.see(channel)
    assert now["last_transfer"]["nonce"] == 2 * CHAIN
    assert (now["balance_a"] + now["balance_b"], now["balance_a"]) == (100_000, _balance_after(channel, transfers))

    again = await bob.push(topic, "submit_transfers", {"transfers": transfers[:CHAIN]})
    assert (again["applied"], again["duplicates"]) == (0, CHAIN)


def _balance_after(channel: Snapshot, transfers: list[Snapshot]) -> int:
    own = channel["agent_a_id"]
    moved = sum(one["amount"] if one["from_agent_id"] != own else -one["amount"] for one in transfers)
    return int(channel["balance_a"] + moved)


Trader = tuple[AgentAccount, Client]


async def _other_traders(pair: Payers) -> tuple[Trader, Trader, Snapshot]:
    """Two others, who have nothing to do with the chain, and their open channel."""
    carol = pair.market.agent(pair.owners[0], "Carol", deposit=PURSE)
    dave = pair.market.agent(pair.owners[1], "Dave", "--global")
    opened = {"counterparty_agent_id": dave.id, "deposit": PURSE}
    channel = await pair.call(carol, "POST", "payment-channels", opened)
    channel = await pair.post(dave, channel, "accept", {})
    topic = topic_of(channel)
    return (carol, await pair.socket(carol, topic)), (dave, await pair.socket(dave, topic)), channel


async def test_an_offline_channel_is_closed_against_the_will_of_who_hides(pair: Payers, tmp_path: Path) -> None:
    channel = await pair.open_channel(deposit=1_000, counter=0, mode="offline")
    topic = topic_of(channel)
    alice, bob = await pair.socket(pair.alice, topic), await pair.socket(pair.bob, topic)
    transfers = pair.chain(channel, [100, 200, 300])
    await refused(
        alice.push(topic, "propose_transfer", pair.proposal(channel, pair.alice, 1)), "wrong_mode", mode="offline"
    )
    await refused(pair.post(pair.alice, channel, "deposit", {"amount": 1}), "wrong_mode", mode="offline")
    for cause, index, broken in [
        ("nonce_gap", 0, transfers[1:]),
        ("nonce_gap", 1, [transfers[0], transfers[2]]),
        ("invalid_signature", 1, [transfers[0], {**transfers[1], "amount": 201}]),
        ("not_a_party", 2, [*transfers[:2], {**transfers[2], "from_agent_id": str(uuid.uuid4())}]),
        ("insufficient_channel_balance", 0, [{**transfers[0], "amount": 1_001}]),
    ]:
        await refused(
            bob.push(topic, "submit_transfers", {"transfers": broken}), "bad_transfer", index=index, cause=cause
        )
    await refused(bob.push(topic, "submit_transfers", {"transfers": []}), "invalid_payload")
    assert await pair.see(channel) == channel

    closing = await pair.post(pair.alice, channel, "force-close")
    assert closing["status"] == "closing"
    await bob.push(topic, "submit_transfers", {"transfers": transfers[:1]})
    settled = await bob.push(topic, "dispute", {"reason": "There is more.", "evidence": {"transfers": transfers}})
    assert (settled["status"], settled["last_nonce"], settled["balance_b"]) == ("closing", 3, 600)
    forked = pair.chain(channel, [100, 1])
    await refused(
        bob.push(topic, "submit_transfers", {"transfers": forked}), "nonce_replayed", index=1, expected_nonce=4
    )
    closed = await alice.push(topic, "close", pair.closing(settled))
    assert await pair.purses() == (PURSE - 600, PURSE + 600)
    receipt, history = files_of(pair, closed, tmp_path)
    assert pair.market.cli("verify", str(receipt), str(history))["ok"]
