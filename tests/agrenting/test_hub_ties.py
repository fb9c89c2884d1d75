"""Contacts and blocks on the hub: who is shown whose presence when a tie changes, and what is kept of ties.

Alice, Bob and Carol are strangers, Anna is Alice's other agent. The hub is real, its sockets only note what they get.
"""

from itertools import count
from typing import Any, Final

import msgspec
import pytest

from agrenting.config import Settings
from agrenting.connection import Connection
from agrenting.hub import Hub
from agrenting.metrics import Metrics
from agrenting.subscriptions import Subscription
from channels.contacts import NO_TIE, Scope, Tie, Ties
from channels.discovery import TOPIC
from channels.handlers import KnowTies, ShowPresence, Track
from channels.identity import Identity
from channels.routes import Routes
from channels.session import Join
from channels.told import Audience, Broadcast, Retied
from channels.wire import Frame, Vsn
from tests.agrenting.api.market import FakeSocket

OWNERS: Final = {"alice": "jane", "anna": "jane", "bob": "uwe", "carol": "lisa"}
CONTACT, BLOCKING, BLOCKED = Tie(is_contact=True), Tie(has_blocked=True), Tie(is_blocked=True)
REFS = count(1)


class Queue:
    """A database that never comes to writing: what the hub notes there is not what is tried here."""

    def __init__(self) -> None:
        self.commits = self
        self.database = self

    def submit(self, _unit: Any) -> None:
        """Take it."""


class Listener:
    """One socket that has joined agents:discovery."""

    def __init__(self, hub: Hub, name: str, ties: Ties, *, is_tracked: bool = True) -> None:
        self.hub = hub
        self.name = name
        self.transport = FakeSocket()
        identity = (
            Identity(kind="agent", user_id=OWNERS[name], agent_id=name, handle=name, key_id="")
            if name in OWNERS
            else Identity(kind="user", user_id=name, handle=name, key_id="")
        )
        protocol: Any = self.transport
        self.connection = Connection(hub, protocol, identity, Vsn.V2)
        hub.add(self.connection)
        self.join(ties, is_tracked=is_tracked)

    def join(self, ties: Ties, *, is_tracked: bool = True) -> None:
        """Join, as once it is decided; what it was joined to before is replaced."""
        ref = str(next(REFS))
        join = self.connection.session.receive(Frame(ref, ref, TOPIC, "phx_join", msgspec.Raw(b"{}")))
        assert isinstance(join, Join)
        if join.replaced is not None:
            self.hub.unsubscribe(join.replaced.subscription)
        route = self.hub.routes.find(TOPIC)
        assert route is not None
        joined = self.connection.session.admit(join)
        party = self.connection.identity.party
        joined.subscription = self.subscription = Subscription(self.connection, joined, join, route, party)
        self.hub.subscribe(joined.subscription)
        shown = Track({"n": ref}, key=self.name, party=party) if is_tracked else ShowPresence()
        self.hub.change_presence(joined.subscription, (KnowTies(ties), shown))

    def leave(self) -> None:
        """Leave the topic."""
        assert self.connection.session.close(self.subscription.joined)
        self.hub.unsubscribe(self.subscription)

    def heard(self) -> list[tuple[str, Any]]:
        """Events and payloads since this was last asked."""
        sent, self.transport.sent = self.transport.sent, []
        return [(message[3], message[4]) for message in sent]

    def saw(self) -> list[tuple[set[str], set[str]]]:
        """Who has joined and who has left in each diff since this was last asked."""
        return [(set(told["joins"]), set(told["leaves"])) for event, told in self.heard() if event == "presence_diff"]


JOINED_BOB, LEFT_BOB = ({"bob"}, set[str]()), (set[str](), {"bob"})
JOINED_ALICE, LEFT_ALICE = ({"alice"}, set[str]()), (set[str](), {"alice"})


@pytest.fixture
async def hub() -> Hub:
    made = Hub(Settings(), Routes(), Metrics())
    engine: Any = Queue()
    made.engine = engine
    return made


def enter(hub: Hub, *names: str, ties: Ties | None = None, is_tracked: bool = True) -> list[Listener]:
    """Listeners that have heard all of each other's coming."""
    listeners = [Listener(hub, name, ties or {}, is_tracked=is_tracked) for name in names]
    for listener in listeners:
        listener.heard()
    return listeners


def retie(hub: Hub, a: str, b: str, tie: Tie) -> None:
    """As the engine does once it is durable."""
    hub.publish((Retied(a, b, tie),), None, None)


async def test_new_contacts_join_for_each_other_and_for_nobody_else(hub: Hub) -> None:
    alice, bob, carol = enter(hub, "alice", "bob", "carol")

    retie(hub, "alice", "bob", CONTACT)

    metas = hub.topics[TOPIC].presence.metas
    assert alice.heard() == [("presence_diff", {"joins": {"bob": {"metas": metas("bob")}}, "leaves": {}})]
    assert bob.heard() == [("presence_diff", {"joins": {"alice": {"metas": metas("alice")}}, "leaves": {}})]
    assert carol.heard() == []


async def test_a_contact_that_ends_leaves_with_the_metas_that_it_has_now(hub: Hub) -> None:
    alice, bob = enter(hub, "alice", "bob")
    retie(hub, "alice", "bob", CONTACT)
    alice.heard()
    enter(hub, "bob", ties={"alice": CONTACT})
    assert alice.saw() == [JOINED_BOB]

    retie(hub, "bob", "alice", NO_TIE)

    metas = hub.topics[TOPIC].presence.metas("bob")
    assert len(metas) == 2
    assert alice.heard() == [("presence_diff", {"joins": {}, "leaves": {"bob": {"metas": metas}}})]
    assert bob.saw()[-1] == LEFT_ALICE


@pytest.mark.parametrize(("blocker", "blocked"), [("alice", "anna"), ("anna", "alice")])
async def test_a_block_hides_siblings_from_each_other_until_it_ends(hub: Hub, blocker: str, blocked: str) -> None:
    one, other = enter(hub, "alice", "anna")
    one.heard()

    retie(hub, blocker, blocked, BLOCKING)
    assert (one.saw(), other.saw()) == ([(set(), {"anna"})], [LEFT_ALICE])
    topic = hub.topics[TOPIC]
    assert (topic.ties_of(blocker), topic.ties_of(blocked)) == ({blocked: BLOCKING}, {blocker: BLOCKED})

    retie(hub, blocker, blocked, NO_TIE)
    assert (one.saw(), other.saw()) == ([({"anna"}, set())], [JOINED_ALICE])


async def test_a_block_ends_what_a_contact_shows_once(hub: Hub) -> None:
    """A block first revokes: both say the same to who watches."""
    alice, bob = enter(hub, "alice", "bob")
    retie(hub, "alice", "bob", CONTACT)
    alice.heard()
    bob.heard()

    hub.publish((Retied("alice", "bob", NO_TIE), Retied("alice", "bob", BLOCKING)), None, None)
    retie(hub, "alice", "bob", BLOCKING)

    assert (alice.saw(), bob.saw()) == ([LEFT_BOB], [LEFT_ALICE])


async def test_a_contact_that_ends_and_begins_in_one_decision_shows_nothing(hub: Hub) -> None:
    alice, bob = enter(hub, "alice", "bob")
    retie(hub, "alice", "bob", CONTACT)
    alice.heard()
    bob.heard()

    hub.publish((Retied("alice", "bob", NO_TIE), Retied("bob", "alice", CONTACT)), None, None)

    assert (alice.heard(), bob.heard()) == ([], [])


@pytest.mark.parametrize("tie", [CONTACT, NO_TIE])
async def test_siblings_see_each_other_with_and_without_a_contact(hub: Hub, tie: Tie) -> None:
    alice, anna = enter(hub, "alice", "anna")
    alice.heard()

    retie(hub, "alice", "anna", tie)

    assert (alice.heard(), anna.heard()) == ([], [])


async def test_every_socket_of_the_viewer_is_told_and_shown_every_meta(hub: Hub) -> None:
    first, second, (bob,) = *enter(hub, "alice", "alice"), enter(hub, "bob")
    first.heard()

    retie(hub, "bob", "alice", CONTACT)

    assert (first.saw(), second.saw()) == ([JOINED_BOB], [JOINED_BOB])
    assert len(bob.heard()[0][1]["joins"]["alice"]["metas"]) == 2


async def test_who_is_connected_and_has_not_joined_is_told_nothing(hub: Hub) -> None:
    alice, bob = enter(hub, "alice", "bob")
    alice.leave()

    retie(hub, "alice", "bob", CONTACT)

    assert (alice.heard(), bob.heard()) == ([], [])
    assert not hub.topics[TOPIC].ties_of("alice")


async def test_one_that_is_not_present_comes_later_for_its_contact(hub: Hub) -> None:
    (alice,) = enter(hub, "alice")
    retie(hub, "alice", "bob", CONTACT)
    assert alice.heard() == []

    enter(hub, "bob", ties={"alice": CONTACT})

    assert alice.saw() == [JOINED_BOB]


async def test_one_that_only_looks_is_shown_and_not_seen(hub: Hub) -> None:
    (alice,), (bob,) = enter(hub, "alice", is_tracked=False), enter(hub, "bob")

    retie(hub, "bob", "alice", CONTACT)

    assert (alice.saw(), bob.saw()) == ([JOINED_BOB], [])


async def test_users_have_no_presence_to_show(hub: Hub) -> None:
    (alice,) = enter(hub, "alice")

    for tie in (CONTACT, BLOCKING, NO_TIE):
        retie(hub, "alice", "uwe", tie)
        retie(hub, "uwe", "lisa", tie)

    assert alice.heard() == []


async def test_a_user_who_listens_is_shown_its_contacts(hub: Hub) -> None:
    """Users do not join this topic; they may join an operator's own that hides like it."""
    (lisa,), _bob = enter(hub, "lisa", is_tracked=False), enter(hub, "bob")

    retie(hub, "bob", "lisa", CONTACT)

    assert lisa.saw() == [JOINED_BOB]


async def test_who_joins_sees_its_contacts_and_not_those_who_have_blocked_it(hub: Hub) -> None:
    enter(hub, "bob", ties={"alice": CONTACT})
    enter(hub, "carol", ties={"alice": Tie(is_contact=True, has_blocked=True)})
    enter(hub, "anna", ties={"alice": BLOCKING})

    alice = Listener(hub, "alice", {"bob": CONTACT, "carol": Tie(is_contact=True, is_blocked=True), "anna": BLOCKED})

    event, state = alice.heard()[0]
    assert (event, set(state)) == ("presence_state", {"alice", "bob"})


async def test_a_contact_hears_what_is_said_of_another_and_a_stranger_does_not(hub: Hub) -> None:
    alice, bob, carol = enter(hub, "alice", "bob", "carol")
    told = Broadcast(TOPIC, "agent_updated", {"agent_id": "bob"}, Audience.OTHER_AGENTS, about="bob")
    for tie in (NO_TIE, CONTACT, BLOCKING):
        retie(hub, "alice", "bob", tie)
        for listener in (alice, bob, carol):
            listener.heard()
        hub.publish((told,), "bob", None)
        expected = [("agent_updated", {"agent_id": "bob"})] if tie is CONTACT else []
        assert (alice.heard(), bob.heard(), carol.heard()) == (expected, [], []), tie


async def test_nobody_hears_of_one_that_is_not_present(hub: Hub) -> None:
    (alice,) = enter(hub, "alice", ties={"bob": CONTACT})

    hub.publish((Broadcast(TOPIC, "agent_updated", {}, about="bob"),), None, None)

    assert alice.heard() == []


async def test_a_rejoin_keeps_what_its_other_sockets_know(hub: Hub) -> None:
    first, second, _bob = *enter(hub, "alice", "alice"), enter(hub, "bob")
    retie(hub, "alice", "bob", CONTACT)
    first.heard()
    second.heard()

    second.join({"bob": CONTACT})

    assert {event: set(told) for event, told in second.heard()}["presence_state"] == {"alice", "bob"}
    assert {frozenset(joins | leaves) for joins, leaves in first.saw()} == {frozenset({"alice"})}


async def test_a_join_that_knows_more_shows_it_to_the_agents_other_sockets(hub: Hub) -> None:
    """Another process has decided it, and this one has not been told yet; then it is, and there is nothing to show."""
    (first,), _bob, _carol = enter(hub, "alice", ties={"carol": CONTACT}), enter(hub, "bob"), enter(hub, "carol")
    first.heard()

    second = Listener(hub, "alice", {"bob": CONTACT})

    assert first.saw()[0] == ({"bob"}, {"carol"})
    assert set(second.heard()[0][1]) == {"alice", "bob"}
    retie(hub, "alice", "bob", CONTACT)
    retie(hub, "carol", "alice", NO_TIE)
    assert (first.saw(), second.saw()) == ([], [])


async def test_ties_are_forgotten_with_the_last_socket_that_listens(hub: Hub) -> None:
    first, second, _carol = enter(hub, "alice", "alice", "carol", ties={"bob": CONTACT})
    topic = hub.topics[TOPIC]

    first.leave()
    assert topic.ties_of("alice") == {"bob": CONTACT}
    second.connection.closed()
    assert topic.ties_of("alice") == {}
    retie(hub, "alice", "bob", CONTACT)
    assert topic.ties_of("alice") == {}


async def test_what_shows_nothing_is_not_kept(hub: Hub) -> None:
    """Ten thousand sockets listen idly: most agents have a contact with their owner and nobody else."""
    enter(hub, "alice", ties={"jane": CONTACT, "bob": NO_TIE})
    topic = hub.topics[TOPIC]
    nothing = topic.ties_of("nobody")
    assert topic.ties_of("alice") is nothing

    retie(hub, "alice", "jane", CONTACT)
    retie(hub, "alice", "bob", Tie(is_contact=True, scope=Scope(max_price=5)))
    retie(hub, "carol", "alice", CONTACT)
    kept = topic.ties_of("alice")
    assert kept == {"bob": CONTACT, "carol": CONTACT}
    assert kept["bob"] is kept["carol"]

    retie(hub, "alice", "bob", NO_TIE)
    retie(hub, "alice", "carol", NO_TIE)
    assert topic.ties_of("alice") is nothing


async def test_ties_of_a_socket_that_is_gone_are_not_kept(hub: Hub) -> None:
    (alice,), _bob = enter(hub, "alice"), enter(hub, "bob")
    alice.connection.closed()

    hub.change_presence(alice.subscription, (KnowTies({"bob": CONTACT}), ShowPresence()))

    assert not hub.topics[TOPIC].ties_of("alice")
    assert alice.heard() == []


async def test_of_what_comes_and_goes_together_each_is_shown_its_part(hub: Hub) -> None:
    """An operator's own topic may track several presences for one socket."""
    (alice,), (bob,) = enter(hub, "alice", ties={"bob": CONTACT}), enter(hub, "bob", is_tracked=False)
    (carol,) = enter(hub, "carol")
    parties = {name: listener.connection.identity.party for name, listener in (("bob", bob), ("carol", carol))}
    carol.leave()
    for name, party in parties.items():
        hub.change_presence(bob.subscription, (Track({}, key=name, party=party),))
    alice.heard()

    bob.leave()

    assert alice.saw() == [LEFT_BOB]
