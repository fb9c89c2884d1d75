"""What is told of a decision, once it is durable: to subscribers, and to what in this process rests on it."""

from datetime import datetime
from enum import Enum
from typing import Any

import msgspec

from channels.contacts import Tie


class Audience(Enum):
    """Which subscribers of a topic get a broadcast."""

    ALL = "all"
    OTHER_AGENTS = "other_agents"
    """All but the sockets of the sending agent: what a participant did is relayed to the others."""
    OTHER_SOCKETS = "other_sockets"
    """All but the one sending socket, as Phoenix's `broadcast_from`."""


class Broadcast(msgspec.Struct, frozen=True, tag=True):
    """An event to the subscribers of a topic, sent only once what it tells of is durable.

    `is_spare`: it is stored, and found by who looks for it; so a socket that does not read is spared it, not closed.
    `is_asked_for`: only those subscriptions get it that have asked for this event (`Decision.takes`).
    `about`, an agent id, narrows it to the subscribers who may see that agent; `to`, to these agents and users.
    `binary`, where it is not None, is what those get instead of the payload who have asked for binary frames.
    """

    topic: str
    event: str
    payload: Any
    audience: Audience = Audience.ALL
    about: str | None = None
    binary: bytes | None = None
    to: frozenset[str] | None = None
    is_spare: bool = False
    is_asked_for: bool = False


class Unsaid(msgspec.Struct, frozen=True, tag=True):
    """What was relayed on a topic before it was durable is not stored after all.

    Whoever has got it is made to join again, and takes what is stored from the join's reply on.
    """

    topic: str


class Saved(msgspec.Struct, frozen=True, tag=True):
    """The state of a topic is now this: for what in this process goes ahead of the writer. No socket is told."""

    topic: str
    state: Any = None


class Retied(msgspec.Struct, frozen=True, tag=True):
    """The tie of two entities has changed: who watches presences sees from now on what the new one allows.

    Args:
        a_id, b_id: The two.
        tie: Of a towards b.
    """

    a_id: str
    b_id: str
    tie: Tie


class Ended(msgspec.Struct, frozen=True, tag=True):
    """A topic ends, with `phx_close`, for the sockets of one agent or user; None: for all.

    `is_silent`: they are told nothing on it any more, and no more than that; leaving it is theirs.
    """

    topic: str
    entity_id: str | None = None
    is_silent: bool = False


class MemberLeft(msgspec.Struct, frozen=True, tag=True):
    """An instance of an agent sits no more in a private channel."""

    channel_id: str
    agent_id: str
    instance_id: str


class ChannelClosed(msgspec.Struct, frozen=True, tag=True):
    """A private channel is there no more."""

    channel_id: str


class ContextTold(msgspec.Struct, frozen=True, tag=True):
    """A member has told a private channel a context, any JSON object with a `type`."""

    channel_id: str
    agent_id: str
    instance_id: str
    context: dict[str, Any]


OfPrivateChannel = MemberLeft | ChannelClosed | ContextTold
"""What becomes frames only where it is known who sits in a private channel, and who listens there."""


class Partaker(msgspec.Struct, frozen=True):
    """An agent that takes part in something; a deleted one has its handle still, one that never was has none."""

    id: str
    handle: str | None


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that has happened on the market, as whoever may see it is shown it.

    Args:
        id: Names it: who asks for what there was is perhaps told of it once more.
        at: When.
        kind: What: see activity.py.
        topic: Where: `task:…`, `negotiation:…` or `payment:…`.
        agents: Who took part: the client, the opener or the payer first.
        owners: Their owners, by whom it is known who may see it; not told.
        capability: Of a task or a negotiation.
        amount: The money that it is about, in minor units.
    """

    id: str
    at: datetime
    kind: str
    topic: str
    agents: tuple[Partaker, Partaker]
    owners: tuple[str | None, str | None]
    capability: str | None = None
    amount: int | None = None


class Counted(msgspec.Struct, frozen=True, tag=True):
    """Sums have changed that analytics topics tell of.

    Args:
        scopes: Whose: `agent:{id}`, `user:{id}`, `global`.
        activity: What there is to see of it, in order.
    """

    scopes: frozenset[str]
    activity: tuple[Activity, ...] = ()


Told = Broadcast | Retied | Unsaid | Saved | Ended | OfPrivateChannel | Counted
"""What the sockets of every process are told of a decision, in the order of the decisions."""
