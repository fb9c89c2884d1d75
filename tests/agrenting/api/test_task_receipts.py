"""The receipt of a task by REST: for its two parties once its price is not held, as data and as a file."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from agrenting.api.receipts import MEDIA_TYPE
from agrenting.cli import main
from crypto import verify_chunks, verify_receipt, verify_stream
from tests.agrenting.api.market import PRICE, Marketplace, Player

Json = dict[str, Any]

FEE = PRICE * 500 // 10_000
SENT = (b"hello ", b"world")
GOT = (b"\xff\x00", b"hallo welt")


async def work(alice: Player, bob: Player, **changed: Any) -> Json:
    """A task that Bob has done: both streams closed, not completed yet."""
    body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE, **changed}
    hired: Json = await alice.post("/tasks", body)
    for who, direction, chunks in ((alice, "input", SENT), (bob, "output", GOT)):
        for seq, chunk in enumerate(chunks):
            sent = {"chunk": base64.b64encode(chunk).decode(), "encoding": "base64", "seq": seq}
            await who.post(f"/tasks/{hired['id']}/{direction}_stream", sent)
        whole = b"".join(chunks)
        closing = {"checksum": hashlib.sha256(whole).hexdigest(), "total_size": len(whole)}
        await who.post(f"/tasks/{hired['id']}/{direction}_complete", closing)
    return hired


@pytest.fixture
async def done(alice: Player, bob: Player) -> Json:
    """A task that was completed and paid at once."""
    hired = await work(alice, bob, hold_seconds=0, input={"to": "de"})
    completed: Json = await bob.post(f"/tasks/{hired['id']}/complete", {"result": {"words": 2}})
    return completed


def at(task: Json) -> str:
    return f"/tasks/{task['id']}/receipt"


async def test_both_parties_get_the_same_receipt_and_it_verifies(
    market: Marketplace, alice: Player, bob: Player, done: Json
) -> None:
    receipt = await alice.get(at(done))

    assert await bob.get(at(done)) == receipt
    assert (receipt["kind"], receipt["id"], receipt["signing_domain"]) == ("task", done["id"], alice.domain)
    report = verify_receipt(receipt, platform_key=market.server.public_key)
    assert report.unproven == ()
    document = receipt["document"]
    assert (document["status"], document["escrow_status"]) == ("completed", "released")
    assert (document["to_client"], document["to_provider"], document["fee"]) == (0, PRICE - FEE, FEE)
    for direction, chunks in (("input", SENT), ("output", GOT)):
        assert document["streams"][direction]["digest"] == done["streams"][direction]["digest"]
        assert document["streams"][direction]["checksum"] == done["streams"][direction]["checksum"]
        assert document["streams"][direction]["chunks"] == len(chunks)
    verify_stream(receipt, direction="input", blocks=SENT)
    verify_chunks(receipt, direction="output", chunks=GOT)


async def test_it_comes_bare_as_a_file(alice: Player, done: Json) -> None:
    answer = await alice.call("GET", at(done), headers={"accept": MEDIA_TYPE})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.headers["content-disposition"] == f'attachment; filename="task-{done["id"]}.json"'
    assert answer.json() == await alice.get(at(done))


async def test_the_command_line_proves_the_file_and_what_was_delivered(
    alice: Player, done: Json, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt, output = tmp_path / "receipt.json", tmp_path / "output.bin"
    receipt.write_bytes((await alice.call("GET", at(done), headers={"accept": MEDIA_TYPE})).content)
    output.write_bytes(b"".join(GOT))
    capsys.readouterr()  # The server's log.

    code = main(["verify", str(receipt), "--output", str(output), "--json"])

    assert code == 0
    (document,) = json.loads(capsys.readouterr().out)["documents"]
    assert "The output here is that of the receipt: 12 bytes" in document["checks"][-1]


async def test_while_the_price_is_held_there_is_none_and_once_it_is_released_there_is(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    hired = await work(alice, bob)
    running = await alice.refused("GET", at(hired))
    await bob.post(f"/tasks/{hired['id']}/complete", {"result": None})
    held = await bob.refused("GET", at(hired))
    await alice.post(f"/tasks/{hired['id']}/release")

    receipt = await bob.get(at(hired))

    assert (running.why, running.details) == (
        (409, "not_settled"), {"status": "in_progress", "escrow_status": "held"},
    )  # fmt: skip
    assert (held.why, held.details) == ((409, "not_settled"), {"status": "completed", "escrow_status": "held"})
    assert (receipt["document"]["escrow_status"], receipt["document"]["result_given"]) == ("released", False)
    verify_receipt(receipt, platform_key=market.server.public_key)


async def test_what_was_taken_back_has_a_receipt_of_the_refund(market: Marketplace, alice: Player, bob: Player) -> None:
    body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE}
    hired = await alice.post("/tasks", body)
    await alice.post(f"/tasks/{hired['id']}/cancel", {"reason": "changed my mind"})

    receipt = await alice.get(at(hired))

    document = receipt["document"]
    assert (document["status"], document["escrow_status"], document["to_client"]) == ("cancelled", "refunded", PRICE)
    verify_receipt(receipt, platform_key=market.server.public_key)


async def test_a_receipt_is_for_the_parties_of_the_task_alone(mallory: Player, alice: Player, done: Json) -> None:
    assert (await mallory.refused("GET", at(done))).why == (404, "not_found")
    assert (await alice.refused("GET", at({"id": "nothing"}))).why == (404, "not_found")
