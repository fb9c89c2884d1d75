"""Band's own SDK, unmodified: what a user does in rooms, and what it is told of them."""

import pytest

from tests.system.band import (
    ONCE,
    ApiError,
    ConflictError,
    Ear,
    ForbiddenError,
    HumanTools,
    MyNewChat,
    NotFoundError,
    Player,
    Stage,
    UnprocessableEntityError,
)
from tests.system.band_rooms import Brain, MyRoom, Room, words

EXPECTED_COMPLAINTS = ()


@pytest.fixture
async def olga(stage: Stage) -> Player:
    return stage.user("olga")


@pytest.fixture
async def bob(stage: Stage, olga: Player) -> Player:
    """Olga's agent."""
    return stage.agent(owner=olga, called="Bob")


async def test_a_user_asks_its_agent_and_sees_it_work(stage: Stage, olga: Player, bob: Player) -> None:
    ear, client = Ear(), await stage.user_socket(olga)
    await client.subscribe_to_topic(f"user_rooms:{olga.id}", ear.hear_message)
    brain = Brain()
    await stage.run(bob, adapter=brain)

    room = await MyRoom.create(olga, title="Work")
    added = await ear.next("room_added")
    for topic in ("chat_room", "room_participants"):
        await client.subscribe_to_topic(f"{topic}:{room.id}", ear.hear_message)
    await room.add(bob)
    joined = await ear.next("participant_added")
    sent = await room.say("Translate this", bob)

    assert (added["id"], added["title"]) == (room.id, "Work")
    assert (joined["id"], joined["type"], joined["handle"]) == (bob.id, "Agent", bob.handle)
    told = [await ear.any() for _ in range(3)]
    updates = [payload for event, payload in told if event == "message_updated"]
    (reply,) = [payload for event, payload in told if event == "message_created"]
    assert [update["metadata"]["delivery_status"][bob.id]["status"] for update in updates] == [
        "processing",
        "processed",
    ]
    assert {(update["id"], update["content"]) for update in updates} == {(sent.id, f"@[[{bob.id}]] Translate this")}
    assert words((await brain.next()).message.content) == "Translate this"
    assert (reply["sender_id"], reply["content"]) == (bob.id, f"@[[{olga.id}]] Done: Translate this")
    assert [row.id for row in await room.said()] == [reply["id"], sent.id]


async def test_a_users_rooms_are_made_read_and_listed(stage: Stage, olga: Player, bob: Player) -> None:
    paul = stage.user("paul")
    made = [await MyRoom.create(olga, title=title) for title in ("First", None)]
    await made[0].add(bob)
    await MyRoom.create(paul)
    theirs = await Room.create(bob, olga)

    listed = (await made[0].chats.list_my_chats()).data
    by_page = await made[0].chats.list_my_chats(page=1, page_size=2)

    assert {row.id for row in listed} == {made[0].id, made[1].id, theirs.id}
    assert [(await room.read()).title for room in made] == ["First", None]
    assert {row.title for row in listed} == {"First", None}
    assert len(by_page.data) == 2
    with pytest.raises(UnprocessableEntityError):
        await made[0].chats.create_my_chat_room(chat=MyNewChat(title="two\nlines"), request_options=ONCE)


async def test_a_user_adds_whom_it_may_and_removes_agents(stage: Stage, olga: Player, bob: Player) -> None:
    stranger, friend = stage.agent("mallory"), stage.user("frida")
    made = await olga.invite(friend)
    await friend.my_contacts.approve_contact_request(made.id)
    room = await MyRoom.create(olga)

    await room.add(bob)
    await room.add(friend)
    with pytest.raises(ForbiddenError):
        await room.add(stranger)
    participants = await room.participants()
    gone = await room.remove(bob)

    assert {handle: (row.type, row.role, row.status) for handle, row in participants.items()} == {
        olga.handle: ("User", "owner", "active"),
        bob.handle: ("Agent", "member", "active"),
        friend.handle: ("User", "member", "active"),
    }
    assert gone.id == bob.id
    assert set(await MyRoom(friend, room.id).participants()) == {olga.handle, friend.handle}
    with pytest.raises(NotFoundError):
        await Room(bob, room.id).read()
    with pytest.raises((ForbiddenError, ConflictError)):
        await room.remove(olga)
    with pytest.raises(ForbiddenError):
        await MyRoom(friend, room.id).remove(olga)
    await MyRoom(friend, room.id).remove(friend)


async def test_a_user_reads_what_was_said_newest_first(stage: Stage, olga: Player, bob: Player) -> None:
    room = await MyRoom.create(olga, bob)
    sent = [(await room.say(f"Number {number}", bob)).id for number in range(5)]
    said = await Room(bob, room.id).say("Answer", olga)
    thought = await Room(bob, room.id).event("Hm")

    everything = [row.id for row in await room.said()]
    texts = [row.id for row in await room.said(message_type="text")]
    pages: list[list[str]] = []
    cursor = None
    while True:
        page = await room.messages.list_my_chat_messages(room.id, limit=3, cursor=cursor)
        pages.append([row.id for row in page.data])
        cursor = page.metadata.next_cursor
        if not page.metadata.has_more:
            break

    newest_first = [thought, said.id, *reversed(sent)]
    assert everything == newest_first
    assert texts == newest_first[1:]
    assert pages == [newest_first[:3], newest_first[3:6], newest_first[6:]]


async def test_the_sdks_tools_for_people_go_all_the_way(olga: Player, bob: Player) -> None:
    tools = HumanTools(olga.rest)

    room = (await tools.create_my_chat_room()).data
    peers = (await tools.list_my_peers(not_in_chat=room.id)).data
    (found,) = [peer for peer in peers if peer.handle == bob.handle]
    await tools.add_my_chat_participant(room.id, found.id)
    nobody_left = (await tools.list_my_peers(not_in_chat=room.id)).data
    first = (await tools.send_my_chat_message(room.id, "Translate this", "Bob")).data
    asked = (await tools.list_my_chat_messages(room.id)).data[0].inserted_at
    second = (await tools.send_my_chat_message(room.id, "And this", "bob")).data
    everything = await tools.list_my_chat_messages(room.id, page=1, page_size=1)
    later = await tools.list_my_chat_messages(room.id, since=asked.isoformat(), message_type="text")
    agents = (await tools.list_my_chat_participants(room.id, "Agent")).data
    await tools.remove_my_chat_participant(room.id, bob.id)

    assert bob.handle not in {peer.handle for peer in nobody_left}
    assert [row.id for row in everything.data] == [second.id]
    assert everything.metadata.total_pages == 2
    assert [row.id for row in later.data] in ([second.id, first.id], [second.id])
    assert [row.id for row in agents] == [bob.id]
    assert (await tools.get_my_chat_room(room.id)).data.id == room.id
    assert room.id in {row.id for row in (await tools.list_my_chats(page=1, page_size=50)).data}
    (left,) = (await tools.list_my_chat_participants(room.id)).data
    assert (left.id, left.role) == (olga.id, "owner")


async def test_a_user_outside_finds_no_room(stage: Stage, olga: Player, bob: Player) -> None:
    room = await MyRoom.create(olga, bob)
    mallory = stage.user("mallory")
    door = MyRoom(mallory, room.id)

    for call in (
        door.read(),
        door.participants(),
        door.add(mallory),
        door.remove(bob),
        door.say("Hello", olga),
        door.said(),
    ):
        with pytest.raises(NotFoundError) as refused:
            await call
        assert refused.value.body.error.code == "not_found"
    with pytest.raises(UnprocessableEntityError) as unsaid:
        await room.say("Hello")
    assert unsaid.value.body["error"]["code"] == "mentions_required"


async def test_agents_and_users_each_have_their_own_doors_to_rooms(olga: Player, bob: Player) -> None:
    room = await MyRoom.create(olga, bob)

    for call in (Room(olga, room.id).read(), MyRoom(bob, room.id).read()):
        with pytest.raises(ApiError) as refused:
            await call
        assert refused.value.status_code == 403
    assert (await Room(bob, room.id).read()).id == room.id
