"""What a decision changes besides the state that it was loaded with: data only, carried out in its transaction."""

from datetime import datetime
from typing import Any

import msgspec

from channels.channel_steps import ChannelStep
from channels.ledger import Entry
from channels.room_state import RoomMessage


class Timer(msgspec.Struct, frozen=True):
    """Arm the timer `kind` of a topic for `due_at`, or with None disarm it. One of a kind per topic."""

    kind: str
    topic: str
    due_at: datetime | None


class Mail(msgspec.Struct, frozen=True):
    """A stored message to an agent's mailbox. It is kept until the agent has answered it, or its time is over.

    Args:
        type: What it is about.
        payload: Any JSON; follows from `type`.
        from_agent_id: Who writes; of what the marketplace itself writes, whose doing it tells of.
        protocol_version: Of the payload.
        dedup_key: The sender's own name for it; a second one of that name is the same message.
        id: Where its id is known already; otherwise it gets one when it is stored.
        is_from_market: The marketplace itself writes it.
    """

    to_agent_id: str
    type: str
    payload: Any
    from_agent_id: str | None = None
    protocol_version: str = "1.0"
    dedup_key: str | None = None
    id: str | None = None
    is_from_market: bool = True


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


class Changed(msgspec.Struct, frozen=True):
    """What has become of a state: for what follows from that (facts.py, alert_rules.py, activity.py).

    `before` is None for a new one.
    """

    store: str
    before: Any
    after: Any


class Posted(msgspec.Struct, frozen=True):
    """An entry that the ledger has posted, and when."""

    entry: Entry
    at: datetime


class Stepped(msgspec.Struct, frozen=True):
    """A step that was appended to the history of a payment channel."""

    channel_id: str
    step: ChannelStep


Happened = Changed | Posted | Stepped
"""What one unit has done, in order, as far as something is counted, alerted or shown for it."""


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


class DropMessages(msgspec.Struct, frozen=True):
    """Delete messages of a mailbox that have ended, and whose time was over at `before`: the oldest ones first."""

    agent_id: str
    before: datetime


class StoreRoomMessage(msgspec.Struct, frozen=True):
    """Store what was written in a room."""

    message: RoomMessage


class StoreContext(msgspec.Struct, frozen=True):
    """Store a context as the newest of its type in a private channel; the oldest of too many types is forgotten."""

    channel_id: str
    context: dict[str, Any]


class DropContexts(msgspec.Struct, frozen=True):
    """Delete the contexts of a private channel that is there no more."""

    channel_id: str


class DropAlert(msgspec.Struct, frozen=True):
    """Delete an alert that was resolved long ago."""

    alert_id: str


class SetThreshold(msgspec.Struct, frozen=True):
    """Set what an agent's `balance_low` is measured by; None: it has no such alert."""

    agent_id: str
    balance_below: int | None


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
    | DropMessages
    | StoreRoomMessage
    | StoreContext
    | DropContexts
    | DropAlert
    | SetThreshold
    | Outcome
)
"""What a decision changes in the same transaction besides the state that it was loaded with."""
