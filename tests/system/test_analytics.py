"""Analytics against a real server: unmodified clients watch real deals, and every number equals the source tables'."""

import asyncio
import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from tests.system.deals import Deal
from tests.system.harness import ROOT, AgentAccount, Client, MarketProcess, Refused
from tests.system.node import steps_of
from tests.system.test_phoenix_python import V1, V2, WITHIN_S, Heard, connect, push

SCRIPT = ROOT / "tests/system/js/phoenix_analytics.mjs"
FLOOD = 1_000
DEAL_WITHIN_S = 30.0
KINDS = ["negotiation_opened", "offer", "offer", "negotiation_agreed", "task_opened", "task_started", "task_completed"]
PERIODS = ("1h", "24h", "7d", "30d", "90d", "365d", "all")


def topic_of(agent: AgentAccount) -> str:
    return f"analytics:agent:{agent.id}"


def sources(market: MarketProcess, provider: AgentAccount) -> dict[str, int]:
    """A provider's numbers by plain SQL over the tables that they come from."""
    with closing(sqlite3.connect(f"file:{market.data_dir / 'agrenting.sqlite3'}?mode=ro", uri=True)) as database:

        def ask(statement: str, **values: str) -> int:
            return int(database.execute(statement, values).fetchone()[0])

        tasks = "SELECT count(*) FROM tasks WHERE provider_agent_id = :id"
        negotiations = "SELECT count(*) FROM negotiations WHERE :id IN (provider_agent_id, client_agent_id)"
        money = "FROM postings JOIN ledger_entries ON ledger_entries.id = entry_id WHERE kind = 'release'"
        net = ask(
            f"SELECT coalesce(sum(amount), 0) {money} AND account = 'agent:' || :id || ':available'", id=provider.id
        )
        fees = ask(f"SELECT coalesce(sum(amount), 0) {money} AND account = 'platform:fees'")
        return {
            "tasks_total": ask(tasks, id=provider.id),
            "tasks_completed": ask(f"{tasks} AND status = 'completed'", id=provider.id),
            "tasks_failed": ask(f"{tasks} AND status = 'failed'", id=provider.id),
            "tasks_active": ask(f"{tasks} AND status IN ('pending', 'in_progress', 'disputed')", id=provider.id),
            "negotiations_started": ask(negotiations, id=provider.id),
            "negotiations_completed": ask(f"{negotiations} AND status = 'agreed'", id=provider.id),
            "messages_in": ask("SELECT count(*) FROM messages WHERE to_agent_id = :id", id=provider.id),
            "revenue_net": net,
            "fees": fees,
            "revenue_gross": net + fees,
        }


def only(told: dict[str, Any], names: Any) -> dict[str, Any]:
    return {name: told[name] for name in names}


@pytest.mark.parametrize("vsn", ["2.0.0", "1.0.0"])
async def test_the_npm_client_watches_a_deal(node: str, market: MarketProcess, vsn: str) -> None:
    alice, bob = market.pair()
    with market.rest(bob.api_key) as rest:
        token = rest.post("/api/v1/auth/authenticate").json()["data"]["session_token"]
    async with market.client(alice.api_key) as waiting:
        await waiting.join("room:ready")
        running = asyncio.create_task(
            asyncio.to_thread(steps_of, node, SCRIPT, market, [token, token], AGENT=bob.id, VSN=vsn)
        )
        await waiting.expect("shout")
        await Deal(market, alice, bob).run()
        told = await running

    expected = sources(market, bob)
    metrics = told["metrics"]["ok"]
    assert only(told["joined"]["metrics"], ("tasks_total", "fees")) == {"tasks_total": 0, "fees": 0}
    assert told["alerts"] == {"ok": {"alerts": [], "has_more": False}}
    assert told["before"] == {"ok": {"activity": []}}
    assert told["market"]["stats"] == told["stats"]
    assert told["strange"]["error"]["reason"] == "unauthorized"
    assert only(metrics, expected) == expected
    assert {**told["updated"], "benchmarks": []} == {**metrics, "updated_at": told["updated"]["updated_at"]}
    assert told["kinds"] == KINDS
    assert sum(point["value"] for point in told["series"]["ok"]["points"]) == expected["revenue_net"]
    assert told["revenue"]["ok"]["by_counterparty"][0]["handle"] == alice.handle
    assert (told["heatmap"]["ok"]["max"], len(told["heatmap"]["ok"]["matrix"])) == (1, 7)
    assert told["wrong"]["error"]["reason"] == "invalid_period"


@pytest.mark.parametrize("version", [V2, V1])
async def test_the_pypi_client_watches_a_deal(market: MarketProcess, version: Any) -> None:
    alice, bob = market.pair()
    heard, topic = Heard(), topic_of(bob)
    async with connect(market, bob.api_key, version) as client:
        await client.subscribe_to_topic(topic, heard.callback)
        await push(client, topic, "subscribe_activity", {}, "ref-1")
        assert (await heard.expect("phx_reply", "ref-1"))["response"] == {"activity": []}
        await Deal(market, alice, bob).run()
        updated: dict[str, Any] = {"tasks_completed": 0}
        async with asyncio.timeout(WITHIN_S):
            while updated["tasks_completed"] == 0:
                updated = await heard.expect("metrics_updated")
        await push(client, topic, "request_metrics", {}, "ref-2")
        metrics = (await heard.expect("phx_reply", "ref-2"))["response"]

    assert {**updated, "benchmarks": []} == {**metrics, "updated_at": updated["updated_at"]}
    expected = sources(market, bob)
    assert only(metrics, expected) == expected


async def numbers(client: Client, topic: str) -> dict[str, dict[str, Any]]:
    return {period: await client.push(topic, "request_metrics", {"period": period}) for period in PERIODS}


async def test_every_number_is_that_of_the_sources_also_after_the_server_was_killed(market: MarketProcess) -> None:
    alice, bob = market.pair()
    for _ in range(3):
        await Deal(market, alice, bob).run()
    market.kill()
    market.start()
    await Deal(market, alice, bob).run()
    expected = sources(market, bob)
    async with market.client(bob.api_key) as client:
        await client.join(topic_of(bob))
        told = await numbers(client, topic_of(bob))

    assert expected["tasks_completed"] == 4
    for period, metrics in told.items():
        assert only(metrics, expected) == expected, period


async def test_what_is_told_goes_on_from_the_join(market: MarketProcess) -> None:
    alice, bob = market.pair()
    async with market.client(bob.api_key) as client:
        known = (await client.join(topic_of(bob)))["metrics"]
        for _ in range(3):
            await Deal(market, alice, bob).run()
        async with asyncio.timeout(WITHIN_S):
            while known["tasks_completed"] < 3:
                known = await client.expect("metrics_updated", topic_of(bob))
        known.pop("updated_at")
        fresh = (await client.join(topic_of(bob)))["metrics"]

    assert fresh == known


async def test_two_owners_see_nothing_of_each_other(market: MarketProcess) -> None:
    alice, bob = market.pair()
    market.user("mallory")
    mallory = market.agent("mallory", "Snoop")
    async with market.client(mallory.api_key) as client:
        for topic in (topic_of(bob), topic_of(alice), "analytics:user:1", topic_of(bob).upper(), "analytics:"):
            with pytest.raises(Refused) as refused:
                await client.join(topic)
            assert refused.value.reason in {"unauthorized", "unmatched topic"}
        await client.join(topic_of(mallory))
        await client.push(topic_of(mallory), "subscribe_activity")
        await client.push(topic_of(mallory), "subscribe_alerts")
        await client.join("analytics:global")
        await Deal(market, alice, bob).run()
        seen = await client.expect("metrics_updated", "analytics:global")
        while not seen["tasks_completed"]:
            seen = await client.expect("metrics_updated", "analytics:global")
        await client.refute("activity")
        with pytest.raises(Refused, match="unauthorized"):
            await client.push("analytics:global", "subscribe_activity")
        with pytest.raises(Refused, match="unauthorized"):
            await client.push("analytics:global", "request_revenue")

    told = str(client.inbox)
    assert bob.id not in told
    assert bob.handle not in told


async def test_who_asks_in_a_loop_is_limited_and_slows_nobody(market: MarketProcess) -> None:
    alice, bob = market.pair()
    market.user("mallory")
    mallory = market.agent("mallory", "Snoop")
    async with market.client(mallory.api_key) as client:
        await client.join(topic_of(mallory))
        asking = [client.request(topic_of(mallory), "request_revenue", {"period": "365d"}) for _ in range(FLOOD)]
        flood = asyncio.gather(*asking)
        started = time.monotonic()
        await Deal(market, alice, bob).run()
        took_s = time.monotonic() - started
        answers = await flood
        refused = [answer["response"] for answer in answers if answer["status"] == "error"]

    assert took_s < DEAL_WITHIN_S
    assert refused
    assert {answer["reason"] for answer in refused} == {"rate_limited"}
