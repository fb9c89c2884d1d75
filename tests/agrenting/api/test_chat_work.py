"""Texts of chat rooms are worked through over REST; events, context, activity, and what is not offered."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agrenting.db import room_messages
from tests.agrenting.api.market import Marketplace, Player, marketplace
from tests.agrenting.api.rooms import (
    CHATS,
    add,
    ear,
    everything,
    id_of,
    make_room,
    mark,
    next_of,
    note,
    send,
    topics_of,
)

PROFILE_FLAGS = {"ff_file_transfer": False, "ff_room_tasks": False}


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


class TestWork:
    async def test_a_message_is_worked_through(self, alice: Player, bob: Player, room: str) -> None:
        first, second = [await send(alice, room, bob) for _ in range(2)]

        assert (await next_of(bob, room))["id"] == first
        marked = await mark(bob, room, first, "processing")
        assert marked == {"id": first, "status": "processing", "attempt_number": 1, "success": True}
        assert (await next_of(bob, room))["id"] == first
        assert (await mark(bob, room, first, "processed"))["status"] == "processed"
        assert (await next_of(bob, room))["id"] == second
        await mark(bob, room, second, "processing")
        await mark(bob, room, second, "failed", "oops")
        assert (await next_of(bob, room))["id"] == second
        await mark(bob, room, second, "processing")
        assert (await mark(bob, room, second, "processed"))["attempt_number"] == 2
        assert await next_of(bob, room) is None
        assert (await mark(bob, room, first, "processing"))["attempt_number"] == 2
        status = (await next_of(bob, room))["metadata"]["delivery_status"]
        assert status.keys() == {bob.id}
        assert status[bob.id]["status"] == "processing"
        assert [attempt["status"] for attempt in status[bob.id]["attempts"]] == ["processed", "processing"]

    @pytest.mark.parametrize("end", ["processed", "failed"])
    async def test_an_end_without_an_attempt_is_told_so_that_bands_clients_know_it(
        self, alice: Player, bob: Player, room: str, end: str
    ) -> None:
        message = await send(alice, room, bob)
        body = {"error": "x"} if end == "failed" else None

        refused = await bob.refused("POST", f"{CHATS}/{room}/messages/{message}/{end}", body)

        assert refused.why == (422, "validation_error")
        assert refused.details.keys() == {"/processing_attempt"}

    async def test_messages_of_other_rooms_others_and_nobody_are_not_found(
        self, alice: Player, bob: Player, ann: Player, room: str
    ) -> None:
        await add(alice, room, ann)
        message = await send(alice, room, bob)
        other = await make_room(alice)
        await add(alice, other, bob)
        for who, where, what in (
            (bob, other, message),
            (bob, room, "nothing"),
            (ann, room, message),
            (alice, room, message),
        ):
            for how, body in (("processing", None), ("processed", None), ("failed", {"error": "x"})):
                refused = await who.refused("POST", f"{CHATS}/{where}/messages/{what}/{how}", body)
                assert refused.why == (404, "not_found")

    async def test_two_programs_that_begin_at_once_begin_one_attempt(
        self, alice: Player, bob: Player, room: str
    ) -> None:
        message = await send(alice, room, bob)
        path = f"/api/v1{CHATS}/{room}/messages/{message}"

        begun = await asyncio.gather(*(bob.http.post(f"{path}/processing", headers=bob.headers) for _ in range(4)))
        ended = await asyncio.gather(*(bob.http.post(f"{path}/processed", headers=bob.headers) for _ in range(3)))

        assert {answer.json()["data"]["attempt_number"] for answer in begun} == {1}
        assert sorted(answer.status_code for answer in ended) == [200, 422, 422]

    async def test_it_all_survives_a_restart(self, folder: Any) -> None:
        async with marketplace(folder) as market:
            alice, bob = await market.deal()
            room = await make_room(alice)
            await add(alice, room, bob)
            message = await send(alice, room, bob)
            await mark(bob, room, message, "processing")
            keys = alice.api_key, bob.api_key
        async with marketplace(folder) as market:
            alice_again, bob_again = (market.with_key(key) for key in keys)
            assert (await next_of(bob_again, room))["id"] == message
            assert (await mark(bob_again, room, message, "processed"))["attempt_number"] == 1
            assert [row["id"] for row in await alice_again.get(CHATS)] == [room]


class TestEventsAndContext:
    async def test_an_event_is_kept_and_pushed_to_nobody(
        self, market: Marketplace, alice: Player, bob: Player, room: str
    ) -> None:
        ears = [await ear(market, who.api_key, topics_of(room)[0]) for who in (alice, bob)]

        event = await note(bob, room, f"@[[{alice.id}]]", message_type="task", metadata={"contact_event_type": "added"})

        assert [heard() for heard in ears] == [[], []]
        assert await alice.get(f"{CHATS}/{room}/context") == []
        (kept,) = await bob.get(f"{CHATS}/{room}/context")
        assert (kept["id"], kept["message_type"], kept["content"]) == (event, "task", f"@[[{alice.id}]]")
        assert kept["metadata"] == {"contact_event_type": "added"}

    @pytest.mark.parametrize(
        "event",
        [
            {"content": "Hm", "message_type": "text"},
            {"content": "Hm"},
            {"content": "\u200b", "message_type": "thought"},
            {"content": "x" * 16_385, "message_type": "thought"},
            {"content": "Hm", "message_type": "thought", "metadata": {"a": "x" * 65_536}},
            {"content": "Hm", "message_type": "thought", "metadata": []},
        ],
    )
    async def test_what_does_not_fit_is_refused(self, bob: Player, room: str, event: dict[str, Any]) -> None:
        refused = await bob.refused("POST", f"{CHATS}/{room}/events", {"event": event})

        assert refused.why == (422, "invalid_payload")

    async def test_the_context_is_what_one_wrote_and_what_mentions_one_oldest_first(
        self, alice: Player, bob: Player, ann: Player, room: str
    ) -> None:
        await add(alice, room, ann)
        known = [
            await send(alice, room, bob),
            await note(bob, room),
            await send(bob, room, alice),
            await send(ann, room, alice, bob),
            await note(bob, room, message_type="error"),
        ]
        await send(alice, room, ann)
        await note(alice, room)
        await mark(bob, room, known[0], "processing")
        await mark(bob, room, known[0], "processed")
        path = f"{CHATS}/{room}/context"

        assert [row["id"] for row in await everything(bob, path)] == known
        first = await bob.page(f"{path}?page=1&page_size=3")
        second = await bob.page(f"{path}?page=2&page_size=3")
        assert [row["id"] for row in first["data"] + second["data"]] == known
        assert (first["metadata"]["total_pages"], first["metadata"]["has_more"]) == (2, True)
        assert (await bob.page(path))["metadata"]["limit"] == 50
        status = first["data"][0]["metadata"]["delivery_status"]
        assert status[bob.id]["status"] == "processed"
        assert "delivery_status" not in first["data"][2]["metadata"]


class TestActivity:
    async def test_it_is_shown_to_participants_until_it_is_over_or_forgotten(
        self, market: Marketplace, alice: Player, bob: Player, room: str
    ) -> None:
        seconds = 0.0
        market.server.activities = type(market.server.activities)(ttl_s=10, monotonic=lambda: seconds)
        path = f"{CHATS}/{room}/activity"

        async def shown() -> Any:
            return (await alice.get(f"{CHATS}/{room}/participants"))[1]["activity"]

        assert await bob.post(path, {"working": True}) == {"working": True}
        assert await shown() == {"kind": "reasoning", "name": None}
        tool = {"kind": "tool_call", "name": "Bash run/x <b>\u0000é" + "x" * 200}
        await bob.post(path, {"working": True, "activity": tool})
        assert await shown() == {"kind": "tool_call", "name": ("Bash_run/x__b___" + "x" * 200)[:128]}
        seconds = 10.0
        assert await shown() is None
        await bob.post(path, {"working": True, "activity": {"kind": "memory"}})
        assert await shown() == {"kind": "memory", "name": None}
        assert await bob.post(path, {"working": False, "activity": {"kind": "permission"}}) == {"working": False}
        assert await shown() is None

    @pytest.mark.parametrize(
        "activity",
        [
            {"kind": "tool_call"},
            {"kind": "tool_call", "name": ""},
            {"kind": "memory", "name": "x"},
            {"kind": "idle"},
            {},
        ],
    )
    async def test_what_does_not_fit_is_refused_also_from_who_is_done(
        self, bob: Player, room: str, activity: dict[str, Any]
    ) -> None:
        for is_working in (True, False):
            body = {"working": is_working, "activity": activity}
            assert (await bob.refused("POST", f"{CHATS}/{room}/activity", body)).why == (422, "invalid_payload")


class TestWhatIsNotOffered:
    async def test_the_feature_flags_say_so(self, alice: Player) -> None:
        assert (await alice.get("/agent/me"))["feature_flags"] == PROFILE_FLAGS

    @pytest.mark.parametrize(
        ("method", "path", "said"),
        [
            ("PUT", "/agent/chats/x/files", "ff_file_transfer"),
            ("GET", "/agent/chats/x/files/y", "ff_file_transfer"),
            ("GET", "/me/chats/x/attachments/y", "ff_file_transfer"),
            ("GET", "/agent/chats/x/tasks", "ff_room_tasks"),
            ("POST", "/agent/chats/x/tasks", "ff_room_tasks"),
            ("PATCH", "/agent/chats/x/tasks/y", "ff_room_tasks"),
            ("GET", "/agent/chats/x/tasks/y/history", "ff_room_tasks"),
            ("GET", "/agent/chats/x/board", "ff_room_tasks"),
            ("GET", "/agent/memories", "memories"),
            ("POST", "/agent/memories/x/archive", "memories"),
            ("GET", "/me/memories", "memories"),
            ("POST", "/agent/delegation/token", "delegation"),
            ("POST", "/me/chats/bulk-delete", "one at a time"),
            ("POST", "/me/agents/bulk-delete", "one at a time"),
            ("GET", "/me/bulk-deletions/x", "one at a time"),
        ],
    )
    async def test_and_so_does_each_address(self, alice: Player, method: str, path: str, said: str) -> None:
        for asked in (path, f"{path}/"):
            refused = await alice.refused(method, asked)
            assert refused.why == (404, "not_found")
            assert said in refused.error["message"]

    async def test_other_unknown_addresses_are_just_unknown(self, alice: Player) -> None:
        refused = await alice.refused("GET", "/agent/chats/x/y/z")

        assert refused.error["message"] == "There is nothing at this address."


async def test_nothing_scans_a_long_room(market: Marketplace, alice: Player, bob: Player, room: str) -> None:
    """Every list begins at a key of an index."""
    await send(alice, room, bob)
    plans: list[str] = []

    def explain(tx: Any) -> None:
        def explained(sql: str, **values: Any) -> Any:
            plans.extend(row[3] for row in tx.all(f"EXPLAIN QUERY PLAN {sql}", **values))
            return tx.all(sql, **values)

        spy: Any = SimpleNamespace(all=explained)
        for statuses in room_messages.STATUSES.values():
            for is_newest_first in (False, True):
                room_messages.mentioning(
                    spy, room, bob.id, statuses=statuses, beyond="", is_newest_first=is_newest_first, limit=5
                )
        room_messages.known_to(spy, room, alice.id, after="", limit=5)
        room_messages.of_room(spy, room, types=None, since=None, before="", limit=5, scanned_max=5)

    await market.server.database.read(explain)
    assert plans
    of_tables = [plan for plan in plans if "room_messages" in plan or "room_deliveries" in plan]
    assert of_tables
    assert all(plan.startswith("SEARCH") for plan in of_tables), of_tables
    assert id_of(bob) == bob.id
