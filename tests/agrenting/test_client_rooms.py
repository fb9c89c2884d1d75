"""Rooms of the client: texts that mention the agent, each handed over once, and how they end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agrenting.client import rooms as module
from agrenting.client.asking import every
from agrenting.client.context import AgentContext
from agrenting.client.errors import Disconnected, MalformedAnswer, NobodyFound, RefusedByServer, WrongPrice
from agrenting.client.room_message import RoomMessage
from agrenting.client.rooms import ATTEMPTS_MAX, Rooms
from agrenting.client.told_rooms import RoomText
from tests.agrenting.client_stage import NOW, OTHER_ID, OWN_ID, Stage, StageTopic, refusal, settle, staged

Marks = list[tuple[str, str]]


class House:
    """Alice's agent, the rooms that it takes part in, and what waits for it there."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.there = ["r1", "r2"]
        self.waiting: dict[str, list[dict[str, Any]]] = {}
        stage.on("GET", "/agent/chats", lambda _: [room(id_) for id_ in self.there])
        for id_ in ("r1", "r2", "r3"):
            stage.on("GET", f"/agent/chats/{id_}", lambda _, id_=id_: self.look(id_))
            stage.on("GET", f"/agent/chats/{id_}/messages", lambda _, id_=id_: self.waiting.get(id_, []))
        stage.on("POST", ".*/messages/[^/]+/.+", {"id": "m", "status": "processing", "attempt_number": 1})
        stage.on("POST", "/agent/chats/[^/]+/messages", {"id": "m", "recipients": []})
        self.rooms = Rooms(stage.context)
        self.heard: list[str] = []

    def topic(self, room_id: str) -> StageTopic:
        return self.stage.topic(f"chat_room:{room_id}")

    @property
    def own(self) -> StageTopic:
        return self.stage.topic(f"agent_rooms:{OWN_ID}")

    def marks(self) -> Marks:
        """Which texts were marked how."""
        parts = [path.split("/") for method, path, _ in self.stage.asked if method == "POST" and "/messages/" in path]
        return [(part[-2], part[-1]) for part in parts]

    def look(self, room_id: str) -> Any:
        return room(room_id) if room_id in self.there else refusal("not_found")

    async def note(self, message: RoomMessage) -> None:
        self.heard.append(message.plain)

    async def settled(self) -> None:
        await settle()


def room(id_: str) -> dict[str, Any]:
    return {"id": id_, "title": None, "task_id": None, "inserted_at": NOW, "updated_at": NOW}


def text(id_: str, room_id: str = "r1", status: str = "delivered", attempts: int = 0) -> dict[str, Any]:
    return {
        "id": id_,
        "chat_room_id": room_id,
        "content": f"@[[{OWN_ID}]] say {id_}",
        "message_type": "text",
        "sender_id": OTHER_ID,
        "sender_type": "Agent",
        "sender_name": "Bob",
        "metadata": {"mentions": [], "delivery_status": {OWN_ID: {"status": status, "attempt_number": attempts}}},
        "inserted_at": NOW,
    }


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[House]:
    async with staged(monkeypatch, tmp_path) as stage:
        yield House(stage)


async def test_what_waits_and_what_comes_is_handled_once_in_every_room(house: House) -> None:
    house.waiting = {"r1": [text("1")], "r2": [text("2", "r2")]}
    house.rooms.on_message(house.note)
    await house.settled()
    house.topic("r1").come("message_created", text("1"))
    house.topic("r1").come("message_created", text("3"))
    house.topic("r1").come("something_new", {})
    house.waiting["r1"].append(text("4"))
    house.topic("r1").rejoin()

    await house.settled()

    assert house.heard == ["say 1", "say 2", "say 3", "say 4"]
    assert house.marks()[:2] == [("1", "processing"), ("1", "processed")]


async def test_handlers_may_be_there_before_the_agent_is_open_and_without_any_no_room_is_read(house: House) -> None:
    await house.rooms.open()
    await house.settled()
    assert house.stage.asked == []
    rooms = Rooms(AgentContext(house.stage.context.connection, house.stage.context.rest))
    rooms.on_message(house.note)
    rooms.context = house.stage.context  # The agent is opened.

    await rooms.open()
    await house.settled()

    assert set(house.stage.topics) == {f"agent_rooms:{OWN_ID}", "chat_room:r1", "chat_room:r2"}


async def test_a_handler_that_fails_marks_its_text_with_the_class_alone(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(message: RoomMessage) -> None:
        raise ValueError("a secret")

    house.waiting = {"r1": [text("1"), text("2")]}
    house.rooms.on_message(fail)

    await house.settled()

    assert house.marks() == [("1", "processing"), ("1", "failed"), ("2", "processing"), ("2", "failed")]
    errors = [body["error"] for method, path, body in house.stage.asked if path.endswith("/failed")]
    assert errors == ["ValueError", "ValueError"]
    assert "the handler of text 1 in room r1 has failed" in caplog.text


async def test_a_handler_says_itself_why_it_fails(house: House) -> None:
    async def fail(message: RoomMessage) -> None:
        message.fail("I cannot read that")

    house.waiting = {"r1": [text("1")]}
    house.rooms.on_message(fail)

    await house.settled()

    (failed,) = house.stage.bodies("POST", "/agent/chats/r1/messages/1/failed")
    assert failed["error"] == "I cannot read that"


async def test_a_text_that_has_failed_too_often_is_left_to_people(house: House) -> None:
    house.waiting = {
        "r1": [
            text("spent", status="failed", attempts=ATTEMPTS_MAX),
            text("once more", status="failed", attempts=ATTEMPTS_MAX - 1),
            text("begun", status="processing", attempts=9),
        ]
    }
    house.rooms.on_message(house.note)

    await house.settled()

    assert house.heard == ["say once more", "say begun"]


async def test_a_room_that_a_handler_has_for_itself_is_nobody_elses(house: House) -> None:
    alone: list[str] = []

    async def note_alone(message: RoomMessage) -> None:
        alone.append(message.plain)

    house.waiting = {"r1": [text("1")], "r2": [text("2", "r2")]}
    house.rooms.on_message(note_alone, room_id="r1")
    house.rooms.on_message(house.note)
    texts = house.rooms.messages()

    await house.settled()

    assert (alone, house.heard) == (["say 1"], ["say 2"])
    assert [message.id for message in texts.drain()] == ["2"]


async def test_texts_are_read_by_who_comes_later_and_ended_by_who_reads(house: House) -> None:
    house.waiting = {"r1": [text("1")]}
    house.rooms.on_message(house.note, room_id="r2")
    first = house.rooms.messages()
    await house.settled()
    message = await anext(first)
    assert house.marks() == []

    async with message:
        await message.reply("done", ["carol/x"])

    assert house.marks() == [("1", "processing"), ("1", "processed")]
    (reply,) = house.stage.bodies("POST", "/agent/chats/r1/messages")
    assert reply["message"] == {"content": "done", "mentions": [{"id": OTHER_ID}, {"handle": "carol/x"}]}


async def test_what_nobody_took_is_offered_to_the_next_handler(house: House) -> None:
    async with house.rooms.messages() as texts:
        await house.settled()
    house.waiting = {"r1": [text("1")]}
    house.topic("r1").come("message_created", text("1"))
    await house.settled()
    assert texts.drain() == []

    house.rooms.on_message(house.note)
    await house.settled()

    assert house.heard == ["say 1"]


async def test_an_exception_of_the_reader_goes_on_to_it_also_where_the_mark_is_refused(house: House) -> None:
    house.stage.on("POST", ".*/failed", refusal("not_found"))
    message = RoomMessage(house.rooms, told("1"))

    with pytest.raises(ValueError, match="mine"):
        async with message:
            raise ValueError("mine")

    house.stage.on("POST", ".*/processed", refusal("not_found"))
    with pytest.raises(RefusedByServer, match="not_found"):
        async with message:
            pass


async def test_a_cancelled_reader_leaves_its_text_as_being_processed(house: House) -> None:
    with pytest.raises(asyncio.CancelledError):
        async with RoomMessage(house.rooms, told("1")):
            raise asyncio.CancelledError

    assert house.marks() == [("1", "processing")]


async def test_rooms_that_the_agent_comes_into_are_read_and_those_that_it_leaves_are_left(house: House) -> None:
    house.rooms.on_message(house.note)
    await house.settled()
    house.own.come("room_added", room("r3"))
    house.own.come("room_added", room("r3"))
    await house.settled()
    house.topic("r3").come("message_created", text("3", "r3"))
    house.own.come("room_removed", room("r1"))
    house.own.come("room_removed", room("r1"))
    await house.settled()

    assert house.heard == ["say 3"]
    assert len(house.topic("r3").joined) == 1
    assert (house.topic("r1").is_left, house.topic("r2").is_left) == (True, False)
    house.there = ["r3"]
    house.own.rejoin()
    await house.settled()
    assert house.topic("r2").is_left


async def test_a_room_that_cannot_be_joined_is_none_of_the_agents(house: House) -> None:
    house.stage.on("join", "chat_room:r1", refusal("unauthorized"))
    house.waiting = {"r2": [text("2", "r2")]}
    house.rooms.on_message(house.note)

    await house.settled()

    assert house.heard == ["say 2"]


async def test_a_text_that_cannot_be_marked_is_passed_over_and_the_others_go_on(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.stage.on("POST", ".*/messages/1/processing", refusal("not_found"))
    house.waiting = {"r1": [text("1"), text("2")]}
    house.rooms.on_message(house.note)

    await house.settled()

    assert house.heard == ["say 2"]
    assert "text 1 in room r1: not_found" in caplog.text


async def test_how_many_texts_are_remembered_is_limited(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_MAX", 1)
    house.rooms.on_message(house.note)
    await house.settled()
    for id_ in ("1", "2", "1"):
        house.topic("r1").come("message_created", text(id_))

    await house.settled()

    assert house.heard == ["say 1", "say 2", "say 1"]


async def test_a_closed_connection_ends_the_reading_and_closing_leaves_the_rooms(house: House) -> None:
    texts = house.rooms.messages()
    await house.settled()
    house.topic("r1").end()
    house.own.end()
    with pytest.raises(Disconnected):
        await anext(texts)

    await house.rooms.close()
    await house.settled()

    assert house.topic("r2").is_left
    await house.rooms.close()


async def test_a_listener_is_told_the_end_also_where_no_room_was_read_yet(house: House) -> None:
    texts = house.rooms.messages()

    house.stage.context.cancel_background()

    with pytest.raises(Disconnected):
        await anext(texts)


async def test_what_ends_the_agent_is_told_alone_however_many_rooms_are_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def fail() -> None:
        raise WrongPrice("two prices")

    async def read() -> None:
        async with staged(monkeypatch, tmp_path) as stage:
            house = House(stage)
            house.rooms.on_message(house.note)
            await house.settled()
            stage.context.spawn(fail(), "what finds the server lying")
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as group:
        await read()

    assert [type(error) for error in group.value.exceptions] == [WrongPrice]


async def test_a_room_that_the_agent_comes_into_again_while_its_end_is_heard_is_read(house: House) -> None:
    house.rooms.on_message(house.note)
    await house.settled()
    answers: list[Any] = [refusal("not_found"), [text("1")]]
    house.stage.on("GET", "/agent/chats/r1/messages", lambda _: answers.pop(0))
    house.topic("r1").rejoin()
    house.own.come("room_added", room("r1"))  # Before anybody has seen to what was refused.
    await house.settled()
    assert house.heard == ["say 1"]

    answers[:] = [refusal("not_found"), [text("2")]]
    house.topic("r1").rejoin()
    house.own.come("room_added", room("r1"))
    await house.settled()

    assert house.heard == ["say 1", "say 2"], "it is so each time"


async def test_what_comes_while_a_room_is_offered_to_somebody_new_waits_its_turn(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.rooms.messages():
        await house.settled()
    house.waiting = {"r1": [text("1"), text("2")]}
    gate = asyncio.Event()

    async def slowly(*asked: Any) -> AsyncIterator[Any]:
        async for one in every(*asked):
            yield one
            await gate.wait()

    monkeypatch.setattr(module, "every", slowly)
    texts = house.rooms.messages()
    await house.settled()
    house.topic("r1").come("message_created", text("3"))
    await house.settled()
    gate.set()
    await house.settled()

    assert [message.id for message in texts.drain()] == ["1", "2", "3"]


async def test_what_nobody_took_in_a_room_is_offered_to_who_has_it_for_itself(house: House) -> None:
    async with house.rooms.messages():
        await house.settled()
    house.waiting = {"r1": [text("1")]}
    house.topic("r1").come("message_created", text("1"))
    await house.settled()

    house.rooms.on_message(house.note, room_id="r1")
    await house.settled()

    assert house.heard == ["say 1"]


async def test_a_lie_that_is_found_while_a_room_is_offered_again_ends_the_agent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def read() -> None:
        async with staged(monkeypatch, tmp_path) as stage:
            house = House(stage)
            async with house.rooms.messages():
                await house.settled()
            house.waiting = {"r1": [{"id": "no text"}]}
            house.rooms.on_message(house.note)
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as group:
        await read()

    assert group.group_contains(MalformedAnswer)


async def test_rooms_are_made_named_and_peopled(house: House) -> None:
    house.stage.on("POST", "/agent/chats", room("r9"))
    house.stage.on("PATCH", "/agent/chats/r9", room("r9"))
    house.stage.losses = 1

    made = await house.rooms.create(task_id="plan")
    await house.rooms.rename(made.id, "Plan")

    bodies = house.stage.bodies("POST", "/agent/chats")
    assert [body["chat"] for body in bodies] == [{"task_id": "plan"}] * 2
    assert len({body["key"] for body in bodies}) == 1
    assert house.stage.bodies("PATCH", "/agent/chats/r9") == [{"chat": {"title": "Plan"}}]


async def test_who_is_added_or_removed_may_be_named_by_its_handle(house: House) -> None:
    bob = {"id": OTHER_ID, "handle": "bob/clerk", "name": "B", "type": "Agent"}
    peer, participant = {**bob, "source": "contact", "is_contact": True, "online": False}, {**bob, "role": "member"}
    house.stage.on("GET", "/agent/peers", [peer])
    house.stage.on("GET", "/agent/chats/r1/participants", [participant])
    house.stage.on("POST", "/agent/chats/r1/participants", participant)

    await house.rooms.add("r1", "@Bob/Clerk", "admin")
    await house.rooms.add("r1", OTHER_ID)
    await house.rooms.remove("r1", "bob/clerk")

    added = [body["participant"] for body in house.stage.bodies("POST", "/agent/chats/r1/participants")]
    assert added == [{"participant_id": OTHER_ID, "role": "admin"}, {"participant_id": OTHER_ID, "role": "member"}]
    assert house.stage.bodies("DELETE", f"/agent/chats/r1/participants/{OTHER_ID}") == [{}]
    with pytest.raises(NobodyFound, match="nobody here is called carol/x"):
        await house.rooms.add("r1", "carol/x")


async def test_a_text_whose_handler_was_cancelled_by_closing_is_handed_over_again(house: House) -> None:
    gate = asyncio.Event()

    async def wait(message: RoomMessage) -> None:
        house.heard.append(message.plain)
        await gate.wait()

    house.waiting = {"r1": [text("1")]}
    house.rooms.on_message(wait)
    await house.settled()
    await house.rooms.close()
    assert house.marks() == [("1", "processing")]
    gate.set()

    await house.rooms.open()
    await house.settled()

    assert house.heard == ["say 1", "say 1"]
    assert house.marks()[-1] == ("1", "processed")


async def test_a_room_is_looked_at_and_events_are_put_on_record(house: House) -> None:
    house.stage.on("GET", "/agent/chats/r1", room("r1"))
    house.stage.on("POST", "/agent/chats/r1/events", {"id": "e", "message_type": "task"})
    house.stage.on("POST", "/agent/chats/r1/activity", {"working": False})
    house.stage.on("GET", "/agent/chats/r1/context", [text("1")])

    assert (await house.rooms.get("r1")).id == "r1"
    assert (await house.rooms.record("r1", "looked", "task", {"n": 1})).id == "e"
    await house.rooms.say_working("r1", is_working=False)

    assert [one.id async for one in house.rooms.history("r1")] == ["1"]
    (event,) = house.stage.bodies("POST", "/agent/chats/r1/events")
    assert event["event"] == {"content": "looked", "message_type": "task", "metadata": {"n": 1}}


async def test_a_removal_that_was_said_twice_over_a_loss_is_done(house: House) -> None:
    answers: list[Any] = [{}, refusal("not_found")]
    house.stage.on("DELETE", f"/agent/chats/r1/participants/{OTHER_ID}", lambda _: answers.pop(0))
    house.stage.losses = 1
    await house.rooms.remove("r1", OTHER_ID)
    house.stage.on("DELETE", f"/agent/chats/r1/participants/{OTHER_ID}", refusal("not_found"))

    with pytest.raises(RefusedByServer, match="not_found"):
        await house.rooms.remove("r1", OTHER_ID)


def told(id_: str) -> RoomText:
    return msgspec.convert(text(id_), RoomText)
