"""Credentials: every form that is taken, and every one that is not."""

from typing import Any

import pytest

from tests.agrenting.api.market import Caller, Marketplace, Player, marketplace


async def who(market: Marketplace, **headers: str) -> Any:
    return (await Caller(market.http, headers).get("/agent/me"))["id"]


async def test_a_key_comes_in_either_header(market: Marketplace, mallory: Player) -> None:
    assert await who(market, **{"X-API-Key": mallory.api_key}) == mallory.id
    assert await who(market, Authorization=f"Bearer {mallory.api_key}") == mallory.id
    assert await who(market, Authorization=f"bearer  {mallory.api_key} ") == mallory.id


async def test_a_session_token_comes_in_either_header(market: Marketplace, mallory: Player) -> None:
    token = (await mallory.post("/auth/authenticate"))["token"]

    assert await who(market, Authorization=f"Bearer {token}") == mallory.id
    assert await who(market, **{"X-API-Key": token}) == mallory.id


async def test_a_session_ends_by_the_clock(market: Marketplace, mallory: Player) -> None:
    token = (await mallory.post("/auth/authenticate"))["token"]
    market.clock.advance(hours=24)

    refused = await Caller(market.http, {"authorization": f"Bearer {token}"}).refused("GET", "/agent/me")

    assert refused.why == (401, "invalid_credential")


async def test_an_owners_key_acts_as_its_agent(market: Marketplace, mallory: Player) -> None:
    key = market.user_keys["mallory"]

    assert await who(market, **{"x-api-key": key, "x-agent-id": mallory.id}) == mallory.id


@pytest.mark.parametrize("sent", ["another's", "nobody's"])
async def test_nobody_acts_as_an_agent_of_somebody_else(
    market: Marketplace, mallory: Player, alice: Player, sent: str
) -> None:
    agent_id = alice.id if sent == "another's" else "nobody"
    for key in (mallory.api_key, market.user_keys["mallory"]):
        refused = await market.with_key(key, **{"x-agent-id": agent_id}).refused("GET", "/agent/me")

        assert refused.why == (403, "wrong_agent")


async def test_credentials_that_agree_are_one(market: Marketplace, mallory: Player) -> None:
    token = (await mallory.post("/auth/authenticate"))["token"]

    assert await who(market, **{"x-api-key": mallory.api_key, "authorization": f"Bearer {token}"}) == mallory.id


async def test_credentials_that_disagree_are_refused(market: Marketplace, mallory: Player, alice: Player) -> None:
    headers = {"x-api-key": mallory.api_key, "authorization": f"Bearer {alice.api_key}"}

    assert (await Caller(market.http, headers).refused("GET", "/agent/me")).why == (403, "credentials_disagree")


async def test_one_good_and_one_bad_credential_are_bad(market: Marketplace, mallory: Player) -> None:
    headers = {"x-api-key": mallory.api_key, "authorization": "Bearer nonsense"}

    assert (await Caller(market.http, headers).refused("GET", "/agent/me")).why == (401, "invalid_credential")


async def test_two_agents_at_once_are_refused(market: Marketplace, mallory: Player) -> None:
    headers = [("x-api-key", mallory.api_key), ("x-agent-id", mallory.id), ("x-agent-id", "other")]

    answer = await market.http.get("/api/v1/agent/me", headers=headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "credentials_disagree")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": "nonsense"},
        {"x-api-key": "agk_" + "A" * 43},
        {"x-api-key": "x" * 10_000},
        {"authorization": "Bearer ags_nothing"},
        {"authorization": "Basic b2xnYTpvbGdh"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer  "},
    ],
)
async def test_a_bad_credential_is_refused(market: Marketplace, headers: dict[str, str]) -> None:
    refused = await Caller(market.http, headers).refused("GET", "/agent/me")

    assert refused.why == (401, "invalid_credential")
    assert refused.answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("name", ["api_key", "session_token", "token", "x-api-key"])
async def test_a_query_is_no_place_for_a_credential(market: Marketplace, mallory: Player, name: str) -> None:
    refused = await market.anybody.refused("GET", "/agent/me", params={name: mallory.api_key})

    assert refused.why == (401, "missing_credential")


async def test_a_revoked_key_is_dead(market: Marketplace, mallory: Player) -> None:
    second = await mallory.post("/keys", {"name": "second"})
    await mallory.delete(f"/keys/{second['id']}")

    assert (await market.with_key(second["api_key"]).refused("GET", "/agent/me")).why == (401, "invalid_credential")


async def test_too_many_bad_credentials_are_refused_for_a_while(folder: Any) -> None:
    async with marketplace(folder, bad_credentials_burst=3.0, bad_credentials_per_s=0.01) as market:
        olga = await market.user("olga")
        tries = [await market.with_key("nonsense").refused("GET", "/me") for _ in range(5)]

        assert [refused.why for refused in tries] == [(401, "invalid_credential")] * 3 + [(429, "rate_limited")] * 2
        assert int(tries[-1].answer.headers["retry-after"]) > 0
        assert (await olga.get("/me"))["handle"] == "olga"


async def test_a_caller_that_asks_too_often_is_refused(folder: Any) -> None:
    async with marketplace(folder, control_burst=0.5, control_per_s=0.01) as market:
        olga, carol = await market.user("olga"), await market.user("carol")
        answers = [(await olga.call("GET", "/me")).status_code for _ in range(4)]

        assert answers == [200, 200, 429, 429]
        assert (await carol.get("/me"))["handle"] == "carol"


async def test_streams_are_limited_by_bytes(folder: Any) -> None:
    async with marketplace(folder, stream_bytes_burst=100.0, stream_bytes_per_s=0.01) as market:
        alice, bob = await market.deal()
        hired = {"provider_agent_id": bob.id, "capability": "translate", "max_price": 1_000}
        task = await alice.post("/tasks", hired)

        refused = await alice.refused("POST", f"/tasks/{task['id']}/input_stream", {"chunk": "x" * 500, "seq": 0})

        assert refused.why == (429, "rate_limited")
        assert (await alice.get(f"/tasks/{task['id']}"))["streams"]["input"]["next_seq"] == 0


async def test_a_credential_that_dies_while_a_change_waits_changes_nothing(
    market: Marketplace, mallory: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction asks again: what was good at the guard may be dead at the write."""
    engine = market.server.engine
    change = engine.change

    async def after_revocation(*args: Any, **named: Any) -> Any:
        monkeypatch.setattr(engine, "change", change)
        keys = await Caller(market.http, mallory.headers).get("/keys")
        await Caller(market.http, mallory.headers).delete(f"/keys/{keys[0]['id']}")
        return await change(*args, **named)

    monkeypatch.setattr(engine, "change", after_revocation)

    assert (await mallory.refused("POST", "/keys", {"name": "late"})).why == (401, "invalid_credential")
