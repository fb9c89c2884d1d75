"""Contacts of the client: asking, answering as the strategy says, and hearing what was missed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agrenting.client.contact_strategies import DISABLED, Answer, Approve, Callback, ContactStrategy, Decline
from agrenting.client.contacts import Contacts
from agrenting.client.errors import Disconnected, NoAnswer, NotApproved, RefusedByServer, TopicEnded
from agrenting.client.listening import Listening
from agrenting.client.told_contacts import (
    ContactAdded,
    ContactEvent,
    ContactRemoved,
    ContactRequest,
    RequestReceived,
    RequestUpdated,
)
from tests.agrenting.client_stage import NOW, OWN_ID, Stage, StageTopic, refusal, staged

REQUEST_ID = "10000000-0000-4000-8000-000000000001"
OTHER_REQUEST_ID = "10000000-0000-4000-8000-000000000002"
CONTACT_ID = "20000000-0000-4000-8000-000000000001"
RESPOND = "/agent/contacts/requests/respond"


class Book:
    """What the market knows of Alice's contacts; the test changes it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.received: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.contacts: list[dict[str, Any]] = []
        stage.on("GET", "/agent/contacts/requests", self.requests)
        stage.on("GET", "/agent/contacts", lambda _: self.contacts)
        stage.on("POST", RESPOND, {"id": REQUEST_ID, "status": "approved"})
        stage.on("POST", "/agent/contacts/(remove|unblock)", {"status": "removed"})

    @property
    def topic(self) -> StageTopic:
        return self.stage.topic(f"agent_contacts:{OWN_ID}")

    def answers(self) -> list[dict[str, Any]]:
        """What was answered to requests."""
        return [{k: v for k, v in body.items() if k != "key"} for body in self.stage.bodies("POST", RESPOND)]

    def requests(self, query: dict[str, Any]) -> dict[str, Any]:
        """Two requests a page."""
        number, status = int(query["page"]), query["sent_status"]
        sent = [one for one in self.sent if status in {"all", one["status"]}]
        rows = slice(2 * number - 2, 2 * number)
        pages = {
            name: {"total": len(of), "total_pages": (len(of) + 1) // 2}
            for name, of in (("received", self.received), ("sent", sent))
        }
        return {"data": {"received": self.received[rows], "sent": sent[rows]}, "metadata": {"page": number, **pages}}


@pytest.fixture
async def book(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Book]:
    async with staged(monkeypatch, tmp_path) as stage:
        yield Book(stage)


def asks(id_: str = REQUEST_ID, handle: str = "bob/clerk") -> dict[str, Any]:
    return {
        "id": id_,
        "status": "pending",
        "from_handle": handle,
        "from_name": "Bob",
        "message": "?",
        "inserted_at": NOW,
    }


def asked(id_: str = REQUEST_ID, status: str = "pending", handle: str = "bob/clerk") -> dict[str, Any]:
    return {
        "id": id_, "status": status, "to_handle": handle, "to_name": "Bob", "message": None,
        "inserted_at": NOW, "expires_at": NOW, "responded_at": None,
    }  # fmt: skip


def contact(id_: str = CONTACT_ID, handle: str = "bob/clerk") -> dict[str, Any]:
    return {
        "id": id_, "handle": handle, "name": "Bob", "type": "Agent", "online": True, "inserted_at": NOW,
        "origin": "request", "is_requester": True, "scope": None, "is_external": True,
    }  # fmt: skip


# Asking.


async def test_a_request_is_waited_for_until_it_is_approved(book: Book) -> None:
    book.sent = [asked()]
    book.stage.on("POST", "/agent/contacts/add", {"id": REQUEST_ID, "status": "pending"})
    contacts = Contacts(book.stage.context)
    waiting = asyncio.create_task(contacts.request("@Bob/Clerk ", "hello"))
    await book.topic.settled()
    book.topic.come("contact_request_updated", {"id": OTHER_REQUEST_ID, "status": "rejected"})
    await book.topic.settled()
    assert not waiting.done()
    book.contacts = [contact()]

    book.topic.come("contact_request_updated", {"id": REQUEST_ID, "status": "approved"})

    assert (await waiting).id == CONTACT_ID
    (body,) = book.stage.bodies("POST", "/agent/contacts/add")
    assert (body["handle"], body["message"]) == ("bob/clerk", "hello")


@pytest.mark.parametrize("status", ["rejected", "cancelled", "expired"])
async def test_a_request_that_ends_otherwise_is_not_approved(book: Book, status: str) -> None:
    book.sent = [asked()]
    book.stage.on("POST", "/agent/contacts/add", {"id": REQUEST_ID, "status": "pending"})
    waiting = asyncio.create_task(Contacts(book.stage.context).request("bob/clerk"))
    await book.topic.settled()

    book.topic.come("contact_request_updated", {"id": REQUEST_ID, "status": status})

    with pytest.raises(NotApproved, match=f"bob/clerk is no contact: the request was {status}") as error:
        await waiting
    assert (error.value.handle, error.value.status) == ("bob/clerk", status)


async def test_who_had_asked_already_is_a_contact_at_once_and_so_is_one_that_is(book: Book) -> None:
    book.contacts = [contact()]
    book.stage.on("POST", "/agent/contacts/add", {"id": REQUEST_ID, "status": "approved"})
    contacts = Contacts(book.stage.context)
    assert (await contacts.request("bob/clerk")).id == CONTACT_ID

    book.stage.on("POST", "/agent/contacts/add", refusal("already_contacts"))

    assert (await contacts.request("bob/clerk")).id == CONTACT_ID


async def test_a_contact_that_has_ended_meanwhile_is_none(book: Book) -> None:
    book.stage.on("POST", "/agent/contacts/add", {"id": REQUEST_ID, "status": "approved"})

    with pytest.raises(NotApproved, match="removed"):
        await Contacts(book.stage.context).request("bob/clerk")


async def test_asking_again_waits_for_the_pending_request_and_makes_another_where_that_has_just_ended(
    book: Book,
) -> None:
    book.sent = [asked(OTHER_REQUEST_ID, handle="carol/x"), asked()]
    book.stage.on("POST", "/agent/contacts/add", refusal("request_pending"))
    contacts = Contacts(book.stage.context)
    waiting = asyncio.create_task(contacts.request("bob/clerk"))
    await book.topic.settled()
    book.topic.come("contact_request_updated", {"id": REQUEST_ID, "status": "rejected"})
    with pytest.raises(NotApproved):
        await waiting

    book.sent = []
    answers = [refusal("request_pending"), {"id": REQUEST_ID, "status": "approved"}]
    book.stage.on("POST", "/agent/contacts/add", lambda _: answers.pop(0))
    book.contacts = [contact()]

    assert (await contacts.request("bob/clerk")).id == CONTACT_ID


async def test_an_answer_that_was_replayed_is_looked_at_once_more(book: Book) -> None:
    """The first answer was lost, and what is answered to the repetition is from before the request has ended."""
    book.sent = [asked(OTHER_REQUEST_ID, "rejected"), asked("other", "rejected"), asked(status="expired")]
    book.stage.on("POST", "/agent/contacts/add", {"id": REQUEST_ID, "status": "pending"})
    book.stage.losses = 1

    with pytest.raises(NotApproved, match="expired"):
        await Contacts(book.stage.context).request("bob/clerk")


async def test_an_end_during_a_loss_is_heard_after_it(book: Book) -> None:
    book.sent = [asked()]
    book.stage.on("POST", "/agent/contacts/add", {"id": REQUEST_ID, "status": "pending"})
    contacts = Contacts(book.stage.context)
    events = contacts.events()
    waiting = asyncio.create_task(contacts.request("bob/clerk"))
    await book.topic.settled()
    book.sent, book.contacts = [asked(status="approved")], [contact()]

    book.topic.rejoin()

    assert (await waiting).id == CONTACT_ID
    assert events.drain() == [
        RequestUpdated(REQUEST_ID, "approved"),
        ContactAdded(id=CONTACT_ID, handle="bob/clerk", name="Bob", type="Agent"),
    ]


async def test_an_end_that_is_seen_after_a_loss_and_told_as_well_is_told_once(book: Book) -> None:
    book.sent, book.received = [asked()], [asks(OTHER_REQUEST_ID, "carol/x")]
    contacts = Contacts(book.stage.context)
    events = contacts.events()
    await book.topic.settled()
    events.drain()
    book.sent, book.received = [asked(status="rejected")], []

    book.topic.rejoin()
    book.topic.come("contact_request_updated", {"id": REQUEST_ID, "status": "rejected"})
    book.topic.come("contact_request_received", asks(OTHER_REQUEST_ID, "carol/x"))
    book.topic.come("contact_request_updated", {"id": OTHER_REQUEST_ID, "status": "cancelled"})
    await book.topic.settled()

    assert events.drain() == [RequestUpdated(OTHER_REQUEST_ID, None), RequestUpdated(REQUEST_ID, "rejected")]


async def test_no_answer_in_time_leaves_the_request_pending(book: Book) -> None:
    book.sent = [asked()]
    book.stage.on("POST", "/agent/contacts/add", {"id": REQUEST_ID, "status": "pending"})

    with pytest.raises(NoAnswer, match="the request stays pending"):
        await Contacts(book.stage.context).request("bob/clerk", timeout_s=0.01)


async def test_a_refusal_of_the_market_is_raised(book: Book) -> None:
    book.stage.on("POST", "/agent/contacts/add", refusal("too_many_pending"))

    with pytest.raises(RefusedByServer, match="too_many_pending"):
        await Contacts(book.stage.context).request("bob/clerk")


async def test_who_waits_is_told_when_the_connection_is_closed(book: Book) -> None:
    book.sent = [asked()]
    book.stage.on("POST", "/agent/contacts/add", {"id": REQUEST_ID, "status": "pending"})
    waiting = asyncio.create_task(Contacts(book.stage.context).request("bob/clerk"))
    await book.topic.settled()

    book.topic.end()

    with pytest.raises(Disconnected):
        await waiting


# Answering by hand.


async def test_an_approval_is_narrowed_as_it_is_said(book: Book) -> None:
    contacts = Contacts(book.stage.context)

    await contacts.approve(
        REQUEST_ID, kinds=("task",), max_price="5.00", max_open=2, expires_at=datetime(2027, 1, 1, tzinfo=UTC)
    )
    await contacts.approve("@bob/clerk")
    await contacts.reject("bob/clerk")
    await contacts.cancel("bob/clerk")

    assert book.answers() == [
        {
            "action": "approve",
            "request_id": REQUEST_ID,
            "scope": {
                "kinds": ["task"],
                "max_price": 5_000_000,
                "max_open": 2,
                "expires_at": "2027-01-01T00:00:00+00:00",
            },
        },
        {"action": "approve", "handle": "@bob/clerk"},
        {"action": "reject", "handle": "bob/clerk"},
        {"action": "cancel", "handle": "bob/clerk"},
    ]


async def test_a_limit_of_nothing_is_a_limit(book: Book) -> None:
    await Contacts(book.stage.context).approve(REQUEST_ID, max_price=0, max_open=0)

    assert book.answers()[0]["scope"] == {"max_price": 0, "max_open": 0}


async def test_what_is_no_time_or_no_amount_approves_nothing(book: Book) -> None:
    contacts = Contacts(book.stage.context)

    with pytest.raises(ValueError, match="offset from UTC"):
        await contacts.approve(REQUEST_ID, expires_at=datetime(2027, 1, 1))  # noqa: DTZ001 - That is what is wrong.
    with pytest.raises(ValueError, match="decimals"):
        await contacts.approve(REQUEST_ID, max_price="5.0000001")

    assert book.answers() == []


async def test_contacts_are_found_and_ended_by_handle_or_as_they_are(book: Book) -> None:
    book.contacts = [contact(), contact("c2", "carol/x")]
    contacts = Contacts(book.stage.context)
    found = await contacts.find("@Carol/X")
    assert found is not None

    await contacts.remove(found)
    await contacts.remove("bob/clerk")

    first, second = book.stage.bodies("POST", "/agent/contacts/remove")
    assert (first["contact_id"], second["handle"]) == ("c2", "bob/clerk")
    assert await contacts.find("nobody") is None


async def test_requests_are_read_page_by_page(book: Book) -> None:
    book.received = [asks(str(n)) for n in range(5)]
    book.sent = [asked(str(n)) for n in range(3)]
    contacts = Contacts(book.stage.context)

    assert [one.id for one in await contacts.requests()] == list("01234")
    assert [one.id for one in await contacts.own_requests()] == list("012")


@pytest.mark.parametrize("asked_before", range(5))
async def test_no_request_is_missed_because_another_one_ends_while_they_are_read(book: Book, asked_before: int) -> None:
    book.received = [asks(str(n)) for n in range(5)]
    book.sent = [asked(str(n)) for n in range(5)]
    pages = count()

    def page(query: dict[str, Any]) -> dict[str, Any]:
        if next(pages) == asked_before:  # It moves those behind it forward.
            del book.received[0], book.sent[0]
        return book.requests(query)

    book.stage.on("GET", "/agent/contacts/requests", page)
    contacts = Contacts(book.stage.context)

    assert {*"1234"} <= {one.id for one in await contacts.requests()}
    pages, book.sent = count(), [asked(str(n)) for n in range(5)]
    book.received = [asks()]
    assert {*"1234"} <= {one.id for one in await contacts.own_requests()}


# The strategies.


async def answered_with(book: Book, answer: Answer) -> Contacts:
    async def decide(request: ContactRequest) -> Answer:
        return answer

    contacts = Contacts(book.stage.context, Callback(decide))
    await contacts.open()
    await book.topic.settled()
    return contacts


async def test_a_callback_answers_what_was_pending_and_what_comes_each_once(book: Book) -> None:
    book.received = [asks()]
    await answered_with(book, Approve(max_price="1.00"))
    book.topic.come("contact_request_received", asks())
    book.topic.come("contact_request_received", asks(OTHER_REQUEST_ID, "carol/x"))
    book.received.append(asks(OTHER_REQUEST_ID, "carol/x"))
    book.topic.rejoin()
    await book.topic.settled()

    assert book.answers() == [
        {"action": "approve", "request_id": REQUEST_ID, "scope": {"max_price": 1_000_000}},
        {"action": "approve", "request_id": OTHER_REQUEST_ID, "scope": {"max_price": 1_000_000}},
    ]


async def test_a_callback_rejects_or_leaves_it_to_the_owner(book: Book) -> None:
    book.received = [asks()]
    await answered_with(book, Decline())
    assert book.answers() == [{"action": "reject", "request_id": REQUEST_ID}]


async def test_none_leaves_a_request_to_the_owner(book: Book) -> None:
    book.received = [asks()]
    await answered_with(book, None)
    assert book.answers() == []


async def test_a_callback_that_fails_leaves_its_request_pending_and_the_others_are_answered(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    async def decide(request: ContactRequest) -> Answer:
        if request.id == REQUEST_ID:
            raise ValueError("cannot decide")
        return Decline()

    book.received = [asks(), asks(OTHER_REQUEST_ID, "carol/x")]
    await Contacts(book.stage.context, Callback(decide)).open()
    await book.topic.settled()

    assert book.answers() == [{"action": "reject", "request_id": OTHER_REQUEST_ID}]
    assert "the contact strategy has failed" in caplog.text


@pytest.mark.parametrize(("reason", "is_told"), [("request_resolved", False), ("missing_scope", True)])
async def test_a_request_that_somebody_else_has_answered_is_nobodys_fault(
    book: Book, caplog: pytest.LogCaptureFixture, reason: str, *, is_told: bool
) -> None:
    book.received = [asks()]
    book.stage.on("POST", RESPOND, refusal(reason))

    await answered_with(book, Decline())

    assert (reason in caplog.text) is is_told


async def test_disabled_joins_nothing(book: Book) -> None:
    book.received = [asks()]

    await Contacts(book.stage.context, DISABLED).open()
    await book.topic.settled()

    assert book.stage.asked == []


async def test_a_strategy_is_told_how_requests_end(book: Book) -> None:
    class Noting(ContactStrategy):
        def __init__(self) -> None:
            self.ends: list[tuple[str, str | None]] = []

        async def decide(self, contacts: Contacts, request: ContactRequest) -> Answer:
            return None

        async def ended(self, contacts: Contacts, request_id: str, status: str | None) -> None:
            self.ends.append((request_id, status))

    noting = Noting()
    book.received = [asks(), asks(OTHER_REQUEST_ID, "carol/x"), asks("third", "dave/y")]
    await Contacts(book.stage.context, noting).open()
    await book.topic.settled()
    book.topic.come("contact_request_updated", {"id": REQUEST_ID, "status": "expired"})
    book.received, book.contacts = [], [contact(handle="dave/y")]
    book.topic.rejoin()
    await book.topic.settled()

    assert noting.ends == [(REQUEST_ID, "expired"), (OTHER_REQUEST_ID, None), ("third", "approved")]


# Events.


async def test_what_happens_right_behind_the_start_is_told(book: Book) -> None:
    contacts = Contacts(book.stage.context)
    events = contacts.events()
    await contacts.start()
    book.contacts = [contact()]  # Before anything else has run.

    book.topic.come("contact_added", contact())
    await book.topic.settled()

    assert events.drain() == [ContactAdded(id=CONTACT_ID, handle="bob/clerk", name="Bob", type="Agent")]


async def test_what_the_agent_does_right_behind_events_is_told(book: Book) -> None:
    book.received, book.contacts = [asks()], [contact("c2", "carol/x")]

    def tell(event: str, payload: Any) -> None:
        if book.topic.joined:
            book.topic.come(event, payload)

    def approve(_: dict[str, Any]) -> Any:
        book.received = []
        book.contacts.append(contact())
        tell("contact_request_updated", {"id": REQUEST_ID, "status": "approved"})
        tell("contact_added", contact())
        return {"id": REQUEST_ID, "status": "approved"}

    def remove(_: dict[str, Any]) -> Any:
        del book.contacts[0]
        tell("contact_removed", {"id": "c2"})
        return {"status": "removed"}

    book.stage.on("POST", RESPOND, approve)
    book.stage.on("POST", "/agent/contacts/remove", remove)
    contacts = Contacts(book.stage.context)
    events = contacts.events()
    also = contacts.events()
    await contacts.approve("bob/clerk")  # Before the listening has begun, were it not waited for.
    await contacts.remove("carol/x")
    await book.topic.settled()

    heard = events.drain()
    assert [type(event) for event in heard] == [RequestReceived, RequestUpdated, ContactAdded, ContactRemoved]
    assert also.drain() == heard
    assert len(book.topic.joined) == 1


async def test_a_strategy_may_change_contacts_when_it_begins(book: Book) -> None:
    class Tidy(ContactStrategy):
        async def begin(self, contacts: Contacts) -> None:
            await contacts.remove("carol/x")

        async def decide(self, contacts: Contacts, request: ContactRequest) -> Answer:
            return None

    contacts = Contacts(book.stage.context, Tidy())
    await contacts.start()
    await contacts.close()
    contacts.events()
    await book.topic.settled()

    assert len(book.stage.bodies("POST", "/agent/contacts/remove")) == 2


async def test_a_strategy_may_change_contacts_from_tasks_of_its_own_when_it_begins(book: Book) -> None:
    class Tidy(ContactStrategy):
        async def begin(self, contacts: Contacts) -> None:
            await asyncio.gather(contacts.remove("carol/x"), contacts.remove("dave/y"))

        async def decide(self, contacts: Contacts, request: ContactRequest) -> Answer:
            return None

    book.contacts = [contact(handle="dave/y")]
    events = Contacts(book.stage.context, Tidy()).events()
    await book.topic.settled()
    book.topic.come("contact_removed", {"id": CONTACT_ID})
    await book.topic.settled()

    assert len(book.stage.bodies("POST", "/agent/contacts/remove")) == 2
    assert events.drain() == [ContactRemoved(CONTACT_ID, "dave/y")]


async def test_a_topic_that_was_left_while_somebody_had_it_started_ends_nothing_else(book: Book) -> None:
    contacts = Contacts(book.stage.context)
    events = contacts.events()
    await contacts.start()

    book.topic.end(TopicEnded("it was left"))
    await book.topic.settled()

    with pytest.raises(Disconnected):
        await anext(events)
    assert book.stage.context.is_open


async def test_events_tell_each_thing_once_over_a_loss(book: Book) -> None:
    book.contacts, book.received = [contact()], [asks(handle="carol/x")]
    contacts = Contacts(book.stage.context)
    events = contacts.events()
    await book.topic.settled()
    assert [type(event) for event in events.drain()] == [RequestReceived]
    late = contacts.events()
    assert [type(event) for event in late.drain()] == [RequestReceived], "it begins with what is pending"

    book.contacts = [contact("c2", "dave/y")]
    book.received = []
    book.topic.rejoin()
    await book.topic.settled()
    book.topic.come("contact_added", contact("c2", "dave/y"))
    book.topic.come("contact_removed", {"id": "c2"})
    book.topic.come("contact_removed", {"id": "c2"})
    book.topic.come("something_new", {})
    await book.topic.settled()

    assert events.drain() == [
        RequestUpdated(REQUEST_ID, None),
        ContactRemoved(CONTACT_ID, "bob/clerk"),
        ContactAdded(id="c2", handle="dave/y", name="Bob", type="Agent"),
        ContactRemoved("c2", "dave/y"),
    ]


async def test_after_closing_nothing_is_told_and_it_can_be_started_again(book: Book) -> None:
    contacts = Contacts(book.stage.context)
    events = contacts.events()
    await book.topic.settled()

    await contacts.close()

    with pytest.raises(Disconnected):
        await anext(events)
    assert book.topic.is_left
    await contacts.close()
    await contacts.start()
    await contacts.start()
    assert len(book.topic.joined) == 2


async def test_who_listens_behind_the_end_of_the_reading_has_it_begun_again(book: Book) -> None:
    contacts = Contacts(book.stage.context)
    await contacts.start()
    book.topic.end()
    await book.topic.settled()

    events = contacts.events()
    await book.topic.settled()
    book.topic.come("contact_added", contact())

    assert isinstance(await anext(events), ContactAdded)


@pytest.mark.parametrize("is_started", [False, True])
async def test_who_listens_is_told_the_end_also_where_the_reading_has_not_begun(
    book: Book, *, is_started: bool
) -> None:
    contacts = Contacts(book.stage.context)
    events = contacts.events()
    if is_started:
        await contacts.start()

    book.stage.context.cancel_background()

    with pytest.raises(Disconnected):
        await anext(events)


async def test_closing_ends_a_start_that_nobody_waits_for(book: Book) -> None:
    contacts = Contacts(book.stage.context)
    events = contacts.events()

    await contacts.close()

    with pytest.raises(Disconnected):
        await anext(events)
    assert book.stage.asked == []


async def test_a_refusal_to_listen_is_told_to_who_listens_and_ends_the_agent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def listen() -> None:
        async with staged(monkeypatch, tmp_path) as stage:
            stage.on("join", "agent_contacts:.*", refusal("missing_scope"))
            listening.append(Contacts(stage.context).events())
            await asyncio.Event().wait()

    listening: list[Listening[ContactEvent]] = []
    with pytest.raises(ExceptionGroup) as group:
        await listen()

    assert group.group_contains(RefusedByServer, match="missing_scope")
    with pytest.raises(RefusedByServer, match="missing_scope"):
        await anext(listening[0])
