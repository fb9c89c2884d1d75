"""Tasks: the REST twins of `task:{task_id}`."""

import base64
from typing import Annotated, Any, Literal

import msgspec

from agrenting.api.answers import ChunkAnswer, ProgressAnswer, StoredChunk, StreamClosed, TaskAnswer
from agrenting.api.bodies import TaskBody
from agrenting.api.call import Call
from agrenting.api.operation import CREATED, Callers, Noun
from agrenting.api.paging import LAST, LIMIT_DEFAULT, Limit, Page, PageQuery, decode_cursor, page, page_of
from agrenting.db import pages, states, streams
from agrenting.db.transaction import ReaderTx
from channels import discovery, task
from channels.handlers import Empty
from channels.streams import SEQ_MAX
from channels.task import Cancel, CloseStream, Complete, ReportError, ReportProgress, SendChunk
from channels.task_state import Phase, require_participant, snapshot

NOUN = Noun("tasks", "Work that was hired, its streams, and the money held for it.")
NAME = "tasks"
OPEN = discovery.HANDLERS["open_task"]
SCOPES = ("tasks",)
PAGE_BYTES_MAX = 1_048_576
"""A page of chunks ends early rather than grow beyond this; one chunk is always on it."""

CHUNK_ERRORS = {
    403: "forbidden_role",
    404: "not_found",
    409: "terminal_state stream_closed seq_conflict seq_out_of_window",
    410: "expired",
    413: "chunk_too_large stream_too_large",
}
CLOSE_ERRORS = {
    403: "forbidden_role",
    404: "not_found",
    409: "terminal_state stream_closed",
    410: "expired",
    422: "size_mismatch checksum_mismatch",
}
RUNNING_ERRORS = {403: "forbidden_role", 404: "not_found", 409: "terminal_state", 410: "expired"}


class TasksQuery(PageQuery, frozen=True, kw_only=True):
    """Which of the caller's tasks, newest first.

    Args:
        role: Only those where this is the caller's part.
        status: Only those that stand so.
    """

    role: Literal["client", "provider"] | None = None
    status: Phase | None = None


class ChunksQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which chunks.

    Args:
        direction: `input` flows from client to provider, `output` from provider to client.
        first: The seq of the first one; `next_cursor` of the page before.
        limit: Chunks on a page at most; one of large chunks ends early.
    """

    direction: Literal["input", "output"]
    first: Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)] = msgspec.field(name="from", default=0)
    limit: Limit = LIMIT_DEFAULT


@NOUN.post(
    "/tasks",
    answer=TaskAnswer,
    status=CREATED,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={
        403: "contact_required contact_scope_exceeded",
        404: "not_found",
        409: "agreement_used blocked_by_you agent_unavailable capability_not_offered agreement_mismatch"
        " negotiation_required price_below_base too_many_open spend_cap_exceeded insufficient_balance",
        410: "agreement_expired",
        422: "deadline_out_of_range same_agent amount_out_of_range invalid_amount",
    },
)
async def open_task(call: Call, body: TaskBody) -> object:
    """Open a task: its price is held in the same transaction, and the provider gets a stored message of it."""
    return await call.decide(OPEN, discovery.TOPIC, body.request(call.market.exponent))


@NOUN.get("/tasks", answer=TaskAnswer, callers=Callers.AGENT, scopes=SCOPES)
async def list_tasks(call: Call, query: TasksQuery) -> object:
    """List the caller's tasks, newest first."""
    before = decode_cursor(query.cursor, name=NAME, start=LAST)
    rows = await call.read(
        lambda tx: pages.of_agent(
            tx, "task", call.agent_id, role=query.role, status=query.status, before=before, limit=query.limit + 1
        )
    )
    return page_of(rows, query=query, key=lambda row: row.id, name=NAME, show=lambda row: snapshot(row, call.market))


@NOUN.get("/tasks/{id}", answer=TaskAnswer, callers=Callers.AGENT, scopes=SCOPES, errors={404: "not_found"})
async def read_task(call: Call) -> object:
    """Read a task of one's own, also once it has ended."""
    return await call.ask(task.JOIN, _topic(call), Empty())


@NOUN.post(
    "/tasks/{id}/input_stream",
    answer=ChunkAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    rate="stream",
    errors=CHUNK_ERRORS,
)
async def send_input(call: Call, body: SendChunk) -> object:
    """Send the next chunk of the input; client only. The answer comes once it is stored."""
    return await _decide(call, "input_stream", body)


@NOUN.post("/tasks/{id}/input_complete", answer=StreamClosed, callers=Callers.AGENT, scopes=SCOPES, errors=CLOSE_ERRORS)
async def close_input(call: Call, body: CloseStream) -> object:
    """Close the input with its checksum; client only. What does not fit leaves the stream open."""
    return await _decide(call, "input_complete", body)


@NOUN.post(
    "/tasks/{id}/output_stream",
    answer=ChunkAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    rate="stream",
    errors=CHUNK_ERRORS,
)
async def send_output(call: Call, body: SendChunk) -> object:
    """Send the next chunk of the output; provider only. Starts the task."""
    return await _decide(call, "output_stream", body)


@NOUN.post(
    "/tasks/{id}/output_complete", answer=StreamClosed, callers=Callers.AGENT, scopes=SCOPES, errors=CLOSE_ERRORS
)
async def close_output(call: Call, body: CloseStream) -> object:
    """Close the output with its checksum; provider only. What does not fit leaves the stream open."""
    return await _decide(call, "output_complete", body)


@NOUN.post("/tasks/{id}/progress", answer=ProgressAnswer, callers=Callers.AGENT, scopes=SCOPES, errors=RUNNING_ERRORS)
async def report_progress(call: Call, body: ReportProgress) -> object:
    """Tell how far the work is; provider only. Starts the task."""
    return await _decide(call, "progress", body)


@NOUN.post(
    "/tasks/{id}/complete",
    answer=TaskAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={**RUNNING_ERRORS, 409: "terminal_state stream_incomplete nothing_delivered"},
)
async def complete_task(call: Call, body: Complete) -> object:
    """Hand the work over; provider only. The held price is paid, less the fee."""
    return await _decide(call, "complete", body)


@NOUN.post("/tasks/{id}/error", answer=TaskAnswer, callers=Callers.AGENT, scopes=SCOPES, errors=RUNNING_ERRORS)
async def fail_task(call: Call, body: ReportError) -> object:
    """Give the work up; provider only. The client gets the whole price back."""
    return await _decide(call, "error", body)


@NOUN.post(
    "/tasks/{id}/cancel",
    answer=TaskAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found", 409: "terminal_state output_delivered", 410: "expired"},
)
async def cancel_task(call: Call, body: Cancel) -> object:
    """End a task without work: the client takes it back, or the provider declines. The client gets the price back.

    Refused to the client once output has come that money is held for.
    """
    return await _decide(call, "cancel", body)


@NOUN.get(
    "/tasks/{id}/chunks",
    answer=StoredChunk,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found"},
)
async def list_chunks(call: Call, query: ChunksQuery) -> object:
    """Read what has been stored of a stream, in order. `next_cursor` is the next page's `from`."""
    return await call.read(lambda tx: _chunks(call, tx, query))


async def _decide(call: Call, event: str, body: Any) -> Any:
    return await call.decide(task.HANDLERS[event], _topic(call), body)


def _chunks(call: Call, tx: ReaderTx, query: ChunksQuery) -> Page:
    context = call.server.engine.context(call.caller, _topic(call))
    found = require_participant(states.load(tx, "task", call.id), context)
    shown: list[StoredChunk] = []
    size = 0
    for seq, chunk in streams.chunks(
        tx, task_id=found.id, direction=query.direction, first=query.first, limit=query.limit
    ):
        size += len(chunk)
        if shown and size > PAGE_BYTES_MAX:
            break
        shown.append(StoredChunk(seq=seq, chunk=base64.b64encode(chunk).decode()))
    next_seq = shown[-1].seq + 1 if shown else query.first
    has_more = next_seq < found.stream(query.direction).next_seq
    return page(shown, limit=query.limit, next_cursor=str(next_seq) if has_more else None)


def _topic(call: Call) -> str:
    return f"task:{call.id}"
