"""Events that are decided together come to the same as events that are decided one by one: states, rows and refusals.

Real handlers of a task, on a real file. Alice sends the input, Bob the output, Mallory has no part in it.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agrenting.db import states
from agrenting.db.database import open_writer
from agrenting.db.migrate import migrate
from agrenting.db.streams import StoredStreams
from agrenting.db.transaction import WriterTx
from agrenting.deciding import Command, decide, decide_together
from channels import task
from channels.chunks import BinaryChunk, SendChunk
from channels.errors import Refusal, Unauthorized
from channels.handlers import Context, Handler
from channels.identity import Identity
from channels.limits import Limits, Market
from channels.task_state import Escrow, StreamPrice, Task
from crypto import NO_CHUNKS, StreamChecksum, next_digest

ID: Final = "t-1"
START: Final = datetime(2030, 1, 1, tzinfo=UTC)
LIMITS: Final = Limits(stream_window=4, chunk_bytes_max=8, stream_bytes_max=24, checkpoint_bytes_max=16)
MARKET: Final = Market(signing_domain="market.test/abc", limits=LIMITS)
ALICE, BOB, MALLORY = (
    Identity(kind="agent", user_id=f"owner of {name}", agent_id=name, handle=f"x/{name}", key_id="")
    for name in ("alice", "bob", "mallory")
)
HELD: Final = Task(
    id=ID,
    client_agent_id="alice",
    provider_agent_id="bob",
    client_owner_id="owner of alice",
    is_countable=True,
    capability="translate",
    price=1_000,
    fee=50,
    fee_bps=500,
    escrow_status=Escrow.HELD,
    created_at=START,
    deadline=START + timedelta(days=7),
)
STREAMED: Final = Task(
    id=ID,
    client_agent_id="alice",
    provider_agent_id="bob",
    client_owner_id="owner of alice",
    is_countable=False,
    capability="translate",
    price=0,
    fee=0,
    fee_bps=500,
    escrow_status=Escrow.NONE,
    channel_id="c-1",
    stream_price=StreamPrice(amount=10, per="chunk", credit=2),
    paid=20,
    created_at=START,
    deadline=START + timedelta(days=7),
)

WORDS = st.sampled_from(("a", "bc", "défg", "too large a chunk", ""))
SEQS = st.integers(0, 6)
EVENTS = st.one_of(
    st.tuples(
        st.sampled_from(("input_stream", "output_stream", "output_stream")),
        st.one_of(
            st.builds(SendChunk, chunk=WORDS, seq=SEQS, encoding=st.sampled_from(("utf8", "utf8", "base64"))),
            st.builds(BinaryChunk, seq=SEQS, data=st.sampled_from((b"a", b"\x00\xff"))),
        ),
    ),
    st.tuples(st.just("progress"), st.builds(task.ReportProgress, percent=st.integers(0, 100))),
    st.tuples(
        st.just("checkpoint"),
        st.builds(task.SaveCheckpoint, state=st.sampled_from((1, "x", {"a": "long enough to refuse"})), seq=SEQS),
    ),
)
SENDERS = st.sampled_from((ALICE, BOB, BOB, MALLORY))
BATCHES = st.lists(st.lists(st.tuples(EVENTS, st.one_of(st.none(), SENDERS)), min_size=1, max_size=9), max_size=5)

Told = tuple[str, Any]


class Side:
    """One database, on which the same is decided in one of the two ways."""

    def __init__(self, path: Path) -> None:
        migrate(path)
        self.connection = open_writer(path, busy_timeout_s=5)
        self.connection.execute("PRAGMA synchronous=OFF")
        self.memory: dict[str, Any] = {}

    def begin(self, started: Task) -> None:
        """One task, and nothing else."""
        self.connection.executescript("DELETE FROM tasks; DELETE FROM chunks; DELETE FROM checkpoints")
        self.memory.clear()
        states.insert(self.tx(), "task", ID, started)

    def tx(self) -> WriterTx:
        return WriterTx(self.connection, self.memory)

    def together(self, batch: list[Command], now: datetime) -> list[Told]:
        """All of it in one unit."""
        tx = self.tx()
        together = decide_together(tx, batch, lambda command: context(command.sender, command.topic, now))
        tx.keep()
        assert together.state == states.load(self.tx(), "task", ID)
        return [
            told(done.decision.reply, done.broadcasts) if done is not None else refused(error)
            for done, error in together.outcomes
        ]

    def one_by_one(self, batch: list[Command], now: datetime) -> list[Told]:
        """Each in a unit of its own."""
        outcomes: list[Told] = []
        for command in batch:
            tx = self.tx()
            try:
                done = decide(tx, command, context(command.sender, command.topic, now))
            except Refusal as refusal:
                tx.undo()
                outcomes.append(refused(refusal))
            else:
                tx.keep()
                outcomes.append(told(done.decision.reply, done.decision.broadcasts))
        return outcomes

    def rows(self) -> dict[str, list[Any]]:
        """All that is stored, but for how often it was saved."""
        return {
            "tasks": self.tx().all("SELECT id, status, state FROM tasks"),
            "chunks": self.tx().all("SELECT * FROM chunks ORDER BY direction, seq"),
            "checkpoints": self.tx().all("SELECT * FROM checkpoints"),
        }


def context(sender: Identity, topic: str, now: datetime) -> Context:
    return Context(sender=sender, now=now, market=MARKET, new_id=lambda: "id", new_token=str, topic=topic)


def command(event: str, request: Any, sender: Identity, handler: Handler | None = None) -> Command:
    return Command(handler=handler or task.HANDLERS[event], topic=f"task:{ID}", request=request, sender=sender)


def own(event: str) -> Identity:
    """Who may do it."""
    return ALICE if event == "input_stream" else BOB


def told(reply: Any, broadcasts: Iterable[Any]) -> Told:
    return "ok", (reply, tuple(broadcasts))


def refused(error: Exception | None) -> Told:
    assert isinstance(error, Refusal), repr(error)
    return error.reason, error.response()


def require_whole(side: Side) -> None:
    """Digest, size and checksum are those of the chunks before the first missing one."""
    after: Task = states.load(side.tx(), "task", ID)
    stored = StoredStreams(side.tx(), ID)
    for direction in ("input", "output"):
        stream = after.stream(direction)
        whole, size, digest = StreamChecksum(), 0, NO_CHUNKS
        for seq in range(stream.next_seq):
            chunk = stored.chunk(direction, seq)
            assert chunk is not None
            whole.update(chunk)
            size += len(chunk)
            digest = next_digest(digest, seq=seq, chunk=chunk)
        assert stored.chunk(direction, stream.next_seq) is None
        assert (stream.size, stream.digest) == (size, digest)
        assert stored.checksum(direction, stream).hexdigest() == whole.hexdigest()
        seqs = {row[0] for row in side.tx().all("SELECT seq FROM chunks WHERE direction = :d", d=direction)}
        assert seqs == {*range(stream.next_seq), *(seq for seq, _ in stream.ahead)}


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    folder = tmp_path_factory.mktemp("sides")
    first, second = Side(folder / "one.sqlite3"), Side(folder / "two.sqlite3")
    with closing(first.connection), closing(second.connection):
        yield first, second


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(started=st.sampled_from((HELD, STREAMED)), batches=BATCHES)
def test_what_is_decided_together_comes_to_the_same_as_one_by_one(
    sides: tuple[Side, Side], started: Task, batches: list[list[tuple[tuple[str, Any], Identity | None]]]
) -> None:
    one, other = sides
    for side in sides:
        side.begin(started)
    for number, batch in enumerate(batches):
        now = START + timedelta(days=2 * number)  # The fifth batch comes after the deadline.
        commands = [command(event, request, sender or own(event)) for (event, request), sender in batch]

        assert one.together(commands, now) == other.one_by_one(commands, now)
        assert one.rows() == other.rows()
    require_whole(one)


def test_a_bug_in_one_event_leaves_the_others_of_its_batch(sides: tuple[Side, Side]) -> None:
    def crash(*_: Any) -> Any:
        raise ZeroDivisionError

    side, _ = sides
    side.begin(HELD)
    broken = Handler(SendChunk, crash, loads="task_facts")
    batch = [
        command("output_stream", SendChunk(chunk="a", seq=0), BOB),
        command("output_stream", SendChunk(chunk="b", seq=1), BOB, broken),
        command("output_stream", SendChunk(chunk="c", seq=1), BOB),
    ]
    tx = side.tx()
    outcomes = decide_together(tx, batch, lambda command: context(command.sender, command.topic, START)).outcomes
    tx.keep()

    assert [type(error) for _, error in outcomes] == [type(None), ZeroDivisionError, type(None)]
    assert [row[3] for row in side.rows()["chunks"]] == [b"a", b"c"]
    require_whole(side)


def test_whose_credential_has_died_is_refused_and_the_other_is_not(sides: tuple[Side, Side]) -> None:
    side, _ = sides
    side.begin(HELD)
    dead = Identity(kind="agent", user_id="u", agent_id="bob", handle="x/bob", key_id="", credential="key:gone")
    batch = [
        command("output_stream", SendChunk(chunk="a", seq=0), dead),
        command("input_stream", SendChunk(chunk="b", seq=0), ALICE),
        command("output_stream", SendChunk(chunk="c", seq=1), dead),
    ]
    tx = side.tx()
    together = decide_together(tx, batch, lambda command: context(command.sender, command.topic, START))
    tx.keep()

    assert [type(error) for _, error in together.outcomes] == [Unauthorized, type(None), Unauthorized]
    assert [row[1] for row in side.rows()["chunks"]] == ["input"]


def test_what_changes_nothing_saves_nothing(sides: tuple[Side, Side]) -> None:
    side, _ = sides
    side.begin(HELD)
    version = "SELECT version FROM tasks"
    before = side.tx().all(version)
    side.together([command("output_stream", SendChunk(chunk="a", seq=99), BOB)], START)
    assert side.tx().all(version) == before

    chunks = [SendChunk(chunk=word, seq=seq) for seq, word in enumerate("abc")]
    side.together([command("output_stream", chunk, BOB) for chunk in chunks], START)

    assert side.tx().all(version) == [(before[0][0] + 1,)]  # Three chunks, one save.
