"""Phoenix's session rules over real V2 frames, as a client observes them."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from tests.system.harness import AgentAccount
from tests.system.raw import WatchedMarket, Wire, ok, refused, watched

ROOM, OTHER, DISCOVERY = "room:a", "room:b", "agents:discovery"
QUIET = {"presence": False}
CRASHED = {"reason": "channel_crash"}


class Hall:
    """A market with Alice and Bob, and the lock on its database."""

    def __init__(self, market: WatchedMarket) -> None:
        self.market = market
        market.user("alice")
        market.user("bob")
        self.alice: AgentAccount = market.agent("alice", "Alice", "--global")
        self.bob: AgentAccount = market.agent("bob", "Bob", "--global")

    def wire(self, account: AgentAccount | None = None, vsn: str = "2.0.0") -> Any:
        return self.market.wire(account or self.alice, vsn=vsn)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While this lasts nothing is committed: joins and changes wait."""
        with closing(sqlite3.connect(self.market.data_dir / "agrenting.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    generous = {"AGRENTING_CONTROL_BURST": "100000", "AGRENTING_DISCOVERY_BURST": "100000"}
    with watched(tmp_path_factory.mktemp("rules") / "var", **generous) as market:
        yield Hall(market)


async def test_a_heartbeat_is_answered_without_a_join_ref_and_its_payload_is_ignored(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.send("9", 17, "phoenix", "heartbeat", [1, "anything"])
        assert await wire.receive() == ok(None, 17, "phoenix")


@pytest.mark.parametrize("event", ["phx_join", "echo"])
async def test_another_event_on_the_phoenix_topic_is_unmatched(hall: Hall, event: str) -> None:
    async with hall.wire() as wire:
        await wire.send("1", "1", "phoenix", event)
        message = await wire.receive()
        assert refused(message) == "unmatched topic"
        assert message[0] is None


async def test_a_join_is_answered_with_both_refs(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.send("j", "r", ROOM, "phx_join", QUIET)
        assert await wire.receive() == ok("j", "r", ROOM)


@pytest.mark.parametrize("ref", ["7", 7, None, 0, "", "ä", 2**60, True, ["x"], {"a": 1}], ids=str)
async def test_refs_are_opaque_and_come_back_as_they_are(hall: Hall, ref: Any) -> None:
    async with hall.wire() as wire:
        await wire.send(ref, ref, ROOM, "phx_join", QUIET)
        assert (await wire.receive())[1] == ref
        await wire.send(ref, ref, ROOM, "echo", {"a": 1})
        assert (await wire.receive())[1] == ref


async def test_a_join_without_a_join_ref_speaks_by_its_ref_and_hears_only_messages_without_one(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.send(None, "7", ROOM, "phx_join", QUIET)
        assert await wire.receive() == ok(None, "7", ROOM)

        await wire.send("7", "8", ROOM, "echo", {"stale": True})
        await wire.send(None, "9", ROOM, "push_me", {"a": 1})
        assert await wire.receive() == ok("7", "9", ROOM)
        assert await wire.receive() == ["7", None, ROOM, "pushed", {"a": 1}]
        await wire.send(None, "10", ROOM, "phx_leave")
        assert (await wire.receive())[1] == "10"
        assert await wire.receive() == [None, None, ROOM, "phx_close", {}]


async def test_more_than_five_elements_are_ignored(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.send_raw(json.dumps(["1", "1", ROOM, "phx_join", QUIET, "more", {"and": "more"}]))
        assert await wire.receive() == ok("1", "1", ROOM)


@pytest.mark.parametrize("payload", [None, [], [1, 2], "text", 1.5, True, {}, {"a": None}, "", "\u2028\U0001f600"])
async def test_a_reply_carries_any_json_value(hall: Hall, payload: Any) -> None:
    async with hall.wire() as wire:
        await wire.join(ROOM)
        await wire.send_raw(json.dumps(["1", "2", ROOM, "echo", payload]))
        message = await wire.receive()
        assert message[4] == {"status": "ok", "response": payload}
        await wire.send_raw(json.dumps(["1", "3", ROOM, "error_reply", payload]))
        message = await wire.receive()
        assert message[4] == {"status": "error", "response": payload}


async def test_a_second_join_answers_first_and_then_closes_the_first(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.join(ROOM, "1")
        await wire.send("2", "2", ROOM, "phx_join", QUIET)
        assert await wire.receive() == ok("2", "2", ROOM)
        assert await wire.receive() == ["1", "1", ROOM, "phx_close", {}]

        await wire.send("1", "3", ROOM, "echo", {"stale": True})
        await wire.send("1", "4", ROOM, "phx_leave")
        assert await wire.until_flushed() == []
        await wire.send("2", "5", ROOM, "echo", {"b": 2})
        assert await wire.receive() == ok("2", "5", ROOM, {"b": 2})


async def test_a_second_join_that_is_refused_ends_the_first_all_the_same(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.join(ROOM, "1")
        await wire.send("2", "2", ROOM, "phx_join", {"deny": True})
        message = await wire.receive()
        assert (message[0], message[1], refused(message)) == ("2", "2", "denied")
        assert await wire.receive() == ["1", "1", ROOM, "phx_close", {}]
        await wire.send("2", "3", ROOM, "echo")
        assert refused(await wire.receive()) == "unmatched topic"


async def test_a_second_join_of_a_topic_that_is_decided_in_the_database_keeps_the_order(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.join(DISCOVERY, "1")
        await wire.until_flushed()
        await wire.send("2", "2", DISCOVERY, "phx_join")
        lifecycle = [await wire.receive_event("phx_reply"), await wire.receive_event("phx_close")]
        assert [message[:2] for message in lifecycle] == [["2", "2"], ["1", "1"]]


async def test_a_message_without_a_join_ref_is_of_the_current_join(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.join(ROOM, "5")
        await wire.send(None, None, ROOM, "echo", {"a": 1})
        assert await wire.receive() == ok("5", None, ROOM, {"a": 1})


async def test_a_refused_join_leaves_the_topic_unjoined(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.send("1", "1", ROOM, "phx_join", {"deny": True})
        message = await wire.receive()
        assert message[:2] == ["1", "1"]
        assert message[4]["response"]["reason"] == "denied"
        assert message[4]["response"]["message"]
        await wire.send("1", "2", ROOM, "echo")
        message = await wire.receive()
        assert (message[0], refused(message)) == (None, "unmatched topic")


@pytest.mark.parametrize("topic", ["nowhere", "nowhere:1", "room", "room:", "agents:other", "", ":", "negotiation"])
async def test_a_join_of_no_topic_is_unmatched_without_a_join_ref(hall: Hall, topic: str) -> None:
    async with hall.wire() as wire:
        await wire.send("1", "2", topic, "phx_join")
        message = await wire.receive()
        assert (message[0], message[1], refused(message)) == (None, "2", "unmatched topic")


async def test_leaving_is_answered_and_then_closed_and_leaving_again_only_answered(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.join(ROOM, "1")
        await wire.send("1", "2", ROOM, "phx_leave")
        assert await wire.receive() == ok("1", "2", ROOM)
        assert await wire.receive() == ["1", "1", ROOM, "phx_close", {}]
        await wire.send("1", "3", ROOM, "phx_leave")
        assert await wire.until_flushed() == [ok(None, "3", ROOM)]


async def test_the_hundred_and_first_topic_is_refused(hall: Hall) -> None:
    async with hall.wire() as wire:
        for number in range(100):
            await wire.send(f"{number}", f"{number}", f"room:{number}", "phx_join", QUIET)
        joins = await wire.until_flushed()
        assert [message[4]["status"] for message in joins] == ["ok"] * 100

        await wire.send("100", "100", "room:100", "phx_join", QUIET)
        message = await wire.receive()
        assert (message[0], refused(message)) == ("100", "too many channels joined")
        await wire.send("0", "101", "room:0", "phx_join", QUIET)  # One that is joined may be joined again.
        assert (await wire.receive())[4]["status"] == "ok"
        await wire.send("1", "102", "room:1", "phx_leave")
        await wire.send("103", "103", "room:100", "phx_join", QUIET)
        assert (await wire.until_flushed())[-1] == ok("103", "103", "room:100")


async def test_an_unknown_event_is_refused_and_the_topic_stays_joined(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.join(ROOM)
        for event in ("nothing", "phx_reply", "phx_close", "phx_error", "presence_diff", "heartbeat", "", "__class__"):
            await wire.send("1", "2", ROOM, event)
            message = await wire.receive()
            assert (message[0], refused(message)) == ("1", "unknown_event")
        await wire.send("1", "3", ROOM, "echo", {"a": 1})
        assert await wire.receive() == ok("1", "3", ROOM, {"a": 1})


async def test_a_crash_ends_its_topic_alone_and_it_can_be_joined_again(hall: Hall) -> None:
    async with hall.wire() as wire, hall.wire(hall.bob) as bob:
        await wire.join(ROOM, "1")
        await wire.join(OTHER, "2")
        await bob.join(ROOM, "1")
        await wire.send("1", "3", ROOM, "crash")
        assert await wire.receive() == ["1", "1", ROOM, "phx_error", CRASHED]
        await wire.send("1", "4", ROOM, "echo")
        assert refused(await wire.receive()) == "unmatched topic"
        await wire.send("2", "5", OTHER, "echo", {"a": 1})
        assert await wire.receive() == ok("2", "5", OTHER, {"a": 1})
        await bob.send("1", "2", ROOM, "echo", {"b": 2})
        assert await bob.receive() == ok("1", "2", ROOM, {"b": 2})
        await wire.send("6", "6", ROOM, "phx_join", QUIET)
        assert await wire.receive() == ok("6", "6", ROOM)


async def test_a_stop_replies_and_then_closes_the_topic(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.join(ROOM, "1")
        await wire.send("1", "2", ROOM, "stop")
        assert await wire.receive() == ok("1", "2", ROOM)
        assert await wire.receive() == ["1", "1", ROOM, "phx_close", {}]
        await wire.send("1", "3", ROOM, "echo")
        assert refused(await wire.receive()) == "unmatched topic"


async def test_an_event_without_a_reply_gets_none(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.join(ROOM)
        await wire.send("1", "2", ROOM, "ignore", {"a": 1})
        assert await wire.until_flushed() == []


async def test_a_broadcast_reaches_every_subscriber_by_its_own_join_ref_in_order(hall: Hall) -> None:
    async with hall.wire() as alice, hall.wire(hall.bob) as bob, hall.wire(hall.bob) as carol:
        await alice.join("room:x", "a")
        await bob.join("room:x", "b")
        await carol.join("room:y", "c")
        for number in range(20):
            await alice.send("a", str(number), "room:x", "shout", {"n": number})
        mine, his = await alice.until_flushed(), await bob.until_flushed()
        assert mine == [["a", None, "room:x", "shout", {"n": number}] for number in range(20)]
        assert his == [["b", None, "room:x", "shout", {"n": number}] for number in range(20)]
        assert await carol.until_flushed() == []


async def test_a_broadcast_from_leaves_out_the_sending_socket_alone(hall: Hall) -> None:
    async with hall.wire() as alice, hall.wire() as second, hall.wire(hall.bob) as bob:
        for wire, ref in ((alice, "a"), (second, "s"), (bob, "b")):
            await wire.join("room:x", ref)
        await alice.send("a", "1", "room:x", "shout_from", {"n": 1})
        assert await alice.until_flushed() == [ok("a", "1", "room:x")]
        assert await second.until_flushed() == [["s", None, "room:x", "shout_from", {"n": 1}]]
        assert await bob.until_flushed() == [["b", None, "room:x", "shout_from", {"n": 1}]]


async def test_heartbeats_and_other_topics_do_not_wait_for_a_join_and_its_pushes_do(hall: Hall) -> None:
    async with hall.wire() as wire:
        with hall.locked():
            await wire.send("1", "1", DISCOVERY, "phx_join")
            await wire.send("1", "2", DISCOVERY, "discover", {"limit": 1})
            await wire.send("1", "3", DISCOVERY, "nothing")
            await wire.send("2", "4", ROOM, "phx_join", QUIET)
            await wire.send("2", "5", ROOM, "echo", {"a": 1})
            came = await wire.until_flushed()
            assert came == [ok("2", "4", ROOM), ok("2", "5", ROOM, {"a": 1})]
        replies = [await wire.receive_event("phx_reply") for _ in range(3)]
        assert [reply[1] for reply in replies] == ["1", "2", "3"]
        assert [reply[4]["status"] for reply in replies] == ["ok", "ok", "error"]


async def test_a_leave_right_after_a_join_waits_for_it(hall: Hall) -> None:
    async with hall.wire() as wire:
        await wire.send("1", "1", DISCOVERY, "phx_join")
        await wire.send("1", "2", DISCOVERY, "phx_leave")
        await wire.send("3", "3", DISCOVERY, "phx_join")
        await wire.send("3", "4", DISCOVERY, "discover", {"limit": 1})
        replies = [await wire.receive_event("phx_reply") for _ in range(4)]
        assert [(reply[1], reply[4]["status"]) for reply in replies] == [(ref, "ok") for ref in "1234"]


async def test_replies_come_in_the_order_of_the_pushes_however_they_are_decided(hall: Hall) -> None:
    """A question, a durable change, a refusal and an unknown event in turn, fifty deep."""
    events: list[tuple[str, Any, str]] = [
        ("discover", {"limit": 5}, "ok"),
        ("announce", {"capabilities": ["translate"]}, "ok"),
        ("discover", {"limit": "many"}, "error"),
        ("update_metadata", {"metadata": {"a": 1}}, "ok"),
        ("nothing", {}, "error"),
        ("announce", {"capabilities": []}, "error"),
    ]
    async with hall.wire() as wire:
        await wire.join(DISCOVERY, "j")
        pushed = [events[number % len(events)] for number in range(50)]
        for number, (event, payload, _) in enumerate(pushed):
            await wire.send("j", number, DISCOVERY, event, payload)
        replies = [await wire.receive_event("phx_reply") for _ in pushed]
        assert [reply[1] for reply in replies] == list(range(50))
        assert [reply[4]["status"] for reply in replies] == [status for _, _, status in pushed]


async def test_a_join_that_is_not_decided_in_time_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {"AGRENTING_JOIN_TIMEOUT_S": "1.5"}  # Long enough for the join after it.
    with watched(tmp_path_factory.mktemp("late") / "var", **settings) as market:
        hall = Hall(market)
        async with hall.wire() as wire:
            with hall.locked():
                await wire.send("1", "1", DISCOVERY, "phx_join")
                await wire.send("1", "2", DISCOVERY, "discover", {})
                assert refused(await wire.receive()) == "join timeout"
                assert refused(await wire.receive()) == "unmatched topic"
            await wire.join(DISCOVERY, "3")
            await wire.until_flushed()
        async with hall.wire(hall.bob) as bob:
            await assert_offline(bob, hall.alice.id)


async def assert_offline(wire: Wire, agent_id: str) -> None:
    """Sooner or later the agent is found as offline: its leaving is noted after the socket is gone."""
    await wire.join(DISCOVERY, "w")
    async with asyncio.timeout(30):
        while True:
            await wire.send("w", "d", DISCOVERY, "discover", {"limit": 100})
            reply = await wire.receive_event("phx_reply")
            if reply[1] != "d":
                continue  # Of a heartbeat.
            found = {agent["id"]: agent["status"] for agent in reply[4]["response"]["agents"]}
            if found[agent_id] == "offline":
                return
