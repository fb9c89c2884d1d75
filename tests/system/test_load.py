"""200 negotiations and tasks at once between 40 agents: all finish, and the books balance."""

import asyncio

import pytest

from tests.system.deals import Deal
from tests.system.harness import MarketProcess

CLIENTS, PROVIDERS, DEALS = 20, 20, 200
DEPOSIT = 1_000_000


@pytest.mark.timeout(300)
async def test_two_hundred_deals_at_once_between_forty_agents_balance(market: MarketProcess) -> None:
    market.user("alice")
    market.user("bob")
    clients = [market.agent("alice", f"Client {n}", deposit=DEPOSIT) for n in range(CLIENTS)]
    providers = [
        market.agent("bob", f"Provider {n}", "--capability", "translate=1000", "--global") for n in range(PROVIDERS)
    ]
    deals = [
        Deal(market, clients[n % CLIENTS], providers[(n + n // CLIENTS) % PROVIDERS], bids=(500 + n, 1_500 - n))
        for n in range(DEALS)
    ]

    await asyncio.gather(*(deal.run() for deal in deals))

    assert all(deal.acked_completed and not deal.lost_count for deal in deals)
    assert [deal.price for deal in deals] == [1_000] * DEALS
    spent = {client.id: sum(d.price for d in deals if d.client is client) for client in clients}
    for client in clients:
        with market.rest(client.api_key) as rest:
            balance = rest.get("/api/v1/ledger/balance").json()["data"]
        assert balance["total"] == balance["available"] == DEPOSIT - spent[client.id]
    doctor = market.cli("doctor")
    assert doctor["ok"]
    assert doctor["summary"]["fees"] == sum(deal.price * 500 // 10_000 for deal in deals)
