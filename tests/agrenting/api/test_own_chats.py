"""Chat rooms of people: their own, and those of their agents to read; what was written in them, and how far it is."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from agrenting.db import contacts
from agrenting.db.pages import Slice
from agrenting.db.rooms import RoomsAsked, takes_part
from agrenting.db.rooms import rooms_of as rooms_of_entity
from tests.agrenting.api.friends import ask
from tests.agrenting.api.market import Caller, Marketplace, Player
from tests.agrenting.api.rooms import (
    CHATS,
    MINE,
    add,
    ear,
    everything,
    id_of,
    make_room,
    mark,
    next_of,
    note,
    require_cannot_join,
    require_joins,
    require_sound,
    rooms_of,
    send,
    topics_of,
)


@pytest.fixture
async def anna(market: Marketplace, alice: Player) -> Caller:
    """The user who owns Alice's client."""
    return await owner_of(market, alice)


@pytest.fixture
async def otto(market: Marketplace) -> Caller:
    """A user with no part in anything."""
    return await market.user("otto")


@pytest.fixture
async def room(anna: Caller, alice: Player, bob: Player) -> str:
    """A room of a user, with her client and Bob's translator."""
    made = await make_room(anna, MINE, title="Plans")
    await add(anna, made, alice, MINE)
    await add(anna, made, bob, MINE)
    return made


async def owner_of(market: Marketplace, agent: Player) -> Caller:
    """The user who owns an agent."""
    owner = market.with_key(market.user_keys[agent.handle.partition("/")[0]])
    owner.headers["x-user-id"] = (await owner.get("/me"))["id"]
    return owner


async def ids_of(caller: Caller, path: str = MINE, **query: Any) -> list[str]:
    return [row["id"] for row in await everything(caller, path, **query)]


class TestRooms:
    async def test_a_user_makes_reads_and_renames_a_room(self, market: Marketplace, anna: Caller) -> None:
        made = await anna.post(MINE, {"chat": {"title": "Plans"}})
        market.clock.advance(seconds=1)
        renamed = await anna.patch(f"{MINE}/{made['id']}", {"chat": {"title": "New"}})

        assert made == {
            "id": made["id"],
            "title": "Plans",
            "task_id": None,
            "type": "direct",
            "status": "active",
            "last_message_at": None,
            "inserted_at": "2030-01-01T12:00:00Z",
            "updated_at": "2030-01-01T12:00:00Z",
        }
        assert renamed == made | {"title": "New", "updated_at": "2030-01-01T12:00:01Z"}
        assert await anna.get(f"{MINE}/{made['id']}") == renamed
        await require_sound(market)

    async def test_the_same_creation_again_makes_one_room(self, anna: Caller) -> None:
        headers = {"idempotency-key": "once"}
        first = await anna.post(MINE, {"chat": {}}, headers=headers)

        assert await anna.post(MINE, {"chat": {}}, headers=headers) == first
        assert await ids_of(anna) == [first["id"]]

    async def test_a_user_is_told_of_its_rooms_joins_and_hears_what_mentions_it(
        self, market: Marketplace, anna: Caller, alice: Player, bob: Player
    ) -> None:
        key = market.user_keys["alice"]
        heard_rooms = await ear(market, key, rooms_of(anna))
        room = await make_room(anna, MINE)
        chat, participants = topics_of(room)
        heard = await ear(market, key, chat, participants)
        await add(anna, room, alice, MINE)
        await add(anna, room, bob, MINE)
        await send(bob, room, alice)
        message = await send(bob, room, anna)

        assert [event for _, event, _ in heard_rooms()] == ["room_added"]
        assert [(event, told["id"]) for _, event, told in heard()] == [
            ("participant_added", alice.id), ("participant_added", bob.id), ("message_created", message)
        ]  # fmt: skip

    async def test_the_kind_of_a_room_follows_from_what_it_is(self, anna: Caller, alice: Player, bob: Player) -> None:
        direct, group = await make_room(anna, MINE), await make_room(anna, MINE)
        task = await make_room(anna, MINE, task_id="t-1")
        await add(anna, direct, alice, MINE)
        for who in (alice, bob):
            await add(anna, group, who, MINE)
            await add(anna, task, who, MINE)

        assert {row["id"]: row["type"] for row in await anna.get(MINE)} == {
            direct: "direct", group: "group", task: "task"
        }  # fmt: skip
        for type_, room in (("direct", direct), ("group", group), ("task", task)):
            assert await ids_of(anna, type=type_) == [room]

    async def test_lists_go_by_either_time_and_either_way(self, market: Marketplace, anna: Caller) -> None:
        rooms = []
        for _ in range(5):
            rooms.append(await make_room(anna, MINE))
            market.clock.advance(seconds=0.5)
        await anna.patch(f"{MINE}/{rooms[1]}", {"chat": {"title": "Later"}})

        assert await ids_of(anna) == [*reversed(rooms)]
        assert await ids_of(anna, order="asc") == rooms
        by_change = [rooms[0], *rooms[2:], rooms[1]]
        assert await ids_of(anna, sort_by="updated_at", order="asc") == by_change
        assert await ids_of(anna, sort_by="updated_at") == [*reversed(by_change)]
        numbered = await anna.page(f"{MINE}?sort_by=updated_at&page=2&page_size=2")
        assert [row["id"] for row in numbered["data"]] == [*reversed(by_change)][2:4]
        assert (numbered["metadata"]["total_count"], numbered["metadata"]["total_pages"]) == (5, 3)

    async def test_all_rooms_are_active(self, anna: Caller, room: str) -> None:
        assert await ids_of(anna, status="active") == [room]
        for status in ("archived", "closed"):
            page = await anna.page(f"{MINE}?status={status}")
            assert (page["data"], page["metadata"]["total_count"]) == ([], 0)

    async def test_rooms_of_ones_agents_are_listed_on_demand_and_each_once(
        self, anna: Caller, alice: Player, bob: Player, room: str, otto: Caller
    ) -> None:
        agents_own = await make_room(alice)
        await add(alice, agents_own, bob)

        assert await ids_of(anna) == [room]
        assert await ids_of(anna, include="agent_rooms") == [agents_own, room]
        assert await ids_of(otto, include="agent_rooms") == []
        assert (await anna.refused("GET", f"{MINE}?include=everything")).why == (422, "invalid_payload")

    async def test_the_newest_message_says_when(
        self, market: Marketplace, anna: Caller, alice: Player, room: str
    ) -> None:
        await send(anna, room, alice, path=MINE)
        market.clock.advance(seconds=5)
        await note(alice, room)

        assert (await anna.get(f"{MINE}/{room}"))["last_message_at"] == "2030-01-01T12:00:05Z"

    async def test_for_outsiders_there_is_no_room(self, otto: Caller, alice: Player, room: str) -> None:
        calls: list[tuple[str, str, Any]] = [
            ("GET", "", None),
            ("PATCH", "", {"chat": {"title": "Mine"}}),
            ("DELETE", "", None),
            ("GET", "/participants", None),
            ("POST", "/participants", {"participant": {"participant_id": id_of(otto)}}),
            ("DELETE", f"/participants/{alice.id}", None),
            ("GET", "/messages", None),
            ("GET", "/messages?message_type=text&page=1", None),
            ("POST", "/messages", {"message": {"content": "Hi", "mentions": [{"id": alice.id}]}}),
        ]
        for method, path, body in calls:
            for id_ in (room, "nothing"):
                assert (await otto.refused(method, f"{MINE}/{id_}{path}", body)).why == (404, "not_found"), path
        assert (await otto.refused("GET", f"/me/peers?not_in_chat={room}")).why == (404, "not_found")


class TestReadingForOnesAgents:
    async def test_a_user_reads_the_rooms_of_its_agents_and_does_nothing_in_them(
        self, market: Marketplace, alice: Player, bob: Player
    ) -> None:
        anna, bobs_user = await owner_of(market, alice), await owner_of(market, bob)
        room = await make_room(alice)
        await add(alice, room, bob)
        await send(alice, room, bob)
        text = {"message": {"content": "Hi", "mentions": [{"id": bob.id}]}}

        for user in (anna, bobs_user):
            assert (await user.get(f"{MINE}/{room}"))["id"] == room
            assert len(await user.get(f"{MINE}/{room}/messages")) == 1
            assert len(await user.get(f"{MINE}/{room}/participants")) == 2
            for method, path, body in (
                ("PATCH", "", {"chat": {"title": "Mine"}}),
                ("POST", "/messages", text),
                ("POST", "/participants", {"participant": {"participant_id": id_of(user)}}),
                ("DELETE", f"/participants/{bob.id}", None),
            ):
                assert (await user.refused(method, f"{MINE}/{room}{path}", body)).why == (404, "not_found")
        await require_cannot_join(market, market.user_keys["alice"], topics_of(room)[0])

    async def test_it_ends_when_the_agent_has_left(self, market: Marketplace, alice: Player, bob: Player) -> None:
        bobs_user = await owner_of(market, bob)
        room = await make_room(alice)
        await add(alice, room, bob)
        await bob.delete(f"{CHATS}/{room}/participants/{bob.id}")

        assert (await bobs_user.refused("GET", f"{MINE}/{room}")).why == (404, "not_found")


class TestDeleting:
    async def test_who_owns_it_deletes_it_and_it_is_gone_for_everybody(
        self, market: Marketplace, anna: Caller, alice: Player, bob: Player, room: str
    ) -> None:
        heard_bob = await ear(market, bob.api_key, rooms_of(bob), *topics_of(room))
        heard_anna = await ear(market, market.user_keys["alice"], rooms_of(anna), *topics_of(room))

        assert (await anna.delete(f"{MINE}/{room}"))["id"] == room

        chat, participants = topics_of(room)
        assert [(topic, event) for topic, event, _ in heard_bob()] == [
            (participants, "room_deleted"), (rooms_of(bob), "room_removed")
        ]  # fmt: skip
        assert [(topic, event) for topic, event, _ in heard_anna()] == [
            (participants, "room_deleted"),
            (rooms_of(anna), "room_removed"),
            (chat, "phx_close"),
            (participants, "phx_close"),
        ]
        for who, path in ((anna, MINE), (alice, CHATS), (bob, CHATS)):
            assert await who.get(path) == []
            assert (await who.refused("GET", f"{path}/{room}")).why == (404, "not_found")
        assert (await anna.refused("DELETE", f"{MINE}/{room}")).why == (404, "not_found")
        await require_cannot_join(market, bob.api_key, chat)
        await require_sound(market)

    async def test_so_does_the_user_of_an_agent_that_owns_it(self, anna: Caller, alice: Player) -> None:
        room = await make_room(alice)

        await anna.delete(f"{MINE}/{room}")

        assert await alice.get(CHATS) == []

    async def test_nobody_else_does(self, market: Marketplace, bob: Player, room: str) -> None:
        bobs_user = await owner_of(market, bob)

        assert (await bobs_user.refused("DELETE", f"{MINE}/{room}")).why == (403, "forbidden_role")


class TestParticipants:
    async def test_they_are_paged_and_narrowed(self, anna: Caller, alice: Player, bob: Player, room: str) -> None:
        path = f"{MINE}/{room}/participants"
        everybody = [id_of(anna), *sorted((alice.id, bob.id))]

        assert sorted(await ids_of(anna, path)) == sorted(everybody)
        assert await ids_of(anna, path, participant_type="User") == [id_of(anna)]
        assert sorted(await ids_of(anna, path, participant_type="Agent")) == everybody[1:]
        page = await anna.page(f"{path}?page=2&page_size=2")
        assert len(page["data"]) == 1
        assert (page["metadata"]["total_count"], page["metadata"]["total_pages"]) == (3, 2)
        everyone = {row["id"]: row for row in await anna.get(path)}
        assert everyone[id_of(anna)]["role"] == "owner"
        assert everyone[bob.id]["description"] == "Translator of bob"

    async def test_a_user_adds_those_whom_it_knows(
        self, anna: Caller, mallory: Player, otto: Caller, room: str
    ) -> None:
        path = f"{MINE}/{room}/participants"
        for stranger in (mallory, otto):
            refused = await anna.refused("POST", path, {"participant": {"participant_id": id_of(stranger)}})
            assert refused.why == (403, "contact_required")
        await ask(mallory, "alice")
        (asked,) = await anna.get("/me/contacts/requests")
        await anna.post(f"/me/contacts/requests/{asked['id']}/approve")

        assert (await add(anna, room, mallory, MINE))["role"] == "member"
        again = {"participant": {"participant_id": mallory.id}}
        assert (await anna.refused("POST", path, again)).why == (422, "already_participant")

    async def test_who_owns_a_room_removes_and_does_not_leave_alone(
        self, market: Marketplace, anna: Caller, bob: Player, room: str
    ) -> None:
        path = f"{MINE}/{room}/participants"
        await require_joins(market, bob.api_key, topics_of(room)[0])

        assert (await anna.delete(f"{path}/{bob.id}"))["id"] == bob.id
        assert (await anna.refused("DELETE", f"{path}/{id_of(anna)}")).why == (403, "cannot_remove_sole_owner")
        await require_sound(market)

    async def test_peers_leave_out_who_is_in_already(self, anna: Caller, bob: Player, room: str) -> None:
        everybody = {row["id"] for row in await anna.get("/me/peers")}
        outside = {row["id"] for row in await anna.get(f"/me/peers?not_in_chat={room}")}

        assert bob.id in everybody
        assert bob.id not in outside

    async def test_of_one_that_was_deleted_the_handle_is_left(
        self, anna: Caller, room: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(contacts, "entity", lambda _tx, _id: None)

        rows = await anna.get(f"{MINE}/{room}/participants")

        assert [row["name"] for row in rows] == [row["handle"] for row in rows]
        assert all("description" not in row for row in rows)


class TestMessages:
    async def test_a_user_writes_to_agents(self, anna: Caller, bob: Player, room: str) -> None:
        message = await send(anna, room, bob, path=MINE)

        waiting = await next_of(bob, room)
        assert (waiting["id"], waiting["sender_type"]) == (message, "User")

    async def test_a_user_is_told_how_far_readers_are(
        self, market: Marketplace, anna: Caller, bob: Player, room: str
    ) -> None:
        message = await send(anna, room, bob, path=MINE)
        heard = await ear(market, market.user_keys["alice"], topics_of(room)[0])
        heard_bob = await ear(market, bob.api_key, topics_of(room)[0])

        await mark(bob, room, message, "processing")
        await mark(bob, room, message, "processing")
        await mark(bob, room, message, "processed")

        told = heard()
        assert [(event, payload["id"]) for _, event, payload in told] == [("message_updated", message)] * 2
        assert [payload["metadata"]["delivery_status"][bob.id]["status"] for _, _, payload in told] == [
            "processing", "processed"
        ]  # fmt: skip
        assert heard_bob() == []
        (listed,) = await anna.get(f"{MINE}/{room}/messages")
        assert listed["metadata"]["delivery_status"][bob.id]["status"] == "processed"

    async def test_everything_is_listed_newest_first(self, anna: Caller, alice: Player, bob: Player, room: str) -> None:
        written = [
            await send(anna, room, alice, bob, path=MINE),
            await note(bob, room),
            await send(bob, room, alice),
            await note(alice, room, message_type="tool_call"),
            await send(alice, room, anna),
        ]
        path = f"{MINE}/{room}/messages"

        assert await ids_of(anna, path) == [*reversed(written)]
        first = await anna.page(f"{path}?page=1&page_size=3")
        second = await anna.page(f"{path}?page=2&page_size=3")
        assert [row["id"] for row in first["data"] + second["data"]] == [*reversed(written)]
        assert (second["metadata"]["total_count"], second["metadata"]["has_more"]) == (5, False)
        assert {*(await anna.get(path))[-1]["metadata"]["delivery_status"]} == {alice.id, bob.id}

    async def test_types_and_times_narrow_it(
        self, market: Marketplace, anna: Caller, alice: Player, bob: Player, room: str
    ) -> None:
        text = await send(anna, room, bob, path=MINE)
        thought = await note(bob, room)
        market.clock.advance(seconds=10)
        call = await note(alice, room, message_type="tool_call")
        path = f"{MINE}/{room}/messages"

        assert await ids_of(anna, path, message_type="text") == [text]
        assert await ids_of(anna, path, message_types="text,tool_call") == [call, text]
        assert await ids_of(anna, path, exclude_message_types="tool_call,tool_result") == [thought, text]
        assert await ids_of(anna, path, message_type="system") == []
        assert await ids_of(anna, path, since="2030-01-01T12:00:10Z") == [call]
        assert await ids_of(anna, path, since="2030-01-01T12:00:00Z", message_type="thought") == [thought]
        assert (await anna.page(f"{path}?message_type=text&page=1"))["metadata"]["total_count"] == 1

    @pytest.mark.parametrize(
        ("query", "pointer"),
        [
            ("message_type=odd", "/message_type"),
            ("message_types=text,odd", "/message_types"),
            ("exclude_message_types=", "/exclude_message_types"),
            ("message_type=text&message_types=text", "/message_types"),
            ("message_types=text&exclude_message_types=error", "/exclude_message_types"),
            ("since=2030-01-01T12:00:00", "/since"),
            ("since=yesterday", "/since"),
            ("cursor=x", "/cursor"),
        ],
    )
    async def test_what_does_not_fit_is_named(self, anna: Caller, room: str, query: str, pointer: str) -> None:
        refused = await anna.refused("GET", f"{MINE}/{room}/messages?{query}")

        assert refused.why[0] == 422
        assert refused.details.keys() == {pointer}

    async def test_a_time_and_a_cursor_are_one_too_many(self, anna: Caller, bob: Player, room: str) -> None:
        for _ in range(2):
            await send(anna, room, bob, path=MINE)
        path = f"{MINE}/{room}/messages"
        cursor = (await anna.page(f"{path}?limit=1"))["metadata"]["next_cursor"]

        refused = await anna.refused("GET", f"{path}?cursor={cursor}&since=2030-01-01T12:00:00Z")

        assert refused.details.keys() == {"/since"}

    async def test_where_few_are_of_the_type_pages_are_short_and_lead_on(
        self, anna: Caller, bob: Player, room: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agrenting.api.own_chats.SCANNED_MAX", 3)
        texts = []
        for number in range(9):
            await note(bob, room)
            if number % 4 == 0:
                texts.append(await send(anna, room, bob, path=MINE))
        path = f"{MINE}/{room}/messages"

        first = await anna.page(f"{path}?message_type=text&limit=2")

        assert len(first["data"]) < 2
        assert first["metadata"]["has_more"] is True
        assert await ids_of(anna, path, message_type="text") == [*reversed(texts)]


@pytest.mark.parametrize("asked", [RoomsAsked(), RoomsAsked(has_agents=True, sort="updated_at", type="task")])
async def test_nobodys_list_looks_at_rooms_of_others(
    market: Marketplace, anna: Caller, room: str, asked: RoomsAsked
) -> None:
    plans: list[str] = []

    def explain(tx: Any) -> None:
        def explained(sql: str, **values: Any) -> Any:
            plans.extend(row[3] for row in tx.all(f"EXPLAIN QUERY PLAN {sql}", **values))
            return tx.all(sql, **values)

        spy: Any = SimpleNamespace(all=explained, one=lambda sql, **values: explained(sql, **values)[0])
        rooms_of_entity(spy, id_of(anna), Slice(limit=5), asked)
        assert takes_part(spy, room, id_of(anna))

    await market.server.database.read(explain)
    looks = [plan for plan in plans if re.search(r"\b(r|room_sides|agents)\b", plan)]
    assert looks
    assert all(plan.startswith("SEARCH") for plan in looks), looks
