"""Serving: doing one task with its handler, from its first start or from its checkpoint to its end.

The handler runs beside a watch over the task. Whichever comes first decides: the handler's end is delivered, or told as
its failure; the task's end cancels the handler. Cancelled from outside, the handler is cancelled too, and the task is
left as it is: in progress, to be taken up again.
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Protocol, cast

import msgspec

from .asking import get
from .connection import State
from .context import AgentContext
from .errors import ClientError, LyingServer, RefusedByServer, WrongAnswer, WrongPrice
from .job import Job
from .job_streams import TaskInput, TaskOutput
from .kept_task import KeptTask
from .kept_topic import JOINED
from .lies import require_later, require_task
from .task_work import OVER, Notes, OwnOutput, TaskFailed, TaskWork

Handler = Callable[[Job], AsyncIterator[str] | AsyncIterator[bytes] | AsyncIterator[str | bytes] | Awaitable[Any]]
"""What does the tasks of a capability: an async generator, each yield of which is a chunk of the output; or a coroutine
function, which returns the result."""

PAYMENT_S: Final = 60.0
"""How long a task that is paid as it streams waits for a payment, in seconds."""
LEAVE_S: Final = 5.0
"""How long leaving a topic may take, in seconds: nobody has to be left in good order."""

STUBBORN_S: Final = 10.0
"""How long a handler that is cancelled may take to end, in seconds, before that is said."""

GONE: Final = frozenset(("not_found", "unauthorized"))
"""Refusals of a task that stay: there is none, or it is not this agent's."""

WORKABLE: Final = frozenset(("pending", "in_progress"))

_LOG = logging.getLogger(__name__)


class Leavable(Protocol):
    """A topic, as far as it can be left."""

    async def leave(self) -> None:
        """Leave it."""


class Serving:
    """One task of this agent's.

    Args:
        context: The agent's.
        handler: Does it.
        task_id: The task's.
        capability: What the task was announced for.
        client_handle: Its client's; None: the market is asked.
        payment_s: How long to wait for a payment, where the output is paid as it streams, in seconds.
    """

    def __init__(
        self,
        context: AgentContext,
        handler: Handler,
        *,
        task_id: str,
        capability: str,
        client_handle: str | None,
        payment_s: float = PAYMENT_S,
    ) -> None:
        self._context = context
        self._handler = handler
        self._task_id = task_id
        self._capability = capability
        self._client_handle = client_handle
        self._payment_s = payment_s
        self._work: TaskWork | None = None
        self._told: dict[str, Any] = {}
        """The task as it was told first."""

    async def run(self) -> bool:
        """Do the task, until it has ended; at once where it has.

        Returns:
            Whether there is nothing more to do. If not, something has come between: it is to be run again later.

        Raises:
            LyingServer: What the server tells of it does not hold.
            ClientError: Whatever it is, where the connection is closed.
        """
        rewritten_seq: int | None = None
        try:
            while (work := await self._join(rewritten_seq)) is not None:
                try:
                    await self._attempt(work)
                finally:
                    await leave(work.kept)
                if work.rewritten_seq is None:
                    return True
                rewritten_seq = work.rewritten_seq
                _LOG.info("task %s begins anew: input from chunk %d on has changed", self._task_id, rewritten_seq)
        except LyingServer:
            raise
        except ClientError as error:
            if self._context.connection.state is State.CLOSED:
                raise
            is_gone = isinstance(error, RefusedByServer) and error.reason in GONE
            later = "" if is_gone else ", and seen to again later"
            _LOG.error("task %s is left as it is%s: %s", self._task_id, later, error)
            return is_gone
        return True

    # Beginning.

    async def _join(self, rewritten_seq: int | None) -> TaskWork | None:
        """Join the task, from its checkpoint on where it has one; None where it has ended.

        Args:
            rewritten_seq: From which chunk on input is not what a checkpoint may rest on.
        """
        work = await self._joined(None, 0)
        state = work.kept.state
        self._require_asked_for(state)
        if state["status"] not in WORKABLE:
            _LOG.info("task %s was %s before it was begun", self._task_id, state["status"])
            await leave(work.kept)
            return None
        checkpoint = state.get("checkpoint")
        if checkpoint is None:
            return work
        seq = int(checkpoint["seq"]) + 1
        limit = state["streams"]["input"]["next_seq"] if rewritten_seq is None else rewritten_seq
        notes = _notes_of(checkpoint["state"], input_seq_max=limit)
        if notes is None:
            work.checkpoint_seq = seq
            return work
        await leave(work.kept)
        return await self._joined(notes, seq)

    async def _joined(self, notes: Notes | None, checkpoint_seq: int) -> TaskWork:
        kept = KeptTask(
            self._context.connection,
            self._task_id,
            role="provider",
            start=None if notes is None else notes.input,
            on_event=self._hear,
        )
        kept.streamed.outgoing = OwnOutput(0 if notes is None else notes.output)
        await kept.join()
        self._work = TaskWork(kept, notes, checkpoint_seq=checkpoint_seq)
        return self._work

    def _require_asked_for(self, state: dict[str, Any]) -> None:
        told = state["id"], state["provider_agent_id"], state["capability"]
        expected = self._task_id, self._context.me.id, self._capability
        if told != expected:
            raise WrongAnswer("another task was told than the one to be done", expected=expected, told=told)
        require_task(state)
        require_later(self._told or state, state)
        self._told = state

    def _hear(self, event: str, payload: dict[str, Any]) -> None:
        """See at each event of the task, also after a join, whether the work is over, and the task is the same."""
        work = self._work
        if work is None:
            return
        if event == JOINED or "task" in payload:
            try:
                require_later(self._told, work.kept.state)
            except LyingServer as lie:
                work.failure = lie
                work.end()
        if work.kept.state["status"] not in WORKABLE:
            work.end()

    # The attempt.

    async def _attempt(self, work: TaskWork) -> None:
        watching = asyncio.create_task(work.kept.end(), name=f"watch over task {self._task_id}")
        over = asyncio.create_task(work.until_over(), name=f"end of task {self._task_id}")
        handling = asyncio.create_task(self._handle(work), name=f"{self._capability}, task {self._task_id}")
        try:
            await asyncio.wait((watching, over, handling), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            error = await self._stopped(work, handling, watching, over, is_left=True)
            self._note_end(error, "it is left for the next start")
            raise
        error = await self._stopped(work, handling, watching, over, is_left=False)
        lost = _error_of(watching)
        if work.failure is not None:
            raise work.failure
        if lost is not None and not isinstance(lost, asyncio.CancelledError):
            raise lost
        if work.rewritten_seq is None:
            await self._conclude(work, error)

    async def _stopped(
        self, work: TaskWork, handling: "asyncio.Task[None]", *others: "asyncio.Task[Any]", is_left: bool
    ) -> BaseException | None:
        """Cancel what has not ended, the handler first; how the handler has ended.

        Args:
            work: The attempt.
            handling: The handler.
            others: What is not the application's.
            is_left: Whether a handler that does not end is left to itself.
        """
        work.is_cancelled = not handling.done()
        try:
            if not await ended(handling, patience_s=STUBBORN_S, is_left=is_left):
                return asyncio.CancelledError()
        finally:
            await cancelled(others)
        return _error_of(handling)

    async def _conclude(self, work: TaskWork, error: BaseException | None) -> None:
        """Tell the client how the handler has failed, unless all is said."""
        status = work.kept.state["status"]
        if work.is_over or status not in WORKABLE:
            self._note_end(error, f"it was {status}")
        elif isinstance(error, LyingServer):
            raise error
        elif error is not None:
            failed = _failure_of(error)
            is_said = isinstance(error, TaskFailed)
            _LOG.log(
                logging.INFO if is_said else logging.ERROR,
                "task %s fails: %s",
                self._task_id,
                failed.type,
                exc_info=None if is_said else error,
            )
            await self._tell(work, failed)

    def _note_end(self, error: BaseException | None, how: str) -> None:
        _LOG.info("task %s is over here: %s", self._task_id, how)
        if error is not None and not isinstance(error, asyncio.CancelledError):
            _LOG.warning("task %s: its handler has failed while it was stopped", self._task_id, exc_info=error)

    async def _tell(self, work: TaskWork, failed: TaskFailed) -> None:
        for details in (failed.details, None):
            try:
                await work.kept.push("error", {"type": failed.type, "details": details})
            except RefusedByServer as refusal:
                if refusal.reason in OVER:
                    return
                if refusal.reason != "invalid_payload" or details is None:
                    raise
                _LOG.warning("task %s: the details of its error are too large", self._task_id)
            else:
                return

    # The handler.

    async def _handle(self, work: TaskWork) -> None:
        """Run the handler, and deliver what it has done."""
        outgoing = work.kept.streamed.outgoing
        assert isinstance(outgoing, OwnOutput), "it was put there"
        output = TaskOutput(
            work,
            self._context.connection,
            outgoing,
            chunk_bytes_max=self._context.market.chunk_bytes_max,
            payment_s=self._payment_s,
        )
        job = await self._job(work, output)
        await output.ready()
        done = self._handler(job)
        if isinstance(done, AsyncIterator):
            await _pump(done, output)
            await output.close()
        elif inspect.isawaitable(done):
            result = await done
            if result is not None:
                job.result = result
            if output.has_earlier:
                await output.close()
        else:
            raise TypeError(
                f"a handler is an async generator or a coroutine function; this gave a {type(done).__name__}"
            )
        await self._complete(work, job.result)

    async def _complete(self, work: TaskWork, result: Any) -> None:
        try:
            await work.push("complete", {"result": result})
        except RefusedByServer as refusal:
            if refusal.reason == "invalid_payload":
                raise TaskFailed("result_too_large") from refusal
            if refusal.reason == "nothing_delivered":
                raise TaskFailed(refusal.reason) from refusal
            raise

    async def _job(self, work: TaskWork, output: TaskOutput) -> Job:
        state = work.kept.state
        handle, session_id = self._client_handle, state["negotiation_session_id"]
        if handle is None:
            client = await self._asked(f"/agents/{state['client_agent_id']}")
            handle = None if client is None else client.get("handle")
        session = None if session_id is None else await self._asked(f"/negotiations/{session_id}")
        if session is not None:
            self._require_agreed(state, session)
        terms = None if session is None else session.get("terms")
        return Job(state, client_handle=handle, terms=terms, work=work, input=TaskInput(work), output=output)

    def _require_agreed(self, state: dict[str, Any], session: dict[str, Any]) -> None:
        """Refuse a task at another price than both have signed. Without a signing key nobody knows what was signed.

        Raises:
            WrongPrice: It has another price.
            LyingServer: The session does not hold.
        """
        signer = self._context.signer
        if signer is None:
            return
        agreed = signer.agreed(session, agent_id=self._context.me.id)
        if state["price"] != agreed:
            raise WrongPrice(
                f"{agreed} was agreed, and the task's price is {state['price']}", expected=agreed, told=state["price"]
            )

    async def _asked(self, path: str) -> dict[str, Any] | None:
        """Something that is read by REST; None where the market does not show it."""
        try:
            return await get(self._context, path, dict[str, Any])
        except RefusedByServer as refusal:
            _LOG.info("task %s: %s is not told: %s", self._task_id, path, refusal)
            return None


async def _pump(pieces: AsyncIterator[str | bytes], output: TaskOutput) -> None:
    """Send what a generator yields. Cancelled meanwhile, it hears so where it stands, at its yield."""
    try:
        async for piece in pieces:
            try:
                await output.send(piece)
            except asyncio.CancelledError as cancellation:
                await _throw(pieces, cancellation)
                raise
    finally:
        aclose = getattr(pieces, "aclose", None)
        if aclose is not None:
            await aclose()


async def _throw(pieces: AsyncIterator[str | bytes], cancellation: asyncio.CancelledError) -> None:
    athrow = getattr(pieces, "athrow", None)
    if athrow is None:
        return
    with suppress(asyncio.CancelledError, StopAsyncIteration):
        await athrow(cancellation)


def _error_of(task: "asyncio.Task[Any]") -> BaseException | None:
    """How something has ended that is done."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()


def _failure_of(error: BaseException) -> TaskFailed:
    """What the client is told of a failure: of what was not said for it, the class alone."""
    unsaid = TaskFailed("provider_error", {"exception": type(error).__name__})
    if isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return _failure_of(inner[0]) if len(inner) == 1 else unsaid
    return error if isinstance(error, TaskFailed) else unsaid


def _notes_of(state: Any, *, input_seq_max: int) -> Notes | None:
    """A checkpoint as this client writes it; None where it is none, or rests on input that is not stored so."""
    try:
        notes = msgspec.convert(state, Notes)
    except msgspec.ValidationError:
        _LOG.warning("a checkpoint that another program has made is of no use here: the work begins anew")
        return None
    is_behind = (notes.input.seq, notes.skip) > (input_seq_max, 0)
    return None if is_behind else notes


async def cancelled(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel, and wait until all have ended; also where that is cancelled itself, which is raised afterwards."""
    pending: set[asyncio.Task[Any]] = {task for task in tasks if not task.done()}
    interruption: asyncio.CancelledError | None = None
    for task in pending:
        task.cancel()
    while pending:
        try:
            _, pending = await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            interruption = error
            pending = {task for task in pending if not task.done()}
            for task in pending:
                task.cancel()
    if interruption is not None:
        raise interruption


async def ended(handling: "asyncio.Task[None]", *, patience_s: float, is_left: bool) -> bool:
    """Cancel a handler, and wait for its end. One that keeps the cancellation to itself is told of in the log.

    Args:
        handling: The handler; its name says of what.
        patience_s: After how long that is.
        is_left: Whether it is left to itself then. Else it is waited for, until this is cancelled, which cancels it
            once more: from then on it has as long again, and is left.

    Returns:
        Whether it has ended.
    """
    interruption: asyncio.CancelledError | None = None
    is_told = False
    handling.cancel()
    while not handling.done():
        may_leave = is_left or interruption is not None
        try:
            await asyncio.wait((handling,), timeout=None if is_told and not may_leave else patience_s)
        except asyncio.CancelledError as error:
            interruption = error
            handling.cancel()
            continue
        if handling.done():
            break
        is_told = True
        _LOG.error(
            "the handler of %s was cancelled and has not ended for %.0f s: it must not keep CancelledError to itself%s",
            handling.get_name(),
            patience_s,
            ". It is left behind, and may keep this program from ending until one more signal" if may_leave else "",
        )
        if may_leave:
            break
    if interruption is not None:
        raise interruption
    return handling.done()


async def leave(topic: Leavable) -> None:
    """Leave a topic, if that is done soon: nothing depends on it."""
    try:
        async with asyncio.timeout(LEAVE_S):
            await topic.leave()
    except (ClientError, TimeoutError) as error:
        _LOG.debug("a topic was not left: %s", error)
