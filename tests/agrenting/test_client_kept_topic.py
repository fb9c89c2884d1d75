"""A topic over losses, ends and refusals, against a server whose part each test plays itself."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agrenting.client import Disconnected, NoAnswer, RefusedByServer, TopicEnded
from agrenting.client.backoff import Backoff
from agrenting.client.connection import Connection
from agrenting.client.kept_topic import JOINED, KeptTopic
from tests.agrenting.client_theatre import Stage, Theatre, playing

KEY = "agk_alices-key"
ROOM = "room:1"
SOON_S = 0.02
NOT_NOW = {"reason": "rate_limited", "message": "Too often.", "retry_after": 3_600}
NOT_FOUND = {"reason": "not_found", "message": "There is no such room."}


class Play:
    """Alice's connection, her topic, and the server's end of the newest socket."""

    def __init__(self, theatre: Theatre) -> None:
        self.theatre = theatre
        self.waits: list[int] = []
        backoff = Backoff(first_s=0.001, most_s=0.001, chance=self._chance)
        self.connection = Connection(theatre.url, KEY, backoff=backoff)
        self.seen = 0
        self.room = KeptTopic(self.connection, ROOM, lambda: {"from": self.seen})
        self.join_ref = ""
        self.stage: Stage

    def _chance(self) -> float:
        self.waits.append(1)
        return 1.0

    async def open(self) -> None:
        await self.connection.open()
        self.stage = await self.theatre.stage()

    async def join(self, state: Any, **expected: Any) -> None:
        """The server lets the topic be joined."""
        frame = await self.stage.hear()
        assert frame[2:4] == [ROOM, "phx_join"]
        assert frame[4] == expected or not expected
        self.join_ref = frame[0]
        await self.stage.reply(frame, state)

    async def tell(self, event: str, payload: Any) -> None:
        await self.stage.say(self.join_ref, None, ROOM, event, payload)

    async def lose(self) -> None:
        """The connection is cut, and comes again."""
        self.stage.connection.transport.abort()
        self.stage = await self.theatre.stage()


@pytest.fixture
async def play() -> AsyncIterator[Play]:
    async with playing() as theatre:
        made = Play(theatre)
        await made.open()
        joining = asyncio.create_task(made.room.join())
        await made.join({"n": 1})
        assert await joining == {"n": 1}
        yield made
        await made.connection.close()


async def test_who_reads_hears_the_state_after_a_loss_and_what_comes_behind_it(play: Play) -> None:
    await play.tell("shout", {"n": 1})
    assert await play.room.next_event() == ("shout", {"n": 1})
    play.seen = 7
    reading = asyncio.create_task(play.room.next_event())

    await play.lose()
    await play.join({"n": 2}, **{"from": 7})
    await play.tell("shout", {"n": 3})

    assert await reading == (JOINED, {"n": 2})
    assert play.room.state == {"n": 2}
    assert await play.room.next_event() == ("shout", {"n": 3})


async def test_a_push_in_flight_is_pushed_again_once_the_topic_is_joined(play: Play) -> None:
    pushing = asyncio.create_task(play.room.push("offer", {"amount": 7}))
    await play.stage.hear()

    await play.lose()
    await play.join({"n": 2})
    again = await play.stage.hear()
    await play.stage.reply(again, {"duplicate": True})

    assert again[2:] == [ROOM, "offer", {"amount": 7}]
    assert await pushing == {"duplicate": True}
    assert await play.room.next_event() == (JOINED, {"n": 2})


async def test_a_push_that_must_not_be_repeated_is_not(play: Play) -> None:
    pushing = asyncio.create_task(play.room.push("offer", is_repeatable=False))
    await play.stage.hear()

    play.stage.connection.transport.abort()

    with pytest.raises(Disconnected):
        await pushing


async def test_pushes_that_are_in_flight_together_join_once(play: Play) -> None:
    pushes = [asyncio.create_task(play.room.push("ask", {"n": number})) for number in range(3)]
    reading = asyncio.create_task(play.room.next_event())
    for _ in pushes:
        await play.stage.hear()

    await play.lose()
    await play.join({"n": 2})
    for _ in pushes:
        frame = await play.stage.hear()
        assert frame[3] == "ask"
        await play.stage.reply(frame, frame[4])

    assert [await push for push in pushes] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert await reading == (JOINED, {"n": 2})


async def test_what_came_before_a_loss_is_read_before_it(play: Play) -> None:
    await play.tell("shout", {"n": 1})
    pushing = asyncio.create_task(play.room.push("ask"))
    await play.stage.hear()
    await play.lose()
    await play.join({"n": 2})
    await play.stage.reply(await play.stage.hear(), {})
    await pushing
    await play.tell("shout", {"n": 3})

    assert [await play.room.next_event() for _ in range(3)] == [
        ("shout", {"n": 1}),
        (JOINED, {"n": 2}),
        ("shout", {"n": 3}),
    ]


@pytest.mark.parametrize("event", ["phx_error", "phx_close"])
async def test_a_topic_that_the_server_ends_is_joined_again_after_a_wait(play: Play, event: str) -> None:
    waits = len(play.waits)

    for number in range(3):
        reading = asyncio.create_task(play.room.next_event())
        await play.tell(event, {"reason": "channel_crash"})
        await play.join({"n": number})
        assert await reading == (JOINED, {"n": number})

    assert len(play.waits) - waits == 3


async def test_a_join_that_meets_an_end_is_tried_again(play: Play) -> None:
    reading = asyncio.create_task(play.room.next_event())
    await play.lose()

    frame = await play.stage.hear()
    await play.stage.say(frame[0], frame[0], ROOM, "phx_error", {"reason": "channel_crash"})
    await play.join({"n": 2})

    assert await reading == (JOINED, {"n": 2})


async def test_a_loss_while_it_is_joined_again_is_one_more_loss(play: Play) -> None:
    reading = asyncio.create_task(play.room.next_event())
    await play.lose()
    assert (await play.stage.hear())[3] == "phx_join"

    await play.lose()
    await play.join({"n": 3})

    assert await reading == (JOINED, {"n": 3})


async def test_a_slow_join_holds_up_its_own_topic_alone(play: Play) -> None:
    slow = KeptTopic(play.connection, "room:slow")
    joining, waiting = asyncio.create_task(slow.join()), asyncio.create_task(slow.push("ask"))
    slow_join = await play.stage.hear()

    pushing = asyncio.create_task(play.room.push("ask"))
    frame = await play.stage.hear()
    await play.stage.reply(frame, {"n": 1})
    assert await pushing == {"n": 1}
    assert frame[2] == ROOM
    await play.stage.reply(slow_join, {"n": 2})

    assert await joining == {"n": 2}
    await play.stage.reply(await play.stage.hear(), {"n": 3})
    assert await waiting == {"n": 3}


async def test_a_join_that_was_given_up_is_made_anew(play: Play) -> None:
    other = KeptTopic(play.connection, "room:2")
    joining = asyncio.create_task(other.join())
    await play.stage.hear()
    joining.cancel()
    await asyncio.gather(joining, return_exceptions=True)

    again = asyncio.create_task(other.join())
    await play.stage.reply(await play.stage.hear(), {"n": 2})

    assert await again == {"n": 2}


async def test_a_topic_that_may_not_be_joined_again_is_told_to_who_reads_and_who_pushes(play: Play) -> None:
    reading = asyncio.create_task(play.room.next_event())
    pushing = asyncio.create_task(play.room.push("ask"))
    await play.stage.hear()

    await play.tell("phx_close", {})
    await play.stage.reply(await play.stage.hear(), NOT_FOUND, "error")

    for waiting in (reading, pushing, play.room.next_event(), play.room.push("ask")):
        with pytest.raises(RefusedByServer, match="not_found"):
            await waiting
    joining = asyncio.create_task(play.room.join())
    await play.join({"n": 5})
    assert await joining == {"n": 5}


async def test_a_push_that_ends_its_topic_again_and_again_is_given_up(play: Play) -> None:
    pushing = asyncio.create_task(play.room.push("crash"))

    for is_last in (False, False, True):
        assert (await play.stage.hear())[3] == "crash"
        await play.tell("phx_error", {"reason": "channel_crash"})
        if not is_last:
            await play.join({"n": 2})

    with pytest.raises(TopicEnded, match="channel_crash"):
        await pushing


async def test_joins_and_pushes_that_come_too_often_are_made_again(play: Play) -> None:
    too_often = {"reason": "rate_limited", "message": "Too often.", "retry_after": 0}
    reading = asyncio.create_task(play.room.next_event())
    await play.lose()
    await play.stage.reply(await play.stage.hear(), too_often, "error")
    await play.join({"n": 2})
    assert await reading == (JOINED, {"n": 2})

    pushing = asyncio.create_task(play.room.push("ask"))
    await play.stage.reply(await play.stage.hear(), too_often, "error")
    await play.stage.reply(await play.stage.hear(), {"n": 3})

    assert await pushing == {"n": 3}


async def test_who_may_not_join_again_just_now_does_so_later(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agrenting.client.kept_topic.PATIENCE_S", 0.0)
    reading = asyncio.create_task(play.room.next_event())
    await play.lose()

    for _ in range(3):
        await play.stage.reply(await play.stage.hear(), NOT_NOW, "error")
    await play.join({"n": 2})

    assert await reading == (JOINED, {"n": 2})


async def test_who_leaves_while_it_may_not_join_again_joins_no_more(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agrenting.client.kept_topic.PATIENCE_S", 0.0)
    reading = asyncio.create_task(play.room.next_event())
    await play.lose()
    frame = await play.stage.hear()
    await play.room.leave()

    await play.stage.reply(frame, NOT_NOW, "error")

    with pytest.raises(TopicEnded, match="room:1 was left"):
        await asyncio.wait_for(reading, 30)


async def test_a_first_join_that_cannot_be_just_now_is_told_at_once(play: Play) -> None:
    joining = asyncio.create_task(KeptTopic(play.connection, "room:2").join())
    await play.stage.reply(await play.stage.hear(), NOT_NOW, "error")

    with pytest.raises(RefusedByServer, match="rate_limited"):
        await joining


async def test_a_reader_that_gives_up_at_any_moment_loses_nothing(play: Play) -> None:
    events = [("shout", {"n": number}) for number in range(20)]
    heard: list[tuple[str, Any]] = []

    async def read() -> None:
        while True:
            reading = asyncio.create_task(play.room.next_event())
            turns = len(heard) % 4
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            done = await asyncio.gather(reading, return_exceptions=True)
            if not isinstance(done[0], BaseException):
                heard.append(done[0])
            await asyncio.sleep(0)

    async with asyncio.timeout(30):
        reading = asyncio.create_task(read())
        for event, payload in events:
            await play.tell(event, payload)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        while len(heard) < len(events):
            heard.append(await play.room.next_event())

    assert heard == events


async def test_waiting_has_an_end(play: Play) -> None:
    with pytest.raises(NoAnswer, match=r"nothing came on room:1 within 0\.02 s"):
        await play.room.next_event(SOON_S)
    with pytest.raises(NoAnswer, match="no reply to ask"):
        await play.room.push("ask", timeout_s=SOON_S)


async def test_who_joins_later_has_the_topic_and_who_had_it_is_told(play: Play) -> None:
    reading = asyncio.create_task(play.room.next_event())
    later = KeptTopic(play.connection, ROOM)
    joining = asyncio.create_task(later.join())
    await play.join({"n": 2})
    await joining

    for waiting in (reading, play.room.push("ask"), play.room.next_event()):
        with pytest.raises(TopicEnded, match="room:1 was joined again"):
            await waiting
    await play.tell("shout", {})
    assert await later.next_event() == ("shout", {})


async def test_who_leaves_is_not_joined_again(play: Play) -> None:
    reading = asyncio.create_task(play.room.next_event())
    leaving = asyncio.create_task(play.room.leave())
    frame = await play.stage.hear()
    await play.stage.reply(frame, {})
    await leaving

    assert frame[3] == "phx_leave"
    for waiting in (reading, play.room.push("ask"), play.room.next_event()):
        with pytest.raises(TopicEnded, match="room:1 was left"):
            await waiting


async def test_who_leaves_while_it_is_joined_again_is_left_once_it_is_joined(play: Play) -> None:
    reading = asyncio.create_task(play.room.next_event())
    await play.lose()
    frame = await play.stage.hear()

    await play.room.leave()
    await play.stage.reply(frame, {"n": 2})
    left = await play.stage.hear()
    await play.stage.reply(left, {})

    assert left[3] == "phx_leave"
    with pytest.raises(TopicEnded, match="was left"):
        await reading


async def test_a_topic_of_a_closed_connection_says_so(play: Play) -> None:
    reading = asyncio.create_task(play.room.next_event())
    await asyncio.sleep(0)

    await play.connection.close()

    for waiting in (reading, play.room.push("ask"), play.room.join()):
        with pytest.raises(Disconnected):
            await waiting


async def test_a_topic_that_was_never_joined_is_joined_by_its_first_use(play: Play) -> None:
    other = KeptTopic(play.connection, ROOM)
    reading = asyncio.create_task(other.next_event())

    await play.join({"n": 1})
    await play.tell("shout", {})

    assert await reading == ("shout", {})
