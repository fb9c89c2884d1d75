"""Mallory's table: each line of what a cheat would try, over the doors that she has."""

import asyncio
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from crypto import accept_message, format_public_key, generate_secret_key, key_proof_message, public_key_of, sign
from tests.system.harness import (
    REPLY_TIMEOUT_S,
    AgentAccount,
    Client,
    MarketProcess,
    Refused,
    signed_accept,
    signed_offer,
)

PRICE, DEPOSIT, CAP = 1_000, 1_000_000, 1_500
CREATED, FORBIDDEN, NOT_FOUND, CONFLICT, GONE, UNPROCESSABLE = 201, 403, 404, 409, 410, 422


class House:
    """A running market with Mallory, Bob, and an operator who is neither."""

    def __init__(self, market: MarketProcess) -> None:
        self.market = market
        market.start()
        self.mallory_user = market.user("mallory")
        self.bob_user = market.user("bob")
        self.mallory = market.agent("mallory", "Mallory", deposit=DEPOSIT)
        offers = ("--capability", f"translate={PRICE}", "--capability", f"summarise={PRICE}", "--global")
        self.bob = market.agent("bob", "Bob", *offers)
        self.carol = market.agent("bob", "Carol", *offers)

    def rest(self, key: str | None = None) -> httpx.Client:
        return self.market.rest(key or self.mallory.api_key)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    market = MarketProcess(tmp_path_factory.mktemp("mallory") / "var", AGRENTING_BAD_CREDENTIALS_BURST="1000")
    yield House(market)
    assert market.cli("doctor")["ok"]
    assert market.stop() == 0


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    return error


def available(house: House, agent: AgentAccount | None = None) -> int:
    with house.rest((agent or house.mallory).api_key) as rest:
        balance: dict[str, int] = rest.get("/api/v1/ledger/balance").json()["data"]
        return balance["available"]


async def opened(house: House, socket: Client, capability: str = "translate") -> dict[str, Any]:
    await socket.join("agents:discovery")
    request = {"provider_agent_id": house.bob.id, "capability": capability}
    session: dict[str, Any] = await socket.push("agents:discovery", "open_negotiation", request)
    return session


async def agreed(house: House) -> dict[str, Any]:
    """An honest agreement between Mallory, the client, and Bob."""
    async with house.market.client(house.mallory.api_key) as mallory, house.market.client(house.bob.api_key) as bob:
        session = await opened(house, mallory)
        topic = f"negotiation:{session['id']}"
        await mallory.join(topic)
        await bob.join(topic)
        session = await mallory.push(topic, "offer", signed_offer(session, house.mallory, 800))
        session = await bob.push(topic, "offer", signed_offer(session, house.bob, 1_000))
        done: dict[str, Any] = await mallory.push(topic, "accept", signed_accept(session, house.mallory))
        assert done["status"] == "agreed"
        return done


def hire(house: House, key: str | None = None, **fields: Any) -> httpx.Response:
    idempotency = {"idempotency-key": fields.pop("idempotency_key", str(uuid.uuid4()))}
    body = {"provider_agent_id": house.bob.id, "capability": "translate", **fields}
    with house.rest(key) as rest:
        return rest.post("/api/v1/tasks", json=body, headers=idempotency)


async def test_she_accepts_her_own_midpoint(house: House) -> None:
    async with house.market.client(house.mallory.api_key) as mallory, house.market.client(house.bob.api_key) as bob:
        session = await opened(house, mallory)
        topic = f"negotiation:{session['id']}"
        await mallory.join(topic)
        await bob.join(topic)
        session = await bob.push(topic, "offer", signed_offer(session, house.bob, 2_000))
        session = await mallory.push(topic, "offer", signed_offer(session, house.mallory, 1))

        with pytest.raises(Refused) as no:
            await mallory.push(topic, "accept", signed_accept(session, house.mallory))

        assert no.value.reason == "not_your_turn"
        assert (await mallory.join(topic))["status"] == "open"


async def test_she_offers_twice_in_a_row(house: House) -> None:
    async with house.market.client(house.mallory.api_key) as mallory:
        session = await opened(house, mallory)
        topic = f"negotiation:{session['id']}"
        await mallory.join(topic)
        session = await mallory.push(topic, "offer", signed_offer(session, house.mallory, 500))

        with pytest.raises(Refused) as no:
            await mallory.push(topic, "offer", signed_offer(session, house.mallory, 1))

        assert no.value.reason == "not_your_turn"
        assert len((await mallory.join(topic))["offers"]) == 1


@pytest.mark.parametrize("field", ["id", "signing_domain", "capability_digest", "terms_digest", "client_agent_id"])
async def test_she_moves_signatures_to_another_session_capability_party_deployment_or_terms(
    house: House, field: str
) -> None:
    """What Bob signed in one session fits no other: she hands it in where one thing is different."""
    async with house.market.client(house.mallory.api_key) as mallory, house.market.client(house.bob.api_key) as bob:
        session = await opened(house, mallory)
        topic = f"negotiation:{session['id']}"
        await bob.join(topic)
        elsewhere = dict(session)
        if field.endswith("_digest"):  # Capability and terms stand in the session digest that the first offer signs.
            elsewhere["session_digest"] = "0" * 64
        else:
            elsewhere[field] = str(uuid.uuid4())
        signer = house.bob if field != "client_agent_id" else house.mallory
        moved = signed_offer(elsewhere, signer, 900)

        with pytest.raises(Refused) as no:
            await bob.push(topic, "offer", moved)

        assert no.value.reason == "invalid_signature"
        assert no.value.response["expected_digest"] == session["session_digest"]


async def test_she_accepts_with_a_signature_over_other_offers(house: House) -> None:
    async with house.market.client(house.mallory.api_key) as mallory, house.market.client(house.bob.api_key) as bob:
        session = await opened(house, mallory)
        topic = f"negotiation:{session['id']}"
        await mallory.join(topic)
        await bob.join(topic)
        session = await mallory.push(topic, "offer", signed_offer(session, house.mallory, 800))
        session = await bob.push(topic, "offer", signed_offer(session, house.bob, 1_000))
        message = accept_message(
            signing_domain=session["signing_domain"],
            session_id=session["id"],
            agent_id=house.mallory.id,
            amount=900,
            client_offer_digest="1" * 64,
            provider_offer_digest="2" * 64,
        )

        with pytest.raises(Refused) as no:
            await mallory.push(topic, "accept", {"amount": 900, "signature": sign(house.mallory.seed, message)})

        assert no.value.reason == "invalid_signature"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"capability": "summarise"}, CONFLICT, "agreement_mismatch"),
        ({"provider": "carol"}, CONFLICT, "agreement_mismatch"),
        ({"negotiation_session_id": str(uuid.uuid4())}, NOT_FOUND, "not_found"),
    ],
)
async def test_she_uses_an_agreement_for_something_else(
    house: House, change: dict[str, str], status: int, code: str
) -> None:
    session = await agreed(house)
    before = available(house)
    fields = {"negotiation_session_id": session["id"], **change}
    if fields.pop("provider", None):
        fields["provider_agent_id"] = house.carol.id

    refused(hire(house, **fields), status, code)

    assert available(house) == before


async def test_bob_cannot_use_her_agreement(house: House) -> None:
    session = await agreed(house)

    answer = hire(house, house.bob.api_key, negotiation_session_id=session["id"], provider_agent_id=house.mallory.id)

    assert answer.status_code in {CONFLICT, UNPROCESSABLE, FORBIDDEN, NOT_FOUND}
    assert "task_id" not in answer.text


async def test_she_uses_an_agreement_twice_at_once(house: House) -> None:
    session = await agreed(house)
    before = available(house)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: hire(house, negotiation_session_id=session["id"]), range(20)))

    made = [answer for answer in answers if answer.status_code == CREATED]
    assert len(made) == 1
    task_id = made[0].json()["data"]["task_id"]
    for answer in answers:
        if answer is not made[0]:
            assert refused(answer, CONFLICT, "agreement_used")["details"]["task_id"] == task_id
    assert available(house) == before - session["amount"]


async def test_she_cancels_after_the_first_output_chunk(house: House) -> None:
    task = hire(house, max_price=PRICE).json()["data"]
    topic = f"task:{task['id']}"
    async with house.market.client(house.mallory.api_key) as mallory, house.market.client(house.bob.api_key) as bob:
        await mallory.join(topic)
        await bob.join(topic)
        await bob.push(topic, "output_stream", {"chunk": "the work", "seq": 0})

        with pytest.raises(Refused) as no:
            await mallory.push(topic, "cancel", {"reason": "thanks"})

        assert no.value.reason == "output_delivered"
        assert (await mallory.join(topic))["escrow_status"] == "held"


@pytest.mark.parametrize("stream", [None, [], ["half"]])
async def test_a_provider_completes_with_nothing(house: House, stream: list[str] | None) -> None:
    task = hire(house, max_price=PRICE).json()["data"]
    topic = f"task:{task['id']}"
    before = available(house, house.bob)
    async with house.market.client(house.bob.api_key) as bob:
        await bob.join(topic)
        if stream == []:
            empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            await bob.push(topic, "output_complete", {"checksum": empty, "total_size": 0})
        elif stream:
            await bob.push(topic, "output_stream", {"chunk": stream[0], "seq": 0})

        with pytest.raises(Refused) as no:
            await bob.push(topic, "complete", {"result": None})

    assert no.value.reason == ("stream_incomplete" if stream else "nothing_delivered")
    assert available(house, house.bob) == before


@pytest.mark.parametrize("proof", ["none", "another_key", "another_owner", "reused", "another_domain"])
def test_she_registers_a_key_that_she_does_not_hold(house: House, proof: str) -> None:
    key, other = generate_secret_key(), generate_secret_key()
    with house.rest(house.mallory_user["api_key"]) as rest:
        asked = rest.post("/api/v1/key-challenges").json()["data"]

        def signed(seed: bytes, owner: str, domain: str) -> dict[str, str]:
            message = key_proof_message(
                signing_domain=domain, owner_id=owner, agent_id=None, challenge=asked["challenge"]
            )
            return {"challenge": asked["challenge"], "signature": sign(seed, message)}

        domain = asked["signing_domain"]
        owner = house.mallory_user["id"]
        body: dict[str, Any] = {
            "name": f"Thief {proof.replace('_', ' ')}",
            "description": "steals",
            "public_key": format_public_key(public_key_of(key)),
            "proof": {
                "none": None,
                "another_key": signed(other, owner, domain),
                "another_owner": signed(key, house.bob_user["id"], domain),
                "another_domain": signed(key, owner, str(uuid.uuid4())),
                "reused": signed(key, owner, domain),
            }[proof],
        }
        if proof == "reused":
            honest = {**body, "name": "Honest first"}
            assert rest.post("/api/v1/agents", json=honest).status_code == CREATED
            second = generate_secret_key()
            body["public_key"] = format_public_key(public_key_of(second))
            body["proof"] = signed(second, owner, domain)

        answer = rest.post("/api/v1/agents", json=body)

        assert answer.status_code in {UNPROCESSABLE, FORBIDDEN, CONFLICT, GONE}, answer.text
        handles = [agent["handle"] for agent in rest.get("/api/v1/agents?limit=100").json()["data"]]
        assert not [handle for handle in handles if "thief" in handle]


def test_she_registers_bobs_public_key(house: House) -> None:
    """Even with a proof by the key itself: a key serves one agent."""
    with house.rest(house.mallory_user["api_key"]) as rest:
        asked = rest.post("/api/v1/key-challenges").json()["data"]
        message = key_proof_message(
            signing_domain=asked["signing_domain"],
            owner_id=house.mallory_user["id"],
            agent_id=None,
            challenge=asked["challenge"],
        )
        body = {
            "name": "Second Bob",
            "description": "another",
            "public_key": format_public_key(public_key_of(house.bob.seed)),
            "proof": {"challenge": asked["challenge"], "signature": sign(house.bob.seed, message)},
        }

        refused(rest.post("/api/v1/agents", json=body), CONFLICT, "public_key_taken")


def capped(house: House, **caps: int) -> str:
    """A key of Mallory's agent with caps."""
    with house.rest() as rest:
        made = rest.post("/api/v1/keys", json={"name": "capped", **caps})
        assert made.status_code == CREATED, made.text
        key: str = made.json()["data"]["api_key"]
        return key


def test_she_spends_past_a_cap_by_one_operation(house: House) -> None:
    refused(hire(house, capped(house, max_amount=PRICE - 1), max_price=PRICE), CONFLICT, "spend_cap_exceeded")


async def test_she_offers_past_her_cap(house: House) -> None:
    async with house.market.client(capped(house, max_amount=CAP)) as mallory:
        session = await opened(house, mallory)
        topic = f"negotiation:{session['id']}"
        await mallory.join(topic)

        with pytest.raises(Refused) as no:
            await mallory.push(topic, "offer", signed_offer(session, house.mallory, CAP + 1))

        assert no.value.reason == "spend_cap_exceeded"


def test_she_spends_past_a_cap_by_a_session(house: House) -> None:
    key = capped(house, max_amount_per_day=CAP)
    assert hire(house, key, max_price=PRICE).status_code == CREATED
    with house.rest(key) as rest:
        token = rest.post("/api/v1/auth/authenticate").json()["data"]["session_token"]
    with httpx.Client(
        base_url=house.market.url, headers={"authorization": f"Bearer {token}"}, timeout=REPLY_TIMEOUT_S
    ) as rest:
        body = {"provider_agent_id": house.bob.id, "capability": "translate", "max_price": PRICE}
        refused(rest.post("/api/v1/tasks", json=body), CONFLICT, "spend_cap_exceeded")


def test_she_spends_past_a_cap_by_a_second_key(house: House) -> None:
    key = capped(house, max_amount_per_day=CAP)
    with house.rest(key) as rest:
        made = rest.post("/api/v1/keys", json={"name": "second"})
        assert made.status_code == CREATED, made.text
        second = made.json()["data"]["api_key"]
    assert hire(house, key, max_price=PRICE).status_code == CREATED

    refused(hire(house, second, max_price=PRICE), CONFLICT, "spend_cap_exceeded")


def test_she_spends_past_a_cap_by_rotating_her_key(house: House) -> None:
    key = capped(house, max_amount_per_day=CAP)
    assert hire(house, key, max_price=PRICE).status_code == CREATED
    with house.rest(key) as rest:
        rotated = rest.post("/api/v1/auth/rotate-key").json()["data"]["api_key"]

    refused(hire(house, rotated, max_price=PRICE), CONFLICT, "spend_cap_exceeded")
    assert hire(house, key, max_price=PRICE).status_code == httpx.codes.UNAUTHORIZED


def test_she_spends_past_a_cap_by_twenty_parallel_calls(house: House) -> None:
    key, before = capped(house, max_amount_per_day=3 * PRICE), available(house)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: hire(house, key, max_price=PRICE), range(20)))

    assert sum(answer.status_code == CREATED for answer in answers) == 3
    assert available(house) == before - 3 * PRICE


def test_she_creates_a_key_with_more_rights_than_her_own(house: House) -> None:
    with house.rest() as rest:
        narrow = rest.post("/api/v1/keys", json={"name": "narrow", "scopes": ["discover"], "max_amount": 10}).json()
    with house.rest(narrow["data"]["api_key"]) as rest:
        refused(rest.post("/api/v1/keys", json={"name": "x", "scopes": ["tasks"]}), FORBIDDEN, "scope_exceeded")
        wide = {"name": "x", "scopes": ["discover"], "max_amount": 11}
        refused(rest.post("/api/v1/keys", json=wide), CONFLICT, "spend_cap_exceeded")
        uncapped = {"name": "x", "scopes": ["discover"], "max_amount": None}
        refused(rest.post("/api/v1/keys", json=uncapped), CONFLICT, "spend_cap_exceeded")
        refused(
            rest.post("/api/v1/negotiations", json={"provider_agent_id": house.bob.id, "capability": "translate"}),
            FORBIDDEN,
            "missing_scope",
        )
    with house.rest(house.mallory_user["api_key"]) as rest:
        refused(rest.post("/api/v1/keys", json={"name": "x", "scopes": ["admin"]}), FORBIDDEN, "scope_exceeded")


def test_a_repeated_deposit_counts_once_per_idempotency_key(house: House) -> None:
    before = available(house)
    body, key = {"agent_id": house.mallory.id, "amount": 100}, str(uuid.uuid4())
    assert house.market.operator_key is not None
    with house.rest(house.market.operator_key) as rest:
        first = rest.post("/api/v1/admin/deposits", json=body, headers={"idempotency-key": key})
        again = rest.post("/api/v1/admin/deposits", json=body, headers={"idempotency-key": key})
        other = rest.post("/api/v1/admin/deposits", json=body, headers={"idempotency-key": str(uuid.uuid4())})
        changed = rest.post("/api/v1/admin/deposits", json={**body, "amount": 101}, headers={"idempotency-key": key})

    assert first.json()["data"] == again.json()["data"]
    assert other.status_code == first.status_code
    refused(changed, UNPROCESSABLE, "idempotency_mismatch")
    assert available(house) == before + 200
    with house.rest(house.mallory_user["api_key"]) as rest:
        refused(rest.post("/api/v1/admin/deposits", json=body), FORBIDDEN, "operator_required")
    with house.rest() as rest:
        refused(
            rest.post("/api/v1/admin/deposits", json=body, headers={"idempotency-key": str(uuid.uuid4())}),
            FORBIDDEN,
            "user_required",
        )


async def test_a_repeated_hire_is_one_hire(house: House) -> None:
    session = await agreed(house)
    before, key = available(house), str(uuid.uuid4())

    first = hire(house, negotiation_session_id=session["id"], idempotency_key=key)
    again = hire(house, negotiation_session_id=session["id"], idempotency_key=key)
    other = hire(house, negotiation_session_id=session["id"])

    assert first.status_code == again.status_code == CREATED
    assert first.json()["data"] == again.json()["data"]
    refused(other, CONFLICT, "agreement_used")
    assert available(house) == before - session["amount"]


async def test_she_reads_another_ones_task_negotiation_mailbox_presence_or_balance(house: House) -> None:
    session = await agreed(house)
    task = hire(house, negotiation_session_id=session["id"]).json()["data"]
    house.market.here("user", "create", f"eve{uuid.uuid4().hex[:6]}")
    user = house.market.user(f"oscar{uuid.uuid4().hex[:6]}")
    oscar = house.market.agent(user["handle"], "Oscar")
    with house.rest(oscar.api_key) as rest:
        for path in (f"negotiations/{session['id']}", f"negotiations/{session['id']}/receipt", f"tasks/{task['id']}"):
            refused(rest.get(f"/api/v1/{path}"), NOT_FOUND, "not_found")
        refused(rest.get(f"/api/v1/tasks/{task['id']}/chunks?direction=input"), NOT_FOUND, "not_found")
        assert rest.get("/api/v1/ledger/balance").json()["data"]["total"] == 0
        assert rest.get("/api/v1/tasks").json()["data"] == []
        answer = rest.get("/api/v1/ledger/balance", headers={"x-agent-id": house.mallory.id})
        assert answer.status_code == FORBIDDEN
    async with house.market.client(oscar.api_key) as spy, house.market.client(house.mallory.api_key) as mallory:
        for topic in (f"task:{task['id']}", f"negotiation:{session['id']}", f"messages:{house.bob.id}"):
            with pytest.raises(Refused) as no:
                await spy.join(topic)
            assert no.value.reason in {"not_found", "unauthorized"}
        await spy.join("agents:discovery")
        await mallory.join("agents:discovery")
        await mallory.flush()
        await spy.flush()
        seen = [payload for _, event, payload in spy.inbox if event.startswith("presence")]
        assert house.mallory.id not in str(seen)


async def test_she_bargains_in_the_name_of_bob(house: House) -> None:
    """Her socket may join her side only; what she signs counts as hers."""
    async with house.market.client(house.mallory.api_key) as mallory:
        session = await opened(house, mallory)
        topic = f"negotiation:{session['id']}"
        await mallory.join(topic)
        forged = signed_offer(session, house.bob, 1)

        with pytest.raises(Refused) as no:
            await mallory.push(topic, "offer", forged)

        assert no.value.reason == "invalid_signature"


async def test_twenty_sockets_race_for_one_balance(house: House) -> None:
    """No order of holds takes more than there is."""
    user = house.market.user(f"poor{uuid.uuid4().hex[:6]}")
    poor = house.market.agent(user["handle"], "Poor", deposit=3 * PRICE + 1)
    answers = await asyncio.gather(*(asyncio.to_thread(hire, house, poor.api_key, max_price=PRICE) for _ in range(20)))

    assert sum(answer.status_code == CREATED for answer in answers) == 3
    for answer in answers:
        if answer.status_code != CREATED:
            refused(answer, CONFLICT, "insufficient_balance")
    assert available(house, poor) == 1
