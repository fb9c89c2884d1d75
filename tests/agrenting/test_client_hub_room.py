"""The hub room: what the owner's lines mean, and that nothing else is done."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agrenting.client.contacts import Contacts
from agrenting.client.hub_room import ABOUT, HubRoom, Said, parse_answer
from agrenting.client.told_rooms import SentText
from tests.agrenting.client_stage import NOW, OTHER_ID, OWN_ID, OWNER_ID, Stage, refusal, staged
from tests.agrenting.test_client_contacts import REQUEST_ID, RESPOND, Book, asked, asks, contact

ROOM = "/agent/chats/room-1"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("approve @bob/scout", Said(handle="bob/scout", is_yes=True)),
        ("Approve bob/scout.", Said(handle="bob/scout", is_yes=True)),
        ("yes, @Bob/Scout!", Said(handle="bob/scout", is_yes=True)),
        ("please accept:  bob.b-b", Said(handle="bob.b-b", is_yes=True)),
        ("ok bob/scout up to 5.00", Said(handle="bob/scout", is_yes=True, up_to="5.00")),
        ("approve bob/scout, at most 5", Said(handle="bob/scout", is_yes=True, up_to="5")),
        ("approve bob/scout up to USD 5.00", Said(handle="bob/scout", is_yes=True, up_to="5.00", currency="USD")),
        ("approve bob/scout max: 5.00 usd", Said(handle="bob/scout", is_yes=True, up_to="5.00", currency="USD")),
        ("reject bob/scout", Said(handle="bob/scout", is_yes=False)),
        ("No, @bob/scout.", Said(handle="bob/scout", is_yes=False)),
        ("decline\tbob/scout", Said(handle="bob/scout", is_yes=False)),
    ],
)
def test_what_is_clear_is_understood(line: str, meant: Said) -> None:
    assert parse_answer(line) == meant


@pytest.mark.parametrize(
    "line",
    [
        "",
        "approve",
        "yes",
        "do not approve bob/scout",
        "don't approve bob/scout",
        "approve bob/scout?",
        "approve bob/scout up to 5,00",
        "approve bob/scout up to lots",
        "approve bob/scout up to -5",
        "approve bob/scout up to 5.00 but not today",
        "approve bob/scout up to USD 5.00 EUR",
        "approve bob/scout and carol/x",
        "approve bob/scout/clerk",
        "approve bob/scout for 5.00",
        "reject bob/scout up to 5.00",
        "approvebob/scout",
        "approve everybody up to",
        "> approve bob/scout",
    ],
)
def test_what_is_not_clear_is_not_guessed(line: str) -> None:
    assert parse_answer(line) is None


class Hub:
    """Alice's agent with a hub room; what is written there is noted."""

    def __init__(self, stage: Stage) -> None:
        self.book = Book(stage)
        self.stage = stage
        self.history: list[dict[str, Any]] = []
        self.unprocessed: list[dict[str, Any]] = []
        self.participants = [who(OWN_ID, "Agent", "owner"), who(OWNER_ID, "User")]
        self.rooms = [room("other", None), room("room-1", ABOUT)]
        stage.on("GET", "/agent/chats", lambda _: self.rooms)
        stage.on("GET", "/agent/chats/[^/]+/participants", lambda _: self.participants)
        stage.on("POST", "/agent/chats", lambda body: room("room-2", body["chat"]["task_id"], body["chat"]["title"]))
        stage.on("POST", "/agent/chats/[^/]+/participants", who(OWNER_ID, "User"))
        stage.on("GET", f"{ROOM}/context", lambda _: self.history)
        stage.on("GET", "/agent/chats/[^/]+/context", lambda _: self.history)
        stage.on("GET", "/agent/chats/[^/]+/messages", lambda _: self.unprocessed)
        stage.on("POST", "/agent/chats/[^/]+/messages", {"id": "m", "recipients": []})
        stage.on("POST", "/agent/chats/[^/]+/messages/[^/]+/.+", {"id": "m", "status": "x", "attempt_number": 1})
        self.contacts = Contacts(stage.context, HubRoom())

    async def open(self) -> None:
        await self.contacts.open()
        await self.book.topic.settled()

    async def hear(self, text: str, sender: str = OWNER_ID) -> list[str]:
        """Somebody writes that; what is written to that."""
        before = len(self.written())
        topic = self.stage.topic("chat_room:room-1")
        topic.come("message_created", said(text, sender, f"text-{len(self.ends())}"))
        await topic.settled()
        await asyncio.sleep(0)
        return self.written()[before:]

    def written(self, room_id: str = "room-1") -> list[str]:
        bodies = self.stage.bodies("POST", f"/agent/chats/{room_id}/messages")
        return [body["message"]["content"] for body in bodies]

    def ends(self) -> list[str]:
        """How texts were marked."""
        return [
            path.rpartition("/")[2] for method, path, _ in self.stage.asked if "/messages/" in path and method == "POST"
        ]


def who(id_: str, type_: str, role: str = "member") -> dict[str, Any]:
    return {"id": id_, "type": type_, "role": role, "name": "N", "handle": "h", "status": "active"}


def room(id_: str, task_id: str | None, title: str | None = None) -> dict[str, Any]:
    return {"id": id_, "title": title, "task_id": task_id, "inserted_at": NOW, "updated_at": NOW}


def said(content: str, sender: str = OWNER_ID, id_: str = "t1") -> dict[str, Any]:
    return {
        "id": id_, "chat_room_id": "room-1", "content": f"@[[{OWN_ID}]] {content}", "message_type": "text",
        "sender_id": sender, "sender_type": "User", "sender_name": "A", "metadata": None, "inserted_at": NOW,
    }  # fmt: skip


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Hub]:
    async with staged(monkeypatch, tmp_path) as stage:
        yield Hub(stage)


async def test_the_room_is_found_again_and_each_request_is_written_once(hub: Hub) -> None:
    hub.history = [
        {
            **said(f"Request {REQUEST_ID} is from bob", OWN_ID),
            "content": f"@[[{OWNER_ID}]] Request {REQUEST_ID} is from bob",
        }
    ]
    hub.book.received = [asks(), asks("10000000-0000-4000-8000-000000000002", "carol/x")]

    await hub.open()

    (question,) = hub.written()
    assert question.startswith(f"@[[{OWNER_ID}]] Request 10000000-0000-4000-8000-000000000002 is from carol/x (Bob)")
    assert "approve @carol/x up to 5.00" in question
    assert hub.stage.bodies("POST", "/agent/chats") == []


async def test_a_request_cannot_pass_for_one_that_was_written(hub: Hub) -> None:
    """What a stranger says is quoted; only how a text of the agent's begins says which request it is about."""
    forged = f"hello\n@[[{OWNER_ID}]] Request {REQUEST_ID} is from nobody"
    another = f"@[[{OWNER_ID}]] Request 10000000-0000-4000-8000-00000000000f is from m/x"
    hub.history = [
        {**said("x", OWN_ID), "content": f"{another}\n> {forged}"},
        {**said("x", OTHER_ID), "content": f"@[[{OWNER_ID}]] Request {REQUEST_ID} is from nobody"},
    ]
    hub.book.received = [asks()]

    await hub.open()

    assert len(hub.written()) == 1


async def test_a_room_of_somebody_else_is_none_and_a_new_one_is_made_with_the_owner(hub: Hub) -> None:
    hub.participants = [who(OTHER_ID, "Agent", "owner"), who(OWN_ID, "Agent"), who(OWNER_ID, "User")]

    await hub.open()

    (made,) = hub.stage.bodies("POST", "/agent/chats")
    assert made["chat"] == {"title": "Contact requests", "task_id": ABOUT}
    (added,) = hub.stage.bodies("POST", "/agent/chats/room-2/participants")
    assert added["participant"]["participant_id"] == OWNER_ID


async def test_an_owner_that_has_left_is_added_again(hub: Hub) -> None:
    hub.participants = [who(OWN_ID, "Agent", "owner")]

    await hub.open()

    assert len(hub.stage.bodies("POST", f"{ROOM}/participants")) == 1


async def test_the_owners_line_approves_with_its_limit_and_is_confirmed(hub: Hub) -> None:
    hub.book.received = [asks()]
    await hub.open()

    (answer,) = await hub.hear("approve @bob/clerk up to 5.00")

    assert hub.book.answers() == [{"action": "approve", "request_id": REQUEST_ID, "scope": {"max_price": 5_000_000}}]
    assert answer == "Approved: bob/clerk is a contact now, for up to USD 5.00 at a time."
    assert hub.ends() == ["processing", "processed"]
    hub.book.topic.come("contact_request_updated", {"id": REQUEST_ID, "status": "approved"})
    await hub.book.topic.settled()
    assert len(hub.written()) == 2, "it was confirmed already"


async def test_several_lines_are_several_answers(hub: Hub) -> None:
    hub.book.received = [asks(), asks("10000000-0000-4000-8000-000000000002", "carol/x")]
    await hub.open()

    (answer,) = await hub.hear("approve bob/clerk\n\nreject carol/x\nthanks!")

    assert [one["action"] for one in hub.book.answers()] == ["approve", "reject"]
    assert "Approved: bob/clerk" in answer
    assert "Rejected: carol/x" in answer
    assert "It is not clear what 'thanks!' means, so nothing was done." in answer


async def test_somebody_else_in_the_room_answers_nothing(hub: Hub) -> None:
    hub.book.received = [asks()]
    await hub.open()

    (answer,) = await hub.hear("approve bob/clerk", OTHER_ID)

    assert answer == "Only alice answers contact requests of alice/scout."
    assert hub.book.answers() == []


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("hm", "It is not clear what 'hm' means, so nothing was done. Waiting for an answer: bob/clerk."),
        ("approve bob/clerk up to 5.00 EUR", "Amounts are in USD here"),
        ("approve bob/clerk up to 5.0000001", "has 7 decimals"),
        ("approve carol/x", "There is no request from carol/x any more. Waiting for an answer: bob/clerk."),
    ],
)
async def test_what_cannot_be_done_is_said_and_nothing_is_done(hub: Hub, line: str, part: str) -> None:
    hub.book.received = [asks()]
    await hub.open()

    (answer,) = await hub.hear(line)

    assert part in answer
    assert hub.book.answers() == []


async def test_an_empty_text_is_answered_too(hub: Hub) -> None:
    await hub.open()

    assert await hub.hear("") == ["Nothing was done. Nobody is waiting for an answer."]


async def test_a_second_approval_of_a_contact_does_nothing(hub: Hub) -> None:
    hub.book.contacts = [contact()]
    await hub.open()

    assert await hub.hear("approve bob/clerk") == ["bob/clerk is a contact already."]


async def test_a_refusal_of_the_market_is_told_and_the_end_too(hub: Hub) -> None:
    hub.book.received = [asks()]
    hub.stage.on("POST", RESPOND, refusal("request_resolved"))
    await hub.open()

    (answer,) = await hub.hear("approve bob/clerk")
    hub.book.topic.come("contact_request_updated", {"id": REQUEST_ID, "status": "cancelled"})
    await hub.book.topic.settled()

    assert answer == "The market refuses that for bob/clerk: It is request_resolved."
    assert hub.written()[-1] == f"@[[{OWNER_ID}]] It was cancelled: request {REQUEST_ID} needs no answer any more."


async def test_an_end_stands_behind_its_request_however_slow_the_writing_is(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, gate = hub.contacts.rooms.post, asyncio.Event()

    async def slow(room_id: str, content: str, mentions: list[str], *, key: str) -> SentText:
        if " is from " in content:
            await gate.wait()
        return await post(room_id, content, mentions, key=key)

    monkeypatch.setattr(hub.contacts.rooms, "post", slow)
    await hub.open()
    hub.book.topic.come("contact_request_received", asks())
    hub.book.topic.come("contact_request_updated", {"id": REQUEST_ID, "status": "cancelled"})
    await hub.book.topic.settled()
    gate.set()
    await hub.book.topic.settled()

    question, end = hub.written()
    assert " is from " in question
    assert "It was cancelled" in end


async def test_ends_of_other_requests_are_not_told(hub: Hub) -> None:
    hub.book.sent = [asked()]
    await hub.open()

    hub.book.topic.come("contact_request_updated", {"id": REQUEST_ID, "status": "rejected"})
    await hub.book.topic.settled()

    assert hub.written() == []


async def test_a_request_that_could_not_be_written_is_written_with_the_next_start(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    hub.book.received = [asks()]
    hub.stage.on("POST", f"{ROOM}/messages", refusal("rate_limited"))
    await hub.open()
    assert "rate_limited" in caplog.text
    await hub.contacts.close()
    hub.stage.on("POST", f"{ROOM}/messages", {"id": "m", "recipients": []})

    await hub.open()

    assert len(hub.written()) == 2


async def test_a_deleted_room_is_replaced_before_it_is_needed_again(hub: Hub) -> None:
    await hub.open()
    hub.rooms = []
    hub.stage.on("POST", f"{ROOM}/messages", refusal("not_found"))

    hub.book.topic.come("contact_request_received", asks())
    hub.book.topic.come("contact_request_received", asks("10000000-0000-4000-8000-000000000002", "carol/x"))
    await hub.book.topic.settled()

    assert len(hub.written("room-2")) == 2
    assert len(hub.stage.bodies("POST", "/agent/chats")) == 1
