"""Contacts and blocks on agents:discovery: who begins to see whom, and who sees whom no more, over real sockets.

Alice, Bob and Carol are strangers, Anna is Alice's other agent; Dora and Emil have shared theirs with one organisation.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from tests.system.harness import AgentAccount
from tests.system.raw import WatchedMarket, Wire, watched

DISCOVERY = "agents:discovery"
NUMBERS = count(1)
SOON_S = 4.0


class Square:
    """Agents of this test alone, and their sockets."""

    def __init__(self, market: WatchedMarket, stack: AsyncExitStack) -> None:
        self.market = market
        self.stack = stack
        number = next(NUMBERS)
        organisation = f"acme-{number}"
        market.here("org", "create", organisation)
        owners = {"alice": "jane", "anna": "jane", "bob": "uwe", "carol": "lisa", "dora": "olaf", "emil": "ines"}
        shared = {"dora", "emil"}
        for owner, member in {owner: name in shared for name, owner in owners.items()}.items():
            market.user(f"{owner}-{number}", *(("--org", organisation) if member else ()))
        self.agents: dict[str, AgentAccount] = {
            name: market.agent(f"{owner}-{number}", name.title(), *(("--org", organisation) if name in shared else ()))
            for name, owner in owners.items()
        }
        self.names = {account.id: name for name, account in self.agents.items()}

    async def enter(self, *names: str) -> list[Wire]:
        """Sockets that have joined, and have heard of each other what there is to hear."""
        wires = []
        for name in names:
            wire: Wire = await self.stack.enter_async_context(self.market.wire(self.agents[name]))
            await wire.join(DISCOVERY, "1", {})
            wires.append(wire)
        for wire in wires:
            await wire.until_flushed()
        return wires

    async def state_of(self, name: str) -> dict[str, Any]:
        """Whom a new socket of an agent is shown, with their metas."""
        async with self.market.wire(self.agents[name]) as wire:
            await wire.join(DISCOVERY, "1", {})
            state: dict[str, Any] = (await wire.receive_event("presence_state"))[4]
            await wire.send("1", "2", DISCOVERY, "phx_leave")
            await wire.receive_event("phx_close")
        return {self.names[key]: shown["metas"] for key, shown in state.items()}

    def post(self, name: str, what: str, **body: Any) -> dict[str, Any]:
        """A call of an agent about its contacts."""
        with self.market.rest(self.agents[name].api_key) as rest:
            answer = rest.post(f"/api/v1/agent/contacts/{what}", json=body)
        assert answer.is_success, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def ask(self, name: str, other: str) -> None:
        """Ask for contact."""
        self.post(name, "add", handle=self.agents[other].handle)

    def approve(self, name: str, other: str, **scope: Any) -> None:
        """Approve the other's request."""
        self.post(name, "requests/respond", action="approve", handle=self.agents[other].handle, **scope)

    def befriend(self, name: str, other: str) -> None:
        """Make two contacts."""
        self.ask(name, other)
        self.approve(other, name)

    async def saw(self, wire: Wire) -> list[tuple[set[str], set[str]]]:
        """Who has joined and who has left, diff by diff, since this was last asked."""
        diffs = [frame[4] for frame in await wire.until_flushed() if frame[3] == "presence_diff"]
        return [(self.named(diff["joins"]), self.named(diff["leaves"])) for diff in diffs]

    def named(self, state: dict[str, Any]) -> set[str]:
        return {self.names[key] for key in state}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedMarket]:
    with watched(tmp_path_factory.mktemp("ties") / "var", AGRENTING_TIMER_POLL_S="0.05") as market:
        yield market


@pytest.fixture
async def square(market: WatchedMarket) -> AsyncIterator[Square]:
    async with AsyncExitStack() as stack:
        yield Square(market, stack)


async def test_strangers_become_contacts_and_strangers_again(square: Square) -> None:
    alice, bob, carol = await square.enter("alice", "bob", "carol")
    assert set(await square.state_of("alice")) == {"alice"}
    await alice.until_flushed()

    square.ask("alice", "bob")
    assert (await square.saw(alice), await square.saw(bob)) == ([], [])

    square.approve("bob", "alice")
    assert (await square.saw(alice), await square.saw(bob)) == ([({"bob"}, set())], [({"alice"}, set())])

    square.post("bob", "remove", handle=square.agents["alice"].handle)
    assert (await square.saw(alice), await square.saw(bob)) == ([(set(), {"bob"})], [(set(), {"alice"})])
    assert await square.saw(carol) == []


async def test_crossing_requests_show_both_at_once(square: Square) -> None:
    alice, bob = await square.enter("alice", "bob")

    square.ask("alice", "bob")
    square.ask("bob", "alice")

    assert (await square.saw(alice), await square.saw(bob)) == ([({"bob"}, set())], [({"alice"}, set())])


async def test_what_joins_and_leaves_is_what_a_new_socket_would_be_shown(square: Square) -> None:
    """Two sockets of Bob's are two metas, for each of Alice's sockets."""
    first, second, bob, other = await square.enter("alice", "alice", "bob", "bob")
    await bob.send("1", "2", DISCOVERY, "update_metadata", {"metadata": {"status": "busy", "word": "here"}})
    await bob.until_flushed()
    await other.until_flushed()

    square.befriend("alice", "bob")

    expected = (await square.state_of("alice"))["bob"]
    assert [meta["status"] for meta in expected] == ["busy", "busy"]
    shown = [(await wire.receive_event("presence_diff"))[4] for wire in (first, second)]
    assert shown == [{"joins": {square.agents["bob"].id: {"metas": expected}}, "leaves": {}}] * 2

    square.post("alice", "remove", handle=square.agents["bob"].handle)
    for wire in (first, second):
        told = [frame[4] for frame in await wire.until_flushed()]
        assert told[-1] == {"joins": {}, "leaves": {square.agents["bob"].id: {"metas": expected}}}


async def test_a_contact_hears_what_an_agent_announces_and_a_stranger_does_not(square: Square) -> None:
    alice, bob, carol = await square.enter("alice", "bob", "carol")

    async def announce(skill: str) -> list[str]:
        await alice.until_flushed()
        await bob.send("1", "2", DISCOVERY, "announce", {"capabilities": [skill]})
        assert (await bob.receive_event("phx_reply"))[4]["status"] == "ok"
        return [frame[3] for frame in await alice.until_flushed()]

    assert await announce("reading") == []
    square.befriend("alice", "bob")
    assert await announce("writing") == ["agent_updated", "presence_diff"]
    square.post("alice", "block", handle=square.agents["bob"].handle)
    assert await announce("counting") == []
    assert await carol.until_flushed() == []


async def test_who_joins_after_the_approval_is_shown_its_contact_until_one_blocks(square: Square) -> None:
    await square.enter("bob")
    square.befriend("alice", "bob")
    assert set(await square.state_of("alice")) == {"alice", "bob"}

    square.post("bob", "block", handle=square.agents["alice"].handle)
    assert set(await square.state_of("alice")) == {"alice"}


async def test_a_contact_that_comes_later_is_told_to_the_other(square: Square) -> None:
    (alice,) = await square.enter("alice")
    square.befriend("bob", "alice")
    assert await square.saw(alice) == []

    await square.enter("bob")

    assert await square.saw(alice) == [({"bob"}, set())]


@pytest.mark.parametrize(
    ("blocker", "blocked", "is_back"),
    [("alice", "anna", True), ("dora", "emil", True), ("emil", "dora", True), ("alice", "bob", False)],
)
async def test_a_block_hides_each_from_the_other(square: Square, blocker: str, blocked: str, *, is_back: bool) -> None:
    """Siblings and members of one organisation need no contact, so they see each other again after the block."""
    if not is_back:
        square.befriend(blocker, blocked)
    one, other = await square.enter(blocker, blocked)
    handle = square.agents[blocked].handle

    square.post(blocker, "block", handle=handle)
    assert (await square.saw(one), await square.saw(other)) == ([(set(), {blocked})], [(set(), {blocker})])
    assert set(await square.state_of(blocked)) == {blocked}
    assert (await square.saw(one), len(await square.saw(other))) == ([], 2)  # Its own second socket, and its end.

    square.post(blocker, "unblock", handle=handle)
    expected: list[Any] = [[({blocked}, set())], [({blocker}, set())]] if is_back else [[], []]
    assert [await square.saw(one), await square.saw(other)] == expected


async def test_siblings_who_become_contacts_see_nothing_new(square: Square) -> None:
    alice, anna = await square.enter("alice", "anna")

    square.befriend("alice", "anna")
    square.post("anna", "remove", handle=square.agents["alice"].handle)

    assert (await square.saw(alice), await square.saw(anna)) == ([], [])


async def test_a_contact_leaves_when_its_time_is_over(square: Square) -> None:
    alice, bob = await square.enter("alice", "bob")
    square.ask("alice", "bob")

    square.approve("bob", "alice", scope={"expires_at": soon()})

    for wire, other in ((alice, "bob"), (bob, "alice")):
        came = (await wire.receive_event("presence_diff"))[4]
        assert square.named(came["joins"]) == {other}
        assert (await wire.receive_event("presence_diff"))[4] == {"joins": {}, "leaves": came["joins"]}


async def test_a_sibling_is_back_when_a_block_is_over(square: Square) -> None:
    alice, anna = await square.enter("alice", "anna")

    square.post("anna", "block", handle=square.agents["alice"].handle, expires_at=soon())

    for wire, other in ((alice, "anna"), (anna, "alice")):
        gone = (await wire.receive_event("presence_diff"))[4]
        assert square.named(gone["leaves"]) == {other}
        assert (await wire.receive_event("presence_diff"))[4] == {"joins": gone["leaves"], "leaves": {}}


async def test_what_the_command_line_decides_is_shown(square: Square) -> None:
    alice, bob = await square.enter("alice", "bob")
    names = [square.agents[name].handle for name in ("alice", "bob")]

    square.market.here("contact", "request", *names)
    square.market.here("contact", "approve", *reversed(names))
    for wire, other in ((alice, "bob"), (bob, "alice")):
        assert square.named((await wire.receive_event("presence_diff"))[4]["joins"]) == {other}

    square.market.here("contact", "block", *names)
    for wire, other in ((alice, "bob"), (bob, "alice")):
        assert square.named((await wire.receive_event("presence_diff"))[4]["leaves"]) == {other}


def soon() -> str:
    return (datetime.now(UTC) + timedelta(seconds=SOON_S)).isoformat().replace("+00:00", "Z")
