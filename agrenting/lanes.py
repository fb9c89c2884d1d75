"""Lanes: the events of a stream, relayed before they are durable and stored in batches.

    chunk ─► foreseen? ─► relayed at once
      └────► joins the batch that waits for the writer ─► decided, stored, durable ─► reply

Everything else of a topic waits for the writer one by one; chunks, progress and checkpoints of one topic that wait for
it together share one unit: their state is loaded once and saved once.

A lane knows the state of its topic as it will be once all that is under way is stored. What that state allows is
relayed at once, unless something else of the topic is under way, which may change it. The writer decides all the same,
on what is stored. Should it refuse what was relayed, because somebody else changed the state or the disk is full, that
is taken back: whoever got it is made to join again.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, TypeVar

import structlog

from agrenting.db.commit import Unit
from agrenting.db.transaction import WriterTx
from agrenting.deciding import Command, Outcome, Settled, Together
from channels.errors import Refusal
from channels.handlers import Context
from channels.told import Told, Unsaid

log = structlog.get_logger(__name__)

T = TypeVar("T")

LANES_MAX: Final = 1_024
BATCH_MAX: Final = 256
"""Events of one topic that share a unit at most: who writes to other topics waits for one unit at a time."""


class Entry:
    """One event under way.

    Args:
        is_foreseen: The state that the lane knows has it in it.
        is_relayed: It was told to others.
    """

    __slots__ = ("command", "is_foreseen", "is_relayed", "settled")

    def __init__(self, command: Command, settled: Settled) -> None:
        self.command = command
        self.settled = settled
        self.is_foreseen = False
        self.is_relayed = False


class Lane:
    """What is known of one topic.

    Args:
        state: As it will be once all that is under way is stored; None where that is not known.
        stored: As it is; None where that is not known.
        entries: Events under way that are decided in batches, in order.
        others: How many others are under way.
        batch: The one that waits for the writer.
        is_settled: Whether a batch of it has been settled. Before, something may be under way that was not counted.
    """

    __slots__ = ("batch", "entries", "is_settled", "others", "state", "stored")

    def __init__(self) -> None:
        self.state: Any = None
        self.stored: Any = None
        self.entries: deque[Entry] = deque()
        self.others = 0
        self.batch: Batch | None = None
        self.is_settled = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not (self.entries or self.others)


class Batch(Unit):
    """Events of one topic that share a unit; it takes more until the writer takes it."""

    __slots__ = ("entries", "is_open")

    def __init__(
        self,
        entries: list[Entry],
        run: Callable[[WriterTx], Any],
        settled: Callable[[Any, Exception | None], None],
    ) -> None:
        super().__init__(run, settled)
        self.entries = entries
        self.is_open = True

    def taken(self) -> None:
        """The writer has it now."""
        self.is_open = False


class Lanes:
    """The lanes of this process.

    Args:
        submit: Hands a unit to the writer.
        decide: Decides commands of one topic together, inside the transaction.
        context: What a handler may know, now.
        publish: Tells subscribers, with the sending agent's id and connection.
    """

    def __init__(
        self,
        *,
        submit: Callable[[Unit], None],
        decide: Callable[[WriterTx, list[Command]], Together],
        context: Callable[[Command], Context],
        publish: Callable[[tuple[Told, ...], str | None, Any], None],
    ) -> None:
        self._submit = submit
        self._decide = decide
        self._context = context
        self._publish = publish
        self._lanes: OrderedDict[str, Lane] = OrderedDict()

    def submit(self, command: Command, settled: Settled) -> None:
        """Relay an event if it can be foreseen, and have it decided; `settled` is called once it is durable."""
        lane = self._lane(command.topic)
        entry = Entry(command, settled)
        if lane.others:
            lane.state = None  # It may come to another state: what this event makes of that shows then.
        elif lane.state is not None:
            self._relay(lane, entry)
        lane.entries.append(entry)
        batch = lane.batch
        if batch is not None and batch.is_open and len(batch.entries) < BATCH_MAX:
            batch.entries.append(entry)
            return
        batch = lane.batch = self._new_batch(lane, entry)
        self._submit(batch)

    def passing(
        self, topic: str, settled: Callable[[T, Exception | None], None]
    ) -> Callable[[T, Exception | None], None]:
        """An event that is no stream's is submitted: until it is settled, nothing of its topic is relayed ahead."""
        lane = self._lanes.get(topic)
        if lane is None:
            return settled
        lane.others += 1
        lane.batch = None  # What comes after it is decided after it.

        def passed(outcome: T, error: Exception | None) -> None:
            lane.others -= 1
            try:
                settled(outcome, error)
            finally:
                self._catch_up(lane)

        return passed

    def saved(self, topic: str, state: Any) -> None:
        """A topic's state is stored anew, by an event that is no stream's; None where another process did it."""
        lane = self._lanes.get(topic)
        if lane is None:
            return
        lane.stored = state
        lane.state = None  # What is under way was foreseen on another.
        self._catch_up(lane)

    def _lane(self, topic: str) -> Lane:
        lane = self._lanes.get(topic)
        if lane is None:
            lane = self._lanes[topic] = Lane()
            for name in list(islice(self._lanes, max(0, len(self._lanes) - LANES_MAX))):
                if self._lanes[name].is_idle:
                    del self._lanes[name]
        self._lanes.move_to_end(topic)
        return lane

    def _relay(self, lane: Lane, entry: Entry) -> None:
        """Relay an event ahead of the writer, if the known state allows it."""
        command = entry.command
        foresees = command.handler.foresees
        assert foresees is not None, "the events of a lane have it"
        context = self._context(command)
        try:
            lane.state, told = foresees(lane.state, command.request, context)
        except Refusal:
            lane.state = None  # Should the writer take it all the same, nothing that comes later may be told before it.
            return
        except Exception:
            log.exception("foresight_failed", topic=command.topic)  # The writer comes to the same bug, and answers.
            lane.state = None
            return
        entry.is_foreseen = True
        if told is not None:
            entry.is_relayed = True
            self._publish((told,), command.sender.agent_id, command.socket)

    def _catch_up(self, lane: Lane) -> None:
        """Where the state had not been known, it is once nothing is under way that was foreseen on another one."""
        if lane.state is not None or lane.stored is None or lane.others or not lane.is_settled:
            return
        if any(entry.is_foreseen for entry in lane.entries):
            return
        lane.state = lane.stored
        for entry in lane.entries:
            self._relay(lane, entry)
            if lane.state is None:
                return

    def _new_batch(self, lane: Lane, first: Entry) -> Batch:
        entries = [first]  # The closures hold these alone: with the batch, they were a cycle that holds every chunk.

        def run(tx: WriterTx) -> Together:
            return self._decide(tx, [entry.command for entry in entries])

        def settled(together: Together | None, error: Exception | None) -> None:
            self._settle(lane, entries, together, error)

        return Batch(entries, run, settled)

    def _settle(self, lane: Lane, entries: list[Entry], together: Together | None, error: Exception | None) -> None:
        """Tell what is durable, in order, and take back what is not."""
        outcomes: list[Outcome] = [(None, error)] * len(entries) if together is None else together.outcomes
        if lane.batch is not None and lane.batch.entries is entries:
            lane.batch = None
        is_as_foreseen = together is not None
        taken_back: dict[str | None, Command] = {}
        for entry, (done, refusal) in zip(entries, outcomes, strict=True):
            lane.entries.popleft()
            command = entry.command
            if done is None and entry.is_foreseen:
                is_as_foreseen = False
                if entry.is_relayed:
                    taken_back[command.sender.agent_id] = command
            elif done is not None and not entry.is_relayed:
                self._publish(done.broadcasts, command.sender.agent_id, command.socket)
            try:
                entry.settled(done, refusal)
            except Exception:
                log.exception("not_answered", topic=command.topic)  # The others of the batch are.
        for sender_id, command in taken_back.items():
            self._publish((Unsaid(command.topic),), sender_id, command.socket)
        lane.stored = None if together is None else together.state
        lane.is_settled = True
        if not is_as_foreseen:
            lane.state = None  # What follows was foreseen on what has not come about.
        self._catch_up(lane)
