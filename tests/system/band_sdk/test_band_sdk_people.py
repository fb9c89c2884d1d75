"""Band's own SDK, unmodified: the doors of users: contacts of their own, and answers for their agents."""

from collections.abc import Awaitable, Callable

import pytest

from tests.system.band import (
    RECEIVED,
    UPDATED,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    Invitation,
    NotFoundError,
    Player,
    Stage,
    UnprocessableEntityError,
    present,
)

NO_SUCH_ID = "00000000-0000-4000-8000-000000000000"


async def friends_of(user: Player) -> set[str | None]:
    """Handles of a user's contacts."""
    answer = await user.my_contacts.list_my_contacts(page_size=100)
    return {present(row.user).handle for row in answer.data}


# Requests.


async def test_a_users_request_is_told_whole_and_both_list_it(stage: Stage) -> None:
    alice, bob = stage.user("alice"), stage.user("bob")

    made = await alice.invite(bob, "We have met in Paris")

    assert (made.requester_id, made.recipient_id, made.status) == (alice.id, bob.id, "pending")
    assert (made.requester_type, made.recipient_type) == ("User", "User")
    assert (made.message, made.responded_at) == ("We have met in Paris", None)
    (received,) = (await bob.my_contacts.list_received_contact_requests()).data
    (sent,) = (await alice.my_contacts.list_sent_contact_requests()).data
    for row in (received, sent):
        assert (row.id, row.status, row.message) == (made.id, "pending", "We have met in Paris")
        assert (row.requester_id, row.recipient_id) == (alice.id, bob.id)
        assert row.inserted_at == made.inserted_at
    requester, recipient = present(received.requester), present(sent.recipient)
    assert (requester.id, requester.handle) == (alice.id, alice.handle)
    assert (recipient.id, recipient.handle) == (bob.id, bob.handle)
    assert requester.name
    assert (await alice.my_contacts.list_received_contact_requests()).data == []
    assert (await bob.my_contacts.list_sent_contact_requests()).data == []


@pytest.mark.parametrize("spelling", ["{}", "@{}"])
async def test_users_name_each_other_with_and_without_at(stage: Stage, spelling: str) -> None:
    alice, bob = stage.user("alice"), stage.user("bob")
    handle = spelling.format(bob.handle)

    resolved = (await alice.my_contacts.resolve_handle(handle=handle)).data
    made = await alice.my_contacts.create_contact_request(contact_request=Invitation(recipient_handle=handle))
    await bob.my_contacts.approve_contact_request(made.data.id)
    removed = (await alice.my_contacts.remove_my_contact(handle=handle)).data

    assert resolved.handle == bob.handle
    assert removed.status == "removed"
    assert await friends_of(alice) == set()


@pytest.mark.parametrize(("action", "status"), [("approve", "approved"), ("reject", "rejected")])
async def test_the_recipient_answers_and_that_is_final(stage: Stage, action: str, status: str) -> None:
    alice, bob = stage.user("alice"), stage.user("bob")
    made = await alice.invite(bob)

    assert await bob.answer_as_user(action, made.id) == status

    (sent,) = (await alice.my_contacts.list_sent_contact_requests(status=status)).data
    assert (sent.id, sent.status) == (made.id, status)
    assert sent.responded_at is not None
    assert (await bob.my_contacts.list_received_contact_requests()).data == []
    assert await friends_of(alice) == ({bob.handle} if action == "approve" else set())
    assert await friends_of(bob) == ({alice.handle} if action == "approve" else set())
    for player, again in ((bob, "approve"), (bob, "reject"), (alice, "cancel")):
        with pytest.raises(ConflictError) as refused:
            await player.answer_as_user(again, made.id)
        assert refused.value.body.error.code == "request_resolved"


async def test_the_sender_cancels(stage: Stage) -> None:
    alice, bob = stage.user("alice"), stage.user("bob")
    made = await alice.invite(bob)

    assert await alice.answer_as_user("cancel", made.id) == "cancelled"

    assert (await bob.my_contacts.list_received_contact_requests()).data == []
    with pytest.raises(ConflictError):
        await bob.answer_as_user("approve", made.id)


async def test_the_wrong_side_is_forbidden_and_outsiders_find_nothing(stage: Stage) -> None:
    alice, bob, mallory = stage.user("alice"), stage.user("bob"), stage.user("mallory")
    made = await alice.invite(bob)

    for player, action in ((alice, "approve"), (alice, "reject"), (bob, "cancel")):
        with pytest.raises(ForbiddenError):
            await player.answer_as_user(action, made.id)
    told = []
    for request_id in (made.id, NO_SUCH_ID):
        for action in ("approve", "reject", "cancel"):
            with pytest.raises(NotFoundError) as refused:
                await mallory.answer_as_user(action, request_id)
            told.append(refused.value.body.error.message)

    assert len(set(told)) == 1
    assert [row.id for row in (await bob.my_contacts.list_received_contact_requests()).data] == [made.id]


async def test_an_id_that_is_none_is_refused_with_a_typed_error(stage: Stage) -> None:
    alice = stage.user("alice")

    for door in (
        alice.my_contacts.approve_contact_request,
        alice.my_contacts.reject_contact_request,
        alice.my_contacts.cancel_contact_request,
    ):
        with pytest.raises((NotFoundError, UnprocessableEntityError)):
            await door("not-an-id")


async def test_conflicts_are_repeated_by_the_sdk_and_change_nothing(stage: Stage) -> None:
    alice, bob = stage.user("alice"), stage.user("bob")
    ear = await stage.listen_as_user(bob)
    made = await alice.invite(bob)

    with pytest.raises(ConflictError) as pending:  # Three times over.
        await alice.my_contacts.create_contact_request(contact_request=Invitation(recipient_handle=bob.handle))
    with pytest.raises(ConflictError) as own:
        await alice.invite(alice)
    await bob.my_contacts.approve_contact_request(made.id)
    with pytest.raises(ConflictError) as already:
        await alice.invite(bob)

    codes = [refused.value.body.error.code for refused in (pending, own, already)]
    assert codes == ["request_pending", "self_contact", "already_contacts"]
    assert (await ear.next(RECEIVED))["id"] == made.id
    assert (await ear.next(UPDATED))["status"] == "approved"
    assert [row.id for row in (await alice.my_contacts.list_sent_contact_requests()).data] == [made.id]


async def test_crossing_requests_of_users_approve_each_other(stage: Stage) -> None:
    alice, bob = stage.user("alice"), stage.user("bob")
    made = await alice.invite(bob)

    crossing = await bob.invite(alice)

    assert crossing.status == "approved"
    assert await friends_of(alice) == {bob.handle}
    assert [(row.id, row.status) for row in (await alice.my_contacts.list_sent_contact_requests()).data] == [
        (made.id, "approved")
    ]


async def test_handles_of_nobody_and_no_handles_are_refused(stage: Stage) -> None:
    alice, bob = stage.user("alice"), stage.user("bob")
    doors: tuple[Callable[[str], Awaitable[object]], ...] = (
        lambda handle: alice.my_contacts.resolve_handle(handle=handle),
        lambda handle: alice.my_contacts.remove_my_contact(handle=handle),
        lambda handle: alice.my_contacts.create_contact_request(contact_request=Invitation(recipient_handle=handle)),
    )

    for door in doors:
        for handle in ("nobody-of-that-name", "@nobody/helper"):
            with pytest.raises(NotFoundError):
                await door(handle)
        for handle in ("", "a/b/c", "white space"):
            with pytest.raises(BadRequestError):
                await door(handle)
    with pytest.raises(BadRequestError):
        await alice.my_contacts.remove_my_contact()
    with pytest.raises(NotFoundError):
        await alice.my_contacts.remove_my_contact(contact_id=NO_SUCH_ID)
    with pytest.raises(NotFoundError):
        await alice.my_contacts.remove_my_contact(handle=bob.handle)


async def test_too_long_a_message_names_its_field(stage: Stage) -> None:
    alice, bob = stage.user("alice"), stage.user("bob")

    with pytest.raises(UnprocessableEntityError) as refused:
        await alice.invite(bob, "é" * 501)

    details = refused.value.body["error"]["details"]
    assert details
    assert all(pointer.startswith("/") and isinstance(told, list) for pointer, told in details.items())
    assert (await bob.my_contacts.list_received_contact_requests()).data == []


async def test_sent_requests_are_listed_by_state_all_unless_asked(stage: Stage) -> None:
    alice = stage.user("alice")
    bobs = {status: stage.user("bob") for status in ("pending", "approved", "rejected", "cancelled")}
    made = {status: await alice.invite(bob) for status, bob in bobs.items()}
    await bobs["approved"].my_contacts.approve_contact_request(made["approved"].id)
    await bobs["rejected"].my_contacts.reject_contact_request(made["rejected"].id)
    await alice.my_contacts.cancel_contact_request(made["cancelled"].id)

    for status, request in made.items():
        rows = (await alice.my_contacts.list_sent_contact_requests(status=status)).data
        assert [(row.id, row.status) for row in rows] == [(request.id, status)]
    for every in (None, "all"):
        answer = await alice.my_contacts.list_sent_contact_requests(status=every, page_size=100)
        assert {row.id: row.status for row in answer.data} == {request.id: status for status, request in made.items()}
        assert (answer.metadata.total_count, answer.metadata.total_pages) == (4, 1)
    pages = [await alice.my_contacts.list_sent_contact_requests(page=page, page_size=3) for page in (1, 2)]
    assert [len(page.data) for page in pages] == [3, 1]
    assert {row.id for page in pages for row in page.data} == {request.id for request in made.values()}
    assert [(page.metadata.page, page.metadata.total_pages) for page in pages] == [(1, 2), (2, 2)]


# Contacts.


async def test_a_users_contacts_are_told_with_who_they_are(stage: Stage) -> None:
    alice, bob = stage.user("alice"), stage.user("bob")
    helper = stage.agent("carol", tags=["words"], called="Helper")
    own = stage.agent(owner=alice, called="Own")
    await bob.my_contacts.approve_contact_request((await alice.invite(bob)).id)
    await helper.answer("approve", (await alice.invite(helper)).id)

    answer = await alice.my_contacts.list_my_contacts()

    rows = {present(row.user).handle: row for row in answer.data}
    assert set(rows) == {bob.handle, helper.handle, own.handle}, "its own agent is its contact from the start"
    assert all(row.status == "active" for row in rows.values())
    told = rows[helper.handle]
    assert (told.contact_id, told.contact_type, told.online, told.source) == (helper.id, "Agent", False, "request")
    assert present(told.user).name == "Helper"
    assert present(told.user).tags == ["words"]
    user = rows[bob.handle]
    assert (user.contact_id, user.contact_type) == (bob.id, "User")
    assert answer.metadata.total_count == 3
    await stage.link(helper)
    online = {row.contact_id: row.online for row in (await alice.my_contacts.list_my_contacts()).data}
    assert online[helper.id] is True


async def test_a_user_removes_a_contact_by_its_record(stage: Stage) -> None:
    alice, bob = stage.user("alice"), stage.user("bob")
    await bob.my_contacts.approve_contact_request((await alice.invite(bob)).id)
    (row,) = (await bob.my_contacts.list_my_contacts()).data

    removed = (await bob.my_contacts.remove_my_contact(contact_id=row.id)).data

    assert removed.status == "removed"
    assert await friends_of(alice) == await friends_of(bob) == set()
    with pytest.raises(NotFoundError):
        await alice.my_contacts.remove_my_contact(handle=bob.handle)


async def test_resolving_a_handle_tells_neither_id_nor_mail(stage: Stage) -> None:
    alice, olga = stage.user("alice"), stage.user("olga")
    hidden = stage.agent("bob", is_listed=False, called="Hidden")

    user = (await alice.my_contacts.resolve_handle(handle=olga.handle)).data
    agent = (await alice.my_contacts.resolve_handle(handle=f"@{hidden.handle}")).data

    assert (user.type, user.handle) == ("User", olga.handle)
    assert (agent.type, agent.handle, agent.name) == ("Agent", hidden.handle, "Hidden")
    for resolved, who in ((user, olga), (agent, hidden)):
        assert who.id not in resolved.json()
        assert set(resolved.dict()) <= {"type", "handle", "name"}


# Answers for its agents.


async def test_an_owner_answers_for_its_agent(stage: Stage) -> None:
    alice, bob, carol = stage.agent("alice"), stage.agent("bob"), stage.agent("carol")
    approved, rejected = await alice.ask(bob), await carol.ask(bob)
    withdrawn = await bob.ask(stage.agent("dora"))
    of_alice = await stage.listen(alice)

    await bob.owner.my_contacts.approve_contact_request(approved.id)
    await bob.owner.my_contacts.reject_contact_request(rejected.id)
    await bob.owner.my_contacts.cancel_contact_request(withdrawn.id)

    assert (await of_alice.next(UPDATED)).status == "approved"
    assert set(await bob.friends()) == {alice.handle}
    assert [row.status for row in await bob.sent("all")] == ["cancelled"]
    assert [row.status for row in await carol.sent("all")] == ["rejected"]
    # The contact is the agent's, and does not extend to its owner.
    assert await friends_of(bob.owner) == {bob.handle}


async def test_an_owner_does_not_answer_for_the_agent_of_another(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    asked = await alice.ask(bob)

    with pytest.raises(ForbiddenError):
        await alice.owner.my_contacts.approve_contact_request(asked.id)
    with pytest.raises(NotFoundError):
        await stage.user("mallory").my_contacts.approve_contact_request(asked.id)

    assert [row.id for row in await bob.received()] == [asked.id]
