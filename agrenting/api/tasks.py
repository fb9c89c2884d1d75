"""Tasks: the REST twins of `task:{task_id}`."""

import base64
from typing import Annotated, Any, Literal

import msgspec

from agrenting.api.answers import CheckpointAnswer, ChunkAnswer, ProgressAnswer, StoredChunk, StreamClosed, TaskAnswer
from agrenting.api.bodies import TaskBody
from agrenting.api.call import Call, Raw
from agrenting.api.operation import CREATED, Callers, Noun
from agrenting.api.paging import LAST, LIMIT_DEFAULT, Limit, Page, PageQuery, decode_cursor, page, page_of
from agrenting.api.receipts import MEDIA_TYPE, Receipt, task_receipt
from agrenting.db import pages, states, streams
from agrenting.db.transaction import ReaderTx
from channels import discovery, task
from channels.chunks import SEQ_MAX
from channels.handlers import Empty
from channels.task import (
    Cancel,
    CloseStream,
    Complete,
    DisputeTask,
    ReportError,
    ReportProgress,
    SaveCheckpoint,
    SendChunk,
)
from channels.task_state import Phase, Task, require_participant, snapshot

NOUN = Noun("tasks", "Work that was hired, its streams, and the money held for it.")
NAME = "tasks"
OPEN = discovery.HANDLERS["open_task"]
SCOPES = ("tasks",)
PAGE_BYTES_MAX = 1_048_576
"""A page of chunks ends early rather than grow beyond this; one chunk is always on it."""

CHUNK_ERRORS = {
    403: "forbidden_role",
    404: "not_found",
    409: "terminal_state stream_closed seq_conflict seq_out_of_window payment_due",
    410: "expired",
    413: "chunk_too_large stream_too_large",
    423: "escrow_locked",
}
CLOSE_ERRORS = {
    403: "forbidden_role",
    404: "not_found",
    409: "terminal_state stream_closed missing_chunks",
    410: "expired",
    422: "size_mismatch checksum_mismatch",
    423: "escrow_locked",
}
RUNNING_ERRORS = {
    403: "forbidden_role",
    404: "not_found",
    409: "terminal_state",
    410: "expired",
    423: "escrow_locked",
}


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
        " negotiation_required price_below_base state_lost terminal_state channel_not_open wrong_mode contact_revoked"
        " too_many_open spend_cap_exceeded insufficient_balance mailbox_full",
        410: "agreement_expired",
        422: "hold_out_of_range deadline_out_of_range same_agent amount_out_of_range invalid_amount",
    },
)
async def open_task(call: Call, body: TaskBody) -> object:
    """Open a task: its price is held in the same transaction, and the provider gets a stored message of it.

    With `stream_price` nothing is held: the output is paid as it streams, over a payment channel of the two.
    """
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
    return await call.ask(task.JOIN, _topic(call), task.JoinTask())


@NOUN.get(
    "/tasks/{id}/receipt",
    answer=Receipt,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found", 409: "not_settled"},
    files={MEDIA_TYPE: "The receipt alone, as a file for `agrenting verify`."},
)
async def read_task_receipt(call: Call) -> object:
    """The receipt of a task that has ended: where its price went, and the digests of what flowed.

    Refused while its price is held. Anyone can verify it offline, and files against it. With
    `Accept: application/agrenting-receipt+json` it comes bare, as a file.
    """
    found = await call.read(lambda tx: _own_task(call, tx))
    receipt = task_receipt(found, call.market, platform_seed=call.server.server_key)
    if not call.accepts(MEDIA_TYPE):
        return receipt
    name = f'attachment; filename="task-{found.id}.json"'
    return Raw(msgspec.json.encode(receipt), MEDIA_TYPE, {"Content-Disposition": name})


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
    "/tasks/{id}/checkpoint",
    answer=CheckpointAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={**RUNNING_ERRORS, 409: "terminal_state stale_checkpoint"},
)
async def save_checkpoint(call: Call, body: SaveCheckpoint) -> object:
    """Note how far the work is, for oneself; provider only. It stands in the join reply, to the provider alone."""
    return await _decide(call, "checkpoint", body)


@NOUN.post(
    "/tasks/{id}/complete",
    answer=TaskAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={**RUNNING_ERRORS, 409: "terminal_state stream_incomplete nothing_delivered"},
)
async def complete_task(call: Call, body: Complete) -> object:
    """Hand the work over; provider only. The held price is paid, less the fee: at once, or once the hold is over."""
    return await _decide(call, "complete", body)


@NOUN.post(
    "/tasks/{id}/release",
    answer=TaskAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={403: "forbidden_role", 404: "not_found", 409: "not_completed not_held", 423: "escrow_locked"},
)
async def release_task(call: Call) -> object:
    """Pay a completed task's price before its hold is over; client only."""
    return await _decide(call, "release", Empty())


@NOUN.post(
    "/tasks/{id}/dispute",
    answer=TaskAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={
        403: "forbidden_role",
        404: "not_found",
        409: "dispute_used not_started terminal_state not_held",
        410: "expired",
    },
)
async def dispute_task(call: Call, body: DisputeTask) -> object:
    """Refuse what was delivered; client only, once, while the work is under way or its price is still held.

    Where nothing was delivered, the price goes back at once. Else it stays held until an operator decides; without a
    decision in 7 days it goes to the provider if it has delivered, else back.
    """
    return await _decide(call, "dispute", body)


@NOUN.post("/tasks/{id}/error", answer=TaskAnswer, callers=Callers.AGENT, scopes=SCOPES, errors=RUNNING_ERRORS)
async def fail_task(call: Call, body: ReportError) -> object:
    """Give the work up; provider only. The client gets the whole price back."""
    return await _decide(call, "error", body)


@NOUN.post(
    "/tasks/{id}/cancel",
    answer=TaskAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found", 409: "terminal_state output_delivered", 410: "expired", 423: "escrow_locked"},
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
    return await call.read(lambda tx: chunks_of(tx, _own_task(call, tx), query))


async def _decide(call: Call, event: str, body: Any) -> Any:
    return await call.decide(task.HANDLERS[event], _topic(call), body)


def chunks_of(tx: ReaderTx, found: Task, query: ChunksQuery) -> Page:
    """A page of what is stored of a stream; those ahead of a missing chunk too."""
    rows = streams.page(
        tx,
        task_id=found.id,
        direction=query.direction,
        first=query.first,
        rows_max=query.limit,
        bytes_max=PAGE_BYTES_MAX,
    )
    shown = [StoredChunk(seq=row.seq, chunk=base64.b64encode(row.data).decode()) for row in rows]
    stream = found.stream(query.direction)
    last = stream.ahead[-1][0] if stream.ahead else stream.next_seq - 1
    has_more = bool(rows) and rows[-1].seq < last
    return page(shown, limit=query.limit, next_cursor=str(rows[-1].seq + 1) if has_more else None)


def _own_task(call: Call, tx: ReaderTx) -> Task:
    """The task of the path, if the caller is a party of it; else `not_found`."""
    return require_participant(states.load(tx, "task", call.id), call.server.engine.context(call.caller, _topic(call)))


def _topic(call: Call) -> str:
    return f"task:{call.id}"
