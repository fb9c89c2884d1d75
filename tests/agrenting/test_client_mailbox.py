"""The mailbox: each message once, in order, and acknowledged once it was handled."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agrenting.client import mailbox as module
from agrenting.client.errors import Disconnected, MalformedAnswer, NoAnswer, WrongPrice
from agrenting.client.mailbox import Mailbox, RejectMessage
from agrenting.client.told_messages import Message
from tests.agrenting.client_stage import NOW, OTHER_ID, OWN_ID, Stage, StageTopic, refusal, staged

CAROL_ID = "00000000-0000-4000-8000-00000000000c"


class Desk:
    """A mailbox whose handler notes what it is handed, and waits where it is told to."""

    def __init__(self, stage: Stage, mailbox: Mailbox) -> None:
        self.stage = stage
        self.mailbox = mailbox
        self.heard: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.failing: dict[str, Exception] = {}

    @property
    def topic(self) -> StageTopic:
        return self.stage.topic(f"messages:{OWN_ID}")

    async def note(self, message: Message) -> None:
        self.heard.append(message.id)
        if message.id in self.gates:
            await self.gates[message.id].wait()
        if message.id in self.failing:
            raise self.failing.pop(message.id)

    def acknowledged(self) -> list[str]:
        return [payload["message_id"] for event, payload in self.topic.pushed if event == "acknowledge"]


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Desk]:
    async with staged(monkeypatch, tmp_path) as stage:
        mailbox = Mailbox(stage.context)
        yield Desk(stage, mailbox)
        await mailbox.close()


def told(id_: str, type_: str = "status_update", sender: str | None = OTHER_ID, **more: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "type": type_,
        "payload": {},
        "from_agent_id": sender,
        "from_market": False,
        "protocol_version": "1.0",
        "inserted_at": NOW,
        **more,
    }


async def test_a_message_is_acknowledged_once_its_handler_has_returned_and_not_before(desk: Desk) -> None:
    desk.gates["1"] = asyncio.Event()
    desk.mailbox.on("status_update", desk.note)
    await desk.mailbox.start()
    desk.topic.come("new_message", told("1"))
    await desk.topic.settled()
    assert (desk.heard, desk.acknowledged()) == (["1"], [])

    desk.gates["1"].set()

    assert await desk.topic.has_pushed(1) == [("acknowledge", {"message_id": "1"})]


async def test_what_comes_again_while_it_is_handled_is_not_handled_again_and_afterwards_only_acknowledged(
    desk: Desk,
) -> None:
    desk.gates["1"] = asyncio.Event()
    desk.mailbox.on("status_update", desk.note)
    await desk.mailbox.start()
    desk.topic.come("new_message", told("1"))
    desk.topic.rejoin()
    desk.topic.come("new_message", told("1"))
    await desk.topic.settled()
    desk.gates["1"].set()
    await desk.topic.has_pushed(1)
    desk.topic.come("new_message", told("1"))

    await desk.topic.has_pushed(2)

    assert (desk.heard, desk.acknowledged()) == (["1"], ["1", "1"])


async def test_messages_of_one_sender_wait_for_each_other_and_those_of_others_do_not(desk: Desk) -> None:
    desk.gates["1"] = asyncio.Event()
    desk.mailbox.on("status_update", desk.note)
    await desk.mailbox.start()
    desk.topic.come("new_message", told("1"))
    desk.topic.come("new_message", told("2"))
    desk.topic.come("new_message", told("3", sender=CAROL_ID))
    await desk.topic.settled()
    assert desk.heard == ["1", "3"]

    desk.gates["1"].set()
    await desk.topic.has_pushed(3)

    assert desk.heard == ["1", "3", "2"]


async def test_announcements_of_the_market_are_handled_side_by_side(desk: Desk) -> None:
    desk.gates["1"] = asyncio.Event()
    desk.mailbox.on("task_handoff", desk.note)
    await desk.mailbox.start()
    for id_ in ("1", "2"):
        desk.topic.come("new_message", told(id_, "task_handoff", from_market=True))

    await desk.topic.has_pushed(1)

    assert (desk.heard, desk.acknowledged()) == (["1", "2"], ["2"])


async def test_an_agent_cannot_play_the_market(desk: Desk) -> None:
    by_agents: list[str] = []

    async def note_agents(message: Message) -> None:
        by_agents.append(message.id)

    desk.mailbox.on("task_handoff", desk.note)
    desk.mailbox.on("task_handoff", note_agents, from_market=False)
    await desk.mailbox.start()
    desk.topic.come("new_message", told("forged", "task_handoff"))
    desk.topic.come("new_message", told("real", "task_handoff", from_market=True))

    await desk.topic.has_pushed(2)

    assert (desk.heard, by_agents) == (["real"], ["forged"])


async def test_what_nobody_handles_waits_for_who_does_and_new_announcements_are_acknowledged(desk: Desk) -> None:
    await desk.mailbox.start()
    desk.topic.come("new_message", told("1"))
    desk.topic.come("new_message", told("2", "task_handoff", from_market=True))
    desk.topic.come("new_message", told("3", "system", None, from_market=True))
    desk.topic.come("new_message", told("4", "of_tomorrow", from_market=True))
    await desk.topic.has_pushed(1)
    assert (desk.heard, desk.acknowledged()) == ([], ["4"])

    desk.mailbox.on("status_update", desk.note)
    desk.mailbox.on("system", desk.note)
    await desk.topic.has_pushed(3)

    assert desk.heard == ["1", "3"]
    assert desk.acknowledged() == ["4", "1", "3"]


async def test_a_handler_that_fails_leaves_its_message_unanswered_and_the_others_go_on(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.failing["1"] = ValueError("not yet")
    desk.mailbox.on("status_update", desk.note)
    await desk.mailbox.start()
    desk.topic.come("new_message", told("1", payload="a secret"))
    desk.topic.come("new_message", told("2"))
    await desk.topic.has_pushed(1)
    assert desk.acknowledged() == ["2"]
    assert "the handler of message 1, of type status_update, has failed" in caplog.text
    assert "a secret" not in caplog.text

    desk.topic.come("new_message", told("1"))
    await desk.topic.has_pushed(2)

    assert desk.heard == ["1", "2", "1"]


async def test_a_handler_rejects_a_message_with_a_reason(desk: Desk) -> None:
    desk.failing["1"] = RejectMessage("not for me")
    desk.mailbox.on("status_update", desk.note)
    await desk.mailbox.start()
    desk.topic.come("new_message", told("1"))

    assert await desk.topic.has_pushed(1) == [("reject", {"message_id": "1", "reason": "not for me"})]


@pytest.mark.parametrize("reason", ["expired", "already_rejected", "not_found"])
async def test_a_message_that_is_over_needs_no_answer(
    desk: Desk, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    desk.stage.on("push", "acknowledge", refusal(reason))
    desk.mailbox.on("status_update", desk.note)
    await desk.mailbox.start()
    desk.topic.come("new_message", told("1"))

    await desk.topic.has_pushed(1)
    await desk.topic.settled()

    assert "stays unanswered" not in caplog.text


async def test_an_answer_that_is_refused_for_now_is_given_when_the_message_comes_again(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    desk.stage.on("push", "acknowledge", refusal("rate_limited"))
    desk.mailbox.on("status_update", desk.note)
    await desk.mailbox.start()
    desk.topic.come("new_message", told("1"))
    await desk.topic.has_pushed(1)
    await desk.topic.settled()
    assert "message 1 stays unanswered" in caplog.text
    desk.stage.on("push", "acknowledge", {})

    desk.topic.come("new_message", told("1"))
    await desk.topic.has_pushed(2)

    assert desk.heard == ["1"]


async def test_handlers_that_were_taken_away_are_not_called_also_not_for_what_waits_for_its_turn(desk: Desk) -> None:
    desk.gates["1"] = asyncio.Event()
    take_away = desk.mailbox.on("status_update", desk.note)
    await desk.mailbox.start()
    desk.topic.come("new_message", told("1"))
    desk.topic.come("new_message", told("2"))
    await desk.topic.settled()

    take_away()
    desk.gates["1"].set()
    await desk.topic.has_pushed(1)
    await desk.topic.settled()

    assert (desk.heard, desk.acknowledged()) == (["1"], ["1"])
    desk.mailbox.on("status_update", desk.note)
    await desk.topic.has_pushed(2)
    assert desk.heard == ["1", "2"]


async def test_every_handler_of_a_type_is_called_before_the_message_is_acknowledged(desk: Desk) -> None:
    desk.mailbox.on("x_news", desk.note)
    desk.mailbox.on("x_news", desk.note)
    await desk.mailbox.start()
    desk.topic.come("new_message", told("1", "x_news"))

    await desk.topic.has_pushed(1)

    assert (desk.heard, desk.acknowledged()) == (["1", "1"], ["1"])


async def test_closing_cancels_what_is_under_way_and_it_stays_unanswered(desk: Desk) -> None:
    desk.gates["1"] = asyncio.Event()
    desk.mailbox.on("status_update", desk.note)
    await desk.mailbox.start()
    await desk.mailbox.start()
    assert len(desk.topic.joined) == 1, "starting again does nothing"
    desk.topic.come("new_message", told("1"))
    await desk.topic.settled()

    await desk.mailbox.close()
    assert desk.acknowledged() == []
    assert desk.topic.is_left
    del desk.gates["1"]
    await desk.mailbox.start()
    desk.topic.come("new_message", told("1"))
    await desk.topic.has_pushed(1)

    assert desk.heard == ["1", "1"]


async def test_a_closed_connection_ends_the_reading_quietly_and_who_waits_for_an_answer_is_told(desk: Desk) -> None:
    desk.stage.on("GET", "/messages/m1", sent("queued"))
    waiting = asyncio.create_task(desk.mailbox.answered("m1"))
    await desk.topic.settled()

    desk.topic.end()

    with pytest.raises(Disconnected):
        await waiting


async def test_who_waits_for_an_answer_is_told_the_end_also_where_the_reading_has_not_begun(desk: Desk) -> None:
    def end(_: dict[str, Any]) -> dict[str, Any]:
        desk.stage.context.cancel_background()
        return sent("queued")

    desk.stage.on("GET", "/messages/m1", end)

    with pytest.raises(Disconnected):
        await desk.mailbox.answered("m1")


async def test_what_is_no_message_ends_the_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def read() -> None:
        async with staged(monkeypatch, tmp_path) as stage:
            await Mailbox(stage.context).start()
            stage.topic(f"messages:{OWN_ID}").come("new_message", {"id": 1})
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as group:
        await read()

    assert group.group_contains(MalformedAnswer, match="the server tells something else than a Message")


async def test_a_handler_that_finds_the_server_lying_ends_the_agent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def find(message: Message) -> None:
        raise WrongPrice("two prices")

    async def read() -> None:
        async with staged(monkeypatch, tmp_path) as stage:
            mailbox = Mailbox(stage.context)
            mailbox.on("status_update", find)
            await mailbox.start()
            stage.topic(f"messages:{OWN_ID}").come("new_message", told("1"))
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as group:
        await read()

    assert group.group_contains(WrongPrice)


async def test_what_nobody_handles_is_kept_up_to_a_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNHEARD_MAX", 2)
    await desk.mailbox.start()
    for id_ in ("1", "2", "3"):
        desk.topic.come("new_message", told(id_))
    await desk.topic.settled()

    desk.mailbox.on("status_update", desk.note)
    await desk.topic.has_pushed(2)
    await desk.topic.settled()

    assert desk.heard == ["2", "3"], "the first one comes with the next join"


# Sending.


def sent(status: str = "queued", **more: Any) -> dict[str, Any]:
    return {
        **told("m1"),
        "from_agent_id": OWN_ID,
        "to_agent_id": OTHER_ID,
        "status": status,
        "reason": None,
        "dedup_key": "k",
        "updated_at": NOW,
        "expires_at": NOW,
        **more,
    }


@pytest.mark.parametrize(
    ("to", "named"), [("bob/clerk", {"to_handle": "bob/clerk"}), (OTHER_ID, {"to_agent_id": OTHER_ID})]
)
async def test_a_message_is_sent_with_one_key_however_often_it_has_to_be_said(
    desk: Desk, to: str, named: dict[str, str]
) -> None:
    desk.stage.on("POST", "/messages", sent())
    desk.stage.losses = 2

    message = await desk.mailbox.send(to, "x_news", [1], protocol_version="1.0")

    bodies = desk.stage.bodies("POST", "/messages")
    assert message.id == "m1"
    assert len(bodies) == 3
    assert len({(body["dedup_key"], body["key"]) for body in bodies}) == 1
    assert bodies[0] == {
        **named,
        "type": "x_news",
        "payload": [1],
        "dedup_key": bodies[0]["dedup_key"],
        "protocol_version": "1.0",
        "key": bodies[0]["key"],
    }


async def test_two_messages_without_a_key_are_two(desk: Desk) -> None:
    desk.stage.on("POST", "/messages", sent())

    await desk.mailbox.send(OTHER_ID, "x_news", 1)
    await desk.mailbox.send(OTHER_ID, "x_news", 1)

    first, second = desk.stage.bodies("POST", "/messages")
    assert first["dedup_key"] != second["dedup_key"]


async def test_an_answer_is_waited_for_by_push_and_looked_at_again_after_a_loss(desk: Desk) -> None:
    states = [sent("queued"), sent("delivered"), sent("rejected", reason="no")]
    desk.stage.on("GET", "/messages/m1", lambda _: states.pop(0))
    waiting = asyncio.create_task(desk.mailbox.answered("m1"))
    await desk.topic.settled()
    desk.topic.come("message_updated", {"id": "another", "status": "expired"})
    await desk.topic.settled()
    assert len(states) == 2
    desk.topic.come("message_updated", {"id": "m1", "status": "delivered"})
    await desk.topic.settled()
    assert len(states) == 1
    desk.topic.rejoin()

    answer = await waiting

    assert (answer.status, answer.reason, answer.is_answered) == ("rejected", "no", True)


async def test_an_answer_that_does_not_come_in_time_is_no_answer(desk: Desk) -> None:
    desk.stage.on("GET", "/messages/m1", sent("delivered"))

    with pytest.raises(NoAnswer, match="message m1 was not answered within"):
        await desk.mailbox.answered("m1", 0.01)
