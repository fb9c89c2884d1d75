"""Band's own SDK, unmodified: agents ask for contact, answer, list and end it. Their owners have nothing in common."""

from collections.abc import Awaitable, Callable

import pytest

from tests.system.band import (
    ONCE,
    RECEIVED,
    UPDATED,
    ApiError,
    BadRequestError,
    ConflictError,
    ContactTools,
    ForbiddenError,
    NotFoundError,
    Stage,
    present,
)

NO_SUCH_ID = "00000000-0000-4000-8000-000000000000"


# Asking.


async def test_a_request_is_pending_until_it_is_answered_and_both_sides_list_it(stage: Stage) -> None:
    alice, bob = stage.agent("alice", called="Alice"), stage.agent("bob", called="Bob")

    asked = await alice.ask(bob, "We translate, you proofread")

    assert asked.status == "pending"
    (sent,) = await alice.sent()
    (received,) = await bob.received()
    assert (sent.id, sent.status, sent.to_handle, sent.to_name) == (asked.id, "pending", bob.handle, "Bob")
    assert (received.id, received.status) == (asked.id, "pending")
    assert (received.from_handle, received.from_name) == (alice.handle, "Alice")
    assert sent.message == received.message == "We translate, you proofread"
    assert sent.inserted_at == received.inserted_at
    assert await alice.received() == []
    assert await bob.sent("all") == []
    assert await alice.friends() == await bob.friends() == {}


@pytest.mark.parametrize("spelling", ["{}", "@{}"])
async def test_a_handle_is_taken_with_and_without_at(stage: Stage, spelling: str) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    spelt = spelling.format(bob.handle)

    asked = await alice.contacts.add_agent_contact(handle=spelt, request_options=ONCE)
    answered = await bob.contacts.respond_to_agent_contact_request(
        action="approve", handle=spelling.format(alice.handle), request_options=ONCE
    )
    removed = await alice.contacts.remove_agent_contact(handle=spelt, request_options=ONCE)

    assert present(answered.data).id == present(asked.data).id
    assert present(answered.data).status == "approved"
    assert present(removed.data).status == "removed"


async def test_upper_case_is_folded(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")

    asked = await alice.contacts.add_agent_contact(handle=f"@{bob.handle.upper()}", request_options=ONCE)

    assert present(asked.data).status == "pending"
    assert [row.to_handle for row in await alice.sent()] == [bob.handle]


async def test_an_agent_asks_a_user_and_the_user_approves(stage: Stage) -> None:
    alice, olga = stage.agent("alice"), stage.user("olga")

    asked = await alice.ask(olga)
    await olga.my_contacts.approve_contact_request(asked.id)

    assert (await alice.friends())[olga.handle].type == "User"


async def test_the_sdk_repeats_a_refused_request_and_nothing_happens_twice(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    ear = await stage.listen(bob)
    asked = await alice.ask(bob)

    with pytest.raises(ConflictError) as refused:  # Three times over: the client repeats a 409 by itself.
        await alice.contacts.add_agent_contact(handle=bob.handle, message="Again")
    await alice.answer("cancel", asked.id)

    assert refused.value.body.error.code == "request_pending"
    assert refused.value.body.error.request_id
    assert (await ear.next(RECEIVED)).id == asked.id
    assert (await ear.next(UPDATED)).status == "cancelled"  # Nothing came in between.
    assert [row.id for row in await alice.sent("all")] == [asked.id]


async def test_nobody_is_its_own_contact(stage: Stage) -> None:
    alice = stage.agent("alice")

    with pytest.raises(ConflictError) as refused:
        await alice.ask(alice)

    assert refused.value.body.error.code == "self_contact"
    assert [*await alice.sent("all"), *await alice.received()] == []


async def test_who_is_a_contact_already_is_not_asked_again(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    await alice.befriend(bob)

    for one, other in ((alice, bob), (bob, alice), (alice, alice.owner)):
        with pytest.raises(ConflictError) as refused:
            await one.ask(other)
        assert refused.value.body.error.code == "already_contacts"

    assert await alice.received() == await bob.received() == []


@pytest.mark.parametrize("handle", ["nobody-of-that-name", "@nobody-of-that-name/helper"])
async def test_an_unknown_handle_is_not_found(stage: Stage, handle: str) -> None:
    alice = stage.agent("alice")

    with pytest.raises(NotFoundError) as refused:
        await alice.contacts.add_agent_contact(handle=handle)
    with pytest.raises(NotFoundError):
        await alice.contacts.remove_agent_contact(handle=handle)
    with pytest.raises(NotFoundError):
        await alice.contacts.respond_to_agent_contact_request(action="approve", handle=handle)

    assert refused.value.body.error.request_id


@pytest.mark.parametrize("handle", ["", "@", "a/b/c", "white space", "alice/", "/helper", "a" * 500, "ünïcode"])
async def test_a_malformed_handle_is_a_bad_request(stage: Stage, handle: str) -> None:
    alice = stage.agent("alice")

    with pytest.raises(BadRequestError) as refused:
        await alice.contacts.add_agent_contact(handle=handle)
    with pytest.raises(BadRequestError):
        await alice.contacts.remove_agent_contact(handle=handle)
    with pytest.raises(BadRequestError):
        await alice.contacts.respond_to_agent_contact_request(action="approve", handle=handle)

    assert refused.value.body.error.code == "invalid_handle"


async def test_a_message_has_at_most_500_characters(stage: Stage) -> None:
    alice, bob, carol = stage.agent("alice"), stage.agent("bob"), stage.agent("carol")

    await alice.ask(bob, "é" * 500)
    with pytest.raises(ApiError) as refused:  # The SDK declares no 422 here.
        await alice.ask(carol, "é" * 501)

    assert refused.value.status_code == 422
    assert [row.message for row in await bob.received()] == ["é" * 500]
    assert await carol.received() == []


async def test_at_most_ten_requests_to_strangers_are_pending(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    asked = [await alice.ask(stage.agent("carol")) for _ in range(10)]

    with pytest.raises(ConflictError) as refused:
        await alice.ask(bob)
    assert refused.value.body.error.code == "too_many_pending"
    assert await bob.received() == []
    await alice.answer("cancel", asked[0].id)

    assert (await alice.ask(bob)).status == "pending"


# Answering.


@pytest.mark.parametrize(("action", "status"), [("approve", "approved"), ("reject", "rejected")])
async def test_the_recipient_approves_or_rejects_and_that_is_final(stage: Stage, action: str, status: str) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    asked = await alice.ask(bob)

    assert await bob.answer(action, asked.id) == status

    assert [*await bob.received(), *await alice.sent()] == []
    (sent,) = await alice.sent(status)
    assert (sent.id, sent.status) == (asked.id, status)
    assert set(await alice.friends()) == ({bob.handle} if status == "approved" else set())
    for again in ("approve", "reject"):
        with pytest.raises(ConflictError) as refused:
            await bob.answer(again, asked.id)
        assert refused.value.body.error.code == "request_resolved"
    with pytest.raises(ConflictError):
        await alice.answer("cancel", asked.id)
    assert set(await bob.friends()) == ({alice.handle} if status == "approved" else set())


async def test_the_sender_cancels_and_may_ask_again(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    first = await alice.ask(bob)

    assert await alice.answer("cancel", first.id) == "cancelled"
    with pytest.raises(ConflictError):
        await bob.answer("approve", first.id)
    second = await alice.ask(bob)

    assert second.id != first.id
    assert [row.id for row in await bob.received()] == [second.id]
    assert {row.id: row.status for row in await alice.sent("all")} == {first.id: "cancelled", second.id: "pending"}


async def test_a_request_is_answered_by_handle_too(stage: Stage) -> None:
    alice, bob, carol = stage.agent("alice"), stage.agent("bob"), stage.agent("carol")
    asked, cancelled = await alice.ask(bob), await alice.ask(carol)

    rejected = await bob.contacts.respond_to_agent_contact_request(action="reject", handle=alice.handle)
    withdrawn = await alice.contacts.respond_to_agent_contact_request(action="cancel", handle=carol.handle)

    assert (present(rejected.data).id, present(rejected.data).status) == (asked.id, "rejected")
    assert (present(withdrawn.data).id, present(withdrawn.data).status) == (cancelled.id, "cancelled")


async def test_the_wrong_side_may_not_answer_and_changes_nothing(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    asked = await alice.ask(bob)

    for player, action in ((alice, "approve"), (alice, "reject"), (bob, "cancel")):
        with pytest.raises(ForbiddenError) as refused:
            await player.answer(action, asked.id)
        assert refused.value.body.error.message

    assert [row.id for row in await bob.received()] == [asked.id]


async def test_who_is_not_of_a_request_never_learns_that_it_exists(stage: Stage) -> None:
    alice, bob, mallory = stage.agent("alice"), stage.agent("bob"), stage.agent("mallory")
    asked = await alice.ask(bob)
    told = []

    for action in ("approve", "reject", "cancel"):
        for request_id in (asked.id, NO_SUCH_ID):
            with pytest.raises(NotFoundError) as refused:
                await mallory.answer(action, request_id)
            told.append((refused.value.body.error.code, refused.value.body.error.message))
        with pytest.raises(NotFoundError):
            await mallory.contacts.respond_to_agent_contact_request(action=action, handle=alice.handle)

    assert len(set(told)) == 1
    assert [row.id for row in await bob.received()] == [asked.id]


async def test_without_handle_and_id_nothing_is_answered_or_removed(stage: Stage) -> None:
    alice = stage.agent("alice")
    calls: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: alice.contacts.respond_to_agent_contact_request(action="approve"),
        lambda: alice.contacts.respond_to_agent_contact_request(action="approve", handle=None, request_id=None),
        alice.contacts.remove_agent_contact,
        lambda: alice.contacts.remove_agent_contact(handle=None, contact_id=None),
    )

    for call in calls:
        with pytest.raises(BadRequestError) as refused:
            await call()
        assert refused.value.body.error.request_id


async def test_crossing_requests_approve_each_other(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    asked = await alice.ask(bob)

    crossing = await bob.ask(alice)

    assert crossing.status == "approved"
    assert set(await alice.friends()) == {bob.handle}
    assert set(await bob.friends()) == {alice.handle}
    for player in (alice, bob):
        assert [*await player.sent(), *await player.received()] == []
    assert [(row.id, row.status) for row in await alice.sent("all")] == [(asked.id, "approved")]


# Listing and ending.


async def test_sent_requests_are_listed_by_state(stage: Stage) -> None:
    alice = stage.agent("alice")
    bobs = {status: stage.agent("bob") for status in ("pending", "approved", "rejected", "cancelled")}
    asked = {status: await alice.ask(bob) for status, bob in bobs.items()}
    await bobs["approved"].answer("approve", asked["approved"].id)
    await bobs["rejected"].answer("reject", asked["rejected"].id)
    await alice.answer("cancel", asked["cancelled"].id)

    for status, request in asked.items():
        assert [(row.id, row.status) for row in await alice.sent(status)] == [(request.id, status)]
    assert [row.id for row in await alice.sent()] == [asked["pending"].id]
    assert {row.id: row.status for row in await alice.sent("all")} == {
        request.id: status for status, request in asked.items()
    }


async def test_requests_are_paged_in_each_direction(stage: Stage) -> None:
    alice = stage.agent("alice")
    asked = [await alice.ask(stage.agent("bob")) for _ in range(3)]
    asking = [await stage.agent("carol").ask(alice) for _ in range(5)]
    pages = [await alice.contacts.list_agent_contact_requests(page=page, page_size=2) for page in (1, 2, 3)]

    received = [row.id for page in pages for row in present(present(page.data).received)]
    sent = [row.id for page in pages for row in present(present(page.data).sent)]
    assert received == [request.id for request in asking]
    assert sent == [request.id for request in asked]
    for number, page in enumerate(pages, start=1):
        metadata = present(page.metadata)
        assert (metadata.page, metadata.page_size) == (number, 2)
        assert (metadata.received.total, metadata.received.total_pages) == (5, 3)
        assert (metadata.sent.total, metadata.sent.total_pages) == (3, 2)


async def test_contacts_are_told_with_what_the_sdk_shows_of_them(stage: Stage) -> None:
    alice = stage.agent("alice", called="Alice")
    bob = stage.agent("bob", tags=["words"], called="Bob")
    await alice.befriend(bob)

    contact = (await alice.friends())[bob.handle]
    owner = next(
        row for row in present((await alice.contacts.list_agent_contacts()).data) if row.handle == alice.owner.handle
    )

    assert (contact.type, contact.name, contact.description, contact.online) == ("Agent", "Bob", "Bob of bob", False)
    assert present(contact.tags) == ["words"]
    assert contact.listed_in_directory is True
    assert (owner.type, owner.online) == ("User", False)


async def test_contacts_are_paged(stage: Stage) -> None:
    alice = stage.agent("alice")
    for _ in range(4):
        await alice.befriend(stage.agent("bob"))
    pages = [await alice.contacts.list_agent_contacts(page=page, page_size=2) for page in (1, 2, 3, 4)]

    rows = [row.handle for page in pages for row in present(page.data)]
    assert set(rows) == {alice.owner.handle, *await alice.friends()}
    assert len(rows) == len(set(rows)) == 5
    assert [len(present(page.data)) for page in pages] == [2, 2, 1, 0]
    for number, page in enumerate(pages, start=1):
        metadata = present(page.metadata)
        assert (metadata.page, metadata.page_size) == (number, 2)
        assert (metadata.total_count, metadata.total_pages) == (5, 3)


@pytest.mark.parametrize("remover", ["requester", "recipient"])
@pytest.mark.parametrize("by", ["handle", "contact_id"])
async def test_either_side_ends_a_contact_for_both_and_may_ask_again(stage: Stage, remover: str, by: str) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    await alice.befriend(bob)
    one, other = (alice, bob) if remover == "requester" else (bob, alice)
    before = (await one.friends())[other.handle].id

    if by == "handle":
        removed = await one.contacts.remove_agent_contact(handle=other.handle)
    else:
        removed = await one.contacts.remove_agent_contact(contact_id=before)

    assert present(removed.data).status == "removed"
    assert await alice.friends() == await bob.friends() == {}
    for player, former in ((one, other), (other, one)):
        with pytest.raises(NotFoundError):
            await player.contacts.remove_agent_contact(handle=former.handle)
        with pytest.raises(NotFoundError):
            await player.contacts.remove_agent_contact(contact_id=before)
    await bob.befriend(alice)
    # A new record: the SDK's runtime takes a second push about the old one for a repetition.
    assert (await one.friends())[other.handle].id != before


async def test_nobody_ends_the_contact_of_others(stage: Stage) -> None:
    alice, bob, mallory = stage.agent("alice"), stage.agent("bob"), stage.agent("mallory")
    await alice.befriend(bob)
    contact = (await alice.friends())[bob.handle]

    with pytest.raises(NotFoundError):
        await mallory.contacts.remove_agent_contact(contact_id=contact.id)
    with pytest.raises(NotFoundError):
        await mallory.contacts.remove_agent_contact(handle=bob.handle)

    assert set(await alice.friends()) == {bob.handle}


# The tools that a callback is given.


async def test_the_sdks_contact_tools_go_the_whole_way(stage: Stage) -> None:
    alice, bob, carol = stage.agent("alice", called="Alice"), stage.agent("bob", called="Bob"), stage.agent("carol")
    of_alice, of_bob = ContactTools(alice.rest), ContactTools(bob.rest)

    asked = await of_alice.add_contact(f"@{bob.handle}")  # Without a message: the SDK sends null.
    pending = await of_bob.list_contact_requests()
    approved = await of_bob.respond_contact_request("approve", handle=f"@{alice.handle}")
    contacts = await of_alice.list_contacts()
    withdrawn = await of_alice.add_contact(carol.handle, "Hello")
    cancelled = await of_alice.respond_contact_request("cancel", request_id=withdrawn["id"])
    sent = await of_alice.list_contact_requests(sent_status="cancelled")
    removed = await of_bob.remove_contact(handle=alice.handle)

    assert asked["status"] == "pending"
    assert [(row["id"], row["from_handle"], row["message"]) for row in pending["received"]] == [
        (asked["id"], alice.handle, None)
    ]
    assert approved == {"id": asked["id"], "status": "approved"}
    assert {row["handle"] for row in contacts["contacts"]} == {alice.owner.handle, bob.handle}
    assert contacts["metadata"] == {"page": 1, "page_size": 50, "total_count": 2, "total_pages": 1}
    assert cancelled == {"id": withdrawn["id"], "status": "cancelled"}
    assert [row["to_handle"] for row in sent["sent"]] == [carol.handle]
    assert removed == {"status": "removed"}
    assert _handles(await of_alice.list_contacts()) == {alice.owner.handle}


def _handles(answer: dict[str, list[dict[str, str]]]) -> set[str]:
    return {row["handle"] for row in answer["contacts"]}


async def test_no_answer_holds_an_at_sign(stage: Stage) -> None:
    alice, bob, carol = stage.agent("alice"), stage.agent("bob"), stage.agent("carol")
    await alice.befriend(bob)
    await alice.ask(carol)

    handles = [
        *[row.to_handle for row in await alice.sent("all")],
        *[row.from_handle for row in await carol.received()],
        *await alice.friends(),
    ]

    assert handles == [bob.handle, carol.handle, alice.handle, bob.handle]
