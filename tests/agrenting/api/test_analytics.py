"""Analytics by REST and on a socket: the same answers, to whom they belong, equal to what the sources say."""

import json
from typing import Any

import pytest

from agrenting.db import analytics as figures
from agrenting.db import rollups
from tests.agrenting.api.market import PRICE, Caller, FakeSocket, Marketplace, Player

TWINS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "metrics": ("request_metrics", {"period": "7d"}, {"period": "7d"}),
    "time-series": (
        "request_time_series",
        {"metric": "fees", "period": "7d", "interval": "hour"},
        {"metric": "fees", "opts": {"period": "7d", "interval": "hour"}},
    ),
    "revenue": ("request_revenue", {"period": "30d"}, {"period": "30d"}),
    "heatmap": ("request_heatmap", {"period": "day"}, {"period": "day"}),
}
NOWHERE = "99999999-9999-4999-8999-999999999999"


async def worked(market: Marketplace, client: Player, provider: Player, ends: str = "complete") -> str:
    """A task that has begun, taken a second, and ended; its id."""
    body = {"provider_agent_id": provider.id, "capability": "translate", "max_price": PRICE, "hold_seconds": 0}
    task_id: str = (await client.post("/tasks", body))["id"]
    market.clock.advance(seconds=1)
    await provider.post(f"/tasks/{task_id}/progress", {"percent": 1})
    market.clock.advance(seconds=1)
    bodies = {"complete": {"result": 1}, "error": {"type": "broken"}}
    await (client if ends == "cancel" else provider).post(f"/tasks/{task_id}/{ends}", bodies.get(ends, {}))
    return task_id


async def asked(caller: Caller, what: str, **query: str) -> Any:
    return await caller.get(f"/analytics/{what}", params=query)


async def fold(market: Marketplace) -> None:
    """Move all minutes that are old enough."""
    while await market.server.database.write(lambda tx: rollups.fold(tx, market.clock())):
        pass


class Listener:
    """A socket that has joined topics."""

    def __init__(self, market: Marketplace, connection: Any, transport: FakeSocket) -> None:
        self.market = market
        self.connection = connection
        self.transport = transport
        self._ref = 0

    async def send(self, topic: str, event: str, payload: Any = None) -> Any:
        """Send, and wait for the reply: its status and its response."""
        self.say(topic, event, payload)
        found = await self.transport.heard("phx_reply", self._ref)
        return found[-1]["status"], found[-1]["response"]

    def say(self, topic: str, event: str, payload: Any = None) -> None:
        """Send, and wait for nothing."""
        self._ref += 1
        self.connection.receive(json.dumps(["1", str(self._ref), topic, event, payload or {}]))

    async def beat(self) -> None:
        await self.market.server.hub.pulse.beat()

    def told(self, event: str) -> list[Any]:
        return [message[4] for message in self.transport.sent if message[3] == event]


async def listener(market: Marketplace, key: str) -> Listener:
    return Listener(market, *await market.socket(key))


@pytest.fixture
def owner(market: Marketplace, bob: Player) -> Caller:
    """Bob himself, not his agent."""
    return market.with_key(market.user_keys["bob"])


async def users(market: Marketplace) -> dict[str, str]:
    return dict(
        await market.server.database.read(lambda tx: [(r[0], r[1]) for r in tx.all("SELECT handle, id FROM users")])
    )


@pytest.mark.parametrize("what", TWINS)
async def test_a_twin_answers_what_the_event_replies(
    market: Marketplace, alice: Player, bob: Player, what: str
) -> None:
    await worked(market, alice, bob)
    event, query, payload = TWINS[what]
    scope = f"agent:{bob.id}"
    socket = await listener(market, bob.api_key)
    await socket.send(f"analytics:{scope}", "phx_join")

    assert await socket.send(f"analytics:{scope}", event, payload) == ("ok", await asked(bob, what, **query))
    assert await asked(bob, what, **query) == await asked(bob, what, scope=scope, **query)


@pytest.mark.parametrize("what", TWINS)
async def test_a_scope_is_its_owners_and_his_agents_and_nobody_elses(
    market: Marketplace, deal: tuple[Player, Player], mallory: Player, olga: Caller, what: str
) -> None:
    alice, bob = deal
    owner = market.with_key(market.user_keys["bob"])
    ids = await users(market)
    sibling = await market.translator("Second")
    query = TWINS[what][1]
    for scope in (f"agent:{bob.id}", f"user:{ids['bob']}"):
        for caller in (bob, sibling, owner):
            assert (await asked(caller, what, scope=scope, **query))["scope"] == scope
        for stranger in (alice, mallory, olga, market.with_key(market.user_keys["mallory"])):
            refused = await stranger.refused("GET", f"/analytics/{what}", params={"scope": scope, **query})
            nobody = await stranger.refused("GET", f"/analytics/{what}", params={"scope": f"agent:{NOWHERE}", **query})
            assert refused.why == nobody.why == (403, "unauthorized")
            assert refused.error["message"] == nobody.error["message"]


@pytest.mark.parametrize("what", TWINS)
async def test_a_caller_without_a_scope_is_asked_about_itself(owner: Caller, market: Marketplace, what: str) -> None:
    assert (await asked(owner, what, **TWINS[what][1]))["scope"] == f"user:{(await users(market))['bob']}"


@pytest.mark.parametrize("what", ["metrics", "time-series", "heatmap"])
async def test_the_market_is_everybodys_to_see(alice: Player, mallory: Player, what: str) -> None:
    assert (await asked(mallory, what, scope="global", **TWINS[what][1]))["scope"] == "global"


async def test_the_markets_revenue_is_nobodys(olga: Caller) -> None:
    refused = await olga.refused("GET", "/analytics/revenue", params={"scope": "global"})

    assert refused.why == (403, "unauthorized")


@pytest.mark.parametrize(
    ("what", "query", "reason"),
    [
        ("metrics", {"period": "2h"}, "invalid_period"),
        ("revenue", {"period": ""}, "invalid_period"),
        ("heatmap", {"period": "ALL"}, "invalid_period"),
        ("time-series", {"metric": "fees", "period": "2h"}, "invalid_period"),
        ("time-series", {"metric": "fee"}, "unknown_metric"),
        ("time-series", {"metric": "fees", "period": "24h", "interval": "minute"}, "too_many_points"),
        ("time-series", {"metric": "fees", "interval": "week"}, "invalid_payload"),
        ("time-series", {}, "invalid_payload"),
    ],
)
async def test_what_does_not_fit_is_refused(bob: Player, what: str, query: dict[str, str], reason: str) -> None:
    assert (await bob.refused("GET", f"/analytics/{what}", params=query)).why == (422, reason)


async def test_a_key_without_the_scope_sees_nothing(market: Marketplace, bob: Player) -> None:
    key = (await bob.post("/keys", {"name": "narrow", "scopes": ["tasks"]}))["api_key"]
    narrow = market.with_key(key)

    assert (await narrow.refused("GET", "/analytics/metrics")).why == (403, "missing_scope")
    assert (await narrow.refused("GET", "/analytics/stats")).why == (403, "missing_scope")
    socket = await listener(market, key)
    assert (await socket.send(f"analytics:agent:{bob.id}", "phx_join"))[1]["reason"] == "missing_scope"


class TestTheNumbers:
    """What is told equals what the tables of the sources say, before and after the minutes have moved."""

    async def sql(self, market: Marketplace, statement: str, **values: Any) -> Any:
        row = await market.server.database.read(lambda tx: tx.one(statement, **values))
        assert row is not None
        return row[0]

    async def test_are_those_of_the_sources(self, market: Marketplace, alice: Player, bob: Player) -> None:
        for ends in ("complete", "error", "cancel", "complete"):
            await worked(market, alice, bob, ends)
            market.clock.advance(hours=5)
        await alice.post("/tasks", {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE})
        counted = {
            f"tasks_{status}": await self.sql(
                market,
                "SELECT count(*) FROM tasks WHERE provider_agent_id = :id AND status = :status",
                id=bob.id,
                status=status,
            )
            for status in ("completed", "failed", "cancelled")
        }
        paid = await self.sql(
            market,
            "SELECT sum(amount) FROM postings JOIN ledger_entries ON id = entry_id"
            " WHERE account = :account AND kind = 'release'",
            account=f"agent:{bob.id}:available",
        )
        fees = await self.sql(market, "SELECT sum(amount) FROM postings WHERE account = 'platform:fees'")
        for _ in range(2):
            told = await asked(bob, "metrics")
            assert {name: told[name] for name in counted} == counted == {
                "tasks_completed": 2, "tasks_failed": 1, "tasks_cancelled": 1
            }  # fmt: skip
            assert (told["tasks_total"], told["tasks_active"], told["tasks_hired"]) == (5, 1, 0)
            assert (told["revenue_net"], told["fees"], told["revenue_gross"]) == (paid, fees, 2 * PRICE)
            assert (told["avg_execution_time_ms"], told["success_rate"]) == (1_000, 2 / 3)
            assert abs(told["p50_execution_time_ms"] - 1_000) <= 1_000 / 32
            mine = await asked(alice, "metrics")
            assert (mine["spend"], mine["tasks_hired"], mine["tasks_total"]) == (2 * PRICE, 5, 0)
            await fold(market)

    async def test_add_up_over_a_users_agents_and_over_the_market(
        self, market: Marketplace, alice: Player, bob: Player
    ) -> None:
        second = await market.translator("Second")
        for provider in (bob, second, bob):
            await worked(market, alice, provider)
        await fold(market)
        ids = await users(market)
        apart = [await asked(provider, "metrics") for provider in (bob, second)]
        together = await asked(bob, "metrics", scope=f"user:{ids['bob']}")
        everybody = await asked(bob, "metrics", scope="global")

        for name in ("tasks_total", "tasks_completed", "revenue_gross", "fees", "messages_in"):
            assert together[name] == sum(one[name] for one in apart)
        for name in ("tasks_total", "tasks_completed", "revenue_gross", "fees", "tasks_hired", "spend"):
            assert everybody[name] == (3 if name.startswith("tasks") else {"fees": 150}.get(name, 3 * PRICE))
        assert together["reputation"] == round(sum(one["reputation"] for one in apart) / 2, 2)
        assert everybody["reputation"] is None

    async def test_of_a_period_hold_what_happened_in_it(self, market: Marketplace, alice: Player, bob: Player) -> None:
        for days in (40, 20, 5, 1):
            await worked(market, alice, bob)
            market.clock.advance(days=days)
        await worked(market, alice, bob)
        await fold(market)
        counts = {
            period: (await asked(bob, "metrics", period=period))["tasks_total"]
            for period in ("1h", "24h", "7d", "30d", "90d", "all")
        }

        assert counts == {"1h": 1, "24h": 1, "7d": 3, "30d": 4, "90d": 5, "all": 5}

    async def test_of_a_series_and_of_the_revenue_add_up(self, market: Marketplace, alice: Player, bob: Player) -> None:
        for _ in range(4):
            await worked(market, alice, bob)
            market.clock.advance(hours=11)
        for _ in range(2):
            total = await asked(bob, "metrics", period="7d")
            for interval in ("hour", "day"):
                series = await asked(bob, "time-series", metric="revenue_net", period="7d", interval=interval)
                assert sum(point["value"] for point in series["points"]) == total["revenue_net"]
            revenue = await asked(bob, "revenue", period="7d")
            assert revenue["gross"] == total["revenue_gross"] == 4 * PRICE
            for part in ("by_day", "by_capability", "by_counterparty"):
                assert sum(row["net"] for row in revenue[part]) == revenue["net"]
            assert revenue["by_counterparty"][0]["handle"] == alice.handle
            assert sum(map(sum, (await asked(bob, "heatmap", period="7d"))["matrix"])) == 4
            await fold(market)

    async def test_stay_their_owners_once_the_agent_is_deleted(
        self, market: Marketplace, deal: tuple[Player, Player], owner: Caller, olga: Caller, mallory: Player
    ) -> None:
        alice, bob = deal
        await worked(market, alice, bob)
        market.clock.advance(days=40)
        before = await asked(owner, "metrics", scope=f"agent:{bob.id}", period="all")
        earned = (await bob.get("/ledger/balance"))["available"]
        await olga.post("/admin/payouts", {"agent_id": bob.id, "amount": earned}, headers={"idempotency-key": "1"})
        await owner.delete(f"/agents/{bob.id}")
        after = await asked(owner, "metrics", scope=f"agent:{bob.id}", period="all")

        assert (after["tasks_total"], after["reputation"], after["benchmarks"]) == (1, None, [])
        assert {**after, "reputation": 0, "benchmarks": []} == {**before, "reputation": 0, "benchmarks": []}
        assert (await mallory.refused("GET", f"/analytics/metrics?scope=agent:{bob.id}")).why[1] == "unauthorized"


class TestASocket:
    async def test_hears_what_a_fresh_join_would_say(self, market: Marketplace, alice: Player, bob: Player) -> None:
        topic = f"analytics:agent:{bob.id}"
        first = await listener(market, bob.api_key)
        await first.send(topic, "phx_join")
        await worked(market, alice, bob)
        await market.server.database.commits.drain()
        await first.beat()
        updated = first.told("metrics_updated")[-1]
        assert updated.pop("updated_at")
        second = await listener(market, bob.api_key)
        _, joined = await second.send(topic, "phx_join")

        assert joined["metrics"] == updated
        assert (joined["scope"], joined["currency"]) == (f"agent:{bob.id}", "USD")

    async def test_two_owners_hear_nothing_of_each_other(
        self, market: Marketplace, alice: Player, bob: Player, mallory: Player
    ) -> None:
        topic = f"analytics:agent:{mallory.id}"
        hers = await listener(market, mallory.api_key)
        await hers.beat()  # That she has come is told now, to nobody.
        for event in ("phx_join", "subscribe_activity", "subscribe_alerts"):
            assert (await hers.send(topic, event))[0] == "ok"
        assert (await hers.send(f"analytics:agent:{bob.id}", "phx_join"))[1]["reason"] == "unauthorized"
        await worked(market, alice, bob, "error")
        await hers.beat()

        assert {*hers.transport.events()} == {"phx_reply"}

    async def test_sees_activity_from_when_it_has_asked(self, market: Marketplace, alice: Player, bob: Player) -> None:
        topic = f"analytics:agent:{bob.id}"
        asking, silent = [await listener(market, bob.api_key) for _ in range(2)]
        for socket in (asking, silent):
            await socket.send(topic, "phx_join")
        await worked(market, alice, bob)
        await asking.beat()
        _, before = await asking.send(topic, "subscribe_activity")
        await worked(market, alice, bob, "cancel")
        await asking.beat()
        (told,) = asking.told("activity")

        assert [one["kind"] for one in before["activity"]] == ["task_opened", "task_started", "task_completed"]
        assert [one["kind"] for one in told["items"]] == ["task_opened", "task_started", "task_cancelled"]
        assert [one["handle"] for one in told["items"][0]["agents"]] == [alice.handle, bob.handle]
        assert silent.told("activity") == []

    async def test_of_an_operator_sees_all_of_the_market_and_of_others_nothing(
        self, market: Marketplace, alice: Player, bob: Player, olga: Caller
    ) -> None:
        hers, his = [await listener(market, key) for key in (market.user_keys["olga"], bob.api_key)]
        for socket in (hers, his):
            assert (await socket.send("analytics:global", "phx_join"))[0] == "ok"
        assert (await his.send("analytics:global", "subscribe_activity"))[1]["reason"] == "unauthorized"
        assert (await hers.send("analytics:global", "subscribe_activity"))[0] == "ok"
        await worked(market, alice, bob)
        await hers.beat()

        assert len(hers.told("activity")[0]["items"]) == 3
        assert his.told("activity") == []
        assert len(his.told("global_stats")) == 1
        assert len(his.told("metrics_updated")) == 1

    async def test_that_asks_too_often_is_refused_and_others_are_not(
        self, market: Marketplace, bob: Player, mallory: Player
    ) -> None:
        flooding, calm = [await listener(market, key) for key in (mallory.api_key, bob.api_key)]
        topics = [f"analytics:agent:{who.id}" for who in (mallory, bob)]
        for socket, topic in zip((flooding, calm), topics, strict=True):
            await socket.send(topic, "phx_join")
        count = int(market.server.settings.discovery_burst) + 60
        for _ in range(count):
            flooding.say(topics[0], "request_heatmap")
        answers = await flooding.transport.heard("phx_reply", 1 + count)
        refused = [answer["response"] for answer in answers if answer["status"] == "error"]

        assert refused
        assert {response["reason"] for response in refused} == {"rate_limited"}
        assert (await calm.send(topics[1], "request_heatmap"))[0] == "ok"


async def test_the_statistics_are_those_of_the_market(
    market: Marketplace, alice: Player, bob: Player, mallory: Player
) -> None:
    await worked(market, alice, bob)
    await alice.post("/tasks", {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE})
    told = await asked(mallory, "stats")
    load = told.pop("system_load")
    told.pop("at")

    assert 0 <= load <= 1
    assert told == {
        "total_agents": 3,
        "online_agents": 0,
        "total_tasks": 2,
        "active_tasks": 1,
        "tasks_per_minute": 0.4,
        "volume_24h": PRICE,
        "currency": "USD",
        "exponent": 6,
    }


async def test_who_is_there_is_counted_as_online(market: Marketplace, alice: Player, bob: Player) -> None:
    socket = await listener(market, bob.api_key)
    await socket.send("agents:discovery", "phx_join")
    await market.server.database.commits.drain()

    assert (await asked(alice, "stats"))["online_agents"] == 1


def test_the_load_is_a_part_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    for load, told in ((0.0, 0.0), (1.0, 0.25), (400.0, 1.0)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert figures.system_load() == told
