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
from typing import Any, Final

import msgspec

from channels.channel_steps import ChannelStep
from channels.contacts import Party, Tie, Ties
from channels.identity import Identity
from channels.ledger import Entry


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit that a rule of the marketplace speaks of. Units stand at the end of the names; all are settings."""

    price_max: int = 10**15
    negotiation_ttl_s: int = 1_800
    rounds_per_side_max: int = 10
    terms_bytes_max: int = 16_384
    negotiations_open_max: int = 20
    agreement_ttl_s: int = 86_400
    tasks_open_max: int = 100
    deadline_min_s: int = 60
    deadline_default_s: int = 604_800
    deadline_max_s: int = 2_592_000
    hold_default_s: int = 3_600
    hold_max_s: int = 604_800
    task_dispute_ttl_s: int = 604_800
    stream_retention_s: int = 604_800
    stream_credit_max: int = 1_000
    chunk_bytes_max: int = 65_536
    stream_bytes_max: int = 16_777_216
    stream_chunks_max: int = 262_144
    stream_window: int = 256
    checkpoint_bytes_max: int = 65_536
    result_bytes_max: int = 65_536
    text_chars_max: int = 2_000
    metadata_bytes_max: int = 8_192
    capabilities_max: int = 50
    tags_max: int = 16
    tag_chars_max: int = 16
    challenge_ttl_s: int = 600
    contact_message_chars_max: int = 500
    contact_request_ttl_s: int = 2_592_000
    contact_requests_pending_max: int = 10
    contact_requests_per_hour_max: int = 60
    block_reason_chars_max: int = 500
    channels_open_max: int = 20
    channel_ttl_s: int = 86_400
    window_min_s: int = 86_400
    window_default_s: int = 86_400
    window_max_s: int = 604_800
    proposal_ttl_s: int = 300
    memo_chars_max: int = 200
    dispute_window_s: int = 86_400
    evidence_bytes_max: int = 65_536
    transfers_per_frame_max: int = 1_000
    missing_transfers_max: int = 500


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """What is fixed for one deployment and told in `GET /api/v1/meta`.

    `fee_bps` is in basis points of the price: 500 are five per cent. `restores` are the times at which its
    database was restored from a backup, and are not told: what was agreed just before one may be unknown here.
    """

    signing_domain: str
    currency: str = "USD"
    exponent: int = 6
    fee_bps: int = 500
    limits: Limits = Limits()
    restores: tuple[datetime, ...] = ()


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler may know besides the loaded state and the request.

    Args:
        sender: Who asks, proven by a credential.
        now: The server's clock, UTC.
        market: Signing domain, currency, fee and limits.
        new_id: Makes a fresh id (UUID version 7, lower case).
        topic: The whole topic that the event came on; for REST, the topic of its twin.
    """

    sender: Identity
    now: datetime
    market: Market
    new_id: Callable[[], str]
    topic: str = ""


class Audience(Enum):
    """Which subscribers of a topic get a broadcast."""

    ALL = "all"
    OTHER_AGENTS = "other_agents"
    """All but the sockets of the sending agent: what a participant did is relayed to the others."""
    OTHER_SOCKETS = "other_sockets"
    """All but the one sending socket, as Phoenix's `broadcast_from`."""


class Push(msgspec.Struct, frozen=True):
    """An event to the sending socket alone, on the topic it sent on."""

    event: str
    payload: Any


class Broadcast(msgspec.Struct, frozen=True, tag=True):
    """An event to the subscribers of a topic, sent only once what it tells of is durable.

    `about`, an agent id, narrows it to the subscribers who may see that agent. `binary`, where it is not None, is what
    those get instead of the payload who have asked for binary frames.
    """

    topic: str
    event: str
    payload: Any
    audience: Audience = Audience.ALL
    about: str | None = None
    binary: bytes | None = None


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


Told = Broadcast | Retied | Unsaid | Saved
"""What the sockets of every process are told of a decision, in the order of the decisions."""


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


class Timer(msgspec.Struct, frozen=True):
    """Arm the timer `kind` of a topic for `due_at`, or with None disarm it. One of a kind per topic."""

    kind: str
    topic: str
    due_at: datetime | None


class Mail(msgspec.Struct, frozen=True):
    """A stored message to an agent's mailbox. It is kept until the agent has acknowledged it."""

    to_agent_id: str
    type: str
    payload: dict[str, Any]
    from_agent_id: str | None = None


class Spend(msgspec.Struct, frozen=True):
    """Count money that leaves `available` against the caps of the sender's key and of the keys it descends from."""

    amount: int


class Insert(msgspec.Struct, frozen=True):
    """Store a new state under `id`. An id that exists already is a conflict."""

    store: str
    id: str
    state: Any


class Save(msgspec.Struct, frozen=True):
    """Save another state than the topic's own, for example the agreement that a task consumes.

    `before` is the state that was decided on: the save is conditional on it.
    """

    store: str
    id: str
    before: Any
    state: Any


class StoreChunk(msgspec.Struct, frozen=True):
    """Store one chunk of a task's stream.

    Args:
        direction: `input` or `output`.
        seq: Counts from 0.
        encoding: As it was sent: `utf8`, `base64`, or `binary`.
        in_order: The seq of the first, and the bytes of all chunks that follow on each other up to the first missing
            one since this one is there; None while one before it is missing.
    """

    task_id: str
    direction: str
    seq: int
    chunk: bytes
    encoding: str
    in_order: tuple[int, tuple[bytes, ...]] | None


class StoreCheckpoint(msgspec.Struct, frozen=True):
    """Store a task's newest checkpoint, in place of the one before."""

    task_id: str
    seq: int
    state: Any


class NoteStep(msgspec.Struct, frozen=True):
    """Append a step to the history of a payment channel."""

    channel_id: str
    step: ChannelStep


class NotePresence(msgspec.Struct, frozen=True):
    """Note an agent as `online`, `busy`, `away` or `offline`, so that `discover` puts it in its place."""

    agent_id: str
    presence: str


class DropStreams(msgspec.Struct, frozen=True):
    """Delete the chunks and the checkpoint of a task that has long ended."""

    task_id: str


class Outcome(msgspec.Struct, frozen=True):
    """A task's end, counted for the provider's reputation, at most once per client owner and provider in a UTC day.

    Args:
        provider_agent_id: Whose reputation it is.
        client_owner_id: The owner of the client.
        task_id: Counted once; another outcome of the same task takes the place of the first.
        is_completed: Or failed.
        delta_centi: What an operator's decision adds to the reputation besides, in hundredths of a star.
        is_correction: It has ended before, and was counted or passed over then: only what was counted changes.
    """

    provider_agent_id: str
    client_owner_id: str
    task_id: str
    is_completed: bool
    delta_centi: int = 0
    is_correction: bool = False


Change = (
    Entry
    | Timer
    | Mail
    | Spend
    | Insert
    | Save
    | StoreChunk
    | StoreCheckpoint
    | DropStreams
    | NoteStep
    | NotePresence
    | Outcome
)
"""What a decision changes in the same transaction besides the state that it was loaded with."""


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
        follow: Of a join: what is replayed to the sending socket, and in which form it takes chunks.
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
    follow: Follow | None = None
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


RATES_IN_BYTES: Final = frozenset({"stream", "chain"})
"""The classes of rate limits that count bytes; the others count events."""


CHUNK_COST_MIN: Final = 512
"""What a chunk costs at least of class `stream`, in bytes: so much work it makes, however small it is."""


def bytes_cost(rate: str, size: int) -> int:
    """What a payload of that size costs of a class that counts bytes."""
    return max(size, CHUNK_COST_MIN) if rate == "stream" else size


def event_class(rate: str) -> str | None:
    """The class that counts the events themselves of a class: a stream's count by their bytes alone."""
    return {"stream": None, "chain": "control"}.get(rate, rate)


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
