"""Many things at once to one payment channel, on one server and on two of the same data folder: nothing is lost."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.system.harness import AgentAccount, Refused
from tests.system.payers import outcomes, reason_of
from tests.system.tracks import DEPOSIT, Act, Track, start_nodes, track_on

TOO_LATE = {"transfer_pending", "stale_state", "nonce_replayed", "invalid_signature"}
"""How a proposal is refused that was signed before the latest deposit or transfer, or the one before that."""


async def keep_trying(act: Callable[[], Act]) -> None:
    """Repeat what comes too early until it comes in time."""
    while True:
        (answer,) = await outcomes(act())
        if not isinstance(answer, Refused):
            return
        assert answer.reason == "transfer_pending", answer


async def transfers_and_deposits(track: Track, count: int) -> None:
    """Both pay, both deposit, each at a server of its own, and none waits for another; then both close."""
    await track.begin()
    deposited, paid = [0, 0], [0, 0]

    async def pay(who: AgentAccount, whom: AgentAccount) -> None:
        is_bob = who is track.bob
        while paid[is_bob] < count:
            now = await track.call(who, "GET", f"payment-channels/{track.channel['id']}")
            (first,) = await outcomes(track.wire(who, "propose_transfer", track.proposal(now, who, 1)))
            if isinstance(first, Refused):
                assert first.reason in TOO_LATE, first
                continue
            done = await track.wire(whom, "acknowledge_transfer", track.answer(first, whom))
            assert done["last_transfer"]["from_agent_id"] == who.id
            paid[is_bob] += 1

    async def deposit(who: AgentAccount) -> None:
        for amount in range(1, count + 1):
            await keep_trying(partial(track.rest, who, "deposit", {"amount": amount}))
            deposited[who is track.bob] += amount

    await asyncio.gather(
        pay(track.alice, track.bob), pay(track.bob, track.alice), *map(deposit, (track.alice, track.bob))
    )

    now = await track.see(track.channel)
    assert paid == [count, count]
    assert (now["deposit_a"], now["deposit_b"]) == (DEPOSIT + deposited[0], DEPOSIT + deposited[1])
    assert (now["balance_a"], now["balance_b"], now["last_nonce"]) == (now["deposit_a"], now["deposit_b"], 2 * count)
    states = [
        await track.call(track.bob, "GET", f"payment-channels/{track.channel['id']}/transfers?limit=100", node=node)
        for node in range(len(track.nodes))
    ]
    assert [state["nonce"] for state in states[0]] == list(range(1, 2 * count + 1))
    assert states[0] == states[-1]

    payers = [state["from_agent_id"] for state in states[0]]
    assert [payers.count(who.id) for who in (track.alice, track.bob)] == [count, count]
    closes = [track.wire(who, "close", track.closing(now)) for who in (track.alice, track.bob)]
    assert {reason_of(answer) for answer in await outcomes(*closes)} == {"ok", "duplicate"}


@pytest.mark.parametrize("count", [1, 2], ids=["one node", "two nodes"])
async def test_a_storm_of_transfers_and_deposits_loses_nothing(tmp_path: Path, count: int) -> None:
    nodes = start_nodes(tmp_path / "var", count)
    async with track_on(nodes, suffix="") as track:
        await transfers_and_deposits(track, 20)
    assert nodes[0].cli("doctor")["ok"]
    assert [node.stop() for node in nodes] == [0] * count
