"""A task over losses that come at any moment, with everybody at work at once: what arrives is what was sent, once."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from agrenting.client import Disconnected, PhoenixSocket, RefusedByServer, TopicEnded
from agrenting.client import streamed_task as client_streamed_task
from agrenting.client.backoff import Backoff
from agrenting.client.connection import Connection, State
from agrenting.client.errors import LostChunks
from agrenting.client.kept_task import KeptTask
from agrenting.client.kept_topic import JOINED
from agrenting.client.socket import JOINED_AGAIN, Topic
from tests.agrenting.client_task_server import TASK_ID, TaskServer

CHUNKS = tuple(b"line %d;" % n if n % 3 else b"\xff%d" % n for n in range(60))


class Line:
    """Stands for one side's connection: it is there, or not, or closed."""

    def __init__(self, server: TaskServer, role: str) -> None:
        self.backoff = Backoff(chance=lambda: 0.0)
        self.state = State.CONNECTED
        self._server = server
        self._role = role
        self._is_up = asyncio.Event()
        self._is_up.set()

    async def socket(self) -> PhoenixSocket:
        await self._is_up.wait()
        if self.state is State.CLOSED:
            raise Disconnected("the connection is closed")
        return self._server.socket(self._role)

    def close(self) -> None:
        self.state = State.CLOSED
        self._server.cut(self._role)


class Pair:
    """Alice's and Bob's side of one task, and all that Alice is told of it."""

    def __init__(self) -> None:
        self.server = TaskServer()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.lines = {"client": Line(self.server, "client"), "provider": Line(self.server, "provider")}
        self.alice = KeptTask(
            cast("Connection", self.lines["client"]),
            TASK_ID,
            role="client",
            in_flight_max=4,
            on_event=lambda event, payload: self.told.append((event, payload)),
        )
        self.bob = KeptTask(cast("Connection", self.lines["provider"]), TASK_ID, role="provider", in_flight_max=4)

    def cut(self, role: str) -> None:
        """One side loses its connection, if it has one."""
        if role in self.server.topics:
            self.server.cut(role)


@pytest.fixture
async def pair() -> Pair:
    made = Pair()
    await made.alice.join()
    await made.bob.join()
    return made


async def until(is_so: Callable[[], bool]) -> None:
    """Let everybody go on until something is so."""
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - a fake server has no events; nobody waits for time to pass
            await asyncio.sleep(0)


async def send(task: KeptTask, chunks: tuple[bytes, ...] = CHUNKS) -> None:
    for chunk in chunks:
        await task.send(chunk)
    await task.close()


async def take(task: KeptTask) -> list[bytes]:
    taken: list[bytes] = []
    while (chunk := await task.next_chunk()) is not None:
        taken.append(chunk)
    return taken


async def give_back(task: KeptTask) -> None:
    while (chunk := await task.next_chunk()) is not None:
        await task.send(chunk[::-1])
    await task.close()


async def break_things(pair: Pair, chance: random.Random, times: int) -> None:
    """Cut either side, kill the server, or take back what was relayed, between any two steps of the others."""
    for _ in range(times):
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        match chance.randrange(4):
            case 0:
                pair.server.crash()
            case 1:
                pair.server.void()
            case 2:
                pair.cut("client")
            case _:
                pair.cut("provider")
        pair.server.is_slow = chance.random() < 0.5
    pair.server.is_slow = False


async def keep_storing(server: TaskServer) -> None:
    """What waits for the disk is stored at last."""
    while True:
        for _ in range(20):
            await asyncio.sleep(0)
        server.sync()


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_breaks_all_arrives_once_and_in_order_on_both_sides(pair: Pair, seed: int) -> None:
    chance = random.Random(seed)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        storing = group.create_task(keep_storing(pair.server))
        ended = group.create_task(pair.alice.end())
        working = [
            group.create_task(give_back(pair.bob)),
            group.create_task(send(pair.alice)),
            group.create_task(break_things(pair, chance, 12)),
        ]
        taken = await take(pair.alice)
        await asyncio.gather(*working)
        pair.server.end("completed")
        assert (await ended)["status"] == "completed"
        storing.cancel()

    assert taken == [chunk[::-1] for chunk in CHUNKS]
    assert pair.server.streams["input"].whole == b"".join(CHUNKS)


@pytest.mark.parametrize("seed", range(20))
async def test_a_wait_that_is_given_up_at_any_moment_loses_and_doubles_nothing(pair: Pair, seed: int) -> None:
    chance = random.Random(seed)

    async def impatient(ask: Callable[[], Awaitable[Any]]) -> Any:
        """Give up, and ask again, until it is answered before that."""
        while True:
            asking = asyncio.ensure_future(ask())
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait((asking,))
            if not asking.cancelled():
                return asking.result()

    async def send_so() -> None:
        for chunk in CHUNKS:
            await impatient(lambda: pair.alice.send(chunk))  # noqa: B023 - it is awaited before the next one
        await impatient(pair.alice.close)

    async def take_so() -> list[bytes]:
        taken: list[bytes] = []
        while (chunk := await impatient(pair.bob.next_chunk)) is not None:
            taken.append(chunk)
        return taken

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        storing = group.create_task(keep_storing(pair.server))
        group.create_task(send_so())
        group.create_task(break_things(pair, chance, 6))
        taken = await group.create_task(take_so())
        storing.cancel()

    assert taken == [*CHUNKS]


async def test_a_loss_is_told_with_the_task_as_it_stands(pair: Pair) -> None:
    reading = asyncio.create_task(pair.alice.next_chunk())
    await asyncio.sleep(0)
    pair.server.task["status"] = "in_progress"

    pair.cut("client")
    await until(lambda: bool(pair.told))
    await pair.bob.send(b"x")

    assert await reading == b"x"
    ((event, state),) = pair.told
    assert (event, state["status"]) == (JOINED, "in_progress")


async def test_a_push_is_answered_though_its_reply_was_lost(pair: Pair) -> None:
    losses = 2

    async def lose(role: str, topic: Topic, event: str, payload: Any) -> Any:
        nonlocal losses
        if losses:
            losses -= 1
            pair.cut("client")
            raise Disconnected("it was cut")
        return await take_push(role, topic, event, payload)

    take_push, pair.server.take = pair.server.take, lose  # type: ignore[method-assign]  # the server is a stand-in

    assert await pair.alice.push("dispute", {"reason": "empty"}) == {"event": "dispute"}
    assert pair.alice.streamed.joins == 3


async def test_refusals_are_passed_on(pair: Pair) -> None:
    pair.server.refusal = RefusedByServer("not_completed", "It runs.", {})

    with pytest.raises(RefusedByServer, match="not_completed"):
        await pair.alice.release()
    with pytest.raises(RefusedByServer, match="not_completed"):
        await pair.alice.push("dispute")


async def test_what_was_pushed_too_often_is_pushed_again(pair: Pair) -> None:
    refusals = [RefusedByServer("rate_limited", "", {"retry_after": 0}) for _ in range(3)]

    async def refuse(role: str, topic: Topic, event: str, payload: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return await take_push(role, topic, event, payload)

    take_push, pair.server.take = pair.server.take, refuse  # type: ignore[method-assign]  # the server is a stand-in

    await send(pair.alice, CHUNKS[:5])

    assert await take(pair.bob) == [*CHUNKS[:5]]


async def test_a_chunk_that_was_refused_for_too_long_goes_with_the_next_try(pair: Pair) -> None:
    refusals = [RefusedByServer("rate_limited", "", {"retry_after": 61})]

    async def refuse(role: str, topic: Topic, event: str, payload: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return await take_push(role, topic, event, payload)

    take_push, pair.server.take = pair.server.take, refuse  # type: ignore[method-assign]  # the server is a stand-in
    await pair.alice.send(b"a")

    with pytest.raises(RefusedByServer, match="rate_limited"):
        await pair.alice.flush()
    await send(pair.alice, (b"b",))

    assert await take(pair.bob) == [b"a", b"b"]


async def test_a_push_that_ends_its_topic_again_and_again_is_given_up(pair: Pair) -> None:
    async def crash(role: str, topic: Topic, event: str, payload: Any) -> Any:
        del event, payload
        pair.server.topics.pop(role)
        topic.take(TopicEnded("it crashed", "channel_crash"))
        raise TopicEnded("it crashed", "channel_crash")

    take_push = pair.server.take
    pair.server.take = crash  # type: ignore[method-assign]  # the server is a stand-in

    with pytest.raises(TopicEnded, match="it crashed"):
        await pair.alice.push("dispute", {"reason": "empty"})

    pair.server.take = take_push  # type: ignore[method-assign]  # the server is a stand-in
    assert await pair.alice.push("dispute", {"reason": "empty"}) == {"event": "dispute"}
    assert pair.alice.streamed.joins == 4


async def test_a_join_that_meets_a_loss_is_tried_again(pair: Pair) -> None:
    losses: list[Exception] = [Disconnected("lost"), TopicEnded("it crashed", "channel_crash")]

    async def lose(topic: Topic, role: str, payload: Any) -> None:
        if losses:
            raise losses.pop()
        await join(topic, role, payload)

    join, pair.server.join = pair.server.join, lose  # type: ignore[method-assign]  # the server is a stand-in
    pair.cut("client")

    assert await pair.alice.push("dispute", {"reason": "empty"}) == {"event": "dispute"}
    assert not losses


async def test_who_leaves_while_it_is_joined_again_is_left(pair: Pair) -> None:
    reading = asyncio.create_task(pair.alice.next_chunk())
    await asyncio.sleep(0)

    async def leave_first(topic: Topic, role: str, payload: Any) -> None:
        pair.server.join = join  # type: ignore[method-assign]  # the server is a stand-in
        await pair.alice.leave()
        await join(topic, role, payload)

    join, pair.server.join = pair.server.join, leave_first  # type: ignore[method-assign]  # the server is a stand-in
    pair.cut("client")

    with pytest.raises(TopicEnded, match="was left"):
        await reading
    assert "client" not in pair.server.topics


async def test_a_task_of_a_closed_connection_says_so_to_everybody(pair: Pair) -> None:
    asks: tuple[Callable[[], Awaitable[Any]], ...] = (pair.alice.next_chunk, pair.alice.end, pair.alice.settled)
    waiting = [asyncio.ensure_future(ask()) for ask in asks]
    await asyncio.sleep(0)

    pair.lines["client"].close()

    for one in (*waiting, pair.alice.send(b"x"), pair.alice.close(), pair.alice.release()):
        with pytest.raises(Disconnected, match="closed"):
            await one


async def test_who_leaves_hears_no_more_and_may_come_again(pair: Pair) -> None:
    reading = asyncio.create_task(pair.bob.next_chunk())
    await asyncio.sleep(0)

    await pair.bob.leave()

    with pytest.raises(TopicEnded, match="was left"):
        await reading
    with pytest.raises(TopicEnded, match="left"):
        await pair.bob.next_chunk()
    await pair.alice.send(b"x")
    await pair.bob.join()
    assert await pair.bob.next_chunk() == b"x"


async def test_a_task_is_joined_by_its_first_use() -> None:
    pair = Pair()
    await pair.alice.leave()  # There is nothing to leave yet.
    await pair.alice.join()

    await pair.alice.send(b"x")

    assert await pair.bob.next_chunk() == b"x"
    assert (pair.alice.id, pair.alice.price, pair.alice.state["status"]) == (TASK_ID, None, "pending")


async def test_a_task_that_somebody_else_has_joined_is_not_taken_back(pair: Pair) -> None:
    reading = asyncio.create_task(pair.bob.next_chunk())
    await asyncio.sleep(0)

    pair.server.topics.pop("provider").take(TopicEnded("task was joined again", JOINED_AGAIN))

    for waiting in (reading, pair.bob.end()):
        with pytest.raises(TopicEnded, match="joined again"):
            await waiting


async def test_a_chunk_that_is_stored_and_withheld_is_not_waited_for_without_end(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_streamed_task, "REPLAY_TIMEOUT_S", 0.02)
    await pair.bob.leave()
    await send(pair.alice, (b"a", b"b"))
    withheld = pair.server.streams["input"].stored

    class Withholding(dict[int, bytes]):
        def __iter__(self) -> Any:
            return iter(())

    pair.server.streams["input"].stored = Withholding(withheld)
    await pair.bob.join()

    with pytest.raises(LostChunks, match="chunk 0 is stored, and does not come"):
        await pair.bob.next_chunk()
    assert pair.bob.streamed.joins == 3  # It was joined once more for it.


async def test_a_chunk_that_nobody_has_asked_for_yet_is_not_taken_for_lost(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_streamed_task, "REPLAY_TIMEOUT_S", 0.01)
    await pair.bob.leave()
    await pair.alice.send(b"a")
    await pair.alice.flush()
    await pair.bob.join()
    ending = asyncio.create_task(pair.bob.end())

    done, _ = await asyncio.wait((ending,), timeout=0.1)  # Ten times as long as a chunk that is due may take.
    pair.server.end("cancelled")

    assert not done
    assert (await ending)["status"] == "cancelled"
    assert pair.bob.streamed.joins == 2
