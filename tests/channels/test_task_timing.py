"""Neither side gains by timing: whatever is done at whatever point of a task's life, the money ends where it should.

What should happen stands in task_timing.py. The test makes every move at every point, and all pairs of moves in either
order, also where the clock is late; and after each it lets time pass without end: no money stays, and no timer waits.
"""

from datetime import timedelta
from fractions import Fraction
from typing import Any, Final, NamedTuple

import msgspec
import pytest

from channels.agents import Capability
from channels.ending import ban_task
from channels.errors import Refusal
from channels.ledger import EXTERNAL, FEES, escrow
from tests.channels.roles import ALICE, MARKET, Player, refused
from tests.channels.task_timing import (
    CLOCK,
    DUE,
    FREE,
    FREE_AND_LATE,
    HELD,
    LATE,
    POINTS,
    RULES,
    RUNNING,
    SHOWN,
    SILENCE,
    Rules,
)
from tests.channels.twins import twin_of
from tests.channels.work import GLOBAL_BOB, PRICE, PURSE, closing, decide, hired, push, topic_of
from tests.channels.world import THE_HOUSE, World

BOB: Final = GLOBAL_BOB
HOLD_S: Final = 3_600


class Scene(NamedTuple):
    """A task at a point of its life.

    Args:
        world: Where it is.
        task_id: Its id.
        price: 0 or PRICE.
        hold_seconds: How long that is held after completion.
        state: As the rules call it.
        is_late: A timer is due that has not run.
        told: How it came about.
    """

    world: World
    task_id: str
    price: int
    hold_seconds: int
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
        state = at_once(scene, said[1])
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
    state = at_once(scene, SILENCE[scene.state]) if ends else scene.state
    return shown(scene._replace(world=world, state=state, is_late=False, told=told))


def at_once(scene: Scene, state: str) -> str:
    """The state that the rules name; but where nothing is held, completion pays at once."""
    is_paid = state in HELD.split() and not (scene.price and scene.hold_seconds)
    return "paid" if is_paid else state


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
    fee = to_provider // 20  # Five per cent, rounded down.
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
    return Scene(world=world, task_id=task_id, price=price, hold_seconds=hold_seconds, state="pending")


def at(point: str, *, price: int = PRICE, hold_seconds: int = HOLD_S) -> Scene:
    """A task at that point of its life."""
    state, moves = POINTS[point]
    scene = began(price, hold_seconds)
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
    count, before = 0, scene.world.everything()
    for move in (*RULES, *CLOCK):
        then = after(scene, move)
        count += 1
        outlasted(then)
        if depth > 1 and (then.world.now, then.world.everything()) != (scene.world.now, before):
            count += explored(then, depth=depth - 1)
    return count


@pytest.mark.parametrize("point", POINTS)
def test_every_move_at_every_point_and_every_two_of_them_end_with_the_money_where_it_should(point: str) -> None:
    assert explored(at(point), depth=2) > len(RULES)


@pytest.mark.parametrize("point", [point for point, (state, _) in POINTS.items() if state in RUNNING.split()])
@pytest.mark.parametrize(("price", "hold_seconds"), [(PRICE, 0), (0, HOLD_S)], ids=["paid at once", "free"])
def test_what_is_not_held_ends_as_well(point: str, price: int, hold_seconds: int) -> None:
    assert explored(at(point, price=price, hold_seconds=hold_seconds), depth=2) > len(RULES)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("point", POINTS)
def test_every_four_moves_end_with_the_money_where_it_should(point: str) -> None:
    assert explored(at(point), depth=4) > len(RULES)


class TestOperators:
    @pytest.mark.parametrize("fee_bps", [0, 1, 500, 9_999, 10_000])
    @pytest.mark.parametrize("price", [1, 2, 19, 20, 21, 999, 1_000, 10_001, 10**15])
    @pytest.mark.parametrize(
        ("decision", "client_bps"),
        [("client", None), ("provider", None), *(("split", bps) for bps in (1, 3_333, 5_000, 9_999))],
    )
    def test_decide_to_the_last_minor_unit(
        self, decision: str, client_bps: int | None, price: int, fee_bps: int
    ) -> None:
        world = World(ALICE, BOB, market=msgspec.structs.replace(MARKET, fee_bps=fee_bps))
        world.deposit(ALICE, price)
        world.change_agent(BOB, capabilities=(Capability("translate", price),))
        task_id = hired(world, provider=BOB, max_price=price)
        push(world, BOB, task_id, "output_stream", chunk="x", seq=0)
        push(world, ALICE, task_id, "dispute", reason="bad")
        share = {"client": Fraction(1), "provider": Fraction(0)}.get(decision, Fraction(client_bps or 0, 10_000))

        answer = decide(world, task_id, decision, **({} if client_bps is None else {"client_bps": client_bps}))

        to_client = int(price * share)  # Rounds down.
        to_provider = price - to_client
        fee = int(to_provider * Fraction(fee_bps, 10_000))  # Rounds down.
        settled = {name: answer["settlement"][name] for name in ("to_client", "to_provider", "fee", "decided_by")}
        assert settled == {"to_client": to_client, "to_provider": to_provider, "fee": fee, "decided_by": "operator"}
        purses = (world.available(ALICE), world.available(BOB), world.accounts[FEES])
        assert purses == (to_client, to_provider - fee, fee)
        assert world.accounts[escrow(task_id)] == 0
        world.require_balance()

    @pytest.mark.parametrize(
        ("decision", "client_bps"),
        [*(("split", bps) for bps in (None, 0, 10_000, -1, 10_001)), ("client", 1), ("provider", 9_999)],
    )
    def test_name_a_part_for_a_split_alone(self, decision: str, client_bps: int | None) -> None:
        scene = at("disputed in the middle")
        before = scene.world.everything()

        refusal = refused(decide, scene.world, scene.task_id, decision, client_bps=client_bps)

        assert (refusal.reason, scene.world.everything()) == ("invalid_payload", before)
