"""Streams by REST: checkpoints that the provider alone sees, gaps, repetitions, and pages of what is stored."""

import base64
from typing import Any

import pytest

from tests.agrenting.api.market import PRICE, Player
from tests.agrenting.api.test_tasks import checksum


@pytest.fixture
async def path(alice: Player, bob: Player) -> str:
    """A task that has not begun."""
    body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE}
    task = await alice.post("/tasks", body)
    return f"/tasks/{task['id']}"


def seqs(page: Any) -> list[int]:
    return [one["seq"] for one in page["data"]]


# Checkpoints.


async def test_a_checkpoint_is_handed_back_to_the_provider_alone(alice: Player, bob: Player, path: str) -> None:
    assert (await bob.get(path))["checkpoint"] is None
    told = await bob.post(f"{path}/checkpoint", {"state": {"secret": 3}, "seq": 3})

    assert (told["seq"], told["status"]) == (3, "in_progress")  # It starts the task.
    assert (await bob.get(path))["checkpoint"] == {"state": {"secret": 3}, "seq": 3}
    seen = await alice.call("GET", path)
    assert "checkpoint" not in seen.json()["data"]
    assert "secret" not in seen.text


async def test_a_checkpoint_goes_forward_and_the_same_one_again_is_a_repetition(bob: Player, path: str) -> None:
    await bob.post(f"{path}/checkpoint", {"state": [1], "seq": 3})
    again = await bob.post(f"{path}/checkpoint", {"state": [1], "seq": 3})
    assert again["duplicate"] is True
    for body in ({"state": [2], "seq": 3}, {"state": [1], "seq": 2}):
        stale = await bob.refused("POST", f"{path}/checkpoint", body)
        assert stale.why == (409, "stale_checkpoint")
        assert stale.details["checkpoint_seq"] == 3

    await bob.post(f"{path}/checkpoint", {"state": None, "seq": 4})
    assert (await bob.get(path))["checkpoint"] == {"state": None, "seq": 4}


async def test_a_checkpoint_is_the_providers_and_not_too_large(alice: Player, bob: Player, path: str) -> None:
    body = {"state": "x", "seq": 1}
    assert (await alice.refused("POST", f"{path}/checkpoint", body)).why == (403, "forbidden_role")
    large = await bob.refused("POST", f"{path}/checkpoint", {"state": "x" * 65_537, "seq": 1})
    assert large.why == (422, "invalid_payload")
    await alice.post(f"{path}/cancel", {"reason": "no"})

    assert (await bob.refused("POST", f"{path}/checkpoint", body)).why == (409, "terminal_state")


# Gaps and pages.


async def test_what_is_ahead_of_a_gap_is_on_the_pages_and_the_gap_keeps_the_stream_open(
    alice: Player, bob: Player, path: str
) -> None:
    for seq in (0, 3, 5):
        told = await bob.post(f"{path}/output_stream", {"chunk": str(seq), "seq": seq})
        assert told["next_seq"] == 1
    missing = await bob.refused("POST", f"{path}/output_complete", checksum(b"0", b"3", b"5"))
    assert (missing.why, missing.details["missing"]) == ((409, "missing_chunks"), [1, 2, 4])

    query = {"direction": "output", "limit": "2"}
    first = await alice.page(f"{path}/chunks", params=query)
    last = await alice.page(f"{path}/chunks", params={**query, "from": first["metadata"]["next_cursor"]})

    assert (seqs(first), first["metadata"]["next_cursor"]) == ([0, 3], "4")
    assert (seqs(last), last["metadata"]["has_more"]) == ([5], False)
    assert base64.b64decode(last["data"][0]["chunk"]) == b"5"
    told = [await bob.post(f"{path}/output_stream", {"chunk": str(seq), "seq": seq}) for seq in (4, 2, 1)]
    assert (told[-1]["next_seq"], told[-1]["total_size"]) == (6, 6)
    closed = await bob.post(f"{path}/output_complete", checksum(b"012345"))
    assert closed["verified"] is True


async def test_the_same_chunk_again_is_a_repetition_and_another_in_its_place_is_a_conflict(
    alice: Player, path: str
) -> None:
    first = await alice.post(f"{path}/input_stream", {"chunk": "a", "seq": 0})
    again = await alice.post(f"{path}/input_stream", {"chunk": "YQ==", "seq": 0, "encoding": "base64"})
    assert again == first | {"duplicate": True}

    other = await alice.refused("POST", f"{path}/input_stream", {"chunk": "b", "seq": 0})
    far = await alice.refused("POST", f"{path}/input_stream", {"chunk": "b", "seq": 257})

    assert (other.why, other.details["next_seq"]) == ((409, "seq_conflict"), 1)
    assert (far.why, far.details["next_seq"]) == ((409, "seq_out_of_window"), 1)
    await alice.post(f"{path}/input_stream", {"chunk": "b", "seq": 256})
