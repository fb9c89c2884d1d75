"""Streams over sockets: order, gaps, duplicates and repair; every refusal leaves all as it was; binary frames."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest
from websockets.asyncio.client import connect

from tests.system.halls import Hall, OpenTask
from tests.system.harness import Client, MarketProcess, Refused
from tests.system.raw import Wire
from tests.system.streaming import UNLIMITED, Log, digests_of, words
from tests.system.translating import checksum

WINDOW, CHUNK_MAX, STREAM_MAX = 256, 65_536, 262_144
SEQ_MAX = 2**53 - 1


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    settings = {**UNLIMITED, "AGRENTING_LIMITS_STREAM_BYTES_MAX": str(STREAM_MAX)}
    market = MarketProcess(tmp_path_factory.mktemp("streams") / "var", **settings).start()
    yield Hall(market, *market.pair(deposit=1_000_000))
    assert market.stop() == 0, "\n".join(market.log)


@pytest.fixture
async def task(hall: Hall) -> AsyncIterator[OpenTask]:
    """Joined by both; the text of five chunks has been sent, and the fourth is missing."""
    async with hall.task(hold_seconds=0) as task:
        for seq in (0, 1, 2, 4):
            await give(task, "input", seq, f"{seq} ")
        await task.bob.flush()
        task.bob.inbox.clear()
        yield task


async def give(task: OpenTask, direction: str, seq: int, chunk: str, encoding: str = "utf8") -> dict[str, Any]:
    """Send one chunk as who may; the reply."""
    sender = task.alice if direction == "input" else task.bob
    payload = {"seq": seq, "chunk": chunk, "encoding": encoding}
    reply: dict[str, Any] = await sender.push(task.topic, f"{direction}_stream", payload)
    return reply


async def heard(task: OpenTask) -> list[tuple[str, Any]]:
    """What either has been told so far on the task's topic, beside replies."""
    for who in (task.alice, task.bob):
        await who.flush()
    inboxes = (*task.alice.inbox, *task.bob.inbox)
    return [(event, payload) for topic, event, payload in inboxes if topic in {task.topic, ""}]


async def refused(task: OpenTask, who: Client, event: str, payload: Any) -> dict[str, Any]:
    """What is refused leaves the task as it was, and nobody hears of it; the refusal."""
    before, said = task.read(), await heard(task)
    is_binary = isinstance(payload, bytes)
    pushing = task.send_binary(who, event, payload) if is_binary else who.push(task.topic, event, payload)
    with pytest.raises(Refused) as refusal:
        await pushing
    assert await heard(task) == said
    assert task.read() == before
    return refusal.value.response


# Order.


async def test_the_vector_of_the_specification(hall: Hall) -> None:
    async with hall.task() as task:
        replies = [await give(task, "input", 0, "hello "), await give(task, "input", 1, "world")]
        assert [(reply["next_seq"], reply["total_size"]) for reply in replies] == [(1, 6), (2, 11)]
        assert [reply["digest"] for reply in replies] == digests_of([b"hello ", b"world"])[1:]
        close = {"checksum": "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9", "total_size": 11}
        assert (await task.alice.push(task.topic, "input_complete", close))["verified"] is True
        relayed = await task.bob.expect("input_complete")
        assert (relayed["verified"], relayed["checksum"], relayed["total_size"]) == (True, *close.values())


async def test_chunks_are_taken_out_of_order_within_the_window_and_relayed_as_they_come(hall: Hall) -> None:
    order = [0, WINDOW, 2, 1, 3]
    async with hall.task() as task:
        replies = [await give(task, "input", seq, f"{seq} ") for seq in order]
        assert [reply["next_seq"] for reply in replies] == [1, 1, 1, 3, 4]
        assert replies[-1]["digest"] == digests_of([f"{seq} ".encode() for seq in range(4)])[-1]
        assert [(await task.bob.expect("input_stream"))["seq"] for _ in order] == order
        answer = await refused(task, task.alice, "input_stream", {"seq": 4 + WINDOW, "chunk": "too far"})
        assert (answer["reason"], answer["seq"], answer["next_seq"]) == ("seq_out_of_window", 4 + WINDOW, 4)
        assert (await give(task, "input", 3 + WINDOW, "the last"))["next_seq"] == 4


async def test_a_window_of_chunks_sent_backwards_is_taken_whole(hall: Hall) -> None:
    chunks = words(WINDOW)
    async with hall.task() as task, task.ear(hall.bob) as bob:
        bob.logs["input"] = Log(in_order=False)
        await bob.join()
        for seq in reversed(range(1, WINDOW)):
            await give(task, "input", seq, chunks[seq].decode())
        reply = await give(task, "input", 0, chunks[0].decode())
        assert (reply["next_seq"], reply["digest"]) == (WINDOW, digests_of(chunks)[-1])
        assert (await bob.has("input", WINDOW)).chunks == chunks
        assert [one.seq for one in bob.heard["input"]] == list(reversed(range(WINDOW)))


async def test_a_chunk_that_comes_again_is_answered_and_relayed_to_nobody(task: OpenTask) -> None:
    """Also ahead of a gap, also in another form of the same bytes."""
    before = task.read()
    for seq in (0, 2, 4):
        again = f"{seq} ".encode()
        replies = [
            await give(task, "input", seq, again.decode()),
            await give(task, "input", seq, base64.b64encode(again).decode(), "base64"),
            await task.send_binary(task.alice, "input_stream", seq.to_bytes(8, "big") + again),
        ]
        for reply in replies:
            assert (reply["duplicate"], reply["seq"], reply["next_seq"]) == (True, seq, 3)
            assert reply["digest"] == before["streams"]["input"]["digest"]
    assert task.read() == before
    assert await heard(task) == []


async def test_a_gap_is_listed_and_repaired_and_then_the_stream_closes(task: OpenTask) -> None:
    await give(task, "input", 8, "8 ")
    task.bob.inbox.clear()
    chunks = [f"{seq} ".encode() for seq in range(9)]
    answer = await refused(task, task.alice, "input_complete", checksum(chunks))
    assert (answer["reason"], answer["missing"], answer["next_seq"]) == ("missing_chunks", [3, 5, 6, 7], 3)
    for seq in answer["missing"]:
        await give(task, "input", seq, f"{seq} ")
    reply = await task.alice.push(task.topic, "input_complete", checksum(chunks))
    assert (reply["verified"], reply["digest"]) == (True, digests_of(chunks)[-1])


async def test_a_wrong_size_or_checksum_leaves_the_stream_open_and_is_repaired(task: OpenTask) -> None:
    await give(task, "input", 3, "3 ")
    task.bob.inbox.clear()
    whole = [f"{seq} ".encode() for seq in range(6)]
    longer = await refused(task, task.alice, "input_complete", checksum(whole))
    assert (longer["reason"], longer["next_seq"]) == ("size_mismatch", 5)
    other = {"checksum": hashlib.sha256(b"other").hexdigest(), "total_size": 10}
    assert (await refused(task, task.alice, "input_complete", other))["reason"] == "checksum_mismatch"
    malformed = {"checksum": "no checksum", "total_size": 10}
    assert (await refused(task, task.alice, "input_complete", malformed))["reason"] in {
        "checksum_mismatch",
        "invalid_payload",
    }
    await give(task, "input", 5, "5 ")
    right = checksum(whole)
    right["checksum"] = "sha256:" + right["checksum"].upper()
    assert (await task.alice.push(task.topic, "input_complete", right))["verified"] is True
    assert (await task.alice.push(task.topic, "input_complete", checksum(whole)))["duplicate"] is True


# Refusals.


def chunk(seq: int, text: str, encoding: str = "utf8") -> dict[str, Any]:
    return {"seq": seq, "chunk": text, "encoding": encoding}


LARGE = "x" * (CHUNK_MAX + 1)
REFUSALS = {
    "other bytes where one is stored": (chunk(1, "other"), "seq_conflict"),
    "other bytes ahead of the gap": (chunk(4, "other"), "seq_conflict"),
    "other bytes in a binary frame": ((1).to_bytes(8, "big") + b"other", "seq_conflict"),
    "beyond the window": (chunk(3 + WINDOW, "x"), "seq_out_of_window"),
    "far beyond it": (chunk(SEQ_MAX, "x"), "seq_out_of_window"),
    "beyond the window in a binary frame": ((3 + WINDOW).to_bytes(8, "big") + b"x", "seq_out_of_window"),
    "a byte too many": (chunk(3, LARGE), "chunk_too_large"),
    "a byte too many of two-byte characters": (chunk(3, "ü" * (CHUNK_MAX // 2) + "x"), "chunk_too_large"),
    "a byte too many in base64": (chunk(3, base64.b64encode(LARGE.encode()).decode(), "base64"), "chunk_too_large"),
    "a byte too many in a binary frame": ((3).to_bytes(8, "big") + LARGE.encode(), "chunk_too_large"),
    "an empty chunk": (chunk(3, ""), "invalid_payload"),
    "an empty binary chunk": ((3).to_bytes(8, "big"), "invalid_payload"),
    "half a seq": (b"\0\0\0", "invalid_payload"),
    "nothing": (b"", "invalid_payload"),
    "a seq that no client's number holds": ((SEQ_MAX + 1).to_bytes(8, "big") + b"x", "invalid_payload"),
    "no base64": (chunk(3, "no base64!", "base64"), "invalid_payload"),
    "base64 without padding": (chunk(3, "YQ", "base64"), "invalid_payload"),
    "base64 with bits beyond its last byte": (chunk(3, "YR==", "base64"), "invalid_payload"),
    "an encoding that is none": (chunk(3, "x", "latin1"), "invalid_payload"),
    "a seq below 0": (chunk(-1, "x"), "invalid_payload"),
    "a seq that is no integer": ({"seq": 3.5, "chunk": "x"}, "invalid_payload"),
    "no seq": ({"chunk": "x"}, "invalid_payload"),
    "no chunk": ({"seq": 3}, "invalid_payload"),
}


@pytest.mark.parametrize("what", REFUSALS)
async def test_a_chunk_is_refused_that_is(task: OpenTask, what: str) -> None:
    payload, reason = REFUSALS[what]
    answer = await refused(task, task.alice, "input_stream", payload)
    assert answer["reason"] == reason
    if reason in {"seq_conflict", "seq_out_of_window"}:
        assert answer["next_seq"] == 3
    assert (await give(task, "input", 3, "3 "))["next_seq"] == 5, "and the stream goes on"


async def test_a_stream_may_have_so_many_bytes_and_no_more(hall: Hall) -> None:
    """Chunks ahead of a gap count as well."""
    async with hall.task() as task:
        for seq in (0, 2, 3):
            await give(task, "input", seq, "x" * CHUNK_MAX)
        await give(task, "input", 4, "x" * (CHUNK_MAX - 1))
        answer = await refused(task, task.alice, "input_stream", chunk(1, "xx"))
        assert (answer["reason"], answer["stream_bytes_max"]) == ("stream_too_large", STREAM_MAX)
        reply = await give(task, "input", 1, "x")
        assert (reply["next_seq"], reply["total_size"]) == (5, STREAM_MAX)


ROLES = {
    ("alice", "output_stream"): chunk(0, "x"),
    ("alice", "output_complete"): checksum([]),
    ("alice", "progress"): {"percent": 1},
    ("alice", "checkpoint"): {"seq": 1, "state": 1},
    ("bob", "input_stream"): chunk(3, "x"),
    ("bob", "input_complete"): checksum([]),
}


@pytest.mark.parametrize(("who", "event"), ROLES)
async def test_each_party_sends_what_is_its_own_alone(task: OpenTask, who: str, event: str) -> None:
    answer = await refused(task, getattr(task, who), event, ROLES[who, event])
    assert (answer["reason"], answer["role"]) == ("forbidden_role", "provider" if who == "alice" else "client")
    if event.endswith("stream"):
        frame = (3).to_bytes(8, "big") + b"x"
        assert (await refused(task, getattr(task, who), event, frame))["reason"] == "forbidden_role"


async def test_nothing_is_added_to_a_closed_stream_but_the_other_one_goes_on(task: OpenTask) -> None:
    await give(task, "input", 3, "3 ")
    await task.alice.push(task.topic, "input_complete", checksum([f"{seq} ".encode() for seq in range(5)]))
    for seq in (5, 6):
        answer = await refused(task, task.alice, "input_stream", chunk(seq, "x"))
        assert (answer["reason"], answer["next_seq"]) == ("stream_closed", 5)
    assert (await refused(task, task.alice, "input_complete", checksum([b"x"])))["reason"] == "stream_closed"
    assert (await give(task, "input", 4, "4 "))["duplicate"] is True
    assert (await give(task, "output", 0, "x"))["status"] == "in_progress"


async def test_after_the_end_nothing_is_taken_and_all_can_be_read(task: OpenTask) -> None:
    await give(task, "output", 0, "x")
    await task.bob.push(task.topic, "output_complete", checksum([b"x"]))
    await task.bob.push(task.topic, "complete", {"result": {"done": True}})
    task.alice.inbox.clear()
    task.bob.inbox.clear()
    for who, event, payload in (
        (task.alice, "input_stream", chunk(3, "x")),
        (task.alice, "input_complete", checksum([b"x"])),
        (task.bob, "output_stream", chunk(1, "x")),
        (task.bob, "progress", {"percent": 1}),
        (task.bob, "checkpoint", {"seq": 1, "state": 1}),
    ):
        answer = await refused(task, who, event, payload)
        assert answer["reason"] == "terminal_state", event
        assert answer["status"] == "completed"
    async with task.ear(task.hall.bob) as ear:
        ear.logs["input"] = Log(in_order=False)
        state = await ear.join(input_from=0)
        await ear.until(lambda: len(ear.heard["input"]) == 4)
        assert [(one.seq, one.is_replay) for one in ear.heard["input"]] == [(seq, True) for seq in (0, 1, 2, 4)]
        assert state["status"] == "completed"


async def test_a_stranger_finds_no_task(hall: Hall, task: OpenTask) -> None:
    hall.market.user("mallory")
    mallory = hall.market.agent("mallory", "Stranger")
    async with hall.market.client(mallory.api_key) as stranger:
        with pytest.raises(Refused) as unknown:
            await stranger.join(task.topic, {"input_from": 0})
        with pytest.raises(Refused) as nowhere:
            await stranger.join(f"task:{task.id[:-1]}", {"input_from": 0})
        assert unknown.value.response == nowhere.value.response
        assert unknown.value.reason == "not_found"
        with pytest.raises(Refused) as unjoined:
            await stranger.push(task.topic, "input_stream", chunk(3, "x"))
        assert unjoined.value.reason == "unmatched topic"
        await give(task, "input", 3, "3 ")
        await stranger.refute("input_stream")
    with hall.market.rest(mallory.api_key) as rest:
        body = chunk(5, "x")
        assert rest.post(f"/api/v1/tasks/{task.id}/input_stream", json=body).status_code == 404
        assert rest.get(f"/api/v1/tasks/{task.id}/chunks", params={"direction": "input"}).status_code == 404


async def test_many_refusals_in_flight_do_not_disturb_what_is_taken(hall: Hall) -> None:
    """Good chunks, conflicts, duplicates and chunks beyond the window, all at once: the good ones are heard."""
    chunks = words(300)
    async with hall.task() as task, task.ear(hall.bob) as bob:
        await bob.join()
        pushes = []
        for seq, good in enumerate(chunks):
            sent = [
                chunk(seq, good.decode()),
                chunk(seq, "conflict"),
                chunk(seq, good.decode()),
                chunk(seq + 999, "far"),
            ]
            pushes += [asyncio.create_task(task.alice.push(task.topic, "input_stream", one)) for one in sent]
        outcomes = await asyncio.gather(*pushes, return_exceptions=True)
        told = [
            one.reason if isinstance(one, Refused) else cast("dict[str, Any]", one).get("duplicate", False)
            for one in outcomes
        ]
        assert told == [False, "seq_conflict", True, "seq_out_of_window"] * len(chunks)
        assert (await bob.has("input", len(chunks))).chunks == chunks
        await task.alice.flush()
        assert len(bob.heard["input"]) == len(chunks)
        assert task.read()["streams"]["input"]["digest"] == digests_of(chunks)[-1]


# Binary frames.


SENT = [b"\x00\xff\x80bytes", b"text", b"\x01base64"]
"""As a binary frame, as text, as base64."""


async def send_each_form(task: OpenTask) -> None:
    await task.send_binary(task.bob, "output_stream", (0).to_bytes(8, "big") + SENT[0])
    await give(task, "output", 1, SENT[1].decode())
    await give(task, "output", 2, base64.b64encode(SENT[2]).decode(), "base64")


@pytest.mark.parametrize("when", ["live", "stored"])
async def test_a_chunk_comes_in_the_form_in_which_it_was_sent_where_the_socket_takes_it(hall: Hall, when: str) -> None:
    is_replay = when == "stored"
    async with hall.task() as task, AsyncExitStack() as stack:
        if is_replay:
            await send_each_form(task)
        takes, takes_not = [await stack.enter_async_context(task.ear(hall.alice)) for _ in range(2)]
        v1 = Wire(
            await stack.enter_async_context(
                connect(
                    hall.market.socket_url.replace("2.0.0", "1.0.0"),
                    additional_headers={"x-api-key": hall.alice.api_key},
                    compression=None,
                )
            ),
            "1.0.0",
        )
        asked = {"output_from": 0} if is_replay else {}
        await takes.join(binary=True, **asked)
        await takes_not.join(**asked)
        await v1.join(task.topic, payload={"binary": True, **asked})
        if not is_replay:
            await send_each_form(task)
        for ear, forms in ((takes, ["binary", "utf8", "base64"]), (takes_not, ["base64", "utf8", "base64"])):
            assert (await ear.has("output", 3)).chunks == SENT
            assert [one.form for one in ear.heard["output"]] == forms
            assert {one.is_replay for one in ear.heard["output"]} <= {is_replay, None}
        for seq, form in enumerate(["base64", "utf8", "base64"]):
            payload = (await v1.receive_event("output_stream"))["payload"]
            text = SENT[seq].decode() if form == "utf8" else base64.b64encode(SENT[seq]).decode()
            assert (payload["seq"], payload["encoding"], payload["chunk"]) == (seq, form, text)
            assert payload.get("replay", False) is is_replay


async def test_a_binary_payload_where_none_is_taken_harms_no_other_topic(hall: Hall) -> None:
    async with hall.task() as task, hall.task() as other:
        await task.bob.join(other.topic)
        for event in ("progress", "checkpoint", "output_complete", "complete"):
            answer = await refused(task, task.bob, event, b"\0" * 20)
            assert answer["reason"] == "invalid_payload"
        for payload in (b"", b"\0" * 8, b"\xff" * 9):
            assert (await refused(task, task.bob, "output_stream", payload))["reason"] == "invalid_payload"
        assert (await task.bob.push(other.topic, "progress", {"percent": 7}))["percent"] == 7
        assert (await task.send_binary(task.bob, "output_stream", bytes(8) + b"x"))["next_seq"] == 1
