"""However far the writer is behind: what is relayed ahead of it is what it decides then, and nothing less."""

from collections import deque
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from channels.chunks import BinaryChunk, SendChunk, binary_chunk
from channels.errors import Refusal
from channels.progress import ReportProgress, SaveCheckpoint
from channels.task_state import Direction
from channels.told import Broadcast
from tests.channels.foreseeing import LIMITS, PRICES, UNIT_PRICE, decide, foresee, paid_as_it_streams, without_digests
from tests.channels.played import played
from tests.channels.roles import ALICE, BOB, Player, market_with
from tests.channels.streaming import DIRECTIONS, WEEK_S, in_base64, receiver_of
from tests.channels.work import closing, hired, push, sender_of, topic_of

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


def chunk_in(form: str, *, seq: int, data: bytes) -> SendChunk | BinaryChunk:
    """A chunk of that form."""
    if form == "binary":
        return BinaryChunk(seq=seq, data=data)
    if form == "utf8":
        return SendChunk(chunk=data.decode(), seq=seq)
    return SendChunk(chunk=in_base64(data) if form == "base64" else "AB==", seq=seq, encoding="base64")


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
        if foreseen is None and self.world.task(self.task_id).stream_price is not None:
            return  # It is told once it is stored.
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
