"""A stage for the live side of private channels: a real hub, sockets that only note what they get, and a clock of ours.

What would be decided in the database the stage decides: everybody may join, and whom the server gives up is gone.
"""

import asyncio
import json
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final, Generic, TypeVar

import msgspec

from agrenting.config import Settings
from agrenting.connection import Connection
from agrenting.dacp_connection import DacpConnection
from agrenting.db.commit import StorageUnavailable
from agrenting.deciding import Command, Done, Settled
from agrenting.hub import Hub
from agrenting.metrics import Metrics
from agrenting.open_socket import OpenSocket
from agrenting.private_seats import Role
from agrenting.subscriptions import Subscription
from channels.handlers import Decision, FollowChannel
from channels.identity import Identity
from channels.private_ends import Gone
from channels.routes import Routes
from channels.session import Join
from channels.told import ChannelClosed, ContextTold, MemberLeft, Told
from channels.wire import Frame, Vsn
from tests.agrenting.api.market import FakeSocket

CHANNEL: Final = "private:1"
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
REFS: Final = count(1)

Settling = tuple[Command, Settled]


class Engine:
    """Takes commands and decides none: the test does."""

    def __init__(self) -> None:
        self.submitted: list[Settling] = []
        self.came = asyncio.Event()

    def submit(self, command: Command, settled: Settled) -> None:
        """Take it."""
        self.submitted.append((command, settled))
        self.came.set()

    def clock(self) -> datetime:
        """The present."""
        return NOW


class Stage:
    """A hub and its time."""

    def __init__(self, **settings: Any) -> None:
        self.now = 100.0
        self.hub = Hub(Settings(**settings), Routes(), Metrics(), monotonic=lambda: self.now)
        self.engine = Engine()
        engine: Any = self.engine
        self.hub.engine = engine

    @property
    def private(self) -> Any:
        """What is tried here."""
        return self.hub.private

    def wait(self, seconds: float) -> None:
        """So much time passes."""
        self.now += seconds
        self.hub.private.sweep()

    def publish(self, *told: Told) -> None:
        """Something was decided."""
        self.hub.publish(told, None, None)

    def given_up(self) -> list[tuple[str, Gone]]:
        """Whom the server gives up: the channel, and who."""
        return [(command.topic, command.request) for command, _settled in self.engine.submitted]

    def settle(self) -> None:
        """It is durable that they are gone."""
        submitted, self.engine.submitted = self.engine.submitted, []
        for command, settled in submitted:
            gone = command.request
            told = (MemberLeft(command.topic, gone.agent_id, gone.instance_id),)
            self.publish(*told)
            settled(Done(Decision(), told), None)

    def fail(self) -> None:
        """It could not be stored."""
        submitted, self.engine.submitted = self.engine.submitted, []
        for _command, settled in submitted:
            settled(None, StorageUnavailable("full"))

    def tell(self, who: "Member[Any]", context: dict[str, Any]) -> None:
        """A member has told a context."""
        self.publish(ContextTold(CHANNEL, who.agent_id, who.instance_id, context))

    def close(self) -> None:
        """The channel is closed."""
        self.publish(ChannelClosed(CHANNEL))

    def kick(self, who: "Member[Any]") -> None:
        """A member was removed."""
        self.publish(MemberLeft(CHANNEL, who.agent_id, who.instance_id))


S = TypeVar("S", bound=OpenSocket)


class Member(Generic[S]):
    """One socket of an agent's instance."""

    def __init__(self, stage: Stage, agent_id: str, instance_id: str) -> None:
        self.stage = stage
        self.agent_id = agent_id
        self.transport = FakeSocket()
        self.identity = Identity(
            kind="agent", user_id=f"{agent_id}-owner", agent_id=agent_id, handle=f"{agent_id}/bot", key_id=""
        )
        protocol: Any = self.transport
        self.connection = self.open(protocol, instance_id)
        stage.hub.add(self.connection)

    def open(self, protocol: Any, instance_id: str) -> S:
        """The connection."""
        raise NotImplementedError

    @property
    def instance_id(self) -> str:
        """Which of the agent's programs it is."""
        return self.connection.instance_id

    @property
    def told(self) -> list[tuple[str, Any]]:
        """The events of private channels that it got: name and payload."""
        return [one for one in self.all_told() if not one[0].startswith(("presence_", "phx_", "heartbeat"))]

    @property
    def names(self) -> list[str]:
        """What it got, in short."""
        return [name.removeprefix("privateChannelOn").removesuffix("Event") for name, _ in self.told]

    def all_told(self) -> list[tuple[str, Any]]:
        """Everything that it got."""
        raise NotImplementedError

    def forget(self) -> None:
        """Look only at what comes from now on."""
        self.transport.sent.clear()

    def lose(self) -> None:
        """Its connection is lost."""
        self.connection.closed()


class Phoenix(Member[Connection]):
    """A socket that speaks Phoenix's protocol."""

    def open(self, protocol: Any, instance_id: str) -> Connection:
        """The connection."""
        return Connection(self.stage.hub, protocol, self.identity, Vsn.V2, instance_id)

    def join(self, *, listens: bool = True, role: Role = "member", channel: str = CHANNEL) -> "Phoenix":
        """Join, as once it is decided; what it was joined to before is replaced."""
        hub, ref = self.stage.hub, str(next(REFS))
        join = self.connection.session.receive(Frame(ref, ref, channel, "phx_join", msgspec.Raw(b"{}")))
        assert isinstance(join, Join)
        if join.replaced is not None:
            hub.unsubscribe(join.replaced.subscription)
        route = hub.routes.find(channel)
        assert route is not None
        joined = self.connection.session.admit(join)
        joined.subscription = Subscription(self.connection, joined, join, route, self.identity.party)
        hub.subscribe(joined.subscription)
        joined.subscription.feed = hub.private.seat(joined.subscription, FollowChannel(channel, role, listens))
        return self

    @property
    def subscription(self) -> Subscription:
        """Its topic."""
        subscription: Subscription = self.connection.session.joined[CHANNEL].subscription
        return subscription

    def leave(self) -> None:
        """Leave the topic."""
        joined = self.connection.session.joined[CHANNEL]
        frame = json.dumps([joined.join_ref, "9", CHANNEL, "phx_leave", {}])
        self.connection.receive(frame)

    def all_told(self) -> list[tuple[str, Any]]:
        """Everything that it got."""
        return [(message[3], message[4]) for message in self.transport.sent]

    @property
    def presences(self) -> list[tuple[str, dict[str, list[tuple[str, str]]]]]:
        """What it was told of who is there: of each change who came and who went."""
        seen: list[tuple[str, dict[str, list[tuple[str, str]]]]] = []
        for name, payload in self.all_told():
            if name == "presence_state":
                seen.append(("state", {"all": _metas(payload)}))
            elif name == "presence_diff":
                seen.append(("diff", {side: _metas(payload[side]) for side in ("joins", "leaves")}))
        return seen


def _metas(state: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((meta["instanceId"], meta["role"]) for one in state.values() for meta in one["metas"])


class Fdc3(Member[DacpConnection]):
    """A socket that speaks FDC3's messages."""

    def open(self, protocol: Any, instance_id: str) -> DacpConnection:
        """The connection."""
        return DacpConnection(self.stage.hub, protocol, self.identity, instance_id)

    def join(self, role: Role = "member", channel: str = CHANNEL) -> "Fdc3":
        """Join, as once it is decided."""
        self.stage.hub.private.sit(self.connection, channel, role)
        return self

    def listen(self, context_type: str | None = None) -> str:
        """Add a context listener; its id."""
        id_, notices = self.stage.hub.private.listen(self.connection, CHANNEL, context_type)
        self.stage.hub.private.tell(CHANNEL, notices)
        return id_

    def watch(self, kind: Any = None) -> str:
        """Add an event listener; its id."""
        id_, notices = self.stage.hub.private.watch(self.connection, CHANNEL, kind)
        self.stage.hub.private.tell(CHANNEL, notices)
        return id_

    def all_told(self) -> list[tuple[str, Any]]:
        """Everything that it got."""
        return [(message["type"], message["payload"]) for message in self.transport.sent]


def owner(stage: Stage) -> Phoenix:
    """Alice, who owns the channel, over Phoenix."""
    return Phoenix(stage, "alice", "a-1").join(role="owner")


def guest(stage: Stage, alice: Phoenix) -> Fdc3:
    """Bob, over FDC3, who watches and listens; what they were told of that is forgotten."""
    bob = Fdc3(stage, "bob", "b-1").join()
    bob.watch()
    bob.listen()
    alice.forget()
    bob.forget()
    return bob
