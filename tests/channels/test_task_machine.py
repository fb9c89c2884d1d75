"""Tasks under honest and scrambled moves: whatever anybody sends, in whatever order, the books and the rules hold.

Every move is also predicted. A model that knows what was sent, by whom and when, but neither money nor storage, says
for each event whether it takes effect, repeats what took effect, or is refused and why.
"""

import hashlib
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from channels.agents import Capability
from channels.errors import Refusal
from channels.ledger import EXTERNAL, FEES, available, escrow, fee_of
from channels.task import Task
from channels.task_state import Direction
from tests.channels.roles import ALICE, MALLORY, market_with, refused
from tests.channels.streaming import DIRECTIONS, digest_over
from tests.channels.work import GLOBAL_BOB, PURSE, Mirror, agreement, hired, topic_of
from tests.channels.world import World

BOB = GLOBAL_BOB
FEE_BPS = 500
MONTH_S = 2_592_000
TASKS_MAX = 3
WINDOW = 3
SENDERS: dict[Direction, str] = {"input": "alice", "output": "bob"}
PLAYERS = {"alice": ALICE, "bob": BOB, "mallory": MALLORY}

TASKS: Bundle[str] = Bundle("tasks")
ANYBODY = st.sampled_from(["alice", "bob", "alice", "bob", "mallory"])
BOB_OFTEN = st.sampled_from(["bob", "bob", "bob", "alice", "mallory"])
ANY_DIRECTION = st.sampled_from(DIRECTIONS)


class Story(msgspec.Struct, kw_only=True):
    """What the model knows of a task.

    Args:
        end: The event that ended it, who sent it and its fields; the clock sends nothing.
    """

    price: int
    deadline: datetime
    chunks: dict[Direction, dict[int, str]] = msgspec.field(default_factory=lambda: {"input": {}, "output": {}})
    closed: set[Direction] = msgspec.field(default_factory=set)
    is_started: bool = False
    end: tuple[str, str | None, Any] | None = None

    @property
    def fee(self) -> int:
        return fee_of(self.price, fee_bps=FEE_BPS)

    @property
    def is_delivered(self) -> bool:
        return "output" in self.closed and bool(self.chunks["output"])

    @property
    def is_paid(self) -> bool:
        return self.end is not None and self.end[0] == "complete"

    def next_seq(self, direction: Direction) -> int:
        """The first missing chunk."""
        return next(seq for seq in count() if seq not in self.chunks[direction])

    def whole(self, direction: Direction) -> bytes:
        """The chunks before it."""
        return "".join(self.chunks[direction][seq] for seq in range(self.next_seq(direction))).encode()

    def has_gaps(self, direction: Direction) -> bool:
        return self.next_seq(direction) < len(self.chunks[direction])


class Working(RuleBasedStateMachine):
    """Alice hires Bob again and again; both play honestly or not; Mallory has no part in it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(ALICE, BOB, MALLORY, market=market_with(stream_window=WINDOW))
        self.world.deposit(ALICE, PURSE)
        self.stories: dict[str, Story] = {}
        self.ended: dict[str, Task] = {}
        self.mirrors: dict[tuple[str, str], Mirror] = {}

    # What players do

    @initialize(target=TASKS)
    def start(self) -> str:
        return self._tell(hired(self.world, provider=BOB))

    @precondition(lambda self: len(self.stories) < TASKS_MAX)
    @rule(
        target=TASKS,
        price=st.sampled_from([1, 19, 20, 1_000]),
        way=st.sampled_from(["listed", "agreed", "free"]),
        deadline_s=st.sampled_from([60, 600, MONTH_S]),
    )
    def hire(self, price: int, way: str, deadline_s: int) -> str:
        deadline = self.world.now + timedelta(seconds=deadline_s)
        listed = {"listed": price, "agreed": 1_000, "free": 0}[way]
        self.world.change_agent(BOB, capabilities=(Capability("translate", listed),))
        if way != "agreed":
            return self._tell(hired(self.world, provider=BOB, deadline=deadline))
        session = agreement(
            self.world,
            id=f"agreement {len(self.stories)}",
            amount=price,
            agreement_expires_at=self.world.now + timedelta(seconds=1),
        )
        return self._tell(hired(self.world, provider=BOB, negotiation_session_id=session.id, deadline=deadline))

    @rule(task_id=TASKS)
    def hire_by_the_same_agreement(self, task_id: str) -> None:
        session_id = self.world.task(task_id).negotiation_session_id
        if session_id is not None:
            before = self.world.everything()
            refusal = refused(hired, self.world, provider=BOB, negotiation_session_id=session_id)
            assert (refusal.reason, refusal.context) == ("agreement_used", {"task_id": task_id})
            assert self.world.everything() == before

    @rule(
        task_id=TASKS,
        who=ANYBODY,
        direction=ANY_DIRECTION,
        ahead=st.sampled_from([0, 0, 0, -1, 1, WINDOW - 1, WINDOW]),
        chunk=st.sampled_from(["a", "é"]),
    )
    def send_a_chunk(self, task_id: str, who: str, direction: Direction, ahead: int, chunk: str) -> None:
        story = self.stories[task_id]
        stored = story.chunks[direction]
        seq = max(0, story.next_seq(direction) + ahead)
        refusal = None
        if direction in story.closed:
            refusal = "stream_closed"
        elif seq in stored:
            refusal = "seq_conflict"
        elif ahead >= WINDOW:
            refusal = "seq_out_of_window"
        effect = self._expected(
            story, who, role=SENDERS[direction], is_repeated=stored.get(seq) == chunk, refusal=refusal
        )
        if self._push(task_id, who, f"{direction}_stream", {"chunk": chunk, "seq": seq}, effect):
            stored[seq] = chunk
            story.is_started |= direction == "output"

    @rule(
        task_id=TASKS,
        who=ANYBODY,
        direction=ANY_DIRECTION,
        lie=st.sampled_from([None, None, None, "checksum_mismatch", "size_mismatch"]),
    )
    def close_a_stream(self, task_id: str, who: str, direction: Direction, lie: str | None) -> None:
        story = self.stories[task_id]
        whole = story.whole(direction)
        payload: dict[str, Any] = {"checksum": hashlib.sha256(whole).hexdigest(), "total_size": len(whole)}
        if lie == "checksum_mismatch":
            payload["checksum"] = "0" * 64
        elif lie == "size_mismatch":
            payload["total_size"] += 1
        is_closed = direction in story.closed
        gaps = "missing_chunks" if story.has_gaps(direction) else None
        effect = self._expected(
            story,
            who,
            role=SENDERS[direction],
            is_repeated=is_closed and lie is None,
            refusal="stream_closed" if is_closed else gaps or lie,
        )
        if self._push(task_id, who, f"{direction}_complete", payload, effect):
            story.closed.add(direction)
            story.is_started |= direction == "output"

    @rule(task_id=TASKS, who=BOB_OFTEN, percent=st.sampled_from([0, 50, 100]))
    def report_progress(self, task_id: str, who: str, percent: int) -> None:
        story = self.stories[task_id]
        effect = self._expected(story, who, role="bob")
        if self._push(task_id, who, "progress", {"percent": percent}, effect):
            story.is_started = True

    @rule(task_id=TASKS, who=BOB_OFTEN, result=st.sampled_from([None, 0, {"text": "done"}]))
    def complete(self, task_id: str, who: str, result: Any) -> None:
        story = self.stories[task_id]
        refusal = None
        if story.chunks["output"] and "output" not in story.closed:
            refusal = "stream_incomplete"
        elif result is None and not story.is_delivered:
            refusal = "nothing_delivered"
        if self._end(task_id, who, "complete", {"result": result}, role="bob", refusal=refusal):
            story.is_started = True

    @rule(task_id=TASKS, who=ANYBODY, event=st.sampled_from(["error", "cancel"]), why=st.sampled_from(["a", "b"]))
    def end_without_work(self, task_id: str, who: str, event: str, why: str) -> None:
        story = self.stories[task_id]
        if event == "error":
            self._end(task_id, who, event, {"type": why, "details": [1]}, role="bob")
            return
        has_come = who == "alice" and bool(story.chunks["output"]) and story.price > 0
        refusal = "output_delivered" if has_come else None
        self._end(task_id, who, event, {"reason": why}, role=None, refusal=refusal)

    @rule(task_id=TASKS)
    def deliver_all(self, task_id: str) -> None:
        """Bob's honest output, so that deliveries are not rare."""
        if self._expected(self.stories[task_id], "bob", role="bob") != "done":
            return
        while self.stories[task_id].has_gaps("output"):
            self.send_a_chunk(task_id, "bob", "output", 0, "a")
        for chunk in ("a", "é"):
            self.send_a_chunk(task_id, "bob", "output", 0, chunk)
        self.close_a_stream(task_id, "bob", "output", None)

    # What the clock does

    @rule(seconds=st.sampled_from([1, 59, 60, 600]), are_timers_late=st.booleans())
    def let_time_pass(self, seconds: int, *, are_timers_late: bool) -> None:
        self.world.advance(seconds, run_timers=False)
        if not are_timers_late:
            self.run_timers()

    @rule()
    def run_timers(self) -> None:
        self.world.run_timers()
        for story in self.stories.values():
            if story.end is None and self.world.now >= story.deadline:
                story.end = ("complete" if story.is_delivered else "deadline", None, None)

    # What always holds

    @invariant()
    def money_is_neither_made_nor_lost(self) -> None:
        stories = self.stories.values()
        paid = [story for story in stories if story.is_paid]
        held = [story for story in stories if story.end is None]
        accounts = self.world.accounts
        self.world.require_balance()
        assert accounts[EXTERNAL] == -PURSE
        assert accounts[available(ALICE.id)] == PURSE - sum(story.price for story in (*paid, *held))
        assert accounts[available(BOB.id)] == sum(story.price - story.fee for story in paid)
        assert accounts[FEES] == sum(story.fee for story in paid)
        assert accounts[available(MALLORY.id)] == 0

    @invariant()
    def an_escrow_holds_the_price_until_the_end_and_nothing_after_it(self) -> None:
        for task_id, story in self.stories.items():
            task = self.world.task(task_id)
            assert self.world.accounts[escrow(task_id)] == (story.price if story.end is None else 0)
            moved = "held" if story.end is None else "released" if story.is_paid else "refunded"
            assert task.escrow_status == (moved if story.price else "none")
            assert ((topic_of(task_id), "task_deadline") in self.world.timers) is (story.end is None)

    @invariant()
    def a_task_is_what_was_sent_and_an_end_stays_the_end(self) -> None:
        for task_id, story in self.stories.items():
            task = self.world.task(task_id)
            assert task.is_final is (story.end is not None)
            assert (task.started_at is not None) is story.is_started
            for direction in DIRECTIONS:
                stream, whole = task.stream(direction), story.whole(direction)
                sent = {seq: chunk.encode() for seq, chunk in story.chunks[direction].items()}
                assert self.world.chunks[task_id, direction] == sent
                assert (stream.next_seq, stream.size) == (story.next_seq(direction), len(whole))
                assert stream.digest == digest_over(sent, until=stream.next_seq)
                assert (stream.stored_count, stream.stored_size) == (len(sent), sum(map(len, sent.values())))
                assert stream.is_complete is (direction in story.closed)
            if task.is_final:
                assert self.ended.setdefault(task_id, task) == task

    @invariant()
    def a_join_and_what_is_told_since_equal_a_fresh_join(self) -> None:
        for mirror in self.mirrors.values():
            mirror.require_fresh()

    @invariant()
    def an_end_counts_once_and_only_where_started_and_not_taken_back(self) -> None:
        counted = {
            task_id: story.is_paid
            for task_id, story in self.stories.items()
            if story.is_started and story.fee and story.end and story.end[:2] != ("cancel", "alice")
        }
        assert {outcome.task_id: outcome.is_completed for outcome in self.world.outcomes} == counted
        assert len(self.world.outcomes) == len(counted)

    def teardown(self) -> None:
        """With nobody acting any more, the clock alone takes every task to an end."""
        self.let_time_pass(MONTH_S, are_timers_late=False)
        assert all(self.world.task(task_id).is_final for task_id in self.stories)
        self.money_is_neither_made_nor_lost()
        self.an_escrow_holds_the_price_until_the_end_and_nothing_after_it()
        self.a_join_and_what_is_told_since_equal_a_fresh_join()

    # How the model goes on

    def _tell(self, task_id: str) -> str:
        task = self.world.task(task_id)
        self.stories[task_id] = Story(price=task.price, deadline=task.deadline)
        self.mirrors |= {(task_id, who): Mirror(self.world, PLAYERS[who], task_id) for who in ("alice", "bob")}
        return task_id

    def _expected(
        self,
        story: Story,
        who: str,
        *,
        role: str | None,
        is_repeated: bool = False,
        refusal: str | None = None,
    ) -> str:
        """The effect of an event: `done`, `duplicate`, or the reason of its refusal; the first that applies."""
        if who == "mallory":
            return "not_found"
        if role is not None and who != role:
            return "forbidden_role"
        if is_repeated:
            return "duplicate"
        if story.end is not None:
            return "terminal_state"
        if self.world.now >= story.deadline:
            return "expired"
        return refusal or "done"

    def _end(
        self,
        task_id: str,
        who: str,
        event: str,
        payload: dict[str, Any],
        *,
        role: str | None,
        refusal: str | None = None,
    ) -> bool:
        story, end = self.stories[task_id], (event, who, payload)
        effect = self._expected(story, who, role=role, is_repeated=story.end == end, refusal=refusal)
        is_done = self._push(task_id, who, event, payload, effect)
        if is_done:
            story.end = end
        return is_done

    def _push(self, task_id: str, who: str, event: str, payload: dict[str, Any], effect: str) -> bool:
        """Send an event and require its effect; whether it was done."""
        before = self.world.everything()
        seen = self._effect(task_id, who, event, payload)
        assert seen == effect
        assert (self.world.everything() != before) is (effect == "done")
        return effect == "done"

    def _effect(self, task_id: str, who: str, event: str, payload: dict[str, Any]) -> str:
        mirror = self.mirrors.get((task_id, who))
        try:
            if mirror is None:
                reply = self.world.push(PLAYERS[who], topic_of(task_id), event, payload)
            else:
                reply = mirror.push(event, payload)
        except Refusal as refusal:
            return refusal.reason
        return "duplicate" if reply.get("duplicate") else "done"


Working.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestWorking = Working.TestCase
