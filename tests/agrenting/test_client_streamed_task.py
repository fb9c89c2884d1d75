"""A task's two sides over a server that loses connections, chunks and itself: what arrives is what was sent."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from agrenting.client import (
    Disconnected,
    LyingServer,
    NoAnswer,
    RefusedByServer,
    StreamBroken,
    StreamedTask,
    StreamRewritten,
    TopicEnded,
)
from agrenting.client.errors import LostChunks, MalformedAnswer
from agrenting.client.socket import Topic
from tests.agrenting.client_task_server import TASK_ID, Stream, TaskServer

LINES = tuple(b"line %d;" % number for number in range(12))
SOON_S = 0.02
"""For waits that have to run out."""


class Pair:
    """Alice's and Bob's side of one task."""

    def __init__(self, server: TaskServer, in_flight_max: int = 4) -> None:
        self.server = server
        self.alice = StreamedTask(TASK_ID, role="client", in_flight_max=in_flight_max, timeout_s=5)
        self.bob = StreamedTask(TASK_ID, role="provider", in_flight_max=in_flight_max, timeout_s=5)

    async def join(self) -> None:
        for task, role in ((self.alice, "client"), (self.bob, "provider")):
            await task.join(self.server.socket(role))


@pytest.fixture
async def pair() -> Pair:
    made = Pair(TaskServer())
    await made.join()
    return made


@pytest.fixture
async def paid() -> Pair:
    """The output costs 5 a chunk, one on credit."""
    made = Pair(TaskServer({"amount": 5, "per": "chunk", "unit_bytes": None, "credit": 1}))
    await made.join()
    return made


async def until(is_so: Callable[[], bool]) -> None:
    """Let everybody go on until something is so."""
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - a fake server has no events; nobody waits for time to pass
            await asyncio.sleep(0)


async def send(task: StreamedTask, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        await task.send(chunk)


async def take(task: StreamedTask, count: int) -> list[bytes | None]:
    return [await task.next_chunk() for _ in range(count)]


async def rest_of(task: StreamedTask) -> list[bytes]:
    chunks: list[bytes] = []
    while (chunk := await task.next_chunk()) is not None:
        chunks.append(chunk)
    return chunks


async def refuses(kind: type[Exception], waiting: Awaitable[Any]) -> Any:
    with pytest.raises(kind) as raised:
        await waiting
    return raised.value


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("task_completed", {}),
        ("task_completed", {"task": None}),
        ("task_updated", {"task": -5}),
        ("task_failed", {"task": {"status": "failed"}}),
        ("task_paid", {"paid": "nothing"}),
        ("task_paid", []),
        ("progress", None),
        ("input_complete", "all of it"),
        ("input_stream", "a"),
    ],
)
async def test_what_a_task_cannot_be_is_an_error_and_never_waited_for(pair: Pair, event: str, payload: Any) -> None:
    ending = asyncio.create_task(pair.bob.end())

    pair.server.tell(event, payload)

    await refuses(MalformedAnswer, ending)


@pytest.mark.parametrize("lack", ["streams", "status", "stream_price"])
async def test_a_join_that_is_answered_with_no_task_is_an_error(pair: Pair, lack: str) -> None:
    snapshot = {name: value for name, value in pair.server.snapshot.items() if name != lack}
    socket = pair.server.socket("client")

    async def join(name: str, payload: Any) -> Topic:
        topic = Topic(socket, name, str(payload))
        topic.state = snapshot
        return topic

    socket.join = join  # type: ignore[method-assign, assignment]  # the server is a stand-in

    await refuses(MalformedAnswer, pair.alice.join(socket))


async def test_what_one_side_sends_the_other_one_gets_to_its_verified_end(pair: Pair) -> None:
    await send(pair.alice, LINES)
    closed = await pair.alice.close()

    assert await rest_of(pair.bob) == [*LINES]
    assert pair.bob.incoming.is_complete
    assert closed["complete"] is True
    await send(pair.bob, (b"\x00\xff", b"text"))
    await pair.bob.close()
    assert await rest_of(pair.alice) == [b"\x00\xff", b"text"]


async def test_closing_again_after_a_loss_is_no_error(pair: Pair) -> None:
    await pair.alice.close()
    pair.server.cut("client")
    await pair.alice.join(pair.server.socket("client"))

    assert (await pair.alice.close())["total_size"] == 0


async def test_no_more_is_in_flight_than_may_be(pair: Pair) -> None:
    pair.server.is_slow = True

    sending = asyncio.create_task(send(pair.alice, LINES))
    await until(lambda: len(pair.server.waiting) == 4)
    assert pair.alice.outgoing.position.seq == 4
    pair.server.sync(1)
    await until(lambda: len(pair.server.waiting) == 4)
    assert pair.alice.outgoing.durable_seq == 1
    pair.server.is_slow = False
    pair.server.sync()
    await sending
    await pair.alice.flush()

    assert pair.alice.outgoing.durable_seq == len(LINES)


async def test_a_chunk_is_handed_on_before_it_is_stored(pair: Pair) -> None:
    pair.server.is_slow = True

    await pair.alice.send(LINES[0])

    assert await pair.bob.next_chunk() == LINES[0]
    assert pair.bob.incoming.durable_seq == 0
    assert pair.server.streams["input"].stored == {}


@pytest.mark.parametrize("cut_after", range(len(LINES)))
async def test_a_receiver_that_was_cut_off_goes_on_behind_what_it_has(pair: Pair, cut_after: int) -> None:
    await send(pair.alice, LINES[:cut_after])
    before = await take(pair.bob, cut_after)
    pair.server.cut("provider")
    await refuses(Disconnected, pair.bob.next_chunk())
    await send(pair.alice, LINES[cut_after:])
    await pair.alice.close()

    await pair.bob.join(pair.server.socket("provider"))

    assert pair.server.joins[-1] == ("provider", {"input_from": cut_after, "output_from": 0, "binary": True})
    assert before + await rest_of(pair.bob) == [*LINES]


@pytest.mark.parametrize("stored", range(5))
async def test_a_server_that_dies_with_chunks_in_flight_is_sent_them_again(pair: Pair, stored: int) -> None:
    pair.server.is_slow = True
    await send(pair.alice, LINES[:4])
    before = await take(pair.bob, 4)
    await until(lambda: len(pair.server.waiting) == 4)
    pair.server.sync(stored)
    pair.server.crash()
    pair.server.is_slow = False
    for task in (pair.alice, pair.bob):
        await refuses(Disconnected, task.next_chunk())

    await pair.join()
    await send(pair.alice, LINES[4:])
    await pair.alice.close()

    assert before + await rest_of(pair.bob) == [*LINES]
    assert pair.server.streams["input"].whole == b"".join(LINES)


async def test_a_chunk_that_could_not_be_sent_was_not_taken(pair: Pair) -> None:
    pair.server.is_slow = True
    await send(pair.alice, LINES[:4])
    sending = asyncio.create_task(pair.alice.send(LINES[4]))
    await until(lambda: len(pair.server.waiting) == 4)
    pair.server.cut("client")
    await refuses(Disconnected, sending)
    await refuses(Disconnected, pair.alice.flush())
    pair.server.sync()

    await pair.alice.join(pair.server.socket("client"))

    assert pair.alice.outgoing.position.seq == 4
    pair.server.is_slow = False
    await send(pair.alice, LINES[4:])
    await pair.alice.close()
    assert await rest_of(pair.bob) == [*LINES]


async def test_a_chunk_that_is_refused_is_told_to_who_sends_the_next_one(pair: Pair) -> None:
    pair.server.refusal = RefusedByServer("terminal_state", "It has ended.", {})
    await pair.alice.send(LINES[0])

    assert (await refuses(RefusedByServer, pair.alice.flush())).reason == "terminal_state"
    assert (await refuses(RefusedByServer, pair.alice.send(LINES[1]))).reason == "terminal_state"


async def test_an_acknowledgement_of_other_bytes_is_told_to_who_sends_the_next_one(pair: Pair) -> None:
    pair.server.is_slow = True
    await pair.alice.send(LINES[0])
    await until(lambda: len(pair.server.waiting) == 1)
    pair.server.waiting[0].chunk = b"something else"
    pair.server.sync()

    await refuses(LyingServer, pair.alice.flush())


async def test_an_acknowledgement_of_nothing_is_told_to_who_waits_for_it(pair: Pair) -> None:
    pair.server.is_slow = True
    await pair.alice.send(b"first")
    await until(lambda: bool(pair.server.waiting))
    pair.server.waiting[0].reply.set_result({"seq": 0, **Stream().told})

    await refuses(LostChunks, pair.alice.close())


async def test_what_is_taken_back_is_joined_again_without_the_application(pair: Pair) -> None:
    pair.server.is_slow = True
    await send(pair.alice, LINES[:3])
    assert await take(pair.bob, 3) == [*LINES[:3]]
    await until(lambda: len(pair.server.waiting) == 3)
    pair.server.void()
    pair.server.is_slow = False

    reading = asyncio.create_task(rest_of(pair.bob))
    await until(lambda: len(pair.server.joins) == 3)
    await send(pair.alice, LINES[3:])
    await pair.alice.close()

    assert await reading == [*LINES[3:]]
    assert pair.server.streams["input"].whole == b"".join(LINES)


async def test_a_sender_that_reads_nothing_joins_again_too(pair: Pair) -> None:
    pair.server.is_slow = True
    await send(pair.alice, LINES[:3])
    await until(lambda: len(pair.server.waiting) == 3)
    pair.server.void()
    pair.server.is_slow = False

    await pair.alice.flush()

    assert pair.alice.outgoing.durable_seq == 3


async def test_a_topic_that_is_ended_for_another_reason_is_not_joined_again(pair: Pair) -> None:
    reading = asyncio.create_task(pair.bob.next_chunk())
    await until(lambda: not reading.done())
    pair.server.topics["provider"].take(TopicEnded("it has crashed", "channel_crash"))

    await refuses(TopicEnded, reading)


async def test_a_provider_that_has_forgotten_all_goes_on_from_its_notes(pair: Pair) -> None:
    await send(pair.alice, LINES)
    await pair.alice.close()
    await take(pair.bob, 5)
    notes = pair.bob.incoming.position
    await send(pair.bob, LINES[:7])
    await pair.bob.flush()
    pair.server.cut("provider")

    bob = StreamedTask(TASK_ID, role="provider", start=notes, timeout_s=5)
    await bob.join(pair.server.socket("provider"))
    await bob.flush()

    assert pair.server.joins[-1] == ("provider", {"input_from": 5, "output_from": 0, "binary": True})
    assert bob.outgoing.position.seq == 7
    assert await rest_of(bob) == [*LINES[5:]]
    await send(bob, LINES[7:])
    await bob.close()
    assert await rest_of(pair.alice) == [*LINES]


async def test_a_side_that_sends_and_takes_at_once_reads_for_both(pair: Pair) -> None:
    await send(pair.alice, LINES[:1])
    taking, ending = asyncio.create_task(rest_of(pair.bob)), asyncio.create_task(pair.bob.end())
    await until(lambda: pair.bob.incoming.position.seq == 1)

    await pair.alice.close()
    pair.server.end("completed")

    assert await taking == [LINES[0]]
    assert (await ending)["status"] == "completed"


async def test_other_events_are_told_and_the_end_is_waited_for(pair: Pair) -> None:
    heard: list[str] = []
    carol = StreamedTask(TASK_ID, role="client", timeout_s=5, on_event=lambda event, _payload: heard.append(event))
    await carol.join(pair.server.socket("client"))
    pair.server.tell("progress", {"task_id": TASK_ID, "percent": 50})
    pair.server.end("completed", escrow_status="held")

    assert (await carol.end())["escrow_status"] == "held"
    pair.server.task["escrow_status"] = "released"
    pair.server.tell("task_updated", {"task": pair.server.snapshot})

    assert (await carol.settled())["escrow_status"] == "released"
    assert heard == ["progress", "task_completed", "task_updated"]
    assert await carol.push("dispute", {"reason": "late"}) == {"event": "dispute"}


async def test_who_has_checked_the_work_releases_the_price_and_knows_the_task_so(pair: Pair) -> None:
    pair.server.end("completed", escrow_status="held")
    assert (await pair.alice.end())["escrow_status"] == "held"

    released = await pair.alice.release()

    assert released["escrow_status"] == "released"
    assert pair.alice.state is released


async def test_who_leaves_hears_no_more_and_sends_what_was_not_stored_once_it_is_back(pair: Pair) -> None:
    pair.server.is_slow = True
    await send(pair.alice, LINES[:2])

    await pair.alice.leave()

    assert "client" not in pair.server.topics
    with pytest.raises(TopicEnded):
        await pair.alice.end()
    pair.server.waiting.clear()
    pair.server.is_slow = False
    await pair.alice.join(pair.server.socket("client"))
    await pair.alice.flush()
    assert pair.server.streams["input"].whole == b"".join(LINES[:2])


async def test_a_stream_that_the_end_of_the_task_leaves_open_is_broken(pair: Pair) -> None:
    await send(pair.alice, LINES[:2])
    await pair.alice.flush()
    pair.server.end("cancelled")

    assert await take(pair.bob, 2) == [*LINES[:2]]
    assert (await refuses(StreamBroken, pair.bob.next_chunk())).status == "cancelled"


async def test_who_joins_after_the_end_still_gets_what_is_stored(pair: Pair) -> None:
    await send(pair.alice, LINES[:2])
    await pair.alice.flush()
    pair.server.end("failed")
    bob = StreamedTask(TASK_ID, role="provider", timeout_s=5)

    await bob.join(pair.server.socket("provider"))

    assert await take(bob, 2) == [*LINES[:2]]
    await refuses(StreamBroken, bob.next_chunk())


async def test_waiting_has_an_end(pair: Pair) -> None:
    alice = StreamedTask(TASK_ID, role="client", timeout_s=SOON_S)
    await alice.join(pair.server.socket("client"))

    await refuses(NoAnswer, alice.next_chunk())


@pytest.mark.parametrize("stored", [(LINES[0], b"other"), (LINES[0], b"other", b"bytes")])
async def test_stored_bytes_that_were_changed_while_a_receiver_was_away_are_read_anew(
    pair: Pair, stored: tuple[bytes, ...]
) -> None:
    pair.server.is_slow = True
    await send(pair.alice, LINES[:2])
    before = await take(pair.bob, 2)
    await until(lambda: len(pair.server.waiting) == 2)
    pair.server.crash()
    pair.server.streams["input"].stored = dict(enumerate(stored))

    await pair.bob.join(pair.server.socket("provider"))

    rewritten = await refuses(StreamRewritten, pair.bob.next_chunk())
    assert before[: rewritten.seq] + await take(pair.bob, len(stored) - rewritten.seq) == [*stored]


async def test_a_connection_that_is_given_up_is_not_waited_for(pair: Pair) -> None:
    pair.server.is_slow = True
    await send(pair.alice, LINES[:2])
    await until(lambda: len(pair.server.waiting) == 2)

    async with asyncio.timeout(30):
        await pair.alice.join(pair.server.socket("client"))
    await until(lambda: len(pair.server.waiting) == 4)
    pair.server.sync()
    await pair.alice.flush()

    assert pair.alice.outgoing.durable_seq == 2


async def test_what_is_taken_back_is_joined_again_once_for_all_who_wait(pair: Pair) -> None:
    pair.server.is_slow = True
    await send(pair.alice, LINES[:3])
    reading = asyncio.create_task(pair.alice.next_chunk())
    flushing = asyncio.create_task(pair.alice.flush())
    await until(lambda: len(pair.server.waiting) == 3)
    pair.server.void()
    pair.server.is_slow = False
    await flushing
    await pair.bob.join(pair.server.socket("provider"))
    await pair.bob.send(LINES[0])

    assert await reading == LINES[0]
    assert [role for role, _ in pair.server.joins] == ["client", "provider", "client", "provider"]


# Paying as it streams.


async def test_a_provider_sends_no_further_than_the_credit_and_goes_on_once_it_is_paid(paid: Pair) -> None:
    sending = asyncio.create_task(send(paid.bob, LINES[:3]))
    assert await take(paid.alice, 1) == [LINES[0]]
    await until(lambda: paid.bob.outgoing.durable_seq == 1)
    assert not sending.done()

    paid.server.pay(4)
    paid.server.pay(1)
    assert await take(paid.alice, 1) == [LINES[1]]
    assert not sending.done()
    paid.server.pay(5)
    await sending
    assert await take(paid.alice, 1) == [LINES[2]]

    waiting = asyncio.create_task(paid.bob.until_paid())
    await until(lambda: paid.server.streams["output"].next_seq == 3)
    assert not waiting.done()
    paid.server.pay(5)
    await waiting
    assert (paid.bob.paid_up_to, len(paid.server.pushed)) == (3, 3)


async def test_a_provider_that_was_away_hears_from_the_join_what_was_paid(paid: Pair) -> None:
    await paid.bob.send(LINES[0])
    await paid.bob.flush()
    paid.server.cut("provider")
    paid.server.pay(5)

    await paid.bob.join(paid.server.socket("provider"))
    await paid.bob.send(LINES[1])
    await paid.bob.flush()

    assert paid.server.streams["output"].next_seq == 2


async def test_a_client_sends_its_input_unpaid(paid: Pair) -> None:
    await send(paid.alice, LINES)
    await paid.alice.flush()

    assert paid.server.streams["input"].next_seq == len(LINES)


async def test_units_of_bytes_count_once_they_have_begun() -> None:
    pair = Pair(TaskServer({"amount": 5, "per": "bytes", "unit_bytes": 10, "credit": 1}))
    await pair.join()

    sending = asyncio.create_task(send(pair.bob, (b"four", b"six...", b"one more")))
    assert await take(pair.alice, 2) == [b"four", b"six..."]
    await until(lambda: pair.bob.outgoing.durable_seq == 2)
    assert not sending.done()
    pair.server.pay(5)
    await sending

    assert await take(pair.alice, 1) == [b"one more"]


async def test_a_provider_does_not_wait_for_the_money_of_a_task_that_has_ended(paid: Pair) -> None:
    await paid.bob.send(LINES[0])
    paid.server.end("cancelled")

    await refuses(StreamBroken, paid.bob.send(LINES[1]))
    await refuses(StreamBroken, paid.bob.until_paid())


async def test_nothing_is_waited_for_where_the_price_is_held(pair: Pair) -> None:
    await send(pair.bob, LINES)
    await pair.bob.until_paid()

    assert pair.bob.price is None
