"""What operators decide about tasks: whom the price of a disputed one goes to."""

from agrenting.api.answers import StoredChunk, TaskAnswer
from agrenting.api.call import Call
from agrenting.api.operation import Callers, Noun
from agrenting.api.paging import FIRST, PageQuery, decode_cursor, page_of
from agrenting.api.tasks import ChunksQuery, chunks_of
from agrenting.db import pages, states
from agrenting.db.transaction import ReaderTx
from channels.errors import not_found
from channels.handlers import Access, Handler
from channels.task_disputes import DecideTask, decide_task
from channels.task_state import Task, snapshot

NOUN = Noun("task decisions", "For operators: tasks that wait for a decision.")
NAME = "disputed"
DECIDE = Handler(DecideTask, decide_task, loads="task", access=Access.WRITE)


@NOUN.get("/admin/tasks", answer=TaskAnswer, callers=Callers.OPERATOR)
async def list_disputed(call: Call, query: PageQuery) -> object:
    """List the tasks that are disputed, oldest first."""
    after = decode_cursor(query.cursor, name=NAME, start=FIRST)
    rows = await call.read(lambda tx: pages.disputed_tasks(tx, after=after, limit=query.limit + 1))
    return page_of(rows, query=query, key=lambda row: row.id, name=NAME, show=lambda row: snapshot(row, call.market))


@NOUN.get("/admin/tasks/{id}", answer=TaskAnswer, callers=Callers.OPERATOR, errors={404: "not_found"})
async def read_any_task(call: Call) -> object:
    """Read any task."""
    return snapshot(await call.read(lambda tx: _any_task(call, tx)), call.market)


@NOUN.get("/admin/tasks/{id}/chunks", answer=StoredChunk, callers=Callers.OPERATOR, errors={404: "not_found"})
async def list_any_chunks(call: Call, query: ChunksQuery) -> object:
    """Read what has been stored of a stream of any task, in order. `next_cursor` is the next page's `from`."""
    return await call.read(lambda tx: chunks_of(tx, _any_task(call, tx), query))


@NOUN.post(
    "/admin/tasks/{id}/decide",
    answer=TaskAnswer,
    callers=Callers.OPERATOR,
    errors={404: "not_found", 409: "terminal_state not_disputed", 410: "expired"},
)
async def decide_any_task(call: Call, body: DecideTask) -> object:
    """Decide a disputed task: its price goes to the client, to the provider, or is split, and why."""
    return await call.decide(DECIDE, f"task:{call.id}", body)


def _any_task(call: Call, tx: ReaderTx) -> Task:
    found: Task | None = states.load(tx, "task", call.id)
    if found is None:
        raise not_found("task")
    return found
