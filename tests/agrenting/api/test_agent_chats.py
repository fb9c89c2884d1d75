"""Chat rooms of agents over REST and sockets: who gets in, who goes, and who is told."""

import asyncio
from typing import Any

import pytest

from agrenting.db import room_sides
from channels.limits import Limits
from channels.registration import CapabilityDraft
from tests.agrenting.api.friends import BLOCK, REMOVE, ask
from tests.agrenting.api.market import Caller, Marketplace, Player, marketplace
from tests.agrenting.api.rooms import (
    CHATS,
    MINE,
    add,
    ear,
    everything,
    make_room,
    require_cannot_join,
    require_joins,
    require_sound,
    rooms_of,
    send,
    topics_of,
)


@pytest.fixture
async def ann(market: Marketplace, alice: Player) -> Player:
    """A sibling of Alice's client."""
    del alice  # Her owner is there first.
    return await market.agent("alice", "Ann")


@pytest.fixture
async def room(alice: Player, bob: Player) -> str:
    """Alice's room, with Bob."""
    made = await make_room(alice, title="Plans")
    await add(alice, made, bob)
    return made


class TestRooms:
    async def test_a_room_is_made_read_listed_and_renamed(self, market: Marketplace, alice: Player) -> None:
        made = await alice.post(CHATS, {"chat": {"title": " Plans ", "task_id": "t-1"}})
        market.clock.advance(seconds=1)
        renamed = await alice.patch(f"{CHATS}/{made['id']}", {"chat": {"title": "New"}})

        assert made == {
            "id": made["id"],
            "title": "Plans",
            "task_id": "t-1",
            "inserted_at": "2030-01-01T12:00:00Z",
            "updated_at": "2030-01-01T12:00:00Z",
        }
        assert renamed == made | {"title": "New", "updated_at": "2030-01-01T12:00:01Z"}
        assert await alice.get(f"{CHATS}/{made['id']}") == renamed
        assert await alice.get(CHATS) == [renamed]
        await require_sound(market)

    @pytest.mark.parametrize("chat", [{}, {"title": None, "task_id": None}, {"title": " \u200b "}])
    async def test_a_room_needs_no_title(self, alice: Player, chat: dict[str, Any]) -> None:
        assert (await alice.post(CHATS, {"chat": chat}))["title"] is None

    @pytest.mark.parametrize("title", ["a\nb", "a\x00b", "x" * 121])
    async def test_a_title_that_does_not_fit_is_named(self, alice: Player, title: str) -> None:
        refused = await alice.refused("POST", CHATS, {"chat": {"title": title}})

        assert refused.why == (422, "invalid_payload")
        assert refused.details.keys() == {"/chat/title"}

    async def test_rooms_are_paged_by_number_and_by_cursor_oldest_first(self, alice: Player, bob: Player) -> None:
        made = [await make_room(alice) for _ in range(5)]
        await make_room(bob)

        numbered = await alice.page(f"{CHATS}?page=2&page_size=2")

        assert [row["id"] for row in await everything(alice, CHATS)] == made
        assert [row["id"] for row in numbered["data"]] == made[2:4]
        assert (numbered["metadata"]["total_pages"], numbered["metadata"]["total_count"]) == (3, 5)

    async def test_the_same_creation_again_makes_one_room(self, alice: Player) -> None:
        headers = {"idempotency-key": "once"}
        first = await alice.post(CHATS, {"chat": {}}, headers=headers)

        assert await alice.post(CHATS, {"chat": {}}, headers=headers) == first
        assert len(await alice.get(CHATS)) == 1

    async def test_for_outsiders_there_is_no_room(self, mallory: Player, alice: Player, room: str) -> None:
        message = await send(alice, room, (await alice.get(f"{CHATS}/{room}/participants"))[1]["id"])
        text = {"message": {"content": "Hi", "mentions": [{"id": alice.id}]}}
        calls: list[tuple[str, str, Any]] = [
            ("GET", "", None),
            ("PATCH", "", {"chat": {"title": "Mine"}}),
            ("GET", "/participants", None),
            ("POST", "/participants", {"participant": {"participant_id": mallory.id}}),
            ("DELETE", f"/participants/{alice.id}", None),
            ("DELETE", f"/participants/{mallory.id}", None),
            ("GET", "/messages", None),
            ("GET", "/messages?page=1", None),
            ("POST", "/messages", text),
            ("GET", "/messages/next", None),
            ("POST", f"/messages/{message}/processing", None),
            ("POST", f"/messages/{message}/processed", None),
            ("POST", f"/messages/{message}/failed", {"error": "x"}),
            ("POST", "/events", {"event": {"content": "Hm", "message_type": "thought"}}),
            ("GET", "/context", None),
            ("POST", "/activity", {"working": True}),
        ]
        for method, path, body in calls:
            for id_ in (room, "nothing"):
                refused = await mallory.refused(method, f"{CHATS}/{id_}{path}", body)
                assert refused.why == (404, "not_found"), (method, path)
        assert (await mallory.refused("GET", f"/agent/peers?not_in_chat={room}")).why == (404, "not_found")
        assert await alice.get(f"{CHATS}/{room}/context") != []


class TestParticipants:
    async def test_they_are_listed_in_the_order_in_which_they_came(
        self, market: Marketplace, alice: Player, bob: Player, room: str
    ) -> None:
        await market.socket(bob.api_key)
        owner = market.with_key(market.user_keys["alice"])
        owner_id = (await owner.get("/me"))["id"]
        await add(alice, room, owner_id, role="admin")

        rows = await alice.get(f"{CHATS}/{room}/participants")

        assert [(row["handle"], row["type"], row["role"], row["online"], row["is_external"]) for row in rows] == [
            (alice.handle, "Agent", "owner", False, True),
            (bob.handle, "Agent", "member", True, True),
            ("alice", "User", "admin", False, False),
        ]
        assert {row["status"] for row in rows} == {"active"}
        assert ["description" in row for row in rows] == [True, True, False]
        assert rows == await bob.get(f"{CHATS}/{room}/participants")

    async def test_who_is_added_is_told_joins_and_hears_and_once_removed_does_not(
        self, market: Marketplace, alice: Player, bob: Player
    ) -> None:
        heard_alice = await ear(market, alice.api_key, rooms_of(alice))
        heard_bob = await ear(market, bob.api_key, rooms_of(bob))
        room = await make_room(alice)
        chat, participants = topics_of(room)
        heard_in_room = await ear(market, alice.api_key, participants)
        await require_cannot_join(market, bob.api_key, chat)

        added = await add(alice, room, bob)
        await require_joins(market, bob.api_key, chat)
        heard_text = await ear(market, bob.api_key, chat, participants)
        message = await send(alice, room, bob)
        removed = await alice.delete(f"{CHATS}/{room}/participants/{bob.id}")

        assert [(topic, event, told["id"]) for topic, event, told in heard_alice()] == [
            (rooms_of(alice), "room_added", room)
        ]
        assert [(event, told["id"]) for _, event, told in heard_bob()] == [("room_added", room), ("room_removed", room)]
        assert [(event, told["id"]) for _, event, told in heard_in_room()] == [
            ("participant_added", bob.id), ("participant_removed", bob.id)
        ]  # fmt: skip
        told = heard_text()
        assert [(topic, event) for topic, event, _ in told] == [
            (chat, "message_created"), (participants, "participant_removed")
        ]  # fmt: skip
        assert told[0][2]["id"] == message
        assert removed == added
        await require_cannot_join(market, bob.api_key, participants)
        assert await bob.get(CHATS) == []
        await require_sound(market)

    async def test_an_agent_hears_nothing_of_a_room_that_it_was_removed_from_and_leaves_itself(
        self, market: Marketplace, alice: Player, bob: Player, room: str
    ) -> None:
        heard = await ear(market, bob.api_key, *topics_of(room))
        await alice.delete(f"{CHATS}/{room}/participants/{bob.id}")
        heard()

        await add(alice, room, bob)
        await send(alice, room, bob)

        assert heard() == []

    async def test_a_person_whose_place_ends_is_told_so(self, market: Marketplace, alice: Player, room: str) -> None:
        owner = market.with_key(market.user_keys["alice"])
        owner_id = (await owner.get("/me"))["id"]
        await add(alice, room, owner_id)
        heard = await ear(market, market.user_keys["alice"], *topics_of(room))

        await owner.delete(f"/me/chats/{room}/participants/{owner_id}")

        assert [(topic.partition(":")[0], event) for topic, event, _ in heard()] == [
            ("room_participants", "participant_removed"),
            ("chat_room", "phx_close"),
            ("room_participants", "phx_close"),
        ]

    async def test_strangers_are_not_added_and_contacts_are(
        self, market: Marketplace, alice: Player, mallory: Player
    ) -> None:
        room = await make_room(alice)
        path, draft = f"{CHATS}/{room}/participants", {"participant": {"participant_id": mallory.id}}

        assert (await alice.refused("POST", path, draft)).why == (403, "contact_required")
        await ask(alice, mallory.handle)
        assert (await alice.refused("POST", path, draft)).why == (403, "contact_required")
        await mallory.post("/agent/contacts/requests/respond", {"action": "approve", "handle": alice.handle})
        await alice.post(path, draft)
        await alice.post(REMOVE, {"handle": mallory.handle})

        assert await send(alice, room, mallory)
        assert [row["id"] for row in await mallory.get(CHATS)] == [room]
        await mallory.delete(f"{path}/{mallory.id}")
        assert (await alice.refused("POST", path, draft)).why == (403, "contact_required")
        await require_sound(market)

    async def test_a_scope_without_rooms_lets_nobody_in(self, alice: Player, mallory: Player) -> None:
        await ask(alice, mallory.handle)
        answer = {"action": "approve", "handle": alice.handle, "scope": {"kinds": ["task"], "max_open": 1}}
        await mallory.post("/agent/contacts/requests/respond", answer)
        room = await make_room(alice)
        body = {"participant": {"participant_id": mallory.id}}

        refused = await alice.refused("POST", f"{CHATS}/{room}/participants", body)

        assert refused.why == (403, "contact_scope_exceeded")
        assert refused.details == {"kinds": ["task"]}

    async def test_a_block_stops_being_added_and_nothing_inside(self, alice: Player, bob: Player, room: str) -> None:
        await bob.post(BLOCK, {"handle": alice.handle})
        other = await make_room(alice)
        body = {"participant": {"participant_id": bob.id}}

        assert (await alice.refused("POST", f"{CHATS}/{other}/participants", body)).why == (404, "not_found")
        assert await send(alice, room, bob)
        assert await send(bob, room, alice)
        theirs = await make_room(bob)
        body = {"participant": {"participant_id": alice.id}}
        refused = await bob.refused("POST", f"{CHATS}/{theirs}/participants", body)
        assert refused.why == (422, "blocked_by_you")
        assert refused.details.keys() == {"/participant/participant_id"}

    async def test_drafts_are_not_there_and_suspended_agents_not_available(
        self, market: Marketplace, olga: Caller, alice: Player, ann: Player
    ) -> None:
        draft = await olga.post(
            "/agents", {"name": "Draft", "description": "Not yet", "owner": "bob", "status": "draft", "is_global": True}
        )
        room = await make_room(alice)
        path = f"{CHATS}/{room}/participants"
        await olga.post(f"/admin/agents/{ann.id}/suspend")

        refused = await alice.refused("POST", path, {"participant": {"participant_id": ann.id}})
        assert refused.why == (422, "agent_unavailable")
        await market.user("carol")
        lone = await market.agent("carol", "Lone", capabilities=(CapabilityDraft(name="x"),), status="draft")
        assert (await alice.refused("POST", path, {"participant": {"participant_id": lone.id}})).why == (
            404,
            "not_found",
        )
        assert (await alice.refused("POST", path, {"participant": {"participant_id": draft["id"]}})).why in {
            (404, "not_found"), (422, "agent_unavailable")
        }  # fmt: skip
        assert (await ann.refused("POST", CHATS, {"chat": {}})).why == (409, "agent_unavailable")

    async def test_who_is_added_twice_at_once_comes_in_once(self, alice: Player, bob: Player, ann: Player) -> None:
        room = await make_room(alice)
        await add(alice, room, ann)
        body = {"participant": {"participant_id": bob.id}}
        path = f"/api/v1{CHATS}/{room}/participants"

        answers = await asyncio.gather(
            *(who.http.post(path, json=body, headers=who.headers) for who in (alice, ann, alice, ann))
        )

        assert sorted(answer.status_code for answer in answers) == [201, 422, 422, 422]
        assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 422} == {
            "already_participant"
        }
        assert len(await alice.get(f"{CHATS}/{room}/participants")) == 3

    async def test_roles_decide_who_removes_whom(self, alice: Player, bob: Player, ann: Player, room: str) -> None:
        path = f"{CHATS}/{room}/participants"
        await add(alice, room, ann, role="admin")

        assert (await bob.refused("DELETE", f"{path}/{ann.id}")).why == (403, "forbidden_role")
        assert (await ann.refused("DELETE", f"{path}/{alice.id}")).why == (403, "cannot_remove_owner")
        assert (await alice.refused("DELETE", f"{path}/{alice.id}")).why == (403, "cannot_remove_sole_owner")
        assert (await alice.refused("DELETE", f"{path}/nobody")).why == (404, "not_found")
        owner_id = (await alice.get("/agent/me"))["owner_uuid"]
        await add(alice, room, owner_id)
        assert (await alice.refused("DELETE", f"{path}/{owner_id}")).why == (403, "cannot_remove_user")
        assert (await ann.delete(f"{path}/{bob.id}"))["id"] == bob.id
        assert (await ann.delete(f"{path}/{ann.id}"))["id"] == ann.id

    async def test_a_member_renames_nothing_and_gives_no_roles(self, bob: Player, ann: Player, room: str) -> None:
        assert (await bob.refused("PATCH", f"{CHATS}/{room}", {"chat": {"title": "Mine"}})).why == (
            403, "forbidden_role"
        )  # fmt: skip
        body = {"participant": {"participant_id": ann.id, "role": "admin"}}
        assert (await bob.refused("POST", f"{CHATS}/{room}/participants", body)).why == (403, "forbidden_role")

    async def test_peers_leave_out_who_is_in_already(self, alice: Player, bob: Player, ann: Player, room: str) -> None:
        everybody = {row["id"] for row in await alice.get("/agent/peers")}
        outside = await alice.page(f"/agent/peers?not_in_chat={room}&page_size=100")

        assert {bob.id, ann.id} <= everybody
        assert {row["id"] for row in outside["data"]} == everybody - {bob.id}
        assert outside["metadata"]["total_count"] == len(everybody) - 1


class TestEnds:
    """Agents that are deleted, and banned."""

    @pytest.mark.parametrize("end", ["deleted", "banned"])
    async def test_who_ends_is_in_no_room_any_more_nor_does_its_user_read_there(
        self, market: Marketplace, deal: tuple[Player, Player], room: str, end: str
    ) -> None:
        alice, bob = deal
        owner = market.with_key(market.user_keys["bob"])
        assert await owner.get(f"{MINE}/{room}/messages") == []
        heard = await ear(market, alice.api_key, *topics_of(room))

        if end == "deleted":
            await owner.delete(f"/agents/{bob.id}")
        else:
            await (await market.user("olga", is_operator=True)).post(f"/admin/agents/{bob.id}/ban")

        assert [(event, told["id"]) for _, event, told in heard()] == [("participant_removed", bob.id)]
        assert [row["id"] for row in await alice.get(f"{CHATS}/{room}/participants")] == [alice.id]
        assert (await owner.refused("GET", f"{MINE}/{room}/messages")).why == (404, "not_found")
        assert await owner.get(MINE, params={"include": "agent_rooms"}) == []
        await require_sound(market)

    async def test_a_room_whose_only_owner_is_deleted_has_another_one(
        self, market: Marketplace, alice: Player, bob: Player, ann: Player
    ) -> None:
        room, _alone = [await make_room(ann) for _ in range(2)]
        await add(ann, room, bob)
        await add(ann, room, alice, role="admin")

        await market.with_key(market.user_keys["alice"]).delete(f"/agents/{ann.id}")

        rows = await bob.get(f"{CHATS}/{room}/participants")
        assert [(row["id"], row["role"]) for row in rows] == [(bob.id, "member"), (alice.id, "owner")]
        answer = await alice.call("PATCH", f"{CHATS}/{room}", json={"chat": {"title": "Ours"}})
        assert answer.status_code == 200
        statuses = await market.server.database.read(lambda tx: tx.all("SELECT status FROM rooms ORDER BY id"))
        assert statuses == [("open",), ("deleted",)]
        await require_sound(market)


async def test_one_house_makes_so_many_rooms_and_puts_strangers_into_so_many(folder: Any) -> None:
    async with marketplace(folder, limits=Limits(rooms_made_max=3, rooms_shared_max=1)) as market:
        alice, bob = await market.deal()
        ann = await market.agent("alice", "Ann")
        owner = market.with_key(market.user_keys["alice"])
        made = [await make_room(alice), await make_room(ann), await make_room(owner, MINE)]

        for maker, path in ((alice, CHATS), (owner, MINE)):
            refused = await maker.refused("POST", path, {"chat": {}})
            assert (refused.why, refused.details["max"]) == ((409, "room_limit"), 3)
        await make_room(bob)
        await add(alice, made[0], bob)
        await add(alice, made[0], ann)
        await add(ann, made[1], alice)
        for adder, room, path in ((ann, made[1], CHATS), (owner, made[2], MINE)):
            draft = {"participant": {"participant_id": bob.id}}
            assert (await adder.refused("POST", f"{path}/{room}/participants", draft)).why == (422, "room_limit")
        await bob.delete(f"{CHATS}/{made[0]}/participants/{bob.id}")
        await add(ann, made[1], bob)
        await require_sound(market)
        await owner.delete(f"{MINE}/{made[2]}")
        await make_room(owner, MINE)


@pytest.mark.parametrize(("table", "said"), [("rooms", 1), ("room_sides", 2)])
async def test_doctor_sees_a_room_that_counts_for_another_house(
    market: Marketplace, alice: Player, table: str, said: int
) -> None:
    room = await make_room(alice)
    await market.server.database.write(lambda tx: tx.run(f"UPDATE {table} SET maker_user_id = 'mallory'"))  # noqa: S608 # One of two names.

    found = await market.server.database.read(room_sides.doctor)

    assert len(found) == said
    assert all(room in one for one in found)
