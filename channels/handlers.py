"""The shape that every topic module fills in, ours and an operator's own.

A topic module exports four names:

    TOPIC     its pattern: a whole topic ("agents:discovery"), or a prefix and a star ("negotiation:*")
    ACCESS    (sender, topic_id) → None, or a Refusal: the cheap rule of who may try to join at all
    JOIN      a Handler that answers a join
    HANDLERS  event name → Handler

and, where the clock alone changes its states, TIMERS: timer kind → (state, context) → Decision. What has no topic of
its own has its clocks in routes.py.

A handler is a pure function `(loaded, request, context) → Decision`. What `loaded` is, `Handler.loads` says: the name
of a loader that the server has ("negotiation": the session of the topic's id; "opening": what a new session rests
on; …), or nothing. A handler that loads nothing and changes no state runs at once on the socket; the others run inside
a database transaction, in the order in which they came.
"""

from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Any, Final, Literal

import msgspec

from channels.changes import Change
from channels.contacts import Party, Ties
from channels.identity import Identity
from channels.limits import Market
from channels.told import Broadcast, Told


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler may know besides the loaded state and the request.

    Args:
        sender: Who asks, proven by a credential.
        now: The server's clock, UTC.
        market: Signing domain, currency, fee and limits.
        new_id: Makes a fresh id (UUID version 7, lower case).
        new_token: Makes a fresh secret of at least 128 random bits.
        topic: The whole topic that the event came on; for REST, the topic of its twin.
        instance_id: Which of the agent's programs it is, as its socket says; empty for REST and the clock.
        holder_of: The agent whose program has an instance id right now; None where nobody is known to have it.
    """

    sender: Identity
    now: datetime
    market: Market
    new_id: Callable[[], str]
    new_token: Callable[[], str]
    topic: str = ""
    instance_id: str = ""
    holder_of: Callable[[str], str | None] = lambda _instance_id: None


class Push(msgspec.Struct, frozen=True):
    """An event to the sending socket alone, on the topic it sent on."""

    event: str
    payload: Any


class KnowTies(msgspec.Struct, frozen=True):
    """The sending socket's agent has these ties to others, by which presences on its topic are shown to it."""

    ties: Ties


class Track(msgspec.Struct, frozen=True):
    """Track a presence of the sending socket on its topic.

    `key` None means a unique one. `party` is who it is of, where the topic shows presences to some only: its id is the
    key then.
    """

    meta: dict[str, Any]
    key: str | None = None
    party: Party | None = None


class ShowPresence(msgspec.Struct, frozen=True):
    """Push the topic's `presence_state` to the sending socket, which tracks nothing itself."""


class UpdateMeta(msgspec.Struct, frozen=True):
    """Replace the meta of the sender's presences on `topic`: of the one socket, or with `agent_id` of all of them."""

    topic: str
    meta: dict[str, Any]
    agent_id: str | None = None
    merge: bool = False


class NoReply(Enum):
    """The type of `NO_REPLY`."""

    NO_REPLY = "no_reply"


NO_REPLY: Final = NoReply.NO_REPLY
"""`Decision.reply` of an event that gets no reply. Ours all reply; an operator's own need not."""


class Follow(msgspec.Struct, frozen=True, kw_only=True):
    """The sending socket follows a task's streams.

    Args:
        replays: From which seq on the stored chunks of a direction are pushed to it, before anything live.
        is_binary: It takes chunks that came as binary frames as such.
    """

    task_id: str
    replays: dict[str, int]
    is_binary: bool


class FollowMail(msgspec.Struct, frozen=True):
    """The sending socket takes an agent's mail: what is undelivered first, then what comes."""

    agent_id: str


class FollowChannel(msgspec.Struct, frozen=True):
    """The sending socket sits in a private channel, as its owner or as a member; `listens`: it takes every context."""

    channel_id: str
    role: Literal["owner", "member"]
    listens: bool


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler decided: nothing of it has happened yet.

    Args:
        state: The topic's new state, saved on condition that it is still the one that was loaded; None: unchanged.
        reply: The response, any JSON value, a struct or bytes; NO_REPLY for none.
        is_error: The reply has status `error` though the event took effect.
        pushes: To the sending socket, after the reply.
        broadcasts: To subscribers, once durable; and ties that have changed.
        changes: Other things changed in the same transaction.
        presence: Presences tracked or updated, after the commit.
        follow: Of a join: what the sending socket takes from now on, and what is replayed to it first.
        takes: An event of the topic that is pushed to those alone who have asked for it: the sending socket has, now.
        stop: Ends the topic for the sender with `phx_close`, after the reply.
        disconnect: A socket id, all of whose sockets are disconnected.
    """

    state: Any = None
    reply: Any = msgspec.field(default_factory=dict[str, Any])
    is_error: bool = False
    pushes: tuple[Push, ...] = ()
    broadcasts: tuple[Told, ...] = ()
    changes: tuple[Change, ...] = ()
    presence: tuple[KnowTies | Track | ShowPresence | UpdateMeta, ...] = ()
    follow: Follow | FollowMail | FollowChannel | None = None
    takes: str | None = None
    stop: bool = False
    disconnect: str | None = None


class Access(Enum):
    """How the server runs a handler."""

    AT_ONCE = "at_once"
    """No database: on the socket's own loop turn."""
    READ = "read"
    """A reading transaction beside the writer: for questions whose answer needs no order with events."""
    WRITE = "write"
    """The writing transaction, in order with every other event: for all that changes a state, and for joins."""


RATES_IN_BYTES: Final = frozenset({"stream", "chain", "message"})
"""The classes of rate limits that count bytes; the others count events."""


CHUNK_COST_MIN: Final = 512
"""What a chunk costs at least of class `stream`, in bytes: so much work it makes, however small it is."""


def bytes_cost(rate: str, size: int) -> int:
    """What a payload of that size costs of a class that counts bytes."""
    return max(size, CHUNK_COST_MIN) if rate == "stream" else size


def event_class(rate: str) -> str | None:
    """The class that counts the events themselves of a class: a stream's count by their bytes alone."""
    return {"stream": None, "chain": "control", "message": "control"}.get(rate, rate)


class Handler(msgspec.Struct, frozen=True):
    """One event of a topic: its payload's type, its function, and what the function is given.

    Args:
        request: The struct that the payload is decoded into; `msgspec.Raw` leaves it raw (bytes if it came as binary).
        decide: (loaded, request, context) → Decision. Raises Refusal.
        loads: The server's loader for the first argument; empty: None is given.
        access: See Access.
        scope: The scope that the sender's key must have; empty: none.
        rate: The class of its rate limit: `control`, `discovery`, or one of RATES_IN_BYTES.
        binary: What a binary frame's payload says, as a request; None where only JSON is understood.
        foresees: (state, request, context) → the state after it, and what is relayed of it at once, before it is
            durable. Events with this are decided in batches: `loads` gives what all of one topic's are decided on, with
            a method `then(state)`. It raises Refusal where nothing is to be relayed ahead.
        is_rehearsed: What is dear in it is done beside the writer first, so that nobody waits for it: it is decided
            once on a snapshot, of which nothing is kept but the signatures that were checked.
    """

    request: Any
    decide: Callable[[Any, Any, Context], Decision]
    loads: str = ""
    access: Access = Access.AT_ONCE
    scope: str = ""
    rate: str = "control"
    binary: Callable[[bytes], Any] | None = None
    foresees: Callable[[Any, Any, Context], tuple[Any, Broadcast | None]] | None = None
    is_rehearsed: bool = False


class Empty(msgspec.Struct, frozen=True):
    """A payload without fields; more fields are ignored."""
