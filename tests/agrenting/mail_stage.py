"""A stage for mailboxes: sockets that read when the test lets them, messages that are stored, and a clock of its own.

Bob's sockets listen to his mailbox, in which Alice leaves messages. What happens at each read, while a socket is full,
and when the writer gets to mark something, the test says.
"""

import sqlite3
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import msgspec

from agrenting.db import messages
from agrenting.db.transaction import ReaderTx, WriterTx
from agrenting.deciding import THE_HOUSE, Command, Done, decide
from agrenting.feeds import follow
from agrenting.ids import new_id
from agrenting.mailboxes import MailFeed
from agrenting.presences import Topic
from agrenting.replays import Replays
from agrenting.subscriptions import Subscription
from channels.changes import Mail
from channels.handlers import Context, FollowMail
from channels.identity import Identity
from channels.limits import Market
from channels.session import Join, Joined
from channels.told import Broadcast
from channels.wire import Vsn
from tests.agrenting.replay_stage import decoded

BOB: Final = "bob"
TOPIC: Final = f"messages:{BOB}"
OUTBOX: Final = 8_000
NOW: Final = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

Step = Callable[[], None]


class Bell:
    """A timer of the loop."""

    def __init__(self, at: float, ring: Step) -> None:
        self.at = at
        self.ring = ring
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Wire:
    """A connection as a subscription sees one; also its hub, its session and its transport."""

    def __init__(self, stage: "Stage", repeats_s: tuple[float, ...] = (5.0, 10.0, 20.0, 40.0)) -> None:
        self.stage = stage
        self.vsn = Vsn.V2
        self.identity = SimpleNamespace(agent_id=BOB, id=BOB)
        self.settings = SimpleNamespace(outbox_bytes_max=OUTBOX, message_repeats_s=repeats_s)
        self.sent: list[tuple[str, Any]] = []
        self.ended: list[tuple[str, Any]] = []
        self.joined: dict[str, Joined] = {}
        self.spawned: deque[Coroutine[Any, Any, None]] = deque()
        self.bells: list[Bell] = []
        self.is_full = False
        self.close_sent = False
        self.replays = Replays()
        self.draining: deque[Step] = deque()
        """What happens while the peer is waited for, one for each time."""
        self.drains = 0
        self.waiting_bytes = self.waiting_bytes_most = 0
        self.hub = self.session = self.protocol = self.loop = self
        self.engine = stage

    def send(self, frame: str | bytes) -> None:
        self.sent.append(decoded(frame))
        self.waiting_bytes += len(frame)
        self.waiting_bytes_most = max(self.waiting_bytes_most, self.waiting_bytes)

    def end(self, subscription: Subscription, event: str, payload: Any) -> None:
        if self.joined.pop(subscription.topic, None) is subscription.joined:
            self.ended.append((event, payload))
            subscription.over(is_leaving=False)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.spawned.append(work)

    def call_later(self, delay_s: float, ring: Step) -> Bell:
        self.bells.append(Bell(self.stage.monotonic_s + delay_s, ring))
        return self.bells[-1]

    def monotonic(self) -> float:
        return self.stage.monotonic_s

    async def drained(self) -> None:
        self.drains += 1
        if self.draining:
            self.draining.popleft()()
        self.is_full = False
        self.waiting_bytes = 0

    @property
    def pushed(self) -> list[Any]:
        """What the messages say that it was pushed, in order."""
        return [payload["payload"] for event, payload in self.sent if event == "new_message"]

    @property
    def is_waiting(self) -> bool:
        """Whether it will do something of its own accord."""
        return any(not bell.is_cancelled for bell in self.bells)


class Stage:
    """Bob's mailbox on a real file, and the engine as far as a feed needs one."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.tx = WriterTx(self.connection, {})
        self.topic = Topic(TOPIC)
        self.monotonic_s = 1_000.0
        self.market = Market(signing_domain="market.test")
        self.ids: dict[Any, str] = {}
        """What a message says → its id."""
        self.reading: deque[Step] = deque()
        """What happens right before a page is read, one for each time."""
        self.reads = 0
        self.is_marking = True
        self.submitted: deque[tuple[Command, Callable[[Done | None, Exception | None], None]]] = deque()
        self.updates: list[Broadcast] = []
        self.broken: Exception | None = None

    def close(self) -> None:
        """Let go of the file."""
        with closing(self.connection):
            self.connection.rollback()

    # What is stored, and told.

    def clock(self) -> datetime:
        """Moves with the monotonic clock."""
        return NOW + timedelta(seconds=self.monotonic_s - 1_000)

    def store(self, *payloads: Any, sender: str = "alice", id_: str | None = None) -> list[Broadcast]:
        """Messages are durable; what is to be told of them."""
        return [self._store(payload, sender, id_) for payload in payloads]

    def _store(self, payload: Any, sender: str, id_: str | None) -> Broadcast:
        mail = Mail(BOB, "x_test", payload, sender, id=id_ or new_id(), is_from_market=False)
        self.ids[payload if isinstance(payload, int) else str(payload)[:8]] = str(mail.id)
        return messages.deliver(self.tx, mail, self._context(THE_HOUSE))

    def tell(self, *told: Broadcast) -> None:
        """The sockets are told."""
        for one in told:
            self.topic.publish(one, "alice", None)

    def write(self, *payloads: Any) -> None:
        """Messages are stored and told."""
        self.tell(*self.store(*payloads))

    def answer(self, *payloads: int, event: str = "acknowledge") -> None:
        """Bob answers messages."""
        for payload in payloads:
            status = {"acknowledge": "acknowledged", "reject": "rejected"}[event]
            self.tx.run(
                "UPDATE messages SET status = :status, state = json_set(state, '$.status', :status) WHERE id = :id",
                id=self.ids[payload],
                status=status,
            )

    def status(self, payload: int) -> str:
        """Where a message stands."""
        row = self.tx.one("SELECT status FROM messages WHERE id = :id", id=self.ids[payload])
        assert row is not None
        return str(row[0])

    # What a feed asks of an engine.

    async def read(self, question: Callable[[ReaderTx], Any]) -> Any:
        """Beside the writer: what is stored now."""
        self.reads += 1
        if self.broken is not None:
            raise self.broken
        if self.reading:
            self.reading.popleft()()
        given: Any = self.tx
        return question(given)

    def submit(self, command: Command, settled: Callable[[Done | None, Exception | None], None]) -> None:
        """To the writer, which gets to it at once, or when the test says."""
        self.submitted.append((command, settled))
        if self.is_marking:
            self.mark()

    def mark(self, error: Exception | None = None) -> None:
        """The writer gets to the next change, or fails."""
        command, settled = self.submitted.popleft()
        if error is not None:
            settled(None, error)
            return
        done = decide(WriterTx(self.connection, {}), command, self._context(command.sender))
        self.updates += [told for told in done.broadcasts if isinstance(told, Broadcast)]
        settled(done, None)

    def _context(self, sender: Identity) -> Context:
        return Context(
            sender=sender, now=self.clock(), market=self.market, new_id=new_id, new_token=new_id, topic=TOPIC
        )

    # Who listens.

    def join(self, wire: Wire) -> MailFeed:
        """A socket joins; its feed begins when it is run."""
        joined = Joined(TOPIC, "j")
        given: Any = wire
        route: Any = SimpleNamespace(visible=None)
        party: Any = SimpleNamespace(id=BOB)
        subscription = Subscription(given, joined, Join(TOPIC, msgspec.Raw(b"{}"), "j", "1", None), route, party)
        joined.subscription = subscription
        wire.joined[TOPIC] = joined
        self.topic.subscribers[subscription] = None
        follow(subscription, FollowMail(BOB))
        assert isinstance(subscription.feed, MailFeed)
        return subscription.feed

    def leave(self, wire: Wire) -> None:
        """The socket has left the topic."""
        subscription = wire.joined.pop(TOPIC).subscription
        del self.topic.subscribers[subscription]
        subscription.over(is_leaving=True)

    async def run(self, wire: Wire) -> None:
        """Whatever a socket's feed has begun runs to its end."""
        while wire.spawned:
            await wire.spawned.popleft()

    async def wait(self, wire: Wire, seconds: float) -> None:
        """Time passes, and whatever is due on the socket happens in its time."""
        until = self.monotonic_s + seconds
        while due := sorted((bell.at, number) for number, bell in enumerate(wire.bells) if not bell.is_cancelled):
            at, number = due[0]
            if at > until:
                break
            self.monotonic_s = max(self.monotonic_s, at)
            wire.bells.pop(number).ring()
            await self.run(wire)
        self.monotonic_s = until
