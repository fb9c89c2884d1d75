"""kill -9 at every write boundary: what was acknowledged of a payment channel is there, once, and the payers go on."""

import asyncio
import json
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.system.faulty import LAST_WORDS
from tests.system.harness import MarketProcess
from tests.system.steady_payers import Claim, Served, State, SteadyPayers

MONEY = 10_000_000
FAULT_TIMEOUT_S = 60.0
PAIRS = ((0, 1, "online"), (1, 2, "online"), (2, 3, "offline"), (3, 0, "online"), (0, 2, "offline"))
"""Who opens channels with whom: four agents, five channels at a time."""
OFTEN = (
    "BEGIN",
    "SAVEPOINT",
    "UPDATE payment_channels",
    "INSERT INTO channel_steps",
    "INSERT INTO timers",
    "INSERT INTO ledger_entries",
    "INSERT INTO postings",
    "UPDATE accounts",
    "INSERT INTO spending",
    "INSERT INTO idempotency_keys",
    "RELEASE",
    "COMMIT",
    "TOLD",
)
SELDOM = ("INSERT INTO payment_channels", "INSERT INTO accounts", "INSERT INTO messages", "DELETE FROM timers")
"""Only where a channel begins or ends."""
SETTINGS = {
    "AGRENTING_LOG_LEVEL": "warning",
    "AGRENTING_LIMITS_WINDOW_MIN_S": "1",
    "AGRENTING_TIMER_POLL_S": "0.1",
    "AGRENTING_CONTROL_PER_S": "100000",
    "AGRENTING_JOINS_PER_S": "100000",
}


class Boundary(NamedTuple):
    """Where the server dies."""

    at: str
    side: str


BOUNDARIES = tuple(Boundary(at, side) for at in (*OFTEN, *SELDOM) for side in ("before", "after"))


class FaultyMarket(MarketProcess):
    """A server that dies at a boundary that is named before it starts."""

    def aim(self, boundary: Boundary, count: int) -> None:
        """Die at the `count`-th boundary of that kind after the next start."""
        self.command = ("tests.system.faulty", boundary.at, str(count), boundary.side)

    def await_death(self, boundary: Boundary) -> None:
        """Wait until it has died where it should."""
        assert self.process is not None
        self.process.wait(FAULT_TIMEOUT_S)
        assert self._reap() == -signal.SIGKILL, "\n".join(self.log)
        assert self.log.pop() == f"{LAST_WORDS}: {boundary.side} {boundary.at}"
        assert not self.log, "no warning, no error, nothing lost"


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[FaultyMarket]:
    market = FaultyMarket(tmp_path / "var", **SETTINGS)
    yield market
    if market.process is not None:
        market.kill()


def payers_of(market: MarketProcess, served: Served, seed: int) -> list[SteadyPayers]:
    market.user("alice")
    agents = [market.agent("alice", f"Payer {number}", "--global", deposit=MONEY) for number in range(4)]
    return [
        SteadyPayers(market, served, agents[a], agents[b], mode=mode, seed=seed + number)
        for number, (a, b, mode) in enumerate(PAIRS)
    ]


def examine(market: MarketProcess, claims: list[Claim]) -> None:
    """The books, and every transfer that was acknowledged to anyone."""
    found = market.here("doctor")
    assert found["differences"] == []
    assert found["summary"]["agents"] + found["summary"]["channels"] == 4 * MONEY
    assert found["summary"]["escrow"] == found["summary"]["fees"] == 0
    with closing(sqlite3.connect(market.data_dir / "agrenting.sqlite3")) as database:
        for claim in claims:
            rows = database.execute(
                "SELECT nonce, state FROM channel_steps WHERE channel_id = ? AND nonce IS NOT NULL ORDER BY number",
                (claim.channel_id,),
            ).fetchall()
            assert [nonce for nonce, _ in rows] == [*range(1, len(rows) + 1)], "nonces have no gaps and no doubles"
            for nonce, transfer in claim.transfers.items():
                details = json.loads(rows[nonce - 1][1])["details"]
                for name in ("nonce", "amount", "from_agent_id", "task_id", "signature_a", "signature_b"):
                    assert details[name] == transfer[name], "an acknowledged transfer is there as it was"


def examine_channels(market: MarketProcess, payers: list[SteadyPayers]) -> None:
    """What the channels are after the end: there are as many as were opened, and each is as its parties know it."""
    with closing(sqlite3.connect(market.data_dir / "agrenting.sqlite3")) as database:
        rows = database.execute("SELECT id, status, state FROM payment_channels").fetchall()
    found = {row[0]: State.of({**json.loads(row[2]), "status": row[1]}) for row in rows}
    for pair in payers:
        assert all(found.pop(claim.channel_id).status == "closed" for claim in pair.ended)
        if not pair.channel:
            continue
        states = {pair.state, pair.state if pair.doing is None else pair.doing.after}
        assert found.pop(pair.channel["channel_id"]) in {
            *states,
            *(state._replace(status="closed") for state in states),
        }
    assert len(found) <= sum(not pair.channel for pair in payers), "a channel was opened twice"


async def kill_at_boundaries(market: FaultyMarket, deck: list[Boundary], seed: int) -> None:
    """The test itself."""
    chance, served = random.Random(seed), Served()
    payers = payers_of(market, served, seed)
    paying: list[asyncio.Task[None]] = []
    for number, boundary in enumerate(deck):
        market.aim(boundary, chance.randint(1, 25) if boundary.at in OFTEN else chance.randint(1, 2))
        await asyncio.to_thread(market.start)
        if paying:
            await served.again()
        else:
            paying = [asyncio.create_task(pair.run()) for pair in payers]
        dying = asyncio.create_task(asyncio.to_thread(market.await_death, boundary))
        done, _ = await asyncio.wait((dying, *paying), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if number % 2:  # Else it is the server that opens what was left behind.
            await asyncio.to_thread(examine, market, [claim for pair in payers for claim in pair.claims[-2:]])
    market.command = ("agrenting",)
    await asyncio.to_thread(market.start)
    await served.again()
    wanted = [pair.answered + 20 for pair in payers]
    while any(pair.answered < count for pair, count in zip(payers, wanted, strict=True)):
        done, _ = await asyncio.wait(paying, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    claims = [claim for pair in payers for claim in pair.claims]
    await asyncio.to_thread(examine, market, claims)
    for task in paying:
        task.cancel()
    await asyncio.gather(*paying, return_exceptions=True)
    assert market.stop() == 0
    assert not market.log
    claims = [claim for pair in payers for claim in pair.claims]
    examine(market, claims)
    examine_channels(market, payers)
    lost = sum((Counter(pair.lost) for pair in payers), Counter[str]())
    print(  # noqa: T201 - shown with -s, and where the test fails
        f"{len(deck)} kills at {len(set(deck))} boundaries: {sum(pair.answered for pair in payers)} operations,"
        f" {sum(len(claim.transfers) for claim in claims)} acknowledged transfers in {len(claims)} channels; answers"
        f" lost: {lost['done']} of what was done, {lost['undone']} of what was not"
    )
    assert lost["done"] > 0, "nothing durable was ever untold: this tested nothing"
    assert lost["undone"] > 0, "nothing was ever interrupted: this tested nothing"


@pytest.mark.timeout(300)
async def test_a_kill_at_each_kind_of_boundary_loses_no_transfer_and_doubles_none(faulty: FaultyMarket) -> None:
    """Twenty: each kind, on one side of it, and what is nearest to the commit on both."""
    deck = [
        boundary
        for number, boundary in enumerate(BOUNDARIES)
        if boundary.at in {"RELEASE", "COMMIT", "TOLD"} or boundary.side == ("before", "after")[number // 2 % 2]
    ]
    assert len(deck) == 20
    random.Random(1).shuffle(deck)

    await kill_at_boundaries(faulty, deck, seed=1)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_two_hundred_and_four_kills_lose_no_transfer_and_double_none(faulty: FaultyMarket) -> None:
    """Each kind of boundary, on both sides of it, six times."""
    deck = [*BOUNDARIES] * 6
    random.Random(2).shuffle(deck)

    await kill_at_boundaries(faulty, deck, seed=2)
