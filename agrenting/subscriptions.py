"""Subscriptions: one socket's joined topic, its queue of replies, and what it is told.

What is told on most topics is pushed as it comes. On some a feed stands between: it replays what is stored first, or
knows better who is to hear what.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from channels.contacts import Party
from channels.routes import Route
from channels.session import Join, Joined
from channels.told import Broadcast
from channels.wire import Outgoing

if TYPE_CHECKING:
    from agrenting.connection import Connection


class Feed(Protocol):
    """What stands between a topic and one of its subscriptions."""

    def tell(self, outgoing: Outgoing, broadcast: Broadcast) -> None:
        """Push what is told on the topic, or keep it for its time."""
        ...

    def ended(self, *, is_leaving: bool) -> None:
        """The subscription is over; `is_leaving`: its client has left the topic, and not only lost its socket."""
        ...


class Slot:
    """The place of one push's reply in its topic's queue: filled when it is decided, sent in order."""

    __slots__ = ("send", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.send: Callable[[], None] | None = None


class Subscription:
    """One socket's joined topic.

    Args:
        is_binary: It takes chunks that came as binary frames as such.
        feed: What stands between it and its topic; None where nothing does.
        takes: The events that it has asked for, of those that are pushed to whoever asks alone.
    """

    __slots__ = (
        "connection",
        "feed",
        "is_binary",
        "join_ref",
        "joined",
        "party",
        "route",
        "slots",
        "takes",
        "topic",
    )

    def __init__(self, connection: "Connection", joined: Joined, join: Join, route: Route, party: Party) -> None:
        self.connection = connection
        self.joined = joined
        # As Phoenix does: who joined without a join_ref is spoken to by the join's ref.
        self.join_ref = join.ref if join.join_ref is None else join.join_ref
        self.route = route
        self.topic = joined.topic
        self.party = party
        self.slots: deque[Slot] = deque()
        self.is_binary = False
        self.feed: Feed | None = None
        self.takes: frozenset[str] = frozenset()

    def take_slot(self, size: int = 0) -> Slot:
        """The next place in the queue of replies, for a push of so many bytes."""
        slot = Slot(size)
        self.slots.append(slot)
        self.connection.under_way(1, size)
        return slot

    def fill(self, slot: Slot, send: Callable[[], None]) -> None:
        """Fill a place, and send what now stands at the head of the queue."""
        slot.send = send
        self.connection.under_way(-1, -slot.size)
        slots = self.slots
        while slots and slots[0].send is not None:
            ready = slots.popleft().send
            assert ready is not None, "just looked at"
            ready()

    @property
    def is_current(self) -> bool:
        """Whether its socket still has joined the topic by it."""
        return self.connection.session.joined.get(self.topic) is self.joined

    def tell(self, outgoing: Outgoing, broadcast: Broadcast) -> None:
        """Push what is told on the topic, or hand it to the feed."""
        if self.feed is None:
            self.push(outgoing)
        else:
            self.feed.tell(outgoing, broadcast)

    def push(self, outgoing: Outgoing) -> None:
        """Push an event now."""
        self.connection.send(outgoing.frame_for(self.connection.vsn, self.join_ref))

    def size_of(self, outgoing: Outgoing) -> int:
        """How many bytes an event is, pushed to it, as far as matters: of a text its characters."""
        return len(outgoing.frame_for(self.connection.vsn, self.join_ref))

    def over(self, *, is_leaving: bool) -> None:
        """It is no more one of its topic's."""
        if self.feed is not None:
            self.feed.ended(is_leaving=is_leaving)
