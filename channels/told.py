"""What is told of a decision, once it is durable: to subscribers, and to what in this process rests on it."""

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


Told = Broadcast | Retied | Unsaid | Saved | Ended | OfPrivateChannel
"""What the sockets of every process are told of a decision, in the order of the decisions."""
