"""Alerts on a real server: who has asked hears them, nobody else; a storm, a kill and the command line lose none."""

import asyncio
from typing import Any

import pytest

from tests.system.harness import AgentAccount, Client, MarketProcess, Refused
from tests.system.test_phoenix_python import V1, V2, Heard, connect, push

Json = dict[str, Any]

DISCOVERY = "agents:discovery"
MANY = 60
AT_ONCE = 4


def topic_of(agent: AgentAccount) -> str:
    return f"analytics:agent:{agent.id}"


async def hire(client: Client, provider: AgentAccount) -> str:
    """Alice opens a task; its topic."""
    task = await client.push(
        DISCOVERY, "open_task", {"provider_agent_id": provider.id, "capability": "translate", "max_price": 1_000}
    )
    return f"task:{task['id']}"


async def fail(worker: Client, topic: str) -> None:
    """Bob gives it up."""
    await worker.join(topic)
    await worker.push(topic, "error", {"type": "broken"})


async def listed(market: MarketProcess, agent: AgentAccount) -> list[Json]:
    """An agent's alerts by REST, newest first."""

    def ask() -> list[Json]:
        found: list[Json] = []
        with market.rest(agent.api_key) as rest:
            cursor: str | None = None
            while True:
                query: dict[str, str] = {"limit": "100", **({"cursor": cursor} if cursor else {})}
                page = rest.get("/api/v1/alerts", params=query).raise_for_status().json()
                found += page["data"]
                cursor = page["metadata"]["next_cursor"]
                if cursor is None:
                    return found

    return await asyncio.to_thread(ask)


def pushed(client: Client) -> list[Json]:
    """The alerts that a socket was pushed so far."""
    return [payload for _, event, payload in client.inbox if event == "alert"]


@pytest.mark.parametrize("version", [V2, V1])
async def test_the_pypi_client_subscribes_and_is_pushed_what_fails(market: MarketProcess, version: Any) -> None:
    alice, bob = market.pair()
    heard, deaf = Heard(), Heard()
    topic = topic_of(bob)
    async with (
        market.client(alice.api_key) as client,
        market.client(bob.api_key) as worker,
        connect(market, bob.api_key, version) as first,
        connect(market, bob.api_key, version) as second,
    ):
        await client.join(DISCOVERY)
        await first.subscribe_to_topic(topic, heard.callback)
        await second.subscribe_to_topic(topic, deaf.callback)
        await push(first, topic, "subscribe_alerts", {}, "s-1")
        reply = await heard.expect("phx_reply", "s-1")
        assert reply == {"status": "ok", "response": {"alerts": [], "has_more": False}}

        await fail(worker, await hire(client, bob))

        alert = await heard.expect("alert")
        assert (alert["type"], alert["severity"], alert["agent_id"]) == ("task_failed", "error", bob.id)
        assert "0.001 USD" in alert["message"]
        await push(second, topic, "subscribe_alerts", {}, "s-2")
        told: list[str] = []
        while True:
            message = await asyncio.wait_for(deaf.messages.get(), 30)
            told.append(str(message.event))
            if message.ref == "s-2":
                break
        assert "alert" not in told
        assert message.payload["response"]["alerts"] == [alert]


async def test_in_a_storm_of_failures_a_late_subscriber_misses_and_doubles_none(market: MarketProcess) -> None:
    alice, bob = market.pair(deposit=1_000_000)
    topic = topic_of(bob)
    async with (
        market.client(alice.api_key) as client,
        market.client(bob.api_key) as worker,
        market.client(bob.api_key) as watcher,
    ):
        await client.join(DISCOVERY)
        await watcher.join(topic)
        tasks = [await hire(client, bob) for _ in range(MANY)]

        some = asyncio.Event()

        async def fail_all(part: list[str]) -> None:
            for number, task in enumerate(part):
                await fail(worker, task)
                if number == len(part) // 3:
                    some.set()

        storm = [asyncio.create_task(fail_all(tasks[first::AT_ONCE])) for first in range(AT_ONCE)]
        await some.wait()
        reply = await watcher.push(topic, "subscribe_alerts")
        await asyncio.gather(*storm)
        await watcher.flush()

        first = [one["id"] for one in reply["alerts"]]
        then = [one["id"] for one in pushed(watcher) if one["status"] == "active"]
        own = await listed(market, bob)
        assert sorted(first + then) == sorted(one["id"] for one in own)
        assert sum(one["type"] == "task_failed" for one in own) == MANY
        assert sum(one["type"] == "success_rate_low" for one in own) == 1
        assert first, "some came before"
        assert then, "and some after"


async def test_a_kill_loses_no_alert_that_was_told(market: MarketProcess) -> None:
    alice, bob = market.pair()
    topic = topic_of(bob)
    async with (
        market.client(alice.api_key) as client,
        market.client(bob.api_key) as worker,
        market.client(bob.api_key) as watcher,
    ):
        await client.join(DISCOVERY)
        await watcher.join(topic)
        await watcher.push(topic, "subscribe_alerts")
        for _ in range(3):
            await fail(worker, await hire(client, bob))
        told = [await watcher.expect("alert") for _ in range(3)]
        market.kill()
    market.start()

    async with market.client(bob.api_key) as again:
        await again.join(topic)
        reply = await again.push(topic, "subscribe_alerts")

    assert reply == {"alerts": told[::-1], "has_more": False}


async def test_the_other_side_and_strangers_see_nothing(market: MarketProcess) -> None:
    alice, bob = market.pair()
    market.user("mallory")
    mallory = market.agent("mallory", "Snoop")
    async with (
        market.client(alice.api_key) as client,
        market.client(bob.api_key) as worker,
        market.client(mallory.api_key) as snoop,
    ):
        await client.join(DISCOVERY)
        for curious in (client, snoop):
            with pytest.raises(Refused, match="unauthorized"):
                await curious.join(topic_of(bob))
            await curious.join("analytics:global")
            await curious.push("analytics:global", "subscribe_alerts")
        await snoop.join(topic_of(mallory))
        await snoop.push(topic_of(mallory), "subscribe_alerts")
        await client.join(topic_of(alice))
        await client.push(topic_of(alice), "subscribe_alerts")
        task = await hire(client, bob)
        await worker.join(task)
        await worker.push(task, "output_stream", {"seq": 0, "chunk": "half"})
        await client.join(task)

        await client.push(task, "dispute", {"reason": "not what I asked for"})

        await snoop.refute("alert")
        await client.refute("alert")
        assert [one["type"] for one in await listed(market, bob)] == ["dispute_opened"]
        assert await listed(market, alice) == await listed(market, mallory) == []


async def test_a_deposit_of_the_command_line_resolves_an_alert_and_the_server_pushes_it(
    market: MarketProcess,
) -> None:
    alice, _ = market.pair(deposit=10)
    async with market.client(alice.api_key) as watcher:
        await watcher.join(topic_of(alice))
        await watcher.push(topic_of(alice), "subscribe_alerts")
        with market.rest(alice.api_key) as rest:
            path = f"/api/v1/agents/{alice.id}/alert-thresholds"
            rest.put(path, json={"balance_below": "0.00002"}).raise_for_status()
        raised = await watcher.expect("alert")
        assert (raised["type"], raised["data"]) == ("balance_low", {"available": 10, "balance_below": 20})

        market.cli("deposit", alice.handle, "10")

        over = await watcher.expect("alert")
        assert (over["id"], over["status"]) == (raised["id"], "resolved")
