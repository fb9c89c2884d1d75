"""Band's own SDK, unmodified: rooms are made and named, people are added and removed, and all of them are told."""

import pytest

from tests.system.band import (
    ONCE,
    AgentTools,
    ApiError,
    BandLink,
    ChatRoomRequest,
    ConflictError,
    Ear,
    ForbiddenError,
    NotFoundError,
    PHXTopicError,
    Player,
    Stage,
    UnprocessableEntityError,
    present,
)
from tests.system.band_rooms import Room, any_event, hears_nothing_more, next_event

TOPICS = ("chat_room", "room_participants")
EXPECTED_COMPLAINTS = ("Failed to subscribe to topic",)


async def friends(stage: Stage, *names: str) -> list[Player]:
    """Agents of different owners; the first one is a contact of all others."""
    first, *others = [stage.agent(name, called=name.title()) for name in names]
    for other in others:
        await first.befriend(other)
    return [first, *others]


async def listening(stage: Stage, agent: Player, *rooms: Room) -> BandLink:
    """An agent's link, in some rooms."""
    link = await stage.link(agent)
    await link.subscribe_agent_rooms(agent.id)
    for room in rooms:
        await link.subscribe_room(room.id)
    return link


# Rooms.


async def test_who_makes_a_room_owns_it_and_is_told_of_it(stage: Stage) -> None:
    alice = stage.agent("alice", called="Alice")
    link = await listening(stage, alice)

    room = await Room.create(alice, title="  Tea party ")

    added = await next_event(link, "room_added")
    assert (added.room_id, added.payload.title) == (room.id, "Tea party")
    read = await room.read()
    assert (read.id, read.title, read.task_id) == (room.id, "Tea party", None)
    assert read.inserted_at <= read.updated_at
    (owner,) = (await room.participants()).values()
    assert (owner.id, owner.type, owner.role, owner.status, owner.name) == (
        alice.id,
        "Agent",
        "owner",
        "active",
        "Alice",
    )
    assert (owner.handle, owner.online) == (alice.handle, True)


async def test_a_room_needs_no_title_and_may_name_a_task(stage: Stage) -> None:
    alice = stage.agent("alice")
    task_id = "3fa85f64-5717-4562-b3fc-2c963f66afa6"

    plain = await Room.create(alice)
    blank = await Room.create(alice, title=" ", task_id=None)  # As the SDK's tools send it: an explicit null.
    tasked = await AgentTools("", alice.rest).create_chatroom(task_id)

    assert [(await room.read()).title for room in (plain, blank)] == [None, None]
    assert (await Room(alice, tasked).read()).task_id == task_id


@pytest.mark.parametrize("title", ["t" * 121, "two\nlines", "two\rlines", "nul\x00"])
async def test_a_title_that_is_none_is_refused_and_changes_nothing(stage: Stage, title: str) -> None:
    alice = stage.agent("alice")
    room = await Room.create(alice, title="t" * 120)

    with pytest.raises(UnprocessableEntityError) as refused:
        await room.chats.create_agent_chat(chat=ChatRoomRequest(title=title), request_options=ONCE)
    with pytest.raises(UnprocessableEntityError):
        await room.rename(title)
    with pytest.raises(UnprocessableEntityError):
        await room.rename("   ")

    details = refused.value.body["error"]["details"]
    assert all(pointer.startswith("/chat/title") for pointer in details)
    assert all(isinstance(told, list) for told in details.values())
    assert (await room.read()).title == "t" * 120
    assert len((await room.chats.list_agent_chats()).data) == 1


async def test_the_owner_alone_renames_a_room(stage: Stage) -> None:
    alice, bob, mallory = await friends(stage, "alice", "bob", "mallory")
    room = await Room.create(alice, bob, title="Before")

    renamed = await room.rename(" After ")
    again = await room.rename("After")
    with pytest.raises(ForbiddenError):
        await room.of(bob).rename("Mine")
    with pytest.raises(NotFoundError):
        await room.of(mallory).rename("Mine")

    assert (renamed.title, again.title) == ("After", "After")
    assert renamed == again
    assert (await room.of(bob).read()).title == "After"


async def test_rooms_are_listed_page_by_page(stage: Stage) -> None:
    alice, bob = await friends(stage, "alice", "bob")
    made = {(await Room.create(alice, bob)).id for _ in range(5)}
    await Room.create(alice)

    pages = [(await Room(bob, "").chats.list_agent_chats(page=page, page_size=2)) for page in (1, 2, 3, 4)]

    assert [len(page.data) for page in pages] == [2, 2, 1, 0]
    assert {room.id for page in pages for room in page.data} == made
    assert {(page.metadata.total_count, page.metadata.total_pages) for page in pages} == {(5, 3)}


# Who is added.


async def test_the_sdks_tools_find_people_among_peers_and_add_them(stage: Stage) -> None:
    alice, bob, carol = await friends(stage, "alice", "bob", "carol")
    sibling = stage.agent(owner=alice.owner, called="Sibling")
    room = await Room.create(alice)
    tools = AgentTools(room.id, alice.rest, agent_id=alice.id)

    by_handle = await tools.add_participant(f"@{bob.handle.upper()}")
    by_id = await tools.add_participant(carol.id, role="admin")
    by_name = await tools.add_participant("sibling")
    owner = await tools.add_participant(alice.owner.handle)
    again = await tools.add_participant(bob.handle)

    assert [added["status"] for added in (by_handle, by_id, by_name, owner)] == ["added"] * 4
    assert (by_handle["id"], by_id["id"], owner["id"]) == (bob.id, carol.id, alice.owner.id)
    assert by_name["id"] == sibling.id
    assert again["status"] == "already_in_room"
    roles = {handle: row.role for handle, row in (await room.participants()).items()}
    assert roles == {
        alice.handle: "owner",
        bob.handle: "member",
        carol.handle: "admin",
        sibling.handle: "member",
        alice.owner.handle: "member",
    }
    assert (await room.participants())[alice.owner.handle].type == "User"
    outside = {peer.handle for peer in (await tools.lookup_peers(page_size=100)).data}
    assert not outside & roles.keys()


async def test_strangers_are_neither_found_nor_added(stage: Stage) -> None:
    alice, stranger = stage.agent("alice"), stage.agent("mallory", tags=["words"])
    asked = stage.agent("pia")
    await alice.ask(asked)
    room = await Room.create(alice)
    tools = AgentTools(room.id, alice.rest, agent_id=alice.id)

    for other in (stranger, asked, stranger.owner):
        with pytest.raises(ValueError, match="not found"):
            await tools.add_participant(other.handle)
        with pytest.raises(ForbiddenError):
            await room.add(other)
    with pytest.raises(NotFoundError):
        await room.add(stage.known({"id": "00000000-0000-7000-8000-000000000000", "handle": "-", "api_key": "-"}))

    assert set(await room.participants()) == {alice.handle}


async def test_a_member_adds_its_own_contact_but_gives_no_role(stage: Stage) -> None:
    alice, bob = await friends(stage, "alice", "bob")
    carol = stage.agent("carol")
    await bob.befriend(carol)
    room = await Room.create(alice, bob)

    with pytest.raises(ForbiddenError):
        await room.of(bob).add(carol, "admin")
    added = await room.of(bob).add(carol)
    with pytest.raises(ForbiddenError):
        await room.of(carol).add(carol.owner, "owner")

    assert (added.id, added.role, added.status, added.type) == (carol.id, "member", "active", "Agent")
    assert set(await room.participants()) == {alice.handle, bob.handle, carol.handle}


async def test_who_is_added_and_removed_is_told_and_so_is_everybody_in_the_room(stage: Stage) -> None:
    alice, bob = await friends(stage, "alice", "bob")
    room = await Room.create(alice, title="Tea party")
    of_alice, of_bob = await listening(stage, alice, room), await listening(stage, bob)

    await room.add(bob)

    added = await next_event(of_bob, "room_added")
    assert (added.room_id, added.payload.title) == (room.id, "Tea party")
    joined = await next_event(of_alice, "participant_added")
    assert joined.room_id == room.id
    assert (joined.payload.id, joined.payload.name, joined.payload.type) == (bob.id, "Bob", "Agent")
    assert joined.payload.handle == bob.handle

    await of_bob.subscribe_room(room.id)
    removed = await room.remove(bob)

    assert (removed.id, removed.type) == (bob.id, "Agent")
    gone = await next_event(of_alice, "participant_removed")
    assert (gone.payload.id, gone.payload.name, gone.payload.type) == (bob.id, "Bob", "Agent")
    while (event := await any_event(of_bob)).type == "participant_removed":
        assert event.payload.id == bob.id  # It may be told with the others, as long as it is in.
    assert (event.type, event.room_id, event.payload.title) == ("room_removed", room.id, "Tea party")
    await hears_nothing_more(of_alice, alice)
    await hears_nothing_more(of_bob, bob)


async def test_adding_a_participant_again_tells_nobody(stage: Stage) -> None:
    alice, bob = await friends(stage, "alice", "bob")
    room = await Room.create(alice, bob)
    of_alice, of_bob = await listening(stage, alice, room), await listening(stage, bob, room)

    with pytest.raises(ApiError) as refused:
        await room.add(bob)

    assert refused.value.status_code in {409, 422}
    assert (await room.participants())[bob.handle].role == "member"
    await hears_nothing_more(of_alice, alice)
    await hears_nothing_more(of_bob, bob)


# Who is removed.


async def test_owners_and_admins_remove_and_everybody_leaves(stage: Stage) -> None:
    alice, bob, carol, dora = await friends(stage, "alice", "bob", "carol", "dora")
    room = await Room.create(alice, carol, dora)
    await room.add(bob, "admin")

    with pytest.raises(ForbiddenError):
        await room.of(carol).remove(dora)
    with pytest.raises(ForbiddenError):
        await room.of(bob).remove(alice)
    await room.of(bob).remove(dora)
    await room.of(carol).remove(carol)
    with pytest.raises(NotFoundError):
        await room.remove(carol)

    assert set(await room.participants()) == {alice.handle, bob.handle}


async def test_the_last_owner_stays_until_there_is_another(stage: Stage) -> None:
    alice, bob = await friends(stage, "alice", "bob")
    room = await Room.create(alice)

    with pytest.raises((ForbiddenError, ConflictError)):
        await room.remove(alice)
    await room.add(bob, "owner")
    await room.remove(alice)

    assert {row.role for row in (await room.of(bob).participants()).values()} == {"owner"}
    with pytest.raises(NotFoundError):
        await room.read()


async def test_an_agent_removes_no_user(stage: Stage) -> None:
    alice = stage.agent("alice")
    room = await Room.create(alice, alice.owner)

    with pytest.raises(ForbiddenError):
        await room.remove(alice.owner)

    assert set(await room.participants()) == {alice.handle, alice.owner.handle}


async def test_a_revoked_contact_stays_in_the_room_but_is_not_added_anew(stage: Stage) -> None:
    alice, bob = await friends(stage, "alice", "bob")
    room = await Room.create(alice, bob)
    link = await listening(stage, bob, room)

    await alice.contacts.remove_agent_contact(handle=bob.handle)
    sent = await room.say("Still here?", bob)

    assert (await next_event(link, "message_created")).payload.id == sent.id
    await room.of(bob).say("Still here", alice)
    other = await Room.create(alice)
    with pytest.raises(ForbiddenError):
        await other.add(bob)


# Outsiders.


async def test_to_an_outsider_a_room_is_not_there(stage: Stage) -> None:
    alice, bob, mallory = await friends(stage, "alice", "bob", "mallory")
    room = await Room.create(alice, bob)
    sent = await room.say("Between us", bob)
    known, unknown = room.of(mallory), Room(mallory, "00000000-0000-7000-8000-000000000000")

    for door in (known, unknown):
        for call in (
            door.read(),
            door.rename("Mine"),
            door.participants(),
            door.add(mallory),
            door.remove(bob),
            door.remove(mallory),
            door.say("Hello", alice),
            door.listed(),
            door.next(),
            door.take(sent.id),
            door.finish(sent.id),
            door.fail(sent.id),
            door.event("Aha"),
            door.context(),
            door.report(working=True),
        ):
            with pytest.raises(NotFoundError) as refused:
                await call
            assert refused.value.body.error.code == "not_found"
            assert refused.value.body.error.request_id
    assert [row.id for row in await room.of(bob).listed()] == [sent.id]
    assert set(await room.participants()) == {alice.handle, bob.handle}


async def test_who_is_removed_hears_no_more_though_it_has_not_left_the_topics(stage: Stage) -> None:
    alice, bob, carol = await friends(stage, "alice", "bob", "carol")
    room = await Room.create(alice, bob)
    ear, socket = Ear(), await stage.socket(bob)
    client = present(socket.client)
    topics = [f"{topic}:{room.id}" for topic in TOPICS]
    for topic in (f"agent_rooms:{bob.id}", *topics):
        await client.subscribe_to_topic(topic, ear.hear_message)

    await room.remove(bob)
    await room.add(carol)
    await room.say("Among ourselves", carol)
    witness = await Room.create(bob)

    told = [await ear.any()]
    while told[-1][0] != "room_added":
        told.append(await ear.any())
    names = [event for event, _ in told]
    assert names in (["room_removed", "room_added"], ["participant_removed", "room_removed", "room_added"])
    assert told[-1][1]["id"] == witness.id
    for topic in topics:
        await client.unsubscribe_from_topic(topic)
        with pytest.raises(PHXTopicError):
            await client.subscribe_to_topic(topic, ear.hear_message)
    await room.add(bob)
    await client.subscribe_to_topic(topics[0], ear.hear_message)
    again = await room.say("Welcome back", bob)
    assert (await ear.next("room_added"))["id"] == room.id
    assert (await ear.next("message_created"))["id"] == again.id


async def test_outsiders_join_no_topic_of_a_room(stage: Stage) -> None:
    alice, mallory = await friends(stage, "alice", "mallory")
    room, ear, socket = await Room.create(alice), Ear(), await stage.socket(mallory)
    topics = [f"{topic}:{room_id}" for topic in TOPICS for room_id in (room.id, "00000000-0000-7000-8000-000000000000")]

    for topic in (*topics, f"agent_rooms:{alice.id}", f"user_rooms:{alice.owner.id}"):
        with pytest.raises(PHXTopicError):
            await present(socket.client).subscribe_to_topic(topic, ear.hear_message)

    assert socket.joined_topics() == frozenset()


async def test_a_deleted_agent_is_in_nobodys_way(stage: Stage) -> None:
    alice, bob, carol = await friends(stage, "alice", "bob", "carol")
    room = await Room.create(alice, bob, carol)
    link = await listening(stage, alice, room)

    await bob.owner.my_agents.delete_my_agent(bob.id, force=True)

    await room.say("Where is he?", carol)
    if bob.handle in await room.participants():
        await room.remove(bob)
    assert (await next_event(link, "participant_removed")).payload.id == bob.id
    assert set(await room.participants()) == {alice.handle, carol.handle}


# What is not served.


async def test_what_is_not_served_is_said_so(stage: Stage) -> None:
    alice = stage.agent("alice")
    room = await Room.create(alice)
    rest = alice.rest

    flags = (await alice.identity.get_agent_me()).data.feature_flags
    calls = {
        "memories": rest.agent_api_memories.list_agent_memories(request_options=ONCE),
        "tasks": rest.agent_api_chat_tasks.list_chat_tasks(room.id, request_options=ONCE),
        "board": rest.agent_api_chat_tasks.get_chat_board(room.id, request_options=ONCE),
    }

    assert (flags["ff_file_transfer"], flags["ff_room_tasks"]) == (False, False)
    for name, call in calls.items():
        with pytest.raises(ApiError) as refused:
            await call
        assert refused.value.status_code == 404, name
    with pytest.raises(NotFoundError):
        async for _chunk in rest.agent_api_files.download_agent_chat_file(room.id, "file", request_options=ONCE):
            pass
