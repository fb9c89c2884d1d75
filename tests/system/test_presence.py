"""Presence on agents:discovery: who sees whom come, change and go, and what `discover` says of it."""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.system.harness import AgentAccount
from tests.system.raw import WatchedMarket, Wire, watched
from tests.system.test_session_rules import assert_offline

DISCOVERY = "agents:discovery"

SEES = {
    "alice": {"alice", "anna", "everybodys"},  # Herself, her owner's other agent, and who is global.
    "anna": {"alice", "anna", "everybodys"},
    "listed": {"listed", "everybodys"},
    "unlisted": {"unlisted", "everybodys"},
    "shared": {"shared", "everybodys"},  # Nobody else has shared an agent with the organisation.
    "personal": {"personal", "shared", "everybodys"},  # Its owner is a member.
    "everybodys": {"everybodys"},
}
"""Who is in the presence of whom. Strangers never are, whether or not `discover` finds them."""


class Square:
    """Agents in every relation to each other."""

    def __init__(self, market: WatchedMarket) -> None:
        self.market = market
        market.here("org", "create", "acme")
        for handle in ("jane", "lisa", "uwe", "greta"):
            market.user(handle)
        for handle in ("carl", "dora"):
            market.user(handle, "--org", "acme")
        self.agents: dict[str, AgentAccount] = {
            "alice": market.agent("jane", "Alice"),
            "anna": market.agent("jane", "Anna"),
            "listed": market.agent("lisa", "Listed", "--tag", "words"),
            "unlisted": market.agent("uwe", "Unlisted", "--tag", "words", "--unlisted"),
            "shared": market.agent("carl", "Shared", "--org", "acme"),
            "personal": market.agent("dora", "Personal"),
            "everybodys": market.agent("greta", "Everybodys", "--global"),
        }
        self.names = {account.id: name for name, account in self.agents.items()}

    def named(self, state: dict[str, Any]) -> set[str]:
        return {self.names[key] for key in state}

    async def enter(self, stack: AsyncExitStack, name: str) -> Wire:
        """A socket of an agent that has joined, and the state that it was told."""
        wire: Wire = await stack.enter_async_context(self.market.wire(self.agents[name]))
        await wire.join(DISCOVERY, name, {})
        return wire


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Square]:
    with watched(tmp_path_factory.mktemp("presence") / "var") as market:
        yield Square(market)


def diffs(frames: list[Any]) -> list[Any]:
    return [frame[4] for frame in frames if frame[3] == "presence_diff"]


async def status_of(wire: Wire, name: str, square: Square) -> str | None:
    """What `discover` says of an agent, to somebody who finds it."""
    await wire.until_flushed()
    await wire.send(None, "d", DISCOVERY, "discover", {"limit": 100})
    found = (await wire.receive_event("phx_reply"))[4]["response"]["agents"]
    return {agent["id"]: agent["status"] for agent in found}.get(square.agents[name].id)


@pytest.mark.parametrize("viewer", sorted(SEES))
async def test_the_state_shows_whom_the_viewer_may_see(square: Square, viewer: str) -> None:
    async with AsyncExitStack() as stack:
        for name in square.agents:
            if name != viewer:
                await square.enter(stack, name)
        wire = await square.enter(stack, viewer)
        pushed = await wire.receive_event("presence_state")
        assert pushed[:3] == [viewer, None, DISCOVERY]
        assert square.named(pushed[4]) == SEES[viewer]
        own = pushed[4][square.agents[viewer].id]["metas"]
        assert len(own) == 1
        assert {"phx_ref", "status", "name", "handle", "capabilities", "metadata", "online_at"} == own[0].keys()
        assert (own[0]["status"], own[0]["handle"]) == ("online", square.agents[viewer].handle)
        assert len(own[0]["phx_ref"]) == 16


async def test_diffs_reach_those_who_may_see_and_nobody_else(square: Square) -> None:
    async with AsyncExitStack() as stack:
        viewers = {name: await square.enter(stack, name) for name in SEES}
        for wire in viewers.values():
            await wire.until_flushed()
        for name, account in square.agents.items():
            async with square.market.wire(account) as second:
                await second.join(DISCOVERY, "2", {})
                await second.send("2", "3", DISCOVERY, "update_metadata", {"metadata": {"of": name}})
                assert (await second.receive_event("phx_reply"))[4]["status"] == "ok"
            while (await viewers[name].receive_event("presence_diff"))[4]["joins"]:
                pass  # Until its second socket's leaving has been told.
            for viewer, wire in viewers.items():
                told = diffs(await wire.until_flushed())
                if name not in SEES[viewer]:
                    assert told == [], (viewer, name)
                elif viewer != name:
                    assert told, (viewer, name)
                    named = [square.named(diff["joins"] | diff["leaves"]) for diff in told]
                    assert named == [{name}] * len(told), (viewer, name)
                    assert square.named(told[0]["joins"]) == {name}
                    assert told[0]["leaves"] == {}
                    assert told[-1]["joins"] == {}


async def test_two_sockets_of_an_agent_are_two_metas_and_the_last_one_leaves_it_offline(square: Square) -> None:
    async with AsyncExitStack() as stack:
        alice = await square.enter(stack, "alice")
        await alice.until_flushed()
        anna_id = square.agents["anna"].id
        async with square.market.wire(square.agents["anna"]) as first:
            await first.join(DISCOVERY, "1", {})
            async with square.market.wire(square.agents["anna"]) as second:
                await second.join(DISCOVERY, "1", {})
                state = (await second.receive_event("presence_state"))[4]
                assert len(state[anna_id]["metas"]) == 2
                assert len({meta["phx_ref"] for meta in state[anna_id]["metas"]}) == 2
                first_join, second_join = [(await alice.receive_event("presence_diff"))[4] for _ in range(2)]
                assert len(second_join["joins"][anna_id]["metas"]) == 1  # Just the new one.
                assert first_join["joins"] != second_join["joins"]
            left = (await alice.receive_event("presence_diff"))[4]
            assert left == {"joins": {}, "leaves": second_join["joins"]}
            assert await status_of(alice, "anna", square) == "online"
        left = (await alice.receive_event("presence_diff"))[4]
        assert left == {"joins": {}, "leaves": first_join["joins"]}
        await assert_offline(alice, anna_id)


async def test_an_update_is_one_diff_with_the_old_meta_and_the_new(square: Square) -> None:
    async with AsyncExitStack() as stack:
        alice, anna = await square.enter(stack, "alice"), await square.enter(stack, "anna")
        anna_id = square.agents["anna"].id
        before = (await anna.receive_event("presence_state"))[4][anna_id]["metas"][0]
        await alice.until_flushed()
        await anna.until_flushed()
        metadata = {"a": 1, "status": "busy"}
        await anna.send("anna", "2", DISCOVERY, "update_metadata", {"metadata": metadata})
        assert (await anna.receive_event("phx_reply"))[4]["status"] == "ok"

        diff = (await alice.receive_event("presence_diff"))[4]

        assert diff["leaves"] == {anna_id: {"metas": [before]}}
        after = diff["joins"][anna_id]["metas"][0]
        assert after["phx_ref_prev"] == before["phx_ref"]
        assert after["phx_ref"] != before["phx_ref"]
        assert (after["status"], after["metadata"]["a"]) == ("busy", 1)
        assert {**after, "status": 0, "metadata": 0, "phx_ref": 0} == {
            **before, "status": 0, "metadata": 0, "phx_ref": 0, "phx_ref_prev": before["phx_ref"],
        }  # fmt: skip
        assert await status_of(alice, "anna", square) == "busy"
        assert diffs(await alice.until_flushed()) == []


@pytest.mark.parametrize("way", ["phx_leave", "rejoin", "gone"])
async def test_leaving_in_any_way_is_told_once(square: Square, way: str) -> None:
    async with AsyncExitStack() as stack:
        alice = await square.enter(stack, "alice")
        await alice.until_flushed()
        async with square.market.wire(square.agents["anna"]) as anna:
            await anna.join(DISCOVERY, "1", {})
            joined = (await alice.receive_event("presence_diff"))[4]["joins"]
            if way == "phx_leave":
                await anna.send("1", "2", DISCOVERY, "phx_leave")
            elif way == "rejoin":
                await anna.send("2", "2", DISCOVERY, "phx_join")
            else:
                anna.socket.transport.abort()
            assert (await alice.receive_event("presence_diff"))[4] == {"joins": {}, "leaves": joined}
            if way == "rejoin":
                again = (await alice.receive_event("presence_diff"))[4]
                assert again["joins"].keys() == joined.keys()
                assert await status_of(alice, "anna", square) == "online"
        if way != "rejoin":
            assert diffs(await alice.until_flushed()) == []
        await assert_offline(alice, square.agents["anna"].id)


async def test_a_rejoin_over_and_over_ends_online(square: Square) -> None:
    """Each leaving is noted behind the next joining: the last word is that the agent is there."""
    async with AsyncExitStack() as stack:
        alice, anna = await square.enter(stack, "alice"), await square.enter(stack, "anna")
        for number in range(50):
            await anna.send(str(number), str(number), DISCOVERY, "phx_join")
        for _ in range(50):
            await anna.receive_event("phx_reply")
        await anna.until_flushed()
        await anna.send("49", "u", DISCOVERY, "update_metadata", {"metadata": {"n": 49}})
        await anna.until_flushed()
        assert await status_of(alice, "anna", square) == "online"


async def test_after_a_kill_nobody_is_online(tmp_path_factory: pytest.TempPathFactory) -> None:
    with watched(tmp_path_factory.mktemp("killed") / "var") as market:
        square = Square(market)
        async with AsyncExitStack() as stack:
            await square.enter(stack, "anna")
            market.kill()
        market.start()
        async with AsyncExitStack() as stack:
            alice = await square.enter(stack, "alice")
            state = (await alice.receive_event("presence_state"))[4]
            assert square.named(state) == {"alice"}
            assert await status_of(alice, "anna", square) == "offline"
