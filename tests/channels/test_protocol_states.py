"""PROTOCOL.md is true of states: each move is tried in each of them, and those that do something are those listed."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from channels.agents import AgentStatus
from channels.errors import Refusal
from channels.messages import Phase as MessagePhase
from channels.negotiation import Phase as NegotiationPhase
from channels.payment_state import Phase as PaymentPhase
from channels.registration import AgentPatch, ban, reinstate, revise, suspend
from channels.routes import OURS
from channels.task_state import Phase as TaskPhase
from tests.channels.played import Played, played, story
from tests.channels.protocol_text import chapter, code, codes, section, table, tables, titles
from tests.channels.roles import ALICE, BOB, MARKET, NOW, Player
from tests.channels.work import EVENTS, HELLO, close, hired, stream

NEGOTIATION = chapter("`negotiation:{session_id}`")
TASK = chapter("`task:{task_id}`")
PAYMENT = chapter("`payment:{channel_id}`")
MAILBOX = chapter("`messages:{agent_id}`")
CHAPTERS = {"agents": chapter("`agents:discovery`"), "negotiation": NEGOTIATION, "task": TASK, "messages": MAILBOX}
TOO_LATE = {"terminal_state", "expired", "invalid_transition"}
ELSEWHERE = {"channel_not_open", "channel_not_pending", "not_disputed", "dispute_used"}
"""What a payment channel answers that stands otherwise."""

ANSWERED = {"already_acknowledged", "already_rejected"}
"""What a message answers that stands otherwise."""

NOT_NOW = {"not_started", "not_completed", "not_held"}
"""What a task answers that stands otherwise."""


Move = tuple[str, str, str]
"""From, on, to."""


def listed_moves(of: str) -> set[Move]:
    """The table of states, a row for each move."""
    moves: set[Move] = set()
    for row in table("from", of):
        triggers = codes(row["on"]) if row["on"].startswith("`") and "," in row["on"] else [row["on"].strip("`")]
        for source in codes(row["from"]) or ["–"]:
            moves |= {(source, trigger.replace("`", ""), code(row["to"])) for trigger in triggers}
    return moves


def outcome(act: Callable[[], object]) -> bool:
    """Whether it was taken."""
    try:
        act()
    except Refusal as refusal:
        if refusal.reason not in TOO_LATE | ELSEWHERE | ANSWERED | NOT_NOW:
            raise
        return False
    return True


def block(world: Played) -> None:
    """What the end of a contact does, a block does too, between any two."""
    world.call(BOB, "block", handle=ALICE.agent.handle)


NEGOTIATION_MOVES: dict[str, Callable[[Played, str], None]] = {
    "offer": lambda world, id_: world.offer(ALICE, id_, 700),
    "offer equal to the standing counter-offer": lambda world, id_: world.offer(ALICE, id_, 1_001),
    "accept": lambda world, id_: world.accept(id_, (600, 1_001)),
    "reject": lambda world, id_: world.push(ALICE, f"negotiation:{id_}", "reject", {"reason": "another"}),
    "the clock": lambda world, id_: world.advance(MARKET.limits.negotiation_ttl_s),
    "a ban of either agent": lambda world, id_: world.ban("negotiation", id_),
    "the contact's end, or a block": lambda world, _: block(world),
}
BRINGS_TO = {
    "open": "", "agreed": "accept", "rejected": "reject", "expired": "the clock", "cancelled": "a ban of either agent"
}  # fmt: skip


def test_the_states_of_a_negotiation_follow_as_the_table_says() -> None:
    moves: set[Move] = {("–", "open_negotiation", "open")}
    for phase in NegotiationPhase:
        for name, move in NEGOTIATION_MOVES.items():
            world = played()
            session_id = world.bargain(600, 1_001)
            if BRINGS_TO[phase]:
                NEGOTIATION_MOVES[BRINGS_TO[phase]](world, session_id)
            before = world.session(session_id)
            assert before.status == phase
            if outcome(partial(move, world, session_id)):
                after = world.session(session_id)
                moves |= {(phase, name, after.status)} if after != before else set()

    assert moves == listed_moves(section("States", NEGOTIATION))


def send(event: str, **payload: Any) -> Callable[[Played, str], None]:
    """A move in a task: its right party sends an event."""

    def move(world: Played, task_id: str) -> None:
        who = ALICE if event.startswith("input") or event in {"cancel", "release", "dispute"} else BOB
        world.push(who, f"task:{task_id}", event, payload)

    return move


def wait(world: Played, _task_id: str) -> None:
    world.advance(MARKET.limits.deadline_default_s)


NOTHING = hashlib.sha256().hexdigest()
DISPUTE = send("dispute", reason="it is wrong")
TASK_MOVES: dict[str, Callable[[Played, str], None]] = {
    "input_stream": send("input_stream", chunk="a", seq=0),
    "input_complete": send("input_complete", checksum=NOTHING, total_size=0),
    "output_stream": send("output_stream", chunk="a", seq=0),
    "output_complete": send("output_complete", checksum=NOTHING, total_size=0),
    "progress": send("progress", percent=1),
    "checkpoint": send("checkpoint", seq=1, state={"at": 1}),
    "complete": send("complete", **EVENTS["complete"]),
    "release": send("release"),
    "error": send("error", **EVENTS["error"]),
    "cancel": send("cancel", **EVENTS["cancel"]),
    "dispute": DISPUTE,
    "a ban of either agent": lambda world, id_: world.ban("task", id_),
    "the contact's end, or a block": lambda world, _: block(world),
    "the clock": wait,
}


def begin(world: Played, phase: str) -> str:
    """A task that has come to that phase by other moves than those above."""
    task_id = hired(world)
    before: dict[str, Callable[[Played, str], None]] = {
        "in_progress": send("progress", percent=10),
        "completed": send("complete", result="done"),
        "failed": send("error", type="broken"),
        "cancelled": send("cancel", reason="changed my mind"),
    }
    if phase in before:
        before[phase](world, task_id)
    return task_id


def delivering(world: Played, *, is_verified: bool = True) -> str:
    """A task in progress with output, whose price is held after completion."""
    task_id = hired(world, hold_seconds=3_600)
    stream(world, task_id, "output", *HELLO)
    if is_verified:
        close(world, task_id, "output")
    return task_id


def holding(world: Played) -> str:
    """A completed task whose price is held."""
    task_id = delivering(world)
    send("complete")(world, task_id)
    return task_id


def disputed(world: Played, *, is_verified: bool) -> str:
    """A disputed task."""
    task_id = delivering(world, is_verified=is_verified)
    DISPUTE(world, task_id)
    return task_id


def streaming(world: Played) -> str:
    """A task in progress that is paid as it streams."""
    price = {"amount": 1_000, "per": "chunk"}
    task_id = hired(world, stream_price=price, channel_id=world.channel().partition(":")[2])
    send("progress", percent=10)(world, task_id)
    return task_id


BAN = TASK_MOVES["a ban of either agent"]
UNVERIFIED = partial(disputed, is_verified=False)
SPECIAL: tuple[tuple[str, Callable[[Played], str], Callable[[Played, str], None]], ...] = (
    ("the clock, with delivered output", delivering, wait),
    ("release", holding, send("release")),
    ("release", holding, wait),
    ("dispute", delivering, DISPUTE),
    ("dispute", holding, DISPUTE),
    ("a ban of either agent, with verified output that money is held for", delivering, BAN),
    ("a ban of the provider, while the price is held", holding, BAN),
    ("the contact's end, or a block, where it is paid as it streams", streaming, lambda world, _: block(world)),
    ("output_stream", UNVERIFIED, send("output_stream", chunk="more", seq=len(HELLO))),
    ("output_complete", UNVERIFIED, lambda world, id_: close(world, id_, "output")),
    ("an operator: client, or the clock, where nothing is delivered", UNVERIFIED, wait),
    (
        "an operator: provider or split, or the clock, where something is delivered",
        partial(disputed, is_verified=True),
        wait,
    ),
)  # fmt: skip
"""Moves that rest on more than the phase: how the task comes there, and the move."""


def test_the_states_of_a_task_follow_as_the_table_says() -> None:
    moves: set[Move] = {("–", "open_task", "pending")}
    for phase in [phase for phase in TaskPhase if phase is not TaskPhase.DISPUTED]:
        for name, move in TASK_MOVES.items():
            world = played()
            task_id = begin(world, phase)
            before = world.task(task_id)
            assert before.status == phase
            if outcome(partial(move, world, task_id)):
                after = world.task(task_id)
                moves |= {(phase, name, after.status)} if after != before else set()
    for name, come, move in SPECIAL:
        world = played()
        task_id = come(world)
        before = world.task(task_id)
        move(world, task_id)
        after = world.task(task_id)
        assert after != before, name
        moves.add((before.status, name, after.status))

    assert moves == listed_moves(section("States", TASK))


def by_rest(who: Player, name: str, **payload: Any) -> Callable[[Played, str], None]:
    """A move of a payment channel that only REST makes."""
    return lambda world, topic: world.rest(who, topic, name, **payload)


def by_bob(world: Played, topic: str, event: str, **payload: Any) -> None:
    """Bob sends an event."""
    world.push(BOB, topic, event, payload)


PAYMENT_MOVES: dict[str, Callable[[Played, str], None]] = {
    "accept": by_rest(BOB, "accept"),
    "decline": by_rest(BOB, "decline"),
    "cancel": by_rest(ALICE, "cancel"),
    "force-close": by_rest(ALICE, "force_close"),
    "an operator decides": by_rest(ALICE, "decide", final_balance_a=1, final_balance_b=999, reason="so"),
    "dispute": partial(by_bob, event="dispute", reason="late"),
    "withdraw_dispute": partial(by_bob, event="withdraw_dispute"),
    "close": lambda world, topic: world.close_channel(topic),
    "the clock": lambda world, _: world.advance(MARKET.limits.window_default_s),
    "a ban of either agent": lambda world, topic: world.ban("payment", topic.partition(":")[2]),
    "the contact's end, or a block": lambda world, _: block(world),
}
PAYMENT_PATHS: dict[str, tuple[tuple[str, ...], ...]] = {
    "pending": ((),),
    "open": (("accept",),),
    "closing": (("accept", "force-close"),),
    "disputed": (("accept", "dispute"), ("accept", "force-close", "dispute")),
    "closed": (("accept", "close"),),
    "declined": (("decline",), ("cancel",)),
    "expired": (("the clock",),),
}
"""How a channel comes to each status."""


def test_the_states_of_a_payment_channel_follow_as_the_table_says() -> None:
    moves: set[Move] = {("–", "POST /api/v1/payment-channels", "pending")}
    for phase in PaymentPhase:
        for path in PAYMENT_PATHS[phase]:
            for name, move in PAYMENT_MOVES.items():
                world = played()
                topic = world.channel(accepted=False)
                for step in path:
                    PAYMENT_MOVES[step](world, topic)
                channel_id = topic.partition(":")[2]
                assert world.states["payment"][channel_id].status == phase
                if outcome(partial(move, world, topic)):
                    after = world.states["payment"][channel_id].status
                    moves |= {(phase, name, after)} if after != phase else set()

    assert moves == listed_moves(section("States", PAYMENT))


MESSAGE_MOVES: dict[str, Callable[[Played, str], None]] = {
    "a push to a socket": lambda world, id_: world.mark_pushed(BOB.id, id_),
    "acknowledge": lambda world, id_: by_bob(world, f"messages:{BOB.id}", "acknowledge", message_id=id_),
    "reject": lambda world, id_: by_bob(world, f"messages:{BOB.id}", "reject", message_id=id_, reason="busy"),
    "the clock": lambda world, _: world.advance(MARKET.limits.message_ttl_s),
}
COMES_BY = {
    "queued": "", "delivered": "a push to a socket", "acknowledged": "acknowledge", "rejected": "reject",
    "expired": "the clock",
}  # fmt: skip


def test_the_states_of_a_message_follow_as_the_table_says() -> None:
    moves: set[Move] = {("–", "a message is stored", "queued")}
    for phase in MessagePhase:
        for name, move in MESSAGE_MOVES.items():
            world = played()
            hired(world)
            (message,) = world.mail(BOB)
            if COMES_BY[phase]:
                MESSAGE_MOVES[COMES_BY[phase]](world, message.id)
            assert world.states["message"][message.id].status == phase
            if outcome(partial(move, world, message.id)):
                left = world.states["message"].get(message.id)
                moves |= {(phase, name, left.status)} if left is not None and left.status != phase else set()

    assert moves == listed_moves(section("States", MAILBOX))


def test_a_story_has_a_message_of_every_state() -> None:
    assert {message.status for message in story().states["message"].values()} == {*MessagePhase}


def test_the_statuses_of_an_agent_follow_as_the_table_says() -> None:
    def by_owner(status: Any) -> Callable[[Any], Any]:
        return lambda agent: revise(agent, AgentPatch(status=status), by_operator=False, now=NOW, market=MARKET)

    moves: set[Move] = set()
    triggers: dict[str, Callable[[Any], Any]] = {
        **{f"owner: {status}": by_owner(status) for status in ("draft", "active", "inactive")},
        "operator: suspend": lambda agent: suspend(agent, now=NOW),
        "operator: reinstate": lambda agent: reinstate(agent, now=NOW),
        "operator: ban": lambda agent: ban(agent, now=NOW),
    }
    for status in AgentStatus:
        agent = msgspec.structs.replace(ALICE.agent, status=status)
        for name, trigger in triggers.items():
            if outcome(partial(trigger, agent)):
                after = trigger(agent).status
                moves |= {(status, name, after)} if after != status else set()

    assert moves == listed_moves(chapter("Who sees whom"))


@pytest.mark.parametrize("module", OURS, ids=lambda module: module.TOPIC)
def test_the_timers_are_those_of_the_topic(module: Any) -> None:
    text = chapter(next(title for title in titles(2) if title.startswith(f"`{module.TOPIC.rstrip('*')}")))
    listed = [code(row["timer"]) for rows in tables("timer", text) for row in rows]

    assert listed == [*getattr(module, "TIMERS", {})]
    assert ("Timers" in titles(3, text)) is bool(listed)
