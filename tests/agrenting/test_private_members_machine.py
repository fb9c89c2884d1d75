"""Private channels under whatever order of coming, going, waiting and removing: what a watcher is told always adds up.

Alice watches, and never goes. Three instances of Bob and Carol come and go over either transport. After every step she
knows by what she was told who is there; and when all have left, every listener that she was told of has ended.
"""

import asyncio
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from channels.private_listeners import Instance
from tests.agrenting.members_stage import CHANNEL, Fdc3, Phoenix, Stage

GRACE: Final = 5.0
KEYS: Final = (("bob", "b-1"), ("bob", "b-2"), ("carol", "c-1"))
ADDED, UNSUBSCRIBED, DISCONNECTED = "AddContextListener", "Unsubscribe", "Disconnect"

keys = st.sampled_from(KEYS)
picks = st.integers(min_value=0, max_value=7)


async def make() -> Stage:
    """A stage needs a loop; its timers never fire, the test sweeps."""
    return Stage()


def by_ref(state: dict[str, Any]) -> dict[str, str]:
    """The instances of a presence state, by what names each tracking."""
    return {meta["phx_ref"]: meta["instanceId"] for one in state.values() for meta in one["metas"]}


class Coming(RuleBasedStateMachine):
    """What may happen."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.stage = self.runner.run(make())
        self.alice = Phoenix(self.stage, "alice", "a-1").join(role="owner")
        self.sockets: list[Phoenix | Fdc3] = []
        self.members: dict[tuple[str, str], float | None] = {}
        """Who is a member, and when it is given up; None while it has a socket."""
        self.left = 0

    def pick(self, pick: int) -> Phoenix | Fdc3:
        return self.sockets[pick % len(self.sockets)]

    def there(self, key: tuple[str, str]) -> bool:
        """Whether an instance has a socket that sits."""
        return any(
            (one.agent_id, one.instance_id) == key and (isinstance(one, Fdc3) or CHANNEL in one.connection.joined)
            for one in self.sockets
        )

    def settled(self) -> None:
        """What the server gave up is durable."""
        for _channel, gone in self.stage.given_up():
            key = (gone.agent_id, gone.instance_id)
            assert not self.there(key), "who has a socket is not given up"
            del self.members[key]
            self.left += 1
        self.stage.settle()

    def note(self, key: tuple[str, str]) -> None:
        """A socket of an instance is gone, or its topic is."""
        if key in self.members and not self.there(key) and self.members[key] is None:
            self.members[key] = self.stage.now + GRACE

    @rule(key=keys, listens=st.booleans())
    def come_over_phoenix(self, key: tuple[str, str], *, listens: bool) -> None:
        self.sockets.append(Phoenix(self.stage, *key).join(listens=listens))
        self.members[key] = None

    @rule(key=keys, joins=st.booleans())
    def come_over_fdc3(self, key: tuple[str, str], *, joins: bool) -> None:
        one = Fdc3(self.stage, *key)
        self.sockets.append(one)
        if joins:
            one.join()
        if joins or key in self.members:
            self.members[key] = None

    @precondition(lambda self: self.sockets)
    @rule(pick=picks, type_=st.sampled_from([None, "a"]))
    def listen(self, pick: int, type_: str | None) -> None:
        one = self.pick(pick)
        if isinstance(one, Fdc3) and self.stage.private.sits(one.connection, CHANNEL):
            one.listen(type_)

    @precondition(lambda self: self.sockets)
    @rule(pick=picks)
    def lose(self, pick: int) -> None:
        one = self.pick(pick)
        self.sockets.remove(one)
        one.lose()
        self.note((one.agent_id, one.instance_id))

    @precondition(lambda self: self.sockets)
    @rule(pick=picks)
    def leave(self, pick: int) -> None:
        one = self.pick(pick)
        if isinstance(one, Phoenix) and CHANNEL in one.connection.joined:
            one.leave()
            self.settled()

    @precondition(lambda self: self.sockets)
    @rule(pick=picks, listens=st.booleans())
    def rejoin(self, pick: int, *, listens: bool) -> None:
        one = self.pick(pick)
        if isinstance(one, Phoenix) and (one.agent_id, one.instance_id) in self.members:
            one.join(listens=listens)
            self.members[one.agent_id, one.instance_id] = None

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.5, 5.0]))
    def wait(self, seconds: float) -> None:
        self.stage.wait(seconds)
        given_up = {(gone.agent_id, gone.instance_id) for _channel, gone in self.stage.given_up()}
        due = {key for key, at in self.members.items() if at is not None and at <= self.stage.now}
        assert given_up == due
        self.settled()

    @rule(key=keys)
    def remove(self, key: tuple[str, str]) -> None:
        if key in self.members:
            del self.members[key]
            self.left += 1
        agent_id, instance_id = key
        for one in self.sockets:
            if (one.agent_id, one.instance_id) == key:
                self.stage.kick(one)
        if not any((one.agent_id, one.instance_id) == key for one in self.sockets):
            away: Any = Phoenix.__new__(Phoenix)
            away.agent_id, away.connection = agent_id, type("Gone", (), {"instance_id": instance_id})
            self.stage.kick(away)

    @rule()
    def attach(self) -> None:
        """A new program of Bob's takes up his first instance by its secret."""
        first = next((one for one in self.sockets if one.instance_id == "b-1"), None)
        if first is None:
            return
        secret = self.stage.private.uuid_of(first.connection)
        new = Fdc3(self.stage, "bob", f"new-{len(self.alice.transport.sent)}")
        assert self.stage.private.attach(new.connection, instance_id="b-1", instance_uuid=secret)
        self.sockets.append(new)
        if ("bob", "b-1") in self.members:
            self.members["bob", "b-1"] = None

    @invariant()
    def the_watcher_knows_who_is_there(self) -> None:
        present: dict[str, str] = {}
        for name, told in self.alice.all_told():
            if name == "presence_state":
                present = by_ref(told)
            elif name == "presence_diff":
                present |= by_ref(told["joins"])
                for ref in by_ref(told["leaves"]):
                    del present[ref]
        there = [key[1] for key in self.members if self.there(key)]
        assert sorted(present.values()) == sorted(["a-1", *there])

    @invariant()
    def members_and_only_they_sit_there(self) -> None:
        seats = self.stage.private.channels[CHANNEL].seats
        expected = {Instance(agent_id=agent_id, instance_id=instance_id) for agent_id, instance_id in self.members}
        assert {*seats} == {*expected, Instance(agent_id="alice", instance_id="a-1")}
        assert self.alice.names.count(DISCONNECTED) == self.left

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        for one in self.sockets:
            one.lose()
            self.note((one.agent_id, one.instance_id))
        self.sockets.clear()
        for _ in range(3):
            self.stage.wait(GRACE)
            self.settled()
        assert self.members == {}
        assert self.alice.names.count(ADDED) == self.alice.names.count(UNSUBSCRIBED)
        assert [*self.stage.private.programs.known] == [Instance(agent_id="alice", instance_id="a-1")]
        self.runner.close()


TestComing = Coming.TestCase
TestComing.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
