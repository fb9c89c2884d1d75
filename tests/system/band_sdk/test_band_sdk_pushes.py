"""Band's own SDK, unmodified: what is told of contacts and rooms, through its own socket and its own validator.

Every test ends with the count of payloads that the validator has dropped, which is none (`Stage`).
"""

import asyncio
from pathlib import Path

import pytest

from tests.system.band import (
    ADDED,
    RECEIVED,
    REMOVED,
    UPDATED,
    ConflictError,
    Ear,
    PHXConnectionError,
    PHXTopicError,
    Player,
    Stage,
    served,
    validate_event_payload,
)
from tests.system.band_rooms import MyRoom, Room

WITHIN_S = 30


async def hears_nothing_more(ear: Ear, witness: Player) -> None:
    """Nothing but a witness's new request comes next."""
    assert (await ear.next(RECEIVED)).from_handle == witness.handle


# Agents.


async def test_all_four_events_reach_both_sides_in_order(stage: Stage) -> None:
    alice = stage.agent("alice", tags=["words"], called="Alice")
    bob = stage.agent("bob", is_listed=False, called="Bob")
    carol = stage.agent("carol")
    of_alice, of_bob = await stage.listen(alice), await stage.listen(bob)

    asked = await alice.ask(bob, "We translate")
    await bob.answer("approve", asked.id)
    record = (await alice.friends())[bob.handle]
    await bob.contacts.remove_agent_contact(handle=alice.handle)

    received = await of_bob.next(RECEIVED)
    assert (received.id, received.status, received.message) == (asked.id, "pending", "We translate")
    assert (received.from_handle, received.from_name) == (alice.handle, "Alice")
    for ear, other, is_listed, tags in ((of_alice, bob, False, []), (of_bob, alice, True, ["words"])):
        updated = await ear.next(UPDATED)
        assert (updated.id, updated.status) == (asked.id, "approved")
        added = await ear.next(ADDED)
        assert (added.id, added.handle, added.type) == (record.id, other.handle, "Agent")
        assert (added.listed_in_directory, added.tags) == (is_listed, tags)
        assert added.inserted_at.endswith("Z")
        assert (await ear.next(REMOVED)).id == record.id
    for ear, other in ((of_alice, alice), (of_bob, bob)):
        await carol.ask(other)
        await hears_nothing_more(ear, carol)


@pytest.mark.parametrize("action", ["reject", "cancel"])
async def test_both_sides_are_told_that_a_request_is_rejected_or_cancelled(stage: Stage, action: str) -> None:
    alice, bob, carol = stage.agent("alice"), stage.agent("bob"), stage.agent("carol")
    of_alice, of_bob = await stage.listen(alice), await stage.listen(bob)
    asked = await alice.ask(bob)

    status = await (bob if action == "reject" else alice).answer(action, asked.id)

    assert (await of_bob.next(RECEIVED)).id == asked.id
    for ear, player in ((of_alice, alice), (of_bob, bob)):
        updated = await ear.next(UPDATED)
        assert (updated.id, updated.status) == (asked.id, status)
        await carol.ask(player)
        await hears_nothing_more(ear, carol)


async def test_a_crossing_request_is_told_as_an_approval(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    of_alice, of_bob = await stage.listen(alice), await stage.listen(bob)
    asked = await alice.ask(bob)

    await bob.ask(alice)

    assert (await of_bob.next(RECEIVED)).id == asked.id
    for ear in (of_alice, of_bob):  # Alice is not asked: her own request is approved.
        assert (await ear.next(UPDATED)).status == "approved"
        await ear.next(ADDED)


async def test_a_request_without_a_message_is_pushed_too(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    ear = await stage.listen(bob)

    await alice.contacts.add_agent_contact(handle=bob.handle)

    assert (await ear.next(RECEIVED)).message is None


async def test_refused_answers_tell_nobody_anything(stage: Stage) -> None:
    alice, bob, carol = stage.agent("alice"), stage.agent("bob"), stage.agent("carol")
    await alice.befriend(bob)
    of_alice, of_bob = await stage.listen(alice), await stage.listen(bob)

    with pytest.raises(ConflictError):
        await alice.contacts.add_agent_contact(handle=bob.handle)  # Three times over.
    with pytest.raises(ConflictError):
        await bob.ask(alice)

    for ear, player in ((of_alice, alice), (of_bob, bob)):
        await carol.ask(player)
        await hears_nothing_more(ear, carol)


async def test_only_the_two_of_a_contact_are_told(stage: Stage) -> None:
    alice, bob, watcher = stage.agent("alice"), stage.agent("bob"), stage.agent("carol")
    sibling = stage.agent(owner=alice.owner, called="Sibling")
    ears = [await stage.listen(sibling), await stage.listen(watcher)]

    await alice.befriend(bob)
    await alice.contacts.remove_agent_contact(handle=bob.handle)

    for ear, player in zip(ears, (sibling, watcher), strict=True):
        await bob.ask(player)
        await hears_nothing_more(ear, bob)


async def test_both_sockets_of_one_agent_are_told(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    ears = [await stage.listen(bob), await stage.listen(bob)]

    asked = await alice.ask(bob)

    for ear in ears:
        assert (await ear.next(RECEIVED)).id == asked.id


async def test_an_agent_that_is_made_while_its_owner_listens_is_told_as_a_contact(stage: Stage) -> None:
    olga = stage.user("olga")
    ear = await stage.listen_as_user(olga)

    made = stage.agent(owner=olga, called="Made")

    added = await ear.next(ADDED)
    assert (added["handle"], added["type"], added["name"]) == (made.handle, "Agent", "Made")


async def test_the_sdks_link_yields_typed_events(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    link = await stage.link(bob)
    await link.subscribe_agent_rooms(bob.id)
    await link.subscribe_agent_contacts(bob.id)

    asked = await alice.ask(bob)
    await link.rest.agent_api_contacts.respond_to_agent_contact_request(action="approve", request_id=asked.id)
    await alice.contacts.remove_agent_contact(handle=bob.handle)

    async with asyncio.timeout(WITHIN_S):
        events = [await anext(link) for _ in range(4)]
    assert [event.type for event in events] == [RECEIVED, UPDATED, ADDED, REMOVED]


async def test_a_request_that_nobody_answers_expires_for_both(tmp_path: Path) -> None:
    with served(tmp_path, AGRENTING_LIMITS_CONTACT_REQUEST_TTL_S="1") as market:
        async with Stage(market) as stage:
            alice, bob = stage.agent("alice"), stage.agent("bob")
            of_alice, of_bob = await stage.listen(alice), await stage.listen(bob)

            asked = await alice.ask(bob)

            assert (await of_bob.next(RECEIVED)).id == asked.id
            for ear in (of_alice, of_bob):
                updated = await ear.next(UPDATED)
                assert (updated.id, updated.status) == (asked.id, "expired")
            assert [row.status for row in await alice.sent("all")] == ["expired"]
            assert await bob.received() == []
            with pytest.raises(ConflictError):
                await bob.answer("approve", asked.id)
            assert (await alice.ask(bob)).id != asked.id


# Who may listen.


async def test_an_agent_listens_on_its_own_topics_alone(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    sibling = stage.agent(owner=bob.owner, called="Sibling")
    socket = await stage.socket(bob)
    ear = Ear()
    await socket.join_agent_control_channel(bob.id, on_supersede=ear.on("supersede"))
    await socket.join_agent_rooms_channel(bob.id, ear.on("room_added"), ear.on("room_removed"))

    for other in (alice, sibling):
        with pytest.raises(PHXTopicError):
            await socket.join_agent_control_channel(other.id, on_supersede=ear.on("supersede"))
        with pytest.raises(PHXTopicError):
            await socket.join_agent_rooms_channel(other.id, ear.on("room_added"), ear.on("room_removed"))
        with pytest.raises(PHXTopicError):
            await socket.join_agent_contacts_channel(
                other.id, *(ear.on(name) for name in (RECEIVED, UPDATED, ADDED, REMOVED))
            )
    client = socket.client
    assert client is not None
    with pytest.raises(PHXTopicError):
        await client.subscribe_to_topic(f"user_contacts:{bob.owner.id}", ear.hear_message)

    assert socket.joined_topics() == {f"agent_control:{bob.id}", f"agent_rooms:{bob.id}"}
    await socket.leave_agent_rooms_channel(bob.id)
    await socket.leave_agent_control_channel(bob.id)
    assert socket.joined_topics() == frozenset()


async def test_nobody_connects_as_the_agent_of_another(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")

    for key in (alice.key, alice.owner.key):
        client = stage.plain_client(stage.socket_url, key)
        client.channel_socket_url += f"&agent_id={bob.id}"  # As the SDK puts it.
        with pytest.raises(PHXConnectionError):
            async with client:
                pass


async def test_an_owners_key_listens_for_its_agent(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    ear = await stage.listen(stage.known({"id": bob.id, "handle": bob.handle, "api_key": bob.owner.key}))

    asked = await alice.ask(bob)

    assert (await ear.next(RECEIVED)).id == asked.id


async def test_a_user_listens_on_its_own_topic_alone(stage: Stage) -> None:
    alice, bob = stage.agent("alice"), stage.agent("bob")
    client = await stage.user_socket(bob.owner)
    ear = Ear()
    await client.subscribe_to_topic(f"user_contacts:{bob.owner.id}", ear.hear_message)

    for topic in (f"user_contacts:{alice.owner.id}", f"agent_contacts:{bob.id}", f"agent_contacts:{alice.id}"):
        with pytest.raises(PHXTopicError):
            await client.subscribe_to_topic(topic, ear.hear_message)

    assert set(client.get_current_subscriptions()) == {f"user_contacts:{bob.owner.id}"}


# Users.


async def test_a_user_is_told_with_the_requester_nested(stage: Stage) -> None:
    alice, olga = stage.agent("alice", tags=["words"], called="Alice"), stage.user("olga")
    of_olga, of_alice = await stage.listen_as_user(olga), await stage.listen(alice)

    asked = await alice.ask(olga, "Hello")
    await olga.my_contacts.approve_contact_request(asked.id)
    record = (await alice.friends())[olga.handle]
    await olga.my_contacts.remove_my_contact(handle=alice.handle)

    received = await of_olga.next(RECEIVED)
    assert received["requester"] == received["requester"] | {"id": alice.id, "handle": alice.handle, "name": "Alice"}
    told = ("id", "requester_id", "requester_type", "recipient_id", "recipient_type", "status", "message")
    assert [received[name] for name in told] == [asked.id, alice.id, "Agent", olga.id, "User", "pending", "Hello"]
    assert received["inserted_at"].endswith("Z")
    assert received.get("responded_at") is None
    assert "from_handle" not in received
    updated = await of_olga.next(UPDATED)
    assert (updated["id"], updated["status"]) == (asked.id, "approved")
    added = await of_olga.next(ADDED)
    assert (added["id"], added["handle"], added["type"], added["name"]) == (record.id, alice.handle, "Agent", "Alice")
    assert (added["listed_in_directory"], added["tags"]) == (True, ["words"])
    assert (await of_olga.next(REMOVED))["id"] == record.id
    # The agent's side of the same, which its validator has seen: a user has no tags, and none may be null.
    await of_alice.next(UPDATED)
    user = await of_alice.next(ADDED)
    assert (user.id, user.handle, user.type) == (record.id, olga.handle, "User")
    assert (await of_alice.next(REMOVED)).id == record.id


async def test_a_user_that_asks_is_told_of_the_answer(stage: Stage) -> None:
    olga, bob = stage.user("olga"), stage.agent("bob", called="Bob")
    of_olga, of_bob = await stage.listen_as_user(olga), await stage.listen(bob)

    rejected = await olga.invite(bob, "Please")
    await bob.answer("reject", rejected.id)
    approved = await olga.invite(bob)
    await bob.answer("approve", approved.id)

    received = await of_bob.next(RECEIVED)
    assert (received.id, received.from_handle, received.message) == (rejected.id, olga.handle, "Please")
    assert (await of_bob.next(UPDATED)).status == "rejected"
    assert (await of_bob.next(RECEIVED)).id == approved.id
    for request, status in ((rejected, "rejected"), (approved, "approved")):
        updated = await of_olga.next(UPDATED)
        assert (updated["id"], updated["status"]) == (request.id, status)
    assert (await of_olga.next(ADDED))["handle"] == bob.handle


async def test_user_and_user_are_told(stage: Stage) -> None:
    olga, paul = stage.user("olga"), stage.user("paul")
    of_olga, of_paul = await stage.listen_as_user(olga), await stage.listen_as_user(paul)

    asked = await olga.invite(paul)
    await paul.my_contacts.approve_contact_request(asked.id)

    assert (await of_paul.next(RECEIVED))["requester"]["handle"] == olga.handle
    for ear, other in ((of_olga, paul), (of_paul, olga)):
        assert (await ear.next(UPDATED))["status"] == "approved"
        added = await ear.next(ADDED)
        assert (added["handle"], added["type"]) == (other.handle, "User")


# Rooms: each push as it is on the wire, beside what the SDK's validator takes.

ROOM = ({"id", "inserted_at", "updated_at"}, {"title", "task_id"})
MESSAGE = (
    {"id", "content", "message_type", "sender_id", "sender_type", "inserted_at", "updated_at"},
    {"sender_name", "chat_room_id", "thread_id", "metadata"},
)
PUSHES = {
    "room_added": ROOM,
    "room_removed": ROOM,
    "message_created": MESSAGE,
    "message_updated": MESSAGE,
    "participant_added": ({"id", "name", "type"}, {"description", "is_external", "is_remote"}),
    "participant_removed": ({"id", "name", "type"}, set[str]()),
    "room_deleted": ({"id"}, set[str]()),
}
"""What must be a string, and what may be null; everything else may be absent, but not null."""


async def hear_everything(stage: Stage, player: Player, *topics: str) -> Ear:
    """A socket of an agent or a user on some topics: payloads as they are on the wire."""
    ear = Ear()
    client = await stage.user_socket(player)
    for topic in topics:
        await client.subscribe_to_topic(topic, ear.hear_message)
    return ear


async def pushed(ear: Ear, *events: str) -> None:
    """The next pushes are these, and the SDK takes each of them as it is."""
    for event in events:
        payload = await ear.next(event)
        required, nullable = PUSHES[event]
        assert not [name for name in required if not isinstance(payload.get(name), str)], (event, payload)
        assert not [name for name, value in payload.items() if value is None and name not in nullable], (event, payload)
        validate_event_payload(event, payload)


async def test_every_push_of_a_room_is_as_the_sdk_takes_it(stage: Stage) -> None:
    """With as little in them as there can be: no title, no task, a user of no name, an agent of no tags."""
    olga = stage.user("olga")
    alice, bob = stage.agent(owner=olga, called="Alice"), stage.agent(owner=olga, called="Bob")
    of_bob = await hear_everything(stage, bob, f"agent_rooms:{bob.id}")
    of_olga = await hear_everything(stage, olga, f"user_rooms:{olga.id}")
    plain, full = await Room.create(alice, olga), await Room.create(alice, title="Tea", task_id="a task")
    await pushed(of_olga, "room_added")
    room_topics = [f"{kind}:{plain.id}" for kind in ("chat_room", "room_participants")]
    in_room = await hear_everything(stage, alice, *room_topics)
    user_in_room = await hear_everything(stage, olga, *room_topics)

    await plain.add(bob)
    await full.add(bob)
    await full.remove(bob)
    await pushed(of_bob, "room_added", "room_added", "room_removed")
    await pushed(in_room, "participant_added")
    await pushed(user_in_room, "participant_added")

    said = await plain.of(bob).say("To both", alice, olga)
    await plain.take(said.id)
    await plain.finish(said.id)
    await pushed(in_room, "message_created")
    await pushed(user_in_room, "message_created", "message_updated", "message_updated")

    await plain.remove(bob)
    await plain.add(bob)
    with stage.market.rest(olga.key) as rest:
        assert rest.delete(f"/api/v1/me/chats/{plain.id}").is_success
    await pushed(in_room, "participant_removed", "participant_added", "room_deleted")
    await pushed(user_in_room, "participant_removed", "participant_added", "room_deleted")
    await pushed(of_bob, "room_removed", "room_added", "room_removed")
    await pushed(of_olga, "room_removed")


async def test_people_who_come_and_go_are_told_with_a_name_and_a_handle(stage: Stage) -> None:
    olga = stage.user("olga")
    alice = stage.agent(owner=olga, called="Alice")
    room = await Room.create(alice)
    ear = await hear_everything(stage, alice, f"room_participants:{room.id}")

    await room.add(olga)
    await MyRoom(olga, room.id).remove(olga)

    for event in ("participant_added", "participant_removed"):
        payload = await ear.next(event)
        assert (payload["id"], payload["type"], payload["handle"]) == (olga.id, "User", olga.handle)
        assert payload["name"]
