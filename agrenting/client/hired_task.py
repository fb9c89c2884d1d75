"""HiredTask: work that this agent has hired another one for, as its client sees it.

    task = await agent.hire("translate", data="Good morning!", max_price="5.00")
    async for chunk in task:
        ...
    await task.settle()

What is lost on the way (the connection, the server) is nobody's concern here: chunks go and come in order and once. The
input is sent while the output is read, and what goes wrong with it is raised to whoever reads.
"""

import asyncio
import contextlib
import inspect
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from .asking import converted, post
from .errors import CheckFailed, ClientError, StreamBroken, TaskNotDone, telling
from .hired_input import Data, InputSender, pieces_of
from .hired_output import HiredOutput, Payer, Payment, UnitPayer
from .hired_proof import Progress, TaskShape, Verified, require_streams
from .kept_task import KeptTask
from .kept_topic import JOINED
from .known import KnownTask
from .lies import FINAL, Order, require_later, require_ordered, require_released
from .receipts import task_receipt

if TYPE_CHECKING:
    from .context import AgentContext

Check = Callable[[Any, bytes], bool | str | Awaitable[bool | str | None] | None]
"""Looks at result and output: False, or a sentence, says no; True, None and the empty sentence say yes."""

PROGRESS_KEPT: Final = 1_000
"""What of a provider's progress is kept for whoever reads it later."""

SOURCE_BROKE = "the input could not be read to its end"


class HiredTask:
    """Work that this agent has hired another one for. `Hiring.hire` makes it.

    Iterate over it for the output, chunk by chunk, each once and in order; who stops early goes on behind the last one.
    `read` and `text` give all of it, from the beginning. Several `asyncio` tasks may use it at once.

    As an asynchronous context it leaves the task's topic at the end; the task itself goes on.

    Args:
        context: The agent's.
        opened: The task as it was opened.
        order: As what it was ordered.
        payer: What pays for the output as it streams; None: its price is held.
        under_way: By task, payments of all who pay for units in this program.

    Raises:
        WrongPrice, WrongAnswer, WrongPayout, MalformedAnswer: It is not what was ordered.
    """

    def __init__(
        self,
        context: "AgentContext",
        opened: dict[str, Any],
        order: Order,
        payer: Payer | None = None,
        under_way: dict[str, Payment] | None = None,
    ) -> None:
        converted(opened, TaskShape)
        require_ordered(opened, order)
        self._context = context
        self._order = order
        self._kept = KeptTask(context.connection, opened["id"], role="client", on_event=self._hear)
        self._told = opened
        """As events and joins have told it last: each of them has to follow from the one before."""
        self._state = opened
        """The newest that is known of it."""
        self._progress: deque[Progress] = deque(maxlen=PROGRESS_KEPT)
        self._progress_told = 0
        """How often another one was told: the ordinal of the newest."""
        self._news = asyncio.Event()
        """Set, and replaced, whenever progress or state are told anew."""
        self._payer = UnitPayer(context, self._kept, payer, under_way)
        self._output = HiredOutput(self._kept, self._payer)
        self._input = InputSender(context, self._kept, self._take_back)

    def __repr__(self) -> str:
        """Which task it is."""
        return f"<HiredTask {self.id}, {self.status}>"

    async def __aenter__(self) -> Self:
        """The task itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the topic: `leave`."""
        await self.leave()

    # What it is.

    @property
    def id(self) -> str:
        """The task's id."""
        return self._kept.id

    @property
    def price(self) -> int:
        """What is held for it, in minor units; 0 where it is paid as it streams."""
        return int(self._state["price"])

    @property
    def status(self) -> str:
        """`pending`, `in_progress`, `completed`, `failed`, `cancelled` or `disputed`."""
        status = str(self._state["status"])
        has_begun = bool(self._progress) or self._kept.streamed.incoming.position.seq > 0
        return "in_progress" if status == "pending" and has_begun else status

    @property
    def state(self) -> dict[str, Any]:
        """The whole task, as it was told last; PROTOCOL.md lists its fields."""
        return self._state

    @property
    def progress(self) -> Progress | None:
        """What the provider said last of how far it is."""
        return self._progress[-1] if self._progress else None

    @property
    def paid(self) -> int:
        """What was paid for it as it streamed, in minor units."""
        return self._payer.paid

    # Sending.

    async def start(self, data: Data | None = None) -> None:
        """Join the task, and begin to send what is to be sent. `Hiring.hire` does it.

        Raises:
            RefusedByServer: The join was refused.
            Disconnected: The connection is closed.
        """
        self._take(await self._kept.join())
        self._read_progress()
        if data is not None:
            self._input.start(data)

    async def send(self, chunk: bytes | str) -> None:
        """Send more input, where no `data` was given; text as UTF-8. What is too large for one chunk becomes several.

        It is stored once `close` has returned: of what was sent before a crash, or before `leave`, the end may be lost.

        Raises:
            RuntimeError: `data` is being sent.
            RefusedByServer: The task takes no more: `terminal_state`, `expired`, `stream_closed`, `stream_too_large`.
            LyingServer: What is stored is not what was sent.
            TopicEnded: The task was left.
            Disconnected: The connection is closed.
        """
        self._require_no_sender()
        async for piece in pieces_of(chunk, self._context.market.chunk_bytes_max):
            await self._kept.send(piece)

    async def close(self) -> None:
        """End the input, where no `data` was given: the provider hears that it has all of it.

        Raises:
            RuntimeError, RefusedByServer, LyingServer, TopicEnded, Disconnected: As for `send`.
        """
        self._require_no_sender()
        await self._kept.close()

    # Taking.

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The output, as `next_chunk` hands it on, up to its end."""
        while (chunk := await self.next_chunk()) is not None:
            yield chunk

    async def next_chunk(self) -> bytes | None:
        """The next chunk of the output; None at its end, when digest and checksum were right.

        Where it is paid as it streams, it is paid first; one that could not be is handed on the next time.

        Raises:
            StreamRewritten: Chunks that were handed on have other bytes now, because the market and the provider have
                both crashed. Said once: forget what came from `seq` on, and go on; it comes anew.
            TaskNotDone: The task has failed, or was cancelled.
            LyingServer: Digest or checksum are not those of what came.
            NotPaid, CannotSign, BrokenRecord: A unit could not be paid.
            RefusedByServer: The input, or a payment, was refused.
            TopicEnded: The task was left.
            Disconnected: The connection is closed.
            Exception: Whatever the source of `data` has raised.
        """
        while True:
            chunk = self._output.pop()
            if chunk is not None or self._output.is_whole:
                return chunk
            await self._input.unless_it_fails(self._fetch())

    async def read(self) -> bytes:
        """The whole output, from its beginning, once all of it has come.

        Raises:
            TaskNotDone and more: As for `next_chunk`, but nothing that was rewritten: it is the final output.
        """
        while not self._output.is_whole:
            await self._input.unless_it_fails(self._fetch())
        return self._output.content

    async def text(self) -> str:
        """The whole output as text.

        Raises:
            UnicodeDecodeError: It is not UTF-8.
            TaskNotDone and more: As for `read`.
        """
        return (await self.read()).decode()

    async def result(self) -> Any:
        """The result as JSON, once the task has completed; None where its provider gave none.

        Raises:
            TaskNotDone and more: As for `read`.
        """
        await self._input.unless_it_fails(self._finish())
        return self._state["result"]

    async def progress_events(self) -> AsyncGenerator[tuple[int, str | None], None]:
        """How far the provider says that it is: all that this program was told, from the first, up to the task's end.

        Of more than 1,000 that nobody has read the oldest are left out, and of what is said during a loss all but the
        last.

        Raises:
            TaskNotDone and more: As for `read`.
        """
        told = 0
        ending = asyncio.ensure_future(self.result())
        try:
            while True:
                if told == self._progress_told:
                    await self._until_news(ending)
                new = list(self._progress)[told - self._progress_told :] if told < self._progress_told else []
                told = self._progress_told
                for progress in new:
                    yield progress.percent, progress.message
                if not new and ending.done():
                    await ending
                    return
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    # What is done about it.

    async def verify(self) -> Verified:
        """Hold everything that was told of the ended task against what this agent knows itself.

        That is: the task is the one that was ordered, its price the agreed one, its fee and payout follow from it; and
        both streams have the sizes and digests of what was sent and received. Once nothing is held for it any more,
        its receipt is fetched too, verified under the market's pinned key, held against the same, and a copy kept.

        Raises:
            LyingServer: Something does not hold; the subclass says what.
            TaskNotDone and more: As for `read`.
        """
        await self._input.unless_it_fails(self._finish())
        require_ordered(self._state, self._order)
        sent, received = self._kept.streamed.outgoing.position, self._kept.streamed.incoming.position
        require_streams(self._state["streams"], sent=sent, received=received)
        receipt = None
        if self._state["escrow_status"] != "held":
            known = KnownTask(
                client_agent_id=self._context.me.id,
                provider_agent_id=self._order.provider_agent_id,
                capability=self._order.capability,
                negotiation_session_id=self._order.negotiation_session_id,
                price=self.price,
                input=self._order.input,
                result=self._state["result"],
                input_stream=sent if self._state["streams"]["input"]["complete"] else None,
                output_stream=received,
            )
            receipt = await task_receipt(self._context, self.id, known)
        return Verified.of(self._state, sent=sent, received=received, receipt=receipt)

    async def settle(self, check: Check | None = None) -> Verified:
        """Wait for the work, verify it, check it, and pay: the price is released at once, not at the end of the hold.

        Args:
            check: Is given the result and the whole output, and may wait itself. Where it returns False, or a sentence,
                nothing is released.

        Raises:
            CheckFailed: The check said no. The price is held still: `dispute`, or `release` after all.
            RefusedByServer: It cannot be released: `escrow_locked` while it is disputed.
            LyingServer, TaskNotDone and more: As for `verify`.
        """
        verified = await self.verify()
        if check is not None:
            said = check(self._state["result"], self._output.content)
            if inspect.isawaitable(said):
                said = await said
            if said is False or (isinstance(said, str) and said):
                raise CheckFailed(self.id, said or "it said no")
        if self._state["escrow_status"] == "held":
            await self.release()
        if verified.receipt is None:
            verified = await self.verify()
        await self.leave()
        return verified

    async def release(self) -> None:
        """Pay the completed task's price now, and do not wait for the end of the hold. To do so again is no error.

        Raises:
            RefusedByServer: `not_completed`, `not_held`, `escrow_locked`.
            WrongPayout, WrongAnswer, WrongPrice, RolledBack: It was answered with something else.
            Disconnected: The connection is closed.
        """
        before, after = self._state, await self._post("release")
        require_released(before, after)
        self._take(after)

    async def dispute(self, reason: str) -> None:
        """Refuse what was delivered, once, while the work goes on or its price is held; an operator decides.

        Where nothing at all was delivered the price comes back at once.

        Args:
            reason: For the provider and the operators.

        Raises:
            RefusedByServer: `not_started` (cancel it instead), `dispute_used`, `not_held`, `expired`, `terminal_state`.
            Disconnected: The connection is closed.
        """
        self._take(await self._post("dispute", {"reason": reason}))

    async def cancel(self, reason: str = "") -> None:
        """Take the task back; its price comes back. That ends with the first chunk of output, where a price is held.

        Args:
            reason: For the provider.

        Raises:
            RefusedByServer: `output_delivered` (dispute it instead), `terminal_state`, `expired`, `escrow_locked`.
            Disconnected: The connection is closed.
        """
        self._take(await self._post("cancel", {"reason": reason}))

    async def leave(self) -> None:
        """Hear no more of it. The task goes on; whoever waits gets `TopicEnded`, and the rest of `data` is not sent."""
        await self._input.stop()
        await self._kept.leave()

    # Sending, behind it.

    async def _take_back(self) -> None:
        """Cancel a task whose input cannot be had, if it can be cancelled still."""
        with contextlib.suppress(ClientError):  # What the source has raised is what is told.
            await self.cancel(SOURCE_BROKE)

    def _require_no_sender(self) -> None:
        if self._input.has_begun:
            raise RuntimeError("the input was given as `data`: nothing can be sent beside it")

    # Taking, behind it.

    async def _finish(self) -> None:
        """Take all output, pay for it, and wait until the task has ended.

        Raises:
            TaskNotDone: It has not completed.
        """
        while not self._output.is_whole:
            await self._fetch()
        if self._state["status"] not in FINAL:
            self._take(await self._kept.end())
        await self._require_done()

    async def _fetch(self) -> None:
        """Take the next chunk, and pay for it.

        Raises:
            TaskNotDone: The task has failed, or was cancelled.
        """
        try:
            await self._output.fetch()
        except StreamBroken:
            self._take(self._kept.state)
            await self._require_done()
            raise

    async def _require_done(self) -> None:
        """Leave what is over, so that its topic, of which a connection has but so many, is free for others.

        Raises:
            TaskNotDone: It has not completed.
        """
        state = self._state
        if state["status"] in FINAL and state["escrow_status"] != "held":
            await self.leave()
        if state["status"] in {"failed", "cancelled"}:
            raise TaskNotDone(self.id, state["status"], error=state["error"], reason=state["reason"])

    # Hearing.

    def _hear(self, event: str, payload: Any) -> None:
        """An event of the task, or what it was joined with again."""
        with telling("the task"):
            told = payload if event == JOINED else payload.get("task")
        if event == "progress":
            self._take_progress(converted(payload, Progress))
            self._tell()
        if told is not None:
            require_later(self._told, told)
            self._told = told
            self._take(told)
            self._read_progress()

    def _take(self, told: dict[str, Any]) -> None:
        """Note how the task stands, unless it is known to have ended since.

        Raises:
            MalformedAnswer: It lacks something that every task has.
        """
        converted(told, TaskShape)
        is_over = self._state["status"] in FINAL and self._state["escrow_status"] != "held"
        if not is_over or (told["status"] in FINAL and told["escrow_status"] != "held"):
            self._state = told
        self._tell()

    def _read_progress(self) -> None:
        told = self._state["progress"]
        if told is not None:
            self._take_progress(converted(told, Progress))

    def _take_progress(self, told: Progress) -> None:
        """Note how far the provider is, unless that was told before."""
        if told != self.progress:
            self._progress.append(told)
            self._progress_told += 1

    async def _until_news(self, ending: asyncio.Future[Any]) -> None:
        """Wait until something is told anew, or the task has ended."""
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait((news, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _post(self, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do something by REST, which takes it whether or not the topic was left; the task.

        Raises:
            LyingServer: It is not the one that it was before.
        """
        before = self._state
        after = await post(self._context, f"/tasks/{self.id}/{what}", body, dict[str, Any])
        require_later(before, after)
        return after
