"""Consent over real sockets: a scope holds under twenty openings at once, nothing is lost by a kill, nothing leaks."""

import asyncio
import uuid
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.harness import AgentAccount, MarketProcess, Refused

DISCOVERY = "agents:discovery"
OPENINGS = 20
SOCKETS = 4
MAX_OPEN = 3
PRICE = 1_000


class Street:
    """Alice's client and Bob's agents, of no common organisation: a listed translator, and a hermit without a tag."""

    def __init__(self, market: MarketProcess) -> None:
        self.market = market
        for handle in ("alice", "bob"):
            market.user(handle)
        self.client = market.agent("alice", "Client", deposit=1_000_000)
        offers = ("--capability", f"translate={PRICE}")
        self.provider = market.agent("bob", "Translator", *offers, "--tag", "words")
        self.hermit = market.agent("bob", "Hermit", *offers)

    def become_contacts(self, *scope: str) -> None:
        """Alice's client asks, and Bob's translator approves as far as the options say."""
        self.market.here("contact", "request", self.client.handle, self.provider.handle)
        self.market.here("contact", "approve", self.provider.handle, self.client.handle, *scope)

    def hire(self) -> dict[str, Any]:
        """What opens a task with the translator."""
        return {"provider_agent_id": self.provider.id, "capability": "translate", "max_price": PRICE}

    def call(self, who: AgentAccount, method: str, path: str, body: Any = None) -> httpx.Response:
        """One REST call of an agent."""
        with self.market.rest(who.api_key) as rest:
            return rest.request(method, f"/api/v1{path}", json=body)


@pytest.fixture
def street(market: MarketProcess) -> Street:
    """A running market with them."""
    return Street(market)


async def test_a_scope_is_enforced_under_twenty_parallel_openings(street: Street) -> None:
    street.become_contacts("--max-open", str(MAX_OPEN))
    outcomes: list[str] = []

    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(street.market.client(street.client.api_key)) for _ in range(SOCKETS)]
        for socket in sockets:
            await socket.join(DISCOVERY)

        async def open_one(number: int) -> None:
            event = "open_task" if number % 2 else "open_negotiation"
            payload = street.hire()
            if event == "open_negotiation":
                del payload["max_price"]
            try:
                await sockets[number % SOCKETS].push(DISCOVERY, event, payload)
            except Refused as refused:
                outcomes.append(refused.response["reason"])
            else:
                outcomes.append("opened")

        await asyncio.gather(*(open_one(number) for number in range(OPENINGS)))

    assert Counter(outcomes) == {"opened": MAX_OPEN, "contact_scope_exceeded": OPENINGS - MAX_OPEN}


async def test_nothing_opens_after_a_revocation_was_answered_whatever_is_under_way(street: Street) -> None:
    street.become_contacts()
    async with (
        street.market.client(street.client.api_key) as socket,
        httpx.AsyncClient(
            base_url=street.market.url, headers={"x-api-key": street.provider.api_key}, timeout=30
        ) as rest,
    ):
        await socket.join(DISCOVERY)
        pushes = [asyncio.ensure_future(socket.push(DISCOVERY, "open_task", street.hire())) for _ in range(OPENINGS)]
        answer = await rest.post("/api/v1/agent/contacts/remove", json={"handle": street.client.handle})
        opened = [one for one in await asyncio.gather(*pushes, return_exceptions=True) if isinstance(one, dict)]
        with pytest.raises(Refused) as refused:
            await socket.push(DISCOVERY, "open_task", street.hire())

    assert answer.status_code == 200, answer.text
    assert refused.value.response["reason"] == "contact_required"
    assert refused.value.response["handle"] == street.provider.handle
    for task in opened:
        now = street.call(street.client, "GET", f"/tasks/{task['id']}").json()["data"]
        assert (now["status"], now["reason"], now["escrow_status"]) == ("cancelled", "contact_revoked", "refunded")
    balance = street.call(street.client, "GET", "/ledger/balance").json()["data"]
    assert (balance["available"], balance["escrow"]) == (1_000_000, 0)


def test_consent_that_was_answered_survives_a_kill(tmp_path: Path) -> None:
    market = MarketProcess(tmp_path / "var").start()
    street = Street(market)
    asked = street.call(street.client, "POST", "/agent/contacts/add", {"handle": street.provider.handle})
    assert asked.status_code == 201, asked.text
    market.kill()
    market.start()
    answer = {"action": "approve", "request_id": asked.json()["data"]["id"]}
    approved = street.call(street.provider, "POST", "/agent/contacts/requests/respond", answer)
    assert approved.status_code == 200, approved.text
    market.kill()
    market.start()
    assert street.call(street.client, "POST", "/tasks", street.hire()).status_code == 201
    removed = street.call(street.client, "POST", "/agent/contacts/remove", {"handle": street.provider.handle})
    assert removed.status_code == 200, removed.text
    market.kill()
    market.start()

    refused = street.call(street.client, "POST", "/tasks", street.hire())
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "contact_required")
    for who in (street.client, street.provider):
        handles = [row["handle"] for row in street.call(who, "GET", "/agent/contacts").json()["data"]]
        assert handles == [who.handle.partition("/")[0]]
    assert market.cli("doctor")["ok"]
    assert market.stop() == 0


def without_request_id(response: httpx.Response) -> tuple[int, Any]:
    """An answer as it may be compared."""
    body = response.json()
    if "error" in body:
        del body["error"]["request_id"]
    return response.status_code, body


def probes(target: AgentAccount, *, is_there: bool) -> list[tuple[str, str, Any]]:
    """Everything that names an agent: by its id and handle, or by others that nobody has."""
    id_, handle = (target.id, target.handle) if is_there else (str(uuid.uuid4()), "bob/nobody")
    opening = {"provider_agent_id": id_, "capability": "translate"}
    return [
        ("GET", f"/agents/{id_}", None),
        ("POST", "/negotiations", opening),
        ("POST", "/tasks", {**opening, "max_price": PRICE}),
        ("GET", f"/handles/{handle}", None),
        ("POST", "/agent/contacts/add", {"handle": handle}),
        ("POST", "/agent/contacts/block", {"handle": handle}),
        ("POST", "/agent/contacts/unblock", {"handle": handle}),
        ("POST", "/agent/contacts/remove", {"handle": handle}),
        ("POST", "/agent/contacts/requests/respond", {"action": "approve", "handle": handle}),
    ]


async def test_who_is_blocked_gets_the_answers_and_the_presence_of_nobody(street: Street) -> None:
    street.become_contacts()
    street.market.here("contact", "block", street.provider.handle, street.client.handle)

    for real, made_up in zip(
        probes(street.provider, is_there=True), probes(street.provider, is_there=False), strict=True
    ):
        found = without_request_id(street.call(street.client, *real))
        assert found == without_request_id(street.call(street.client, *made_up)), real
    async with street.market.client(street.provider.api_key) as provider:
        await provider.join(DISCOVERY)
        async with street.market.client(street.client.api_key) as client:
            await client.join(DISCOVERY)
            state = await client.expect("presence_state")
            hits = (await client.push(DISCOVERY, "discover"))["agents"]
    assert street.provider.id not in state
    assert street.provider.id not in {hit["id"] for hit in hits}
    for path in ("/directory", "/agent/peers"):
        listed = street.call(street.client, "GET", path).json()["data"]
        assert street.provider.handle not in {row["handle"] for row in listed}


async def test_a_stranger_gets_the_answers_and_the_presence_of_nobody_for_who_hides(street: Street) -> None:
    with street.market.rest(street.market.here("key", "rotate", "bob")["api_key"]) as owner:
        hidden = owner.post(
            "/api/v1/agents",
            json={"name": "Sketch", "description": "Not yet.", "status": "draft", "tags": ["words"]},
        ).json()["data"]
    sketch = AgentAccount(hidden, b"")

    for real, made_up in zip(probes(sketch, is_there=True), probes(sketch, is_there=False), strict=True):
        found = without_request_id(street.call(street.client, *real))
        assert found == without_request_id(street.call(street.client, *made_up)), real
    unknown = street.call(street.client, "GET", f"/agents/{uuid.uuid4()}")
    assert without_request_id(street.call(street.client, "GET", f"/agents/{street.hermit.id}")) == without_request_id(
        unknown
    )
    async with street.market.client(street.hermit.api_key) as hermit:
        await hermit.join(DISCOVERY)
        async with street.market.client(street.client.api_key) as client:
            await client.join(DISCOVERY)
            state = await client.expect("presence_state")
            hits = (await client.push(DISCOVERY, "discover"))["agents"]
    assert [*state] == [street.client.id]
    assert {hit["id"] for hit in hits} == {street.provider.id}
    refused = street.call(street.client, "POST", "/tasks", {**street.hire(), "provider_agent_id": street.hermit.id})
    assert refused.json()["error"]["code"] == "contact_required"
    assert street.hermit.handle not in refused.text, "who is found by nobody is not named to a stranger"
