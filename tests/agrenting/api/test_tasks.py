"""Tasks by REST: hired, streamed, paid or given back, as on the wire."""

import base64
import hashlib
from datetime import timedelta
from typing import Any

import pytest

from tests.agrenting.api.market import PRICE, START, Caller, Marketplace, Player

FEE = PRICE * 500 // 10_000


@pytest.fixture
async def hired(alice: Player, bob: Player) -> dict[str, Any]:
    """A task that has not begun."""
    task: dict[str, Any] = await alice.post("/tasks", hire(bob))
    return task


def hire(provider: Player, **changed: Any) -> dict[str, Any]:
    terms = {"max_price": PRICE, "hold_seconds": 0}
    return {"provider_agent_id": provider.id, "capability": "translate", **terms, **changed}


def checksum(*chunks: bytes) -> dict[str, Any]:
    whole = b"".join(chunks)
    return {"checksum": hashlib.sha256(whole).hexdigest(), "total_size": len(whole)}


async def available(caller: Caller) -> int:
    return int((await caller.get("/ledger/balance"))["available"])


async def test_a_task_runs_from_hiring_to_payment(alice: Player, bob: Player, hired: dict[str, Any]) -> None:
    path = f"/tasks/{hired['id']}"
    await alice.post(f"{path}/input_stream", {"chunk": "hello ", "seq": 0})
    stored = await alice.post(f"{path}/input_stream", {"chunk": "d29ybGQ=", "seq": 1, "encoding": "base64"})
    closed = await alice.post(f"{path}/input_complete", checksum(b"hello ", b"world"))
    told = await bob.post(f"{path}/progress", {"percent": 50, "message": "halfway"})
    await bob.post(f"{path}/output_stream", {"chunk": "hallo welt", "seq": 0})
    await bob.post(f"{path}/output_complete", checksum(b"hallo welt"))
    done = await bob.post(f"{path}/complete", {"result": {"words": 2}})

    assert (stored["next_seq"], stored["total_size"]) == (2, 11)
    assert (closed["verified"], closed["checksum"]) == (True, checksum(b"hello world")["checksum"])
    assert (told["percent"], told["status"]) == (50, "in_progress")
    assert (done["status"], done["escrow_status"], done["net"]) == ("completed", "released", PRICE - FEE)
    assert (await available(alice), await available(bob)) == (100_000 - PRICE, PRICE - FEE)
    assert await alice.get(path) == done


async def test_hiring_answers_created_and_holds_the_price(alice: Player, bob: Player) -> None:
    answer = await alice.call("POST", "/tasks", json=hire(bob, input={"text": "hi"}))

    balance = await alice.get("/ledger/balance")
    assert answer.status_code == 201
    assert (balance["available"], balance["escrow"], balance["total"]) == (100_000 - PRICE, PRICE, 100_000)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"provider_agent_id": "nobody"}, (404, "not_found")),
        ({"capability": "sing"}, (409, "capability_not_offered")),
        ({"max_price": PRICE - 1}, (409, "price_below_base")),
        ({"max_price": "0.0001"}, (409, "price_below_base")),
        ({"max_price": None}, (422, "invalid_payload")),
        ({"negotiation_session_id": "nothing"}, (422, "invalid_payload")),
        ({"negotiation_session_id": "nothing", "max_price": None}, (404, "not_found")),
        ({"max_price": 10**15 + 1}, (422, "amount_out_of_range")),
        ({"deadline": "2030-01-01T12:00:30Z"}, (422, "deadline_out_of_range")),
        ({"deadline": "2030-01-01T13:00:00"}, (422, "invalid_payload")),
        ({"deadline": "tomorrow"}, (422, "invalid_payload")),
    ],
)
async def test_hiring_is_refused(alice: Player, bob: Player, changed: dict[str, Any], why: tuple[int, str]) -> None:
    refused = await alice.refused("POST", "/tasks", hire(bob, **changed))

    assert refused.why == why
    assert await available(alice) == 100_000


async def test_hiring_for_more_than_one_has_is_refused(market: Marketplace, alice: Player, bob: Player) -> None:
    poor = await market.agent("alice", "Poor", deposit=PRICE - 1)

    refused = await poor.refused("POST", "/tasks", hire(bob))

    assert refused.why == (409, "insufficient_balance")
    assert refused.details == {"available": PRICE - 1, "required": PRICE}


async def test_a_stranger_is_not_hired_without_a_contact(alice: Player, mallory: Player) -> None:
    refused = await alice.refused("POST", "/tasks", hire(mallory))

    assert refused.why == (403, "contact_required")


async def test_an_agreement_is_used_once(alice: Player, bob: Player) -> None:
    session = await alice.post("/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})
    session = await alice.post(f"/negotiations/{session['id']}/offer", alice.offer(session, 700))
    session = await bob.post(f"/negotiations/{session['id']}/offer", bob.offer(session, 700))
    body = hire(bob, negotiation_session_id=session["id"], max_price=None)
    task = await alice.post("/tasks", body)

    refused = await alice.refused("POST", "/tasks", body)

    assert task["price"] == 700
    assert refused.why == (409, "agreement_used")
    assert refused.details == {"task_id": task["id"]}


async def test_an_old_agreement_is_expired(market: Marketplace, alice: Player, bob: Player) -> None:
    session = await alice.post("/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})
    session = await alice.post(f"/negotiations/{session['id']}/offer", alice.offer(session, 700))
    session = await bob.post(f"/negotiations/{session['id']}/offer", bob.offer(session, 700))
    market.clock.advance(days=1)

    refused = await alice.refused("POST", "/tasks", hire(bob, negotiation_session_id=session["id"], max_price=None))

    assert refused.why == (410, "agreement_expired")


@pytest.mark.parametrize(
    ("event", "body"),
    [
        ("input_stream", {"chunk": "x", "seq": 0}),
        ("input_complete", checksum()),
        ("output_stream", {"chunk": "x", "seq": 0}),
        ("output_complete", checksum()),
        ("progress", {"percent": 1}),
        ("complete", {"result": 1}),
        ("error", {"type": "tired"}),
    ],
)
async def test_the_wrong_party_is_refused_and_a_stranger_finds_nothing(
    deal: tuple[Player, Player], mallory: Player, hired: dict[str, Any], event: str, body: dict[str, Any]
) -> None:
    path = f"/tasks/{hired['id']}/{event}"
    client, provider = deal
    wrong = provider if event.startswith("input") else client

    refused = await wrong.refused("POST", path, body)

    assert refused.why == (403, "forbidden_role")
    assert (await mallory.refused("POST", path, body)).why == (404, "not_found")


@pytest.mark.parametrize("path", ["", "/chunks?direction=input"])
async def test_a_stranger_reads_no_task(mallory: Player, hired: dict[str, Any], path: str) -> None:
    assert (await mallory.refused("GET", f"/tasks/{hired['id']}{path}")).why == (404, "not_found")


@pytest.mark.parametrize(
    ("event", "body", "why"),
    [
        ("input_stream", {"chunk": "y", "seq": 0}, (409, "seq_conflict")),
        ("input_stream", {"chunk": "y", "seq": 257}, (409, "seq_out_of_window")),
        ("input_stream", {"chunk": "", "seq": 1}, (422, "invalid_payload")),
        ("input_stream", {"chunk": "?", "seq": 1, "encoding": "base64"}, (422, "invalid_payload")),
        ("input_stream", {"chunk": "y", "seq": -1}, (422, "invalid_payload")),
        ("input_stream", {"chunk": "y" * 65_537, "seq": 1}, (413, "chunk_too_large")),
        ("input_complete", {**checksum(b"x"), "total_size": 2}, (422, "size_mismatch")),
        ("input_complete", {**checksum(b"y"), "total_size": 1}, (422, "checksum_mismatch")),
    ],
)
async def test_a_stream_takes_what_fits_alone(
    alice: Player, hired: dict[str, Any], event: str, body: dict[str, Any], why: tuple[int, str]
) -> None:
    await alice.post(f"/tasks/{hired['id']}/input_stream", {"chunk": "x", "seq": 0})

    assert (await alice.refused("POST", f"/tasks/{hired['id']}/{event}", body)).why == why


async def test_a_repeated_chunk_is_a_duplicate(alice: Player, hired: dict[str, Any]) -> None:
    path, body = f"/tasks/{hired['id']}/input_stream", {"chunk": "x", "seq": 0}
    first = await alice.post(path, body)

    assert await alice.post(path, body) == {**first, "duplicate": True}


async def test_a_closed_stream_takes_nothing(alice: Player, hired: dict[str, Any]) -> None:
    await alice.post(f"/tasks/{hired['id']}/input_complete", checksum())

    refused = await alice.refused("POST", f"/tasks/{hired['id']}/input_stream", {"chunk": "x", "seq": 0})

    assert refused.why == (409, "stream_closed")


@pytest.mark.parametrize(
    ("event", "body", "why"),
    [
        ("complete", {}, (409, "nothing_delivered")),
        ("error", {"type": "Not A Type"}, (422, "invalid_payload")),
        ("progress", {"percent": 101}, (422, "invalid_payload")),
        ("progress", {"percent": "50"}, (422, "invalid_payload")),
    ],
)
async def test_the_provider_is_refused(
    bob: Player, hired: dict[str, Any], event: str, body: dict[str, Any], why: tuple[int, str]
) -> None:
    assert (await bob.refused("POST", f"/tasks/{hired['id']}/{event}", body)).why == why


async def test_an_open_output_stream_is_closed_before_the_end(bob: Player, hired: dict[str, Any]) -> None:
    await bob.post(f"/tasks/{hired['id']}/output_stream", {"chunk": "x", "seq": 0})

    refused = await bob.refused("POST", f"/tasks/{hired['id']}/complete", {"result": 1})

    assert refused.why == (409, "stream_incomplete")


async def test_the_client_cannot_take_back_what_was_delivered(
    alice: Player, bob: Player, hired: dict[str, Any]
) -> None:
    await bob.post(f"/tasks/{hired['id']}/output_stream", {"chunk": "x", "seq": 0})

    refused = await alice.refused("POST", f"/tasks/{hired['id']}/cancel", {"reason": "thanks"})

    assert refused.why == (409, "output_delivered")


@pytest.mark.parametrize(("event", "status"), [("error", "failed"), ("cancel", "cancelled")])
async def test_a_task_that_ends_without_work_is_refunded(
    alice: Player, bob: Player, hired: dict[str, Any], event: str, status: str
) -> None:
    body = {"type": "tired", "details": {"since": 1}} if event == "error" else None

    after = await bob.post(f"/tasks/{hired['id']}/{event}", body)

    assert (after["status"], after["escrow_status"]) == (status, "refunded")
    assert await available(alice) == 100_000


async def test_an_ended_task_takes_no_event(alice: Player, bob: Player, hired: dict[str, Any]) -> None:
    await alice.post(f"/tasks/{hired['id']}/cancel")

    refused = await bob.refused("POST", f"/tasks/{hired['id']}/complete", {"result": 1})

    assert refused.why == (409, "terminal_state")


async def test_the_deadline_decides_by_the_clock(market: Marketplace, bob: Player, hired: dict[str, Any]) -> None:
    market.clock.advance(days=7)

    refused = await bob.refused("POST", f"/tasks/{hired['id']}/complete", {"result": 1})

    assert refused.why == (410, "expired")


async def test_a_deadline_is_as_the_client_says(alice: Player, bob: Player) -> None:
    deadline = START + timedelta(hours=1)

    task = await alice.post("/tasks", hire(bob, deadline=deadline.isoformat()))

    assert task["deadline"] == "2030-01-01T13:00:00Z"


async def test_chunks_come_page_by_page(alice: Player, bob: Player, hired: dict[str, Any]) -> None:
    path = f"/tasks/{hired['id']}"
    for seq in range(5):
        await alice.post(f"{path}/input_stream", {"chunk": f"chunk {seq}", "seq": seq})

    seen, query = [], {"direction": "input", "limit": "2"}
    while True:
        page = await bob.page(f"{path}/chunks", params=query)
        seen += [base64.b64decode(item["chunk"]).decode() for item in page["data"]]
        if not page["metadata"]["has_more"]:
            break
        query["from"] = page["metadata"]["next_cursor"]

    assert seen == [f"chunk {seq}" for seq in range(5)]
    assert page["metadata"]["next_cursor"] is None


async def test_a_page_of_large_chunks_ends_early(alice: Player, hired: dict[str, Any]) -> None:
    path = f"/tasks/{hired['id']}"
    for seq in range(17):
        await alice.post(f"{path}/input_stream", {"chunk": "x" * 65_536, "seq": seq})

    page = await alice.page(f"{path}/chunks", params={"direction": "input"})

    assert len(page["data"]) == 16
    assert page["metadata"] == {"has_more": True, "limit": 20, "next_cursor": "16"}


@pytest.mark.parametrize(
    "query",
    [{}, {"direction": "sideways"}, {"direction": "input", "from": "-1"}, {"direction": "input", "limit": "101"}],
)
async def test_chunks_are_asked_for_in_order(alice: Player, hired: dict[str, Any], query: dict[str, str]) -> None:
    refused = await alice.refused("GET", f"/tasks/{hired['id']}/chunks", params=query)

    assert refused.why == (422, "invalid_payload")


async def test_the_list_knows_roles_and_statuses(alice: Player, bob: Player, hired: dict[str, Any]) -> None:
    await bob.post(f"/tasks/{hired['id']}/progress", {"percent": 1})

    assert [task["id"] for task in await bob.get("/tasks", params={"status": "in_progress"})] == [hired["id"]]
    assert await bob.get("/tasks", params={"role": "client"}) == []
    assert len(await alice.get("/tasks", params={"role": "client"})) == 1


async def test_a_cap_on_one_operation_holds_by_rest(market: Marketplace, alice: Player, bob: Player) -> None:
    key = (await alice.post("/keys", {"name": "small", "max_amount": PRICE - 1}))["api_key"]

    refused = await market.with_key(key).refused("POST", "/tasks", hire(bob))

    assert refused.why == (409, "spend_cap_exceeded")
