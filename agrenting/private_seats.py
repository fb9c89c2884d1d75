"""What is known of who sits in private channels right now: programs, their seats, and the channels they sit in."""

from typing import Any, Literal, Protocol, runtime_checkable

from agrenting.open_socket import OpenSocket
from agrenting.subscriptions import Subscription
from channels.private_listeners import Instance, Listeners
from channels.told import Broadcast
from channels.wire import Outgoing

Role = Literal["owner", "member"]


@runtime_checkable
class Fdc3Socket(Protocol):
    """A socket that is told in FDC3's messages, wherever its instance sits."""

    def hear(self, event: str, payload: Any) -> None:
        """Send an event, whose payload may be JSON already."""
        ...


class Seats(Protocol):
    """Where a subscription's seat is known."""

    def lost(self, mine: "ChannelSeat", *, is_leaving: bool) -> None:
        """A subscription is over."""
        ...


class Program:
    """One instance of an agent: its sockets, and where it sits.

    Args:
        key: Its agent and its id.
    """

    __slots__ = ("fdc3", "handle", "key", "listeners", "seats", "sockets", "uuid")

    def __init__(self, key: Instance) -> None:
        self.key = key
        self.uuid = ""
        """The secret by which a client of FDC3 proves later that it is this one; empty until it was told."""
        self.handle = ""
        self.sockets: dict[OpenSocket, None] = {}
        self.fdc3: dict[Fdc3Socket, None] = {}
        self.seats: dict[str, Seat] = {}
        self.listeners: dict[str, str] = {}
        """The channel of each listener that it may remove by its id."""


class ChannelSeat:
    """The feed of a Phoenix subscription that sits in a channel.

    Args:
        seats: Where it is known.
        subscription: Its socket's topic.
        is_listening: It takes every context.
    """

    __slots__ = ("_seats", "is_listening", "subscription")

    def __init__(self, seats: Seats, subscription: Subscription, *, is_listening: bool) -> None:
        self._seats = seats
        self.subscription = subscription
        self.is_listening = is_listening

    def tell(self, outgoing: Outgoing, broadcast: Broadcast) -> None:
        """Push what is told on the topic itself."""
        del broadcast
        self.subscription.push(outgoing)

    def ended(self, *, is_leaving: bool) -> None:
        """The subscription is over. Once more is nothing."""
        self._seats.lost(self, is_leaving=is_leaving)


class Seat:
    """One instance's place in a channel."""

    __slots__ = ("has_joined", "program", "role", "subscriptions")

    def __init__(self, program: Program, role: Role) -> None:
        self.program = program
        self.role: Role = role
        self.subscriptions: dict[ChannelSeat, None] = {}
        self.has_joined = False
        """It has joined over Phoenix, and listens by that, though the socket may be gone for a moment."""

    @property
    def is_present(self) -> bool:
        """Whether it has a socket."""
        return bool(self.subscriptions or self.program.fdc3)

    @property
    def meta(self) -> dict[str, Any]:
        """What its presence says."""
        return {"instanceId": self.program.key.instance_id, "role": self.role}


class LiveChannel:
    """A channel in which somebody sits."""

    __slots__ = ("id", "listeners", "seats")

    def __init__(self, channel_id: str) -> None:
        self.id = channel_id
        self.listeners = Listeners(channel_id)
        self.seats: dict[Instance, Seat] = {}


def key_of(socket: OpenSocket) -> Instance:
    """The instance that a socket is of.

    Raises:
        Forbidden: `agent_required`.
    """
    return Instance(agent_id=socket.identity.require_agent(), instance_id=socket.instance_id)
