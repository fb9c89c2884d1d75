"""What is relayed before it is durable is what is decided then: in every state, however far the writer is behind."""

from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from channels.agents import Capability
from channels.chunks import BinaryChunk, SendChunk, binary_chunk
from channels.errors import Refusal
from channels.handlers import Audience, Broadcast, Decision
from channels.progress import ReportProgress, SaveCheckpoint
from channels.streams import TaskFacts
from channels.task import HANDLERS
from channels.task_state import Direction, Task
from crypto import NO_CHUNKS
from tests.channels.played import Played, played
from tests.channels.roles import ALICE, BOB, MALLORY, Player, market_with, refused
from tests.channels.streaming import DIRECTIONS, WEEK_S, in_base64, receiver_of, send_all, witness
from tests.channels.work import close, closing, deliver, hired, in_phase, push, sender_of, stream, topic_of
from tests.channels.world import StoredStreams, World

UNIT_PRICE = 10
UNIT_BYTES = 4
CREDIT = 2
LIMITS: dict[str, int] = {
    "stream_window": 4,
    "chunk_bytes_max": 5,
    "stream_bytes_max": 24,
    "checkpoint_bytes_max": 12,
    "text_chars_max": 10,
}
PRICES: dict[str, dict[str, Any] | None] = {
    "held": None,
    "per chunk": {"amount": UNIT_PRICE, "per": "chunk", "credit": CREDIT},
    "per bytes": {"amount": UNIT_PRICE, "per": "bytes", "unit_bytes": UNIT_BYTES, "credit": CREDIT},
}
PROVIDERS: dict[str, Any] = {
    "output_stream": SendChunk(chunk="hello ", seq=0),
    "progress": ReportProgress(percent=50),
    "checkpoint": SaveCheckpoint(state=None, seq=0),
}
FORESEEN: dict[str, Any] = {"input_stream": SendChunk(chunk="hello ", seq=0), **PROVIDERS}

ARRIVE_FIRST = 15
"""So many events come before the task may end: else most schedules would be of ended tasks."""

ANY_CHUNK = st.tuples(
    st.sampled_from([True] * 12 + [False]),
    st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2, 3, 4, -1, -2]),
    st.sampled_from([1, 2, 3, 4, 4, 5, 6]),
    st.sampled_from([b"a", b"a", b"b"]),
    st.sampled_from(["utf8", "base64", "base64", "binary", "binary", "binary", "binary", "broken"]),
)
"""Whether its own side sends it, how far from the first missing one, how long, of what, and how."""


def facts_of(world: World, task_id: str) -> TaskFacts:
    return TaskFacts(task=world.task(task_id), stored=StoredStreams(world, task_id))


def foresee(world: World, task: Task, who: Player, event: str, request: object) -> tuple[Task, Broadcast | None]:
    """What the lane of the topic would relay, with that state known."""
    foresees = HANDLERS[event].foresees
    assert foresees is not None
    after: Task
    after, told = foresees(task, request, world.context(who.identity, task.topic))
    return after, told


def decide(world: World, task_id: str, who: Player, event: str, request: object) -> Decision:
    """What the writer would decide now; nothing is changed."""
    return HANDLERS[event].decide(facts_of(world, task_id), request, world.context(who.identity, topic_of(task_id)))


def without_digests(task: Task | None) -> Task:
    """All but the digests, which only the writer carries on: it has the bytes that they are over."""
    assert task is not None
    blank = {
        f"{direction}_stream": msgspec.structs.replace(task.stream(direction), digest=NO_CHUNKS)
        for direction in DIRECTIONS
    }
    return msgspec.structs.replace(task, **blank)


def paid_as_it_streams(world: Played, price: str) -> tuple[str, str]:
    """A task of that price for which nothing is paid yet; its id, and the topic of its channel."""
    world.change_agent(BOB, capabilities=(Capability("translate", UNIT_PRICE),))
    topic = world.channel()
    task_id = hired(world, stream_price=PRICES[price], channel_id=topic.removeprefix("payment:"))
    return task_id, topic


def chunk_in(form: str, *, seq: int, data: bytes) -> SendChunk | BinaryChunk:
    """A chunk of that form."""
    if form == "binary":
        return BinaryChunk(seq=seq, data=data)
    if form == "utf8":
        return SendChunk(chunk=data.decode(), seq=seq)
    return SendChunk(chunk=in_base64(data) if form == "base64" else "AB==", seq=seq, encoding="base64")


@pytest.fixture
def world() -> World:
    return witness()


class TestAChunk:
    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_is_told_as_it_will_be_decided_but_for_the_digest(self, world: World, direction: Direction) -> None:
        task_id = in_phase(world, "in_progress")
        send_all(world, task_id, direction, {0: b"a", 2: b"ccc"})
        request = SendChunk(chunk="bb", seq=1)

        after, told = foresee(world, world.task(task_id), sender_of(direction), f"{direction}_stream", request)

        decision = decide(world, task_id, sender_of(direction), f"{direction}_stream", request)
        assert decision.broadcasts == (told,)
        assert (after.stream(direction).next_seq, after.stream(direction).size) == (3, 6)
        assert without_digests(after) == without_digests(decision.state)
        assert after.stream(direction).digest == world.task(task_id).stream(direction).digest
        assert told is not None
        assert "digest" not in told.payload

    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_that_came_as_bytes_goes_on_as_bytes_and_as_base64(self, world: World, direction: Direction) -> None:
        task_id = in_phase(world, "in_progress")
        request = BinaryChunk(seq=0, data=b"\x00\xff\xfe")

        _, told = foresee(world, world.task(task_id), sender_of(direction), f"{direction}_stream", request)

        assert told is not None
        assert told.binary == binary_chunk(0, b"\x00\xff\xfe")
        assert (told.payload["chunk"], told.payload["encoding"]) == (b"\x00\xff\xfe", "base64")
        assert (told.event, told.audience) == (f"{direction}_stream", Audience.OTHER_AGENTS)

    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_that_came_as_json_has_no_bytes_to_go_on_as(self, world: World, direction: Direction) -> None:
        task_id = in_phase(world, "in_progress")
        request = SendChunk(chunk="AP/+", seq=0, encoding="base64")

        _, told = foresee(world, world.task(task_id), sender_of(direction), f"{direction}_stream", request)

        assert told is not None
        assert (told.binary, told.payload["chunk"], told.payload["encoding"]) == (None, "AP/+", "base64")

    @pytest.mark.parametrize("direction", DIRECTIONS)
    @pytest.mark.parametrize("seq", [0, 2], ids=["in order", "ahead"])
    def test_that_is_stored_is_not_relayed_again(self, world: World, direction: Direction, seq: int) -> None:
        task_id = in_phase(world, "in_progress")
        send_all(world, task_id, direction, {0: b"a", 2: b"a"})
        sent = (world.task(task_id), sender_of(direction), f"{direction}_stream", SendChunk(chunk="a", seq=seq))

        assert refused(foresee, world, *sent).reason == "seq_conflict"
        assert decide(world, task_id, *sent[1:]).reply["duplicate"] is True

    @pytest.mark.parametrize("direction", DIRECTIONS)
    @pytest.mark.parametrize(
        ("chunk", "reason"),
        [
            (SendChunk(chunk="", seq=1), "invalid_payload"),
            (SendChunk(chunk="AB==", seq=1, encoding="base64"), "invalid_payload"),
            (BinaryChunk(seq=0, data=b"b"), "seq_conflict"),
            (BinaryChunk(seq=5, data=b"b"), "seq_out_of_window"),
            (BinaryChunk(seq=1, data=b"123456"), "chunk_too_large"),
            (BinaryChunk(seq=4, data=b"1234"), "stream_too_large"),
        ],
        ids=str,
    )
    def test_that_will_be_refused_is_not_relayed(
        self, direction: Direction, chunk: SendChunk | BinaryChunk, reason: str
    ) -> None:
        world = witness(market=market_with(**LIMITS | {"stream_bytes_max": 4}))
        task_id = in_phase(world, "in_progress")
        send_all(world, task_id, direction, {0: b"a"})
        sent = (sender_of(direction), f"{direction}_stream", chunk)

        assert refused(foresee, world, world.task(task_id), *sent).reason == reason
        assert refused(decide, world, task_id, *sent).reason == reason

    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_of_a_closed_stream_is_not_relayed(self, world: World, direction: Direction) -> None:
        task_id = in_phase(world, "in_progress")
        stream(world, task_id, direction, "a")
        close(world, task_id, direction)
        sent = (sender_of(direction), f"{direction}_stream", SendChunk(chunk="b", seq=1))

        assert refused(foresee, world, world.task(task_id), *sent).reason == "stream_closed"

    @pytest.mark.parametrize("price", ["per chunk", "per bytes"])
    def test_is_relayed_as_far_as_it_is_paid_and_on_credit(self, price: str) -> None:
        world = played()
        task_id, topic = paid_as_it_streams(world, price)
        push(world, BOB, task_id, "progress", percent=1)
        known = world.task(task_id)
        for seq in range(CREDIT):
            known, _ = foresee(world, known, BOB, "output_stream", BinaryChunk(seq=seq, data=b"1234"))
        next_one = BinaryChunk(seq=CREDIT, data=b"1234")

        assert refused(foresee, world, known, BOB, "output_stream", next_one).reason == "payment_due"

        world.pay(topic, amount=UNIT_PRICE, task_id=task_id)
        known = msgspec.structs.replace(known, paid=world.task(task_id).paid)
        known, told = foresee(world, known, BOB, "output_stream", next_one)
        assert told is not None
        assert (told.payload["units"], told.payload["paid_up_to"]) == (CREDIT + 1, 1)
        beyond = BinaryChunk(seq=CREDIT + 1, data=b"1")
        assert refused(foresee, world, known, BOB, "output_stream", beyond).reason == "payment_due"

    def test_larger_than_a_unit_is_not_relayed(self) -> None:
        world = played()
        task_id, _ = paid_as_it_streams(world, "per bytes")
        push(world, BOB, task_id, "progress", percent=1)

        refusal = refused(foresee, world, world.task(task_id), BOB, "output_stream", BinaryChunk(seq=0, data=b"12345"))

        assert (refusal.reason, refusal.context) == ("chunk_too_large", {"chunk_bytes_max": UNIT_BYTES})


class TestWhatIsForeseen:
    @pytest.mark.parametrize("event", sorted(PROVIDERS))
    def test_is_never_the_start_of_a_task(self, world: World, event: str) -> None:
        """When it started is the writer's time, and no other."""
        task = world.task(hired(world))

        assert refused(foresee, world, task, BOB, event, PROVIDERS[event]).reason == "not_started"
        started = decide(world, task.id, BOB, event, PROVIDERS[event]).state
        assert (started.status, started.started_at) == ("in_progress", world.now)

    def test_is_the_input_also_before_the_start(self, world: World) -> None:
        after, told = foresee(world, world.task(hired(world)), ALICE, "input_stream", FORESEEN["input_stream"])

        assert told is not None
        assert (after.status, after.started_at) == ("pending", None)
        assert (told.payload["status"], told.payload["started_at"]) == ("pending", None)

    @pytest.mark.parametrize("event", sorted(FORESEEN))
    def test_is_nothing_of_who_may_not_send_it(self, world: World, event: str) -> None:
        task = world.task(in_phase(world, "in_progress"))
        other = receiver_of("input" if event == "input_stream" else "output")

        assert refused(foresee, world, task, other, event, FORESEEN[event]).reason == "forbidden_role"
        assert refused(foresee, world, task, MALLORY, event, FORESEEN[event]).reason == "not_found"

    @pytest.mark.parametrize("event", sorted(FORESEEN))
    def test_is_nothing_after_the_end_or_the_deadline(self, world: World, event: str) -> None:
        who = ALICE if event == "input_stream" else BOB
        ended = hired(world)
        deliver(world, ended)
        push(world, BOB, ended, "complete")
        late = world.task(in_phase(world, "in_progress"))
        refusal = refused(foresee, world, world.task(ended), who, event, FORESEEN[event])
        assert (refusal.reason, refusal.context) == ("terminal_state", {"status": "completed"})

        world.advance(WEEK_S, run_timers=False)

        assert refused(foresee, world, late, who, event, FORESEEN[event]).reason == "expired"

    def test_of_a_disputed_task_is_its_output_alone(self, world: World) -> None:
        task_id = hired(world)
        stream(world, task_id, "output", "a")
        push(world, ALICE, task_id, "dispute", reason="no")
        task = world.task(task_id)

        _, told = foresee(world, task, BOB, "output_stream", SendChunk(chunk="b", seq=1))

        assert told is not None
        assert told.payload["status"] == "disputed"
        for event, who in (("input_stream", ALICE), ("progress", BOB), ("checkpoint", BOB)):
            assert refused(foresee, world, task, who, event, FORESEEN[event]).reason == "escrow_locked"

    def test_of_progress_is_what_the_client_is_told(self, world: World) -> None:
        task_id = in_phase(world, "in_progress")
        request = ReportProgress(percent=60, message="almost")

        after, told = foresee(world, world.task(task_id), BOB, "progress", request)

        decision = decide(world, task_id, BOB, "progress", request)
        assert (after, (told,)) == (decision.state, decision.broadcasts)

    def test_of_progress_is_nothing_that_is_too_long(self) -> None:
        world = witness(market=market_with(text_chars_max=3))
        task = world.task(in_phase(world, "in_progress"))

        refusal = refused(foresee, world, task, BOB, "progress", ReportProgress(percent=1, message="1234"))

        assert refusal.context == {"field": "message"}

    def test_of_a_checkpoint_is_told_to_nobody(self, world: World) -> None:
        task_id = in_phase(world, "in_progress")
        request = SaveCheckpoint(state="secret", seq=4)

        after, told = foresee(world, world.task(task_id), BOB, "checkpoint", request)

        assert told is None
        assert after == decide(world, task_id, BOB, "checkpoint", request).state
        assert after.checkpoint_seq == 4

    def test_of_a_checkpoint_is_nothing_that_is_stale_or_too_large(self) -> None:
        world = witness(market=market_with(checkpoint_bytes_max=4))
        task_id = in_phase(world, "in_progress")
        push(world, BOB, task_id, "checkpoint", seq=4, state="a")
        task = world.task(task_id)

        for seq in (0, 4):
            refusal = refused(foresee, world, task, BOB, "checkpoint", SaveCheckpoint(state="a", seq=seq))
            assert refusal.reason == "stale_checkpoint"
        refusal = refused(foresee, world, task, BOB, "checkpoint", SaveCheckpoint(state="abc", seq=5))
        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "state"})


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """An event that waits for the writer.

    Args:
        told: What was relayed of it.
        is_foreseen: Whether it was; what is told of may be nothing.
    """

    who: Player
    event: str
    request: Any
    told: Broadcast | None
    is_foreseen: bool


class Lagging(RuleBasedStateMachine):
    """A writer that lags behind what arrives; all else waits until it has caught up, as the lanes see to."""

    def __init__(self) -> None:
        super().__init__()
        self.world = played()
        self.waiting: deque[Arrived] = deque()
        self.task_id = ""
        self.channel = ""
        self.arrived = 0

    @initialize(price=st.sampled_from(sorted(PRICES)), is_begun=st.sampled_from([True, True, False]))
    def hire(self, price: str, *, is_begun: bool) -> None:
        if PRICES[price] is None:
            self.task_id = hired(self.world, hold_seconds=60)
        else:
            self.task_id, self.channel = paid_as_it_streams(self.world, price)
        self.world.market = msgspec.structs.replace(self.world.market, limits=market_with(**LIMITS).limits)
        if is_begun:
            push(self.world, BOB, self.task_id, "progress", percent=0)
        self._know()

    # What is foreseen

    @rule(direction=st.sampled_from(["input", "output", "output"]), sent=st.lists(ANY_CHUNK, min_size=1, max_size=5))
    def send_chunks(self, direction: Direction, sent: list[tuple[bool, int, int, bytes, str]]) -> None:
        for is_own, ahead, size, byte, form in sent:
            seq, data = max(0, self.known.stream(direction).next_seq + ahead), byte * size
            who = sender_of(direction) if is_own else receiver_of(direction)
            self._arrive(who, f"{direction}_stream", chunk_in(form, seq=seq, data=data))

    @rule(percent=st.sampled_from([0, 50]), message=st.sampled_from([None, "short", "far too long"]))
    def report_progress(self, percent: int, message: str | None) -> None:
        self._arrive(BOB, "progress", ReportProgress(percent=percent, message=message))

    @rule(growth=st.sampled_from([1, 1, 7, 0, -1]), state=st.sampled_from(["a", {"b": 1}, "more than twelve"]))
    def save_a_checkpoint(self, growth: int, state: Any) -> None:
        seq = max(0, (self.known.checkpoint_seq or 0) + growth)
        self._arrive(BOB, "checkpoint", SaveCheckpoint(state=state, seq=seq))

    # What the writer does

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(min_value=1, max_value=4))
    def store(self, count: int) -> None:
        for _ in range(min(count, len(self.waiting))):
            self._store_one()
        if not self.waiting:
            self._caught_up()

    # What is not foreseen waits for the writer, and what comes after waits for that

    @precondition(lambda self: self.arrived > ARRIVE_FIRST)
    @rule(direction=st.sampled_from(DIRECTIONS), is_honest=st.sampled_from([True, True, False]))
    def close_a_stream(self, direction: Direction, *, is_honest: bool) -> None:
        payload = closing(self.world, self.task_id, direction) | ({} if is_honest else {"total_size": 99})
        self._do(sender_of(direction), f"{direction}_complete", payload)

    @precondition(lambda self: self.arrived > ARRIVE_FIRST)
    @rule(event=st.sampled_from(["dispute", "dispute", "complete"]))
    def end(self, event: str) -> None:
        who, payload = (ALICE, {"reason": "no"}) if event == "dispute" else (BOB, {"result": 1})
        self._do(who, event, payload)

    @precondition(lambda self: self.channel)
    @rule(amount=st.sampled_from([UNIT_PRICE // 2, UNIT_PRICE, 3 * UNIT_PRICE]))
    def pay(self, amount: int) -> None:
        self._catch_up()
        self.world.pay(self.channel, amount=amount, task_id=self.task_id)
        self._know()

    @precondition(lambda self: self.arrived > ARRIVE_FIRST)
    @rule(seconds=st.sampled_from([1, 1, 3_600, WEEK_S]), are_timers_late=st.booleans())
    def let_time_pass(self, seconds: int, *, are_timers_late: bool) -> None:
        self._catch_up()
        self.world.advance(seconds if self.world.now.day < 3 else 1, run_timers=not are_timers_late)
        self._know()

    def teardown(self) -> None:
        if self.task_id:
            self._catch_up()

    # How it goes on

    def _know(self) -> None:
        self.known = self.world.task(self.task_id)
        self.is_as_foreseen = True

    def _arrive(self, who: Player, event: str, request: Any) -> None:
        self.arrived += 1
        told: Broadcast | None = None
        is_foreseen = True
        try:
            self.known, told = foresee(self.world, self.known, who, event, request)
        except Refusal:
            is_foreseen = False
        self.waiting.append(Arrived(who=who, event=event, request=request, told=told, is_foreseen=is_foreseen))

    def _store_one(self) -> None:
        arrived = self.waiting.popleft()
        was_started = self.world.task(self.task_id).started_at is not None
        try:
            decision = decide(self.world, self.task_id, arrived.who, arrived.event, arrived.request)
        except Refusal:
            assert not arrived.is_foreseen, "what was relayed is taken"
            return
        if arrived.is_foreseen:
            assert decision.state is not None, "what was relayed is no repetition"
            self._require_told(decision.broadcasts, arrived.told)
        elif decision.state is not None:
            is_start = not was_started or not self.is_as_foreseen  # Or it comes after one that the writer has not had.
            assert is_start, "only the start of a task is not foreseen"
            self.is_as_foreseen = False
        before = self.world.task(self.task_id)
        self._push(arrived)
        assert self.world.task(self.task_id) == (decision.state or before)

    def _push(self, arrived: Arrived) -> None:
        request = arrived.request
        payload = (
            binary_chunk(request.seq, request.data)
            if isinstance(request, BinaryChunk)
            else msgspec.to_builtins(request)
        )
        self.world.push(arrived.who, topic_of(self.task_id), arrived.event, payload)

    def _require_told(self, told: tuple[Any, ...], foreseen: Broadcast | None) -> None:
        if self.is_as_foreseen:
            assert told == (() if foreseen is None else (foreseen,))
            return
        # Since then the task has started, which what was relayed before could not say; all else it did.
        ((one,), unknown) = (told, {"status", "started_at", "units"})
        assert foreseen is not None
        assert (one.topic, one.event, one.audience, one.binary) == (
            foreseen.topic,
            foreseen.event,
            foreseen.audience,
            foreseen.binary,
        )
        for name in foreseen.payload.keys() - unknown:
            assert one.payload[name] == foreseen.payload[name]

    def _catch_up(self) -> None:
        while self.waiting:
            self._store_one()
        self._caught_up()

    def _caught_up(self) -> None:
        """What was known ahead is what is stored now."""
        if self.is_as_foreseen:
            assert without_digests(self.known) == without_digests(self.world.task(self.task_id))
        self._know()

    def _do(self, who: Player, event: str, payload: dict[str, Any]) -> None:
        self._catch_up()
        try:
            self.world.push(who, topic_of(self.task_id), event, payload)
        except Refusal:
            return
        self._know()


Lagging.TestCase.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
TestLagging = Lagging.TestCase
