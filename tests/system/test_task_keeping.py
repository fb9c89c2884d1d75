"""What is kept of a task for whoever comes again: the checkpoint, for its provider alone; and for how long."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.halls import Hall, OpenTask
from tests.system.harness import Client, MarketProcess, Refused
from tests.system.streaming import UNLIMITED, digests_of, words
from tests.system.translating import checksum

SECRET = "only the provider knows"
CHECKPOINT_MAX = 65_536


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    market = MarketProcess(tmp_path / "var", **UNLIMITED, AGRENTING_TIMER_POLL_S="0.1").start()
    yield Hall(market, *market.pair(deposit=1_000_000))
    assert market.stop() == 0, "\n".join(market.log)


def seen_by(client: Client) -> str:
    """All that a socket was told, as text."""
    return json.dumps([(topic, event, payload) for topic, event, payload in client.inbox], default=repr)


async def test_a_checkpoint_is_handed_to_its_provider_and_shown_to_nobody_else(hall: Hall) -> None:
    async with hall.task(hold_seconds=0) as task:
        state = {"note": SECRET, "done": [1, None, {"ü": 0.5}]}
        reply = await task.bob.push(task.topic, "checkpoint", {"seq": 7, "state": state})
        assert reply["seq"] == 7
        assert reply["status"] == "in_progress"
        again = await task.bob.push(task.topic, "checkpoint", {"seq": 7, "state": state})
        assert again["duplicate"] is True

        assert (await task.bob.join(task.topic))["checkpoint"] == {"seq": 7, "state": state}
        told = await task.alice.join(task.topic, {"input_from": 0, "output_from": 0})
        assert "checkpoint" not in told
        await task.send("output", [b"x"])
        await task.bob.push(task.topic, "output_complete", checksum([b"x"]))
        await task.bob.push(task.topic, "complete", {})
        assert "checkpoint" not in await task.alice.join(task.topic)
        await task.alice.flush()
        with hall.market.rest(hall.alice.api_key) as rest:
            answers = [rest.get(f"/api/v1/tasks/{task.id}{path}").text for path in ("", "/receipt")]
            answers.append(rest.get("/api/v1/tasks").text)
        for shown in (json.dumps(told), seen_by(task.alice), *answers):
            assert SECRET not in shown


async def test_an_older_or_larger_checkpoint_is_refused_and_the_newest_stays(hall: Hall) -> None:
    async with hall.task() as task:
        await task.bob.push(task.topic, "checkpoint", {"seq": 5, "state": "five"})
        for payload, reason in (
            ({"seq": 5, "state": "other"}, "stale_checkpoint"),
            ({"seq": 4, "state": "four"}, "stale_checkpoint"),
            ({"seq": 6, "state": "x" * CHECKPOINT_MAX}, "invalid_payload"),
            ({"seq": -1, "state": 1}, "invalid_payload"),
            ({"state": 1}, "invalid_payload"),
            ({"seq": 6}, "invalid_payload"),
        ):
            with pytest.raises(Refused) as refused:
                await task.bob.push(task.topic, "checkpoint", payload)
            assert refused.value.reason == reason
            assert (await task.bob.join(task.topic))["checkpoint"] == {"seq": 5, "state": "five"}
        with pytest.raises(Refused) as forbidden:
            await task.alice.push(task.topic, "checkpoint", {"seq": 9, "state": 1})
        assert forbidden.value.reason == "forbidden_role"
        largest = "x" * (CHECKPOINT_MAX - 2)  # And two quotes.
        await task.bob.push(task.topic, "checkpoint", {"seq": 6, "state": largest})
        assert (await task.bob.join(task.topic))["checkpoint"] == {"seq": 6, "state": largest}


async def test_the_newest_checkpoint_that_was_acknowledged_is_there_after_a_kill(hall: Hall) -> None:
    """Thirty are on their way when the server dies; the newest that was acknowledged is there, or a later one."""
    port = hall.market.url.rpartition(":")[2]
    async with hall.task() as task:
        await task.bob.push(task.topic, "checkpoint", {"seq": 0, "state": {"at": 0}})
        await task.bob.push(task.topic, "progress", {"percent": 3, "message": "thirty"})
        pushing = [
            asyncio.create_task(task.bob.push(task.topic, "checkpoint", {"seq": seq, "state": {"at": seq}}))
            for seq in range(1, 31)
        ]
        await pushing[9]
        hall.market.kill()
        outcomes = await asyncio.gather(*pushing, return_exceptions=True)
    acknowledged = [one["seq"] for one in outcomes if isinstance(one, dict)]
    hall.market.start(port)
    async with hall.market.client(hall.bob.api_key) as bob:
        state = await bob.join(task.topic)
        assert max(acknowledged) <= state["checkpoint"]["seq"] <= 30
        assert state["checkpoint"]["state"] == {"at": state["checkpoint"]["seq"]}
        assert state["progress"] == {"percent": 3, "message": "thirty"}
        newer = {"seq": state["checkpoint"]["seq"] + 1, "state": "after"}
        await bob.push(task.topic, "checkpoint", newer)
        assert (await bob.join(task.topic))["checkpoint"] == newer


@pytest.fixture
def brief(tmp_path: Path) -> Iterator[Hall]:
    """A server that keeps streams for one second after their end."""
    settings = {**UNLIMITED, "AGRENTING_LIMITS_STREAM_RETENTION_S": "1", "AGRENTING_TIMER_POLL_S": "0.1"}
    market = MarketProcess(tmp_path / "var", **settings).start()
    yield Hall(market, *market.pair(deposit=1_000_000))
    assert market.stop() == 0, "\n".join(market.log)


def stored(task: OpenTask, direction: str) -> list[int]:
    """The seqs that REST lists."""
    with task.hall.market.rest(task.hall.bob.api_key) as rest:
        answer = rest.get(f"/api/v1/tasks/{task.id}/chunks", params={"direction": direction, "limit": 100})
        assert answer.is_success, answer.text
        return [chunk["seq"] for chunk in answer.json()["data"]]


async def test_after_its_time_the_chunks_and_the_checkpoint_are_gone_and_the_proof_of_them_stays(brief: Hall) -> None:
    chunks = words(40)
    async with brief.task(hold_seconds=0) as task, brief.task() as running:
        for one in (task, running):
            await one.send("input", chunks)
            await one.send("output", chunks)
            await one.bob.push(one.topic, "checkpoint", {"seq": 1, "state": SECRET})
        await task.alice.push(task.topic, "input_complete", checksum(chunks))
        await task.bob.push(task.topic, "output_complete", checksum(chunks))
        done = await task.bob.push(task.topic, "complete", {"result": "done"})
        assert done["kept_until"] is not None
        with brief.market.rest(brief.alice.api_key) as rest:
            receipt = rest.get(f"/api/v1/tasks/{task.id}/receipt").json()["data"]

        async with asyncio.timeout(60):
            while stored(task, "output") or stored(task, "input"):
                await task.bob.flush()  # There is no event of it.

        async with task.ear(brief.bob) as bob:
            state = await bob.join(input_from=0, output_from=0)
            await task.bob.flush()
            assert state["checkpoint"] is None
            assert bob.heard == {"input": [], "output": []}
            for direction in ("input", "output"):
                assert state["streams"][direction] == {
                    "next_seq": 40,
                    "digest": digests_of(chunks)[-1],
                    "complete": True,
                    "verified": True,
                    **checksum(chunks),
                }
            assert (state["status"], state["result"]) == ("completed", "done")
        with brief.market.rest(brief.alice.api_key) as rest:
            later = rest.get(f"/api/v1/tasks/{task.id}/receipt").json()["data"]
        assert later["document"] == receipt["document"]
        assert stored(running, "input") == stored(running, "output") == list(range(40)), "a running task keeps its own"
        assert (await running.bob.join(running.topic))["checkpoint"] == {"seq": 1, "state": SECRET}
