"""Neither side gains by timing: whatever is done at whatever point of a task's life, the money ends where it should.

`RULES` and `SILENCE` say the rules in words: for every move and every state of a task, the refusal or the state that it
leads to, and where silence ends. The test makes every move at every point, and all pairs of moves in either order, also
where the clock is late; and after each it lets time pass without end: no money stays, and no timer waits.
"""

from datetime import timedelta
from typing import Any, Final, NamedTuple

import pytest

from channels.agents import Capability
from channels.ending import ban_task
from channels.errors import Refusal
from channels.ledger import EXTERNAL, FEES, escrow
from tests.channels.roles import ALICE, Player
from tests.channels.stream_play import twin_of
from tests.channels.work import GLOBAL_BOB, PRICE, PURSE, closing, decide, hired, push, topic_of
from tests.channels.world import THE_HOUSE, World

BOB: Final = GLOBAL_BOB
HOLD_S: Final = 3_600
FEE: Final = 50
"""Five per cent of the price of 1,000."""

DUE: Final = ("task_deadline", "task_hold", "task_decision")
"""The timers that end something: a task, a hold, a dispute."""

UNSTARTED = "pending"
STARTED = "started emptied"
"""In progress without output; `emptied`: its output stream was closed without a chunk."""
OUTPUT = "gapped chunks"
"""Output was stored, without its beginning or with it, and is not closed."""
HELD = "held;output held;result"
DISPUTED = "disputed;gapped disputed;chunks disputed;output disputed;result"
SETTLED = "settled;client settled;provider settled;split settled;default"
"""`settled;client`: as an operator or the rules have decided; `settled;default`: for the provider, by the clock."""
ENDED = f"cancelled failed paid {SETTLED}"
RUNNING = f"{UNSTARTED} {STARTED} {OUTPUT} verified"

SHOWN: Final[dict[str, tuple[str, str]]] = {
    "pending": ("pending", "held"),
    **dict.fromkeys(f"{STARTED} {OUTPUT} verified".split(), ("in_progress", "held")),
    **dict.fromkeys(HELD.split(), ("completed", "held")),
    **dict.fromkeys(DISPUTED.split(), ("disputed", "held")),
    "paid": ("completed", "released"),
    "cancelled": ("cancelled", "refunded"),
    "failed": ("failed", "refunded"),
    "settled;client": ("failed", "refunded"),
    "settled;provider": ("completed", "released"),
    "settled;default": ("completed", "released"),
    "settled;split": ("completed", "split"),
}
"""Status and escrow of each state."""

SILENCE: Final[dict[str, str]] = {
    **dict.fromkeys(f"{UNSTARTED} {STARTED} {OUTPUT}".split(), "failed"),
    "verified": "held;output",
    **dict.fromkeys(HELD.split(), "paid"),
    **dict.fromkeys(["disputed;gapped", "disputed;chunks"], "settled;client"),
    **dict.fromkeys(["disputed;output", "disputed;result"], "settled;default"),
}
"""Where the next timer leads: the deadline, the end of the hold, the day of the decision."""

RULES: Final[dict[str, dict[str, str]]] = {
    "client cancels": {
        f"{UNSTARTED} {STARTED}": "-> cancelled",
        f"{OUTPUT} verified": "output_delivered",
        DISPUTED: "escrow_locked",
        f"{HELD} {ENDED}": "terminal_state",
    },
    "provider cancels": {
        RUNNING: "-> cancelled",
        DISPUTED: "escrow_locked",
        f"{HELD} {ENDED}": "terminal_state",
    },
    "error": {RUNNING: "-> failed", DISPUTED: "escrow_locked", f"{HELD} {ENDED}": "terminal_state"},
    "complete with a result": {
        f"{UNSTARTED} {STARTED}": "-> held;result",
        OUTPUT: "stream_incomplete",
        "verified": "-> held;output",
        DISPUTED: "escrow_locked",
        f"{HELD} {ENDED}": "terminal_state",
    },
    "complete without a result": {
        f"{UNSTARTED} {STARTED}": "nothing_delivered",
        OUTPUT: "stream_incomplete",
        "verified": "-> held;output",
        DISPUTED: "escrow_locked",
        f"{HELD} {ENDED}": "terminal_state duplicate",
    },
    "release": {
        RUNNING: "not_completed",
        HELD: "-> paid",
        DISPUTED: "escrow_locked",
        "paid settled;provider settled;default": "duplicate",
        "cancelled failed settled;client settled;split": "not_held",
    },
    "dispute": {
        UNSTARTED: "not_started",
        STARTED: "-> settled;client",
        "gapped": "-> disputed;gapped",
        "chunks": "-> disputed;chunks",
        "verified held;output": "-> disputed;output",
        "held;result": "-> disputed;result",
        f"{DISPUTED} {SETTLED}": "dispute_used",
        "cancelled failed paid": "terminal_state dispute_used",
    },
    "progress": {
        UNSTARTED: "-> started",
        f"{STARTED} {OUTPUT} verified": "",
        DISPUTED: "escrow_locked",
        f"{HELD} {ENDED}": "terminal_state",
    },
    "chunk": {
        "pending started gapped chunks": "-> chunks",
        "disputed;gapped disputed;chunks": "-> disputed;chunks",
        "emptied verified disputed;output": "stream_closed",
        "disputed;result": "* stream_closed",
        f"{HELD} {ENDED}": "terminal_state",
    },
    "close": {
        "pending started": "-> emptied",
        "gapped disputed;gapped": "missing_chunks",
        "chunks": "-> verified",
        "disputed;chunks": "-> disputed;output",
        "emptied verified disputed;output": "duplicate",
        "disputed;result": "* duplicate",
        f"{HELD} {ENDED}": "terminal_state duplicate",
    },
    **{
        f"operator decides {decision}": {
            DISPUTED: f"-> settled;{decision}",
            SETTLED: "terminal_state",
            f"{RUNNING} {HELD} cancelled failed paid": "not_disputed",
        }
        for decision in ("client", "provider", "split")
    },
    "client blocks": {UNSTARTED: "-> cancelled", f"{STARTED} {OUTPUT} verified {HELD} {DISPUTED} {ENDED}": "*"},
    "provider blocks": {UNSTARTED: "-> cancelled", f"{STARTED} {OUTPUT} verified {HELD} {DISPUTED} {ENDED}": "*"},
    "client is banned": {
        f"{UNSTARTED} {STARTED} {OUTPUT}": "-> cancelled",
        "verified": "-> disputed;output",
        f"{HELD} {DISPUTED} {ENDED}": "*",
    },
    "provider is banned": {
        f"{UNSTARTED} {STARTED} {OUTPUT}": "-> cancelled",
        "verified held;output": "-> disputed;output",
        "held;result": "-> disputed;result",
        f"{DISPUTED} {ENDED}": "*",
    },
}
"""Move → states → what comes of it.

`-> state`; or the reason that it is refused for, where nothing changes; `duplicate` is an answer that changes nothing
either; of several one; `*` stands for an effect that changes neither the state nor where the money is.
"""

LATE: Final[dict[str, dict[str, str]]] = {
    **{move: {RUNNING: "expired"} for move in ("client cancels", "provider cancels", "error", "progress")},
    **{move: {RUNNING: "expired"} for move in ("complete with a result", "complete without a result")},
    "dispute": {f"{STARTED} {OUTPUT} verified {HELD}": "expired"},
    "chunk": {RUNNING: "expired", DISPUTED: "expired stream_closed"},
    "close": {RUNNING: "expired duplicate", DISPUTED: "expired duplicate"},
    **{f"operator decides {decision}": {DISPUTED: "expired"} for decision in ("client", "provider", "split")},
}
"""The same where a timer is due that has not run yet; where it says nothing, RULES hold."""

FREE: Final[dict[str, dict[str, str]]] = {
    "client cancels": {RUNNING: "-> cancelled"},
    "complete with a result": {f"{UNSTARTED} {STARTED} verified": "-> paid"},
    "complete without a result": {"verified": "-> paid"},
    "release": {"cancelled failed paid": "not_held"},
    "dispute": {f"{STARTED} {OUTPUT} verified": "not_held"},
    "client is banned": {"verified": "-> cancelled"},
    "provider is banned": {"verified": "-> cancelled"},
}
"""The same where the task costs nothing, so that nothing is held."""

FREE_AND_LATE: Final[dict[str, dict[str, str]]] = {
    **{
        move: {RUNNING: "expired"} for move in ("client cancels", "complete with a result", "complete without a result")
    },
    "dispute": FREE["dispute"],
}
"""Both."""

Rules = dict[str, dict[str, str]]

POINTS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "before the start": ("pending", ()),
    "before the start, with input": ("pending", ("input",)),
    "after progress": ("started", ("progress",)),
    "after an empty output": ("emptied", ("close",)),
    "after a chunk ahead of a gap": ("gapped", ("gap",)),
    "after 1 chunk of 3": ("chunks", ("chunk",)),
    "after 2 chunks of 3": ("chunks", ("chunk", "chunk")),
    "after 3 chunks of 3": ("chunks", ("chunk", "chunk", "chunk")),
    "after verified output": ("verified", ("chunk", "chunk", "close")),
    "after completion, held": ("held;output", ("chunk", "close", "complete without a result")),
    "after completion with a result alone, held": ("held;result", ("complete with a result",)),
    "after the deadline with verified output": ("held;output", ("chunk", "close", "due")),
    "after release": ("paid", ("complete with a result", "release")),
    "after the hold": ("paid", ("chunk", "close", "complete with a result", "due")),
    "after an end without work": ("failed", ("progress", "due")),
    "disputed in the middle": ("disputed;chunks", ("chunk", "dispute")),
    "disputed after completion": ("disputed;output", ("chunk", "close", "complete with a result", "dispute")),
    "disputed with a result alone": ("disputed;result", ("complete with a result", "dispute")),
    "taken back by a dispute": ("settled;client", ("progress", "dispute")),
}
"""Points of a task's life: the state, and how it came about."""

CLOCK = ("almost due", "due", "late")
"""Nearly the time of the next timer; that time; and the same with a timer that does not run yet."""


class Scene(NamedTuple):
    """A task at a point of its life.

    Args:
        world: Where it is.
        task_id: Its id.
        price: 0 or PRICE.
        state: As the rules call it.
        is_late: A timer is due that has not run.
        told: How it came about.
    """

    world: World
    task_id: str
    price: int
    state: str
    is_late: bool = False
    told: tuple[str, ...] = ()

    def held(self) -> tuple[Any, ...]:
        """All that a refused move must leave as it is."""
        world, task_id = self.world, self.task_id
        chunks = {stream: dict(stored) for stream, stored in world.chunks.items() if stored}
        return world.task(task_id), chunks, dict(world.accounts), dict(world.timers), world.outcomes[:]


class Town(World):
    """A marketplace with an operator who bans."""

    def ban(self, task_id: str, who: Player) -> None:
        """What the ban of an agent does to a task of its."""
        topic = topic_of(task_id)
        decision = ban_task(self.task(task_id), self.context(THE_HOUSE, topic), agent_id=who.id)
        self._carry_out(decision, THE_HOUSE, "task")


def rule_of(move: str, scene: Scene) -> str:
    """What the rules say of a move there."""
    layers: list[Rules] = [RULES]
    if scene.price == 0:
        layers.insert(0, FREE)
    if scene.is_late:
        layers.insert(0, LATE)
    if scene.is_late and scene.price == 0:
        layers.insert(0, FREE_AND_LATE)
    for layer in layers:
        for states, said in layer.get(move, {}).items():
            if scene.state in states.split():
                return said
    message = f"the rules say nothing of {move!r} in {scene.state!r}"
    raise AssertionError(message)


def do(scene: Scene, move: str) -> str:
    """Make a move; `ok`, `duplicate`, or the reason of its refusal. No two are the same, so none is a repetition."""
    world, task_id, new = scene.world, scene.task_id, f"move {len(scene.told)}"
    decision = move.removeprefix("operator decides ")
    acts: dict[str, tuple[Player, str, dict[str, Any]]] = {
        "client cancels": (ALICE, "cancel", {"reason": new}),
        "provider cancels": (BOB, "cancel", {"reason": new}),
        "error": (BOB, "error", {"type": "broken", "details": new}),
        "complete with a result": (BOB, "complete", {"result": new}),
        "complete without a result": (BOB, "complete", {}),
        "release": (ALICE, "release", {}),
        "dispute": (ALICE, "dispute", {"reason": new}),
        "progress": (BOB, "progress", {"percent": 50}),
        "input": (ALICE, "input_stream", {"chunk": "in", "seq": 0}),
        "chunk": (BOB, "output_stream", {"chunk": "x", "seq": world.task(task_id).output_stream.next_seq}),
        "gap": (BOB, "output_stream", {"chunk": "x", "seq": 1}),
        "close": (BOB, "output_complete", closing(world, task_id, "output")),
    }
    try:
        if move in acts:
            who, event, payload = acts[move]
            reply = push(world, who, task_id, event, **payload)
        elif decision != move:
            share = {"client_bps": 2_500} if decision == "split" else {}
            reply = decide(world, task_id, decision, reason=new, **share)
        elif move.endswith("is banned"):
            assert isinstance(world, Town)
            world.ban(task_id, ALICE if move.startswith("client") else BOB)
            reply = {}
        else:
            who, other = (ALICE, BOB) if move.startswith("client") else (BOB, ALICE)
            reply = world.call(who, "block", handle=other.agent.handle)
    except Refusal as refusal:
        return refusal.reason
    return "duplicate" if reply.get("duplicate") else "ok"


def after(scene: Scene, move: str) -> Scene:
    """What comes of a move, which must be what the rules say, and all that it shows."""
    if move in CLOCK:
        return after_the_clock(scene, move)
    told = (*scene.told, move)
    before, said = scene.held(), rule_of(move, scene).split()
    twin = scene._replace(world=twin_of(scene.world))
    answer = do(twin, move)
    if said and said[0] == "->":
        assert answer == "ok", (told, scene.state, answer)
        state = said[1]
        # A move that comes before a late timer and is allowed has ended what was late, or not changed it.
        is_late = scene.is_late and twin.held()[0].status == before[0].status
        return shown(twin._replace(state=state, is_late=is_late, told=told))
    if "*" not in said and said:
        assert answer in said, (told, scene.state, answer, said)
        assert twin.held() == before, (told, "is refused, and changes nothing")
    else:
        assert answer in {"ok", *said} or "blocks" in move, (told, scene.state, answer)
    return shown(twin._replace(told=told))


def after_the_clock(scene: Scene, move: str) -> Scene:
    """What comes of time alone, up to the next timer, or nearly so."""
    told = (*scene.told, move)
    world, ends = twin_of(scene.world), scene.state in SILENCE
    if not world.timers:
        return scene._replace(world=world, told=told)
    (due,) = world.timers.values()
    wait_s = max((due - world.now) / timedelta(seconds=1), 0)
    if move == "late":
        world.advance(wait_s, run_timers=False)
        return shown(scene._replace(world=world, is_late=ends, told=told))
    if move == "almost due":
        if not scene.is_late:
            world.advance(max(wait_s - 0.001, 0))
        return shown(scene._replace(world=world, told=told))
    world.advance(wait_s)
    state = next_of(scene) if ends else scene.state
    return shown(scene._replace(world=world, state=state, is_late=False, told=told))


def next_of(scene: Scene) -> str:
    """Where the next timer leads; what costs nothing is not held."""
    state = SILENCE[scene.state]
    return "paid" if scene.price == 0 and state.startswith("held") else state


def shown(scene: Scene) -> Scene:
    """The scene, whose task must show what its state means, and whose money must be where it should."""
    world, task = scene.world, scene.world.task(scene.task_id)
    status, where = SHOWN[scene.state]
    context = (scene.told, scene.state, task.status, task.escrow_status)
    assert (task.status, task.escrow_status) == (status, where if scene.price else "none"), context
    world.require_balance()
    assert world.accounts[EXTERNAL] == -PURSE
    assert world.accounts[escrow(scene.task_id)] == (scene.price if where == "held" else 0), context
    to_client = {"refunded": scene.price, "split": scene.price // 4}.get(where, 0)
    to_provider = {"released": scene.price, "split": scene.price - scene.price // 4}.get(where, 0)
    fee = to_provider // 20
    purses = (world.available(ALICE), world.available(BOB), world.accounts[FEES])
    assert purses == (PURSE - scene.price + to_client, to_provider - fee, fee), context
    assert {kind for _, kind in world.timers} <= {*DUE, "task_retention"}
    return scene


def outlasted(scene: Scene) -> None:
    """Nobody does anything any more, and nobody decides: the money ends where the rules say, and nothing waits."""
    state = scene.state
    for _ in range(5):
        if not scene.world.timers:
            break
        scene = after_the_clock(scene, "due")
        state = scene.state
    assert not scene.world.timers, (scene.told, "no timer waits for ever")
    assert state not in SILENCE, scene.told
    assert scene.world.accounts[escrow(scene.task_id)] == 0, (scene.told, "no money stays")
    assert scene.world.task(scene.task_id).is_final
    assert not scene.world.chunks[scene.task_id, "output"], "chunks are not kept for ever"
    assert len(scene.world.outcomes) <= 2, "an end counts once, and a decision corrects it"


def began(price: int, hold_seconds: int = HOLD_S) -> Scene:
    """A task that Alice has just opened."""
    world = Town(ALICE, BOB)
    world.deposit(ALICE, PURSE)
    world.change_agent(BOB, capabilities=(Capability("translate", price),))
    task_id = hired(world, provider=BOB, max_price=price, hold_seconds=hold_seconds)
    return Scene(world=world, task_id=task_id, price=price, state="pending")


def at(point: str, *, price: int = PRICE) -> Scene:
    """A task at that point of its life."""
    state, moves = POINTS[point]
    scene = began(price)
    for move in moves:
        if move == "due":
            (due,) = scene.world.timers.values()
            scene.world.advance((due - scene.world.now) / timedelta(seconds=1))
        else:
            assert do(scene, move) == "ok", (point, move)
        scene = scene._replace(told=(*scene.told, move))
    return shown(scene._replace(state=state))


def explored(scene: Scene, *, depth: int) -> int:
    """Make every move there, and after each that changed something every other one; how many were made."""
    count = 0
    for move in (*RULES, *CLOCK):
        then = after(scene, move)
        count += 1
        outlasted(then)
        if depth > 1 and (then.state, then.is_late, then.world.now) != (scene.state, scene.is_late, scene.world.now):
            count += explored(then, depth=depth - 1)
    return count


@pytest.mark.parametrize("point", POINTS)
def test_every_move_at_every_point_and_every_two_of_them_end_with_the_money_where_it_should(point: str) -> None:
    assert explored(at(point), depth=2) > len(RULES)


@pytest.mark.parametrize(
    "point", [point for point, (state, _) in POINTS.items() if state in f"{RUNNING} failed".split()]
)
def test_what_costs_nothing_ends_as_well(point: str) -> None:
    assert explored(at(point, price=0), depth=2) > len(RULES)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("point", POINTS)
def test_every_three_moves_end_with_the_money_where_it_should(point: str) -> None:
    assert explored(at(point), depth=3) > len(RULES)
