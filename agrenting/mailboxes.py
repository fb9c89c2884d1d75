"""Mailboxes: what one socket is pushed of its agent's messages.

What waits comes first, oldest first, page by page as fast as the socket reads; then what is stored comes at once, and
what stays unanswered is pushed again a few times. A page is read from the database each time, so that of a full mailbox
no more than that is in memory: beside it only the ids of what was pushed and may have to be repeated.
"""

import asyncio
import heapq
from collections import deque
from typing import Final, NamedTuple

import structlog

from agrenting.clock import Clock
from agrenting.db import messages
from agrenting.db.messages import MailPage
from agrenting.db.transaction import ReaderTx
from agrenting.deciding import THE_HOUSE, Command, Done
from agrenting.replays import PAGE_BYTES_MAX, PAGES_PER_OUTBOX
from agrenting.subscriptions import Subscription
from channels.messages import PUSHED, Phase, Pushed, StoredMessage, delivery
from channels.told import Broadcast
from channels.wire import PHX_ERROR, Outgoing

log = structlog.get_logger(__name__)

PAGE_ROWS_MAX: Final = 256
MARKED_AT_ONCE: Final = 64
"""Messages that are marked as delivered in one change: everybody waits for it meanwhile."""


class Repeat(NamedTuple):
    """A message that is to be pushed again, unless it has been answered.

    Args:
        due_at: When, in monotonic seconds.
        step: Which of the repeats that is, from 0.
        pushed_at: When it was first pushed to this socket.
    """

    due_at: float
    message_id: str
    step: int
    pushed_at: float


class Repeats:
    """What a socket has been pushed and may have to be pushed again.

    Args:
        after_s: When, in seconds after the first push, rising.
    """

    def __init__(self, after_s: tuple[float, ...]) -> None:
        self._after_s = after_s
        self._heap: list[Repeat] = []
        self._ids: set[str] = set()

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._ids

    @property
    def due_at(self) -> float | None:
        """When the next one is due; None where there is none."""
        return self._heap[0].due_at if self._heap else None

    def add(self, message_id: str, now: float) -> None:
        """A message has been pushed for the first time."""
        self._put(message_id, first=0, pushed_at=now, now=now)

    def again(self, repeat: Repeat, now: float) -> None:
        """A message has been pushed again. What has become due meanwhile is left out: one push is enough."""
        self._put(repeat.message_id, first=repeat.step + 1, pushed_at=repeat.pushed_at, now=now)

    def put_back(self, repeat: Repeat) -> None:
        """It was not its turn."""
        heapq.heappush(self._heap, repeat)
        self._ids.add(repeat.message_id)

    def take_due(self, now: float, *, most: int) -> list[Repeat]:
        """What is due by now, the oldest first; it is this one's no more."""
        taken: list[Repeat] = []
        while self._heap and self._heap[0].due_at <= now and len(taken) < most:
            taken.append(heapq.heappop(self._heap))
            self._ids.discard(taken[-1].message_id)
        return taken

    def clear(self) -> None:
        """Forget everything."""
        self._heap.clear()
        self._ids.clear()

    def _put(self, message_id: str, *, first: int, pushed_at: float, now: float) -> None:
        for step in range(first, len(self._after_s)):
            due_at = pushed_at + self._after_s[step]
            if due_at > now:
                self.put_back(Repeat(due_at, message_id, step, pushed_at))
                return


class Marks:
    """Marks messages as delivered, in the order in which they were pushed, one change at a time.

    Args:
        subscription: Of the mailbox.
    """

    def __init__(self, subscription: Subscription) -> None:
        self._engine = subscription.connection.hub.engine
        self._topic = subscription.topic
        self._waiting: deque[str] = deque()
        self._is_under_way = False

    def add(self, *message_ids: str) -> None:
        """These have been pushed for the first time."""
        self._waiting += message_ids
        if not self._is_under_way:
            self._submit()

    def _submit(self) -> None:
        if not self._waiting:
            return
        self._is_under_way = True
        ids = tuple(self._waiting.popleft() for _ in range(min(len(self._waiting), MARKED_AT_ONCE)))
        command = Command(handler=PUSHED, topic=self._topic, request=Pushed(message_ids=ids), sender=THE_HOUSE)
        self._engine.submit(command, self._settled)

    def _settled(self, _done: Done | None, error: Exception | None) -> None:
        if error is not None:  # They stay queued, and are delivered all the same.
            log.error("messages_not_marked", topic=self._topic, exc_info=error)
        self._is_under_way = False
        self._submit()


class MailFeed:
    """One socket's messages, on their way.

    Args:
        subscription: Of the mailbox.
        agent_id: Whose mailbox it is.
    """

    def __init__(self, subscription: Subscription, agent_id: str) -> None:
        connection = subscription.connection
        hub = connection.hub
        self._subscription = subscription
        self._agent_id = agent_id
        self._hub = hub
        self._protocol = connection.protocol
        self._turn = connection.replays.turn
        self._clock: Clock = hub.engine.clock
        self._bytes_max = min(PAGE_BYTES_MAX, hub.settings.outbox_bytes_max // PAGES_PER_OUTBOX)
        self._marks = Marks(subscription)
        self._repeats = Repeats(hub.settings.message_repeats_s)
        self._reached = ""
        """Whatever has a smaller id has been pushed, or has ended."""
        self._is_live = False
        """What is told may be pushed at once: everything before it has been."""
        self._has_more = False
        """Something was told while it was not live."""
        self._is_over = False
        self._is_running = True  # Whoever makes it runs it.
        self._bell: asyncio.TimerHandle | None = None

    def tell(self, outgoing: Outgoing, broadcast: Broadcast) -> None:
        """Push what is told on the topic; a message in its turn."""
        if self._is_over:
            return
        if broadcast.event != "new_message":
            self._subscription.push(outgoing)
            return
        message_id: str = broadcast.payload["id"]
        if message_id > self._reached:
            self._tell_next(outgoing, message_id)
        elif message_id not in self._repeats:  # The clock was put back before a restart: its id is a small one.
            self._push(outgoing, message_id)

    def ended(self, *, is_leaving: bool) -> None:
        """Nothing more is pushed; a page that is being read is the last look at it."""
        del is_leaving
        self._is_over = True
        self._repeats.clear()
        if self._bell is not None:
            self._bell.cancel()
            self._bell = None

    async def run(self) -> None:
        """Push all that there is to push: what waits, and what is to be repeated now. Then it is live."""
        try:
            while self._is_current and await self._push_page():
                pass
        except Exception:
            log.exception("mail_failed", topic=self._subscription.topic)
            self._subscription.connection.end(self._subscription, PHX_ERROR, {"reason": "channel_crash"})
        finally:
            self._is_running = False
            self._set_bell()

    @property
    def _is_current(self) -> bool:
        return not self._is_over and self._subscription.is_current and not self._protocol.close_sent

    def _tell_next(self, outgoing: Outgoing, message_id: str) -> None:
        if self._is_live and not self._protocol.is_full:
            self._reached = message_id
            self._push(outgoing, message_id)
            return
        self._is_live = False
        self._has_more = True
        self._wake()

    def _push(self, outgoing: Outgoing, message_id: str) -> None:
        """Push a message that was just stored."""
        self._subscription.push(outgoing)
        self._repeats.add(message_id, self._hub.monotonic())
        self._marks.add(message_id)
        self._set_bell()

    def _wake(self) -> None:
        if not self._is_running and not self._is_over:
            self._is_running = True
            self._hub.spawn(self.run())

    def _set_bell(self) -> None:
        """Wake up when the next repeat is due."""
        due_at = self._repeats.due_at
        if due_at is not None and self._bell is None and not self._is_running:
            self._bell = self._hub.loop.call_later(max(0.0, due_at - self._hub.monotonic()), self._ring)

    def _ring(self) -> None:
        self._bell = None
        self._wake()

    async def _push_page(self) -> bool:
        """Push the next page of what waits, or of what is to be repeated; whether there may be more."""
        async with self._turn:
            await self._protocol.drained()
            if not self._is_current:
                return False
            if not self._is_live:
                await self._push_waiting()
                return True
            return await self._push_again()

    async def _push_waiting(self) -> None:
        self._has_more = False  # What is told from now on may not be on this page.
        page = await self._hub.engine.read(self._waiting)
        if not self._is_current:
            return
        now = self._hub.monotonic()
        for message in page.messages:
            self._subscription.push(self._outgoing(message))
            self._repeats.add(message.id, now)
        self._marks.add(*(message.id for message in page.messages if message.status is Phase.QUEUED))
        if page.looked_at:
            self._reached = page.looked_at[-1]
        elif not self._has_more:
            self._is_live = True

    async def _push_again(self) -> bool:
        due = self._repeats.take_due(self._hub.monotonic(), most=PAGE_ROWS_MAX)
        if not due:
            return False
        ids = [repeat.message_id for repeat in due]
        page = await self._hub.engine.read(lambda tx: self._still_waiting(tx, ids))
        if not self._is_current:
            return False
        repeats = {repeat.message_id: repeat for repeat in due}
        now = self._hub.monotonic()
        for message in page.messages:
            self._subscription.push(self._outgoing(message))
            self._repeats.again(repeats[message.id], now)
        for repeat in due[len(page.looked_at) :]:
            self._repeats.put_back(repeat)
        return True

    def _waiting(self, tx: ReaderTx) -> MailPage:
        return messages.waiting_page(
            tx,
            self._agent_id,
            after=self._reached,
            rows_max=PAGE_ROWS_MAX,
            bytes_max=self._bytes_max,
            now=self._clock(),
        )

    def _still_waiting(self, tx: ReaderTx, ids: list[str]) -> MailPage:
        return messages.still_waiting(tx, ids, bytes_max=self._bytes_max, now=self._clock())

    def _outgoing(self, message: StoredMessage) -> Outgoing:
        return Outgoing(self._subscription.topic, "new_message", delivery(message))
