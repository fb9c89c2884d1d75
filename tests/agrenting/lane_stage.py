"""A stage for lanes: a sheet that Alice and Bob write lines on, and a writer whose batches are released by hand.

A sheet has room for so many lines; what is beyond it is refused. Alice begins it, Bob may write before. Of quiet lines
nobody is told, of late ones once they are stored. Others change the room: other events of the topic, which the lane is
told of when they are submitted, and payments, timers, REST and other processes, of which it hears once they are stored.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from agrenting.db.commit import StorageUnavailable, Unit
from agrenting.deciding import Command, Done, Outcome, Together
from agrenting.lanes import Lane, Lanes
from channels.errors import Conflict, Refusal
from channels.handlers import Access, Context, Decision, Handler
from channels.identity import Identity
from channels.limits import Market
from channels.told import Broadcast, Saved, Unsaid

TOPIC: Final = "sheet:1"
NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)
MARKET: Final = Market(signing_domain="market.test/abc")
DISK_FULL: Final = StorageUnavailable("the disk is full")
ALICE: Final = Identity(kind="agent", user_id="jane", agent_id="alice", handle="jane/alice", key_id="")
BOB: Final = Identity(kind="agent", user_id="uwe", agent_id="bob", handle="uwe/bob", key_id="")


class Sheet(msgspec.Struct, frozen=True):
    """The state of the topic."""

    lines: tuple[str, ...] = ()
    room: int = 1_000
    has_begun: bool = True


def _after(sheet: Sheet, line: str) -> Sheet:
    if line.startswith("bug"):
        raise RuntimeError(line)
    if line.startswith("note"):
        return sheet  # It takes no room.
    if len(sheet.lines) >= sheet.room:
        raise Conflict("full", "There is no room for this line.")
    return msgspec.structs.replace(sheet, lines=(*sheet.lines, line))


def _told(line: str, topic: str = TOPIC) -> Broadcast:
    return Broadcast(topic, "line", line)


def _decide(sheet: Sheet, line: str, context: Context) -> Decision:
    if line.startswith("read"):
        return Decision()  # As a duplicate: it is answered and changes nothing.
    after = _after(sheet, line)
    if context.sender == ALICE:
        after = msgspec.structs.replace(after, has_begun=True)
    broadcasts = () if line.startswith("quiet") else (_told(line, context.topic),)
    return Decision(state=after, broadcasts=broadcasts)


def _foresees(sheet: Sheet, line: str, context: Context) -> tuple[Sheet, Broadcast | None]:
    if line.startswith("read"):
        raise Conflict("known", "This line is there.")
    if context.sender == ALICE and not sheet.has_begun:
        raise Conflict("not_begun", "When Alice begins, the writer says.")
    return _after(sheet, line), None if line.startswith(("quiet", "late")) else _told(line, context.topic)


WRITE: Final = Handler(str, _decide, loads="sheet", access=Access.WRITE, foresees=_foresees)


class Stage:
    """Lanes, the writer, and all that is told."""

    def __init__(self, sheet: Sheet = Sheet()) -> None:  # noqa: B008 - it is frozen
        self.stored = sheet
        self.waiting: list[Unit] = []
        self.taken: list[Unit] = []
        self.committed: list[tuple[Unit, Any, Exception | None]] = []
        self.published: list[tuple[str, str]] = []
        """Who said what; a line that was taken back is the word `unsaid`."""
        self.answers: list[tuple[str, str]] = []
        """Each event and what became of it, in the order in which that was told."""
        self.told: list[str] = []
        """Both of these, in one order."""
        self.deaf = ""
        """Whom an answer cannot be told."""
        self.under_way: dict[str, None] = {}
        """Other events of the topic that the lane has been told of."""
        self.lanes = Lanes(submit=self.waiting.append, decide=self._decide, context=self._context, publish=self._say)

    # What is submitted.

    def write(self, line: str, sender: Identity = ALICE, topic: str = TOPIC) -> None:
        """A line of the topic's stream."""
        command = Command(handler=WRITE, topic=topic, request=line, sender=sender)
        self.lanes.submit(command, lambda done, error: self._answered(line, done, error))

    def other(self, name: str, room: int | None = None, *, refused: bool = False) -> None:
        """Another event of the topic, which goes past the lane: it may change the room, or be refused."""

        def run(_tx: Any) -> Done:
            if refused:
                raise Conflict("no", "No.")
            state = None if room is None else msgspec.structs.replace(self.stored, room=room)
            self.stored = state or self.stored
            saved = () if state is None else (Saved(TOPIC, state),)
            return Done(Decision(state=state), (Broadcast(TOPIC, "other", name), *saved))

        def answered(done: Done | None, error: Exception | None) -> None:
            self.under_way.pop(name)
            self._answered(name, done, error)

        self.under_way[name] = None
        passed = self.lanes.passing(TOPIC, answered)

        def settled(done: Done | None, error: Exception | None) -> None:
            if done is not None:
                self._publish_all(done.broadcasts, "carol")
            passed(done, error)

        self.waiting.append(Unit(run, settled))

    def payment(self, room: int) -> None:
        """A unit of another topic, or of REST, that saves this topic's state too."""

        def run(_tx: Any) -> Saved:
            self.stored = msgspec.structs.replace(self.stored, room=room)
            return Saved(TOPIC, self.stored)

        def settled(saved: Saved | None, _error: Exception | None) -> None:
            if saved is not None:
                self._publish_all((saved,), None)

        self.waiting.append(Unit(run, settled))

    def foreign(self, room: int) -> None:
        """Another process has changed the state on the same disk, of which this one does not know yet."""
        self.stored = msgspec.structs.replace(self.stored, room=room)

    def hear_of_it(self) -> None:
        """This process looks what others have announced: only which state it was, not what became of it."""
        self.lanes.saved(TOPIC, None)

    # The writer.

    def take(self, count: int = 1_000) -> None:
        """The writer takes what waits."""
        self.taken, self.waiting[:count] = self.waiting[:count], []
        for unit in self.taken:
            unit.taken()

    def commit(self, *, fails: bool = False) -> None:
        """What it has taken is durable, or nothing of it is; nobody knows yet."""
        before = self.stored
        outcomes = [(unit, *self._run(unit)) for unit in self.taken]
        if fails:
            self.stored = before
            outcomes = [(unit, None, DISK_FULL) for unit in self.taken]
        self.committed += outcomes
        self.taken = []

    def settle(self) -> None:
        """All of it is told, in order."""
        committed, self.committed = self.committed, []
        for unit, outcome, error in committed:
            unit.settled(outcome, error)

    def release(self, count: int = 1_000, *, fails: bool = False) -> None:
        """One commit from its beginning to its end."""
        self.take(count)
        self.commit(fails=fails)
        self.settle()

    def release_all(self) -> None:
        """Until nothing is under way."""
        while self.waiting or self.taken or self.committed:
            if self.taken:
                self.commit()
            self.settle()
            self.take()

    # What is seen.

    @property
    def said(self) -> list[str]:
        """What was published, without who said it."""
        return [what for _, what in self.published]

    def heard_by(self, name: str) -> list[str]:
        """What one of them was told: all that somebody else has said, or that the clock took back."""
        return [what for who, what in self.published if who != name]

    @property
    def outcomes(self) -> dict[str, str]:
        """Each event that is settled, and what became of it."""
        return dict(self.answers)

    def lane(self, topic: str = TOPIC) -> Lane | None:
        """The topic's lane, if it is kept."""
        lanes: dict[str, Lane] = self.lanes._lanes  # noqa: SLF001 - what is kept of a topic is what is tried
        return lanes.get(topic)

    def _decide(self, _tx: Any, commands: list[Command]) -> Together:
        """As the server does, with one sheet for all topics."""
        outcomes: list[Outcome] = []
        for command in commands:
            try:
                context = self._context(command)
                decision = command.handler.decide(self.stored, command.request, context)
            except Exception as error:  # noqa: BLE001 - refusals and bugs are outcomes like any other
                outcomes.append((None, error))
                continue
            self.stored = decision.state or self.stored
            outcomes.append((Done(decision, decision.broadcasts), None))
        return Together(outcomes, self.stored)

    def _run(self, unit: Unit) -> tuple[Any, Exception | None]:
        run: Callable[[Any], Any] = unit.run
        try:
            return run(None), None
        except Refusal as refusal:
            return None, refusal

    def _context(self, command: Command) -> Context:
        return Context(sender=command.sender, now=NOW, market=MARKET, new_id=str, new_token=str, topic=command.topic)

    def _publish_all(self, told: tuple[Any, ...], sender_id: str | None) -> None:
        self._say(told, sender_id, None)
        for one in told:
            if isinstance(one, Saved):
                self.lanes.saved(one.topic, one.state)

    def _say(self, told: tuple[Any, ...], sender_id: str | None, _socket: Any) -> None:
        for one in told:
            if isinstance(one, Broadcast):
                self.published.append((str(sender_id), one.payload))
                self.told.append(one.payload)
            elif isinstance(one, Unsaid):
                self.published.append((str(sender_id), "unsaid"))

    def _answered(self, name: str, done: Done | None, error: Exception | None) -> None:
        if name == self.deaf:
            raise OSError("cannot hear")
        outcome = "ok"
        if done is None:
            outcome = error.reason if isinstance(error, Refusal) else type(error).__name__
        self.answers.append((name, outcome))
        self.told.append(f"{name}: {outcome}")
