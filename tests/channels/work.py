"""Moves in a task, honest and not, and a client that only knows what it is told."""

import base64
import hashlib
from typing import Any

import msgspec

from channels.identity import Identity
from channels.ledger import escrow
from channels.limits import Market
from channels.negotiation import NegotiationSession
from channels.task_state import Direction
from crypto import next_digest
from tests.channels.bargain import agreed_by_accept, opened
from tests.channels.roles import (
    ALICE,
    BOB,
    CAROL,
    MALLORY,
    MARKET,
    OTHER_ID,
    Player,
    player,
)
from tests.channels.world import World

PRICE = 1_000
"""Bob's list price for `translate`."""

AGREED_PRICE = 800
FEE = 50
"""Five per cent of the list price."""

PURSE = 10_000
"""What Alice has at first."""

HELLO = ("hello ", "world")
HELLO_SHA256 = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"

GLOBAL_BOB = player("bob", number=0xB, organisation_id=None, owner_organisation_id=None, is_global=True)
"""Bob as an agent for all, of another house than Alice's: what he does for her earns reputation."""

OLGA = Identity(kind="user", user_id="olga", handle="olga", key_id="key of olga", is_operator=True)
"""The operator, who decides disputes."""

PROVIDERS_EVENTS: dict[str, dict[str, Any]] = {
    "progress": {"percent": 50},
    "complete": {"result": "another result"},
    "error": {"type": "another_error"},
}
EVENTS: dict[str, dict[str, Any]] = {**PROVIDERS_EVENTS, "cancel": {"reason": "another reason"}}
"""Events that are not those that brought a task to its phase, so that none of them is a repetition."""


def world_of(*players: Player, market: Market = MARKET) -> World:
    """A marketplace with those agents, where Alice has money."""
    world = World(*(players or (ALICE, BOB, CAROL, MALLORY)), market=market)
    world.deposit(ALICE, PURSE)
    return world


def topic_of(task_id: str) -> str:
    return f"task:{task_id}"


def hired(world: World, *, provider: Player = BOB, client: Player = ALICE, **payload: Any) -> str:
    """A new task at the list price, which is paid at completion; its id."""
    fields = {"provider_agent_id": provider.id, "capability": "translate"} | payload
    if "stream_price" not in fields:
        fields.setdefault("hold_seconds", 0)
        if "negotiation_session_id" not in fields:
            fields.setdefault("max_price", PRICE)
    task_id: str = world.open_task(client, **fields)["task_id"]
    return task_id


def agreement(world: World, **fields: Any) -> NegotiationSession:
    """An agreement of Alice and Bob on 800, made now."""
    session = agreed_by_accept(opened(session_id=fields.pop("id", OTHER_ID)))
    session = msgspec.structs.replace(session, **fields)
    world.states["negotiation"][session.id] = session
    return session


def push(world: World, who: Player, task_id: str, event: str, **payload: Any) -> dict[str, Any]:
    """Send an event to a task; its reply."""
    reply: dict[str, Any] = world.push(who, topic_of(task_id), event, payload)
    return reply


def sender_of(direction: Direction) -> Player:
    return ALICE if direction == "input" else BOB


def stream(world: World, task_id: str, direction: Direction, *texts: str) -> None:
    """Send those chunks honestly, after those that stand there."""
    for text in texts:
        seq = world.task(task_id).stream(direction).next_seq
        world.push(sender_of(direction), topic_of(task_id), f"{direction}_stream", {"chunk": text, "seq": seq})


def closing(world: World, task_id: str, direction: Direction) -> dict[str, Any]:
    """What honestly closes the stream as it stands."""
    chunks = world.chunks[task_id, direction]
    whole = b"".join(chunks[seq] for seq in sorted(chunks))
    return {"checksum": hashlib.sha256(whole).hexdigest(), "total_size": len(whole)}


def close(world: World, task_id: str, direction: Direction) -> None:
    """Close the stream honestly."""
    payload = closing(world, task_id, direction)
    world.push(sender_of(direction), topic_of(task_id), f"{direction}_complete", payload)


def deliver(world: World, task_id: str) -> None:
    """Bob sends all of his output and closes it."""
    stream(world, task_id, "output", *HELLO)
    close(world, task_id, "output")


def disputed(world: World, *texts: str, reason: str = "bad words", **payload: Any) -> str:
    """A task that Alice has disputed after Bob had sent those chunks; its id."""
    task_id = hired(world, **payload)
    stream(world, task_id, "output", *(texts or HELLO[:1]))
    push(world, ALICE, task_id, "dispute", reason=reason)
    return task_id


def decide(world: World, task_id: str, decision: str, **payload: Any) -> dict[str, Any]:
    """What Olga decides; her answer."""
    said = {"decision": decision, "reason": "So be it.", **payload}
    answer: dict[str, Any] = world.rest(OLGA, topic_of(task_id), "decide_task", **said)
    return answer


def in_phase(world: World, phase: str, **payload: Any) -> str:
    """A task that has come to that phase honestly; its id."""
    task_id = hired(world, **payload)
    topic = topic_of(task_id)
    if phase == "in_progress":
        world.push(BOB, topic, "progress", {"percent": 10})
    elif phase == "completed":
        world.push(BOB, topic, "complete", {"result": "done"})
    elif phase == "failed":
        world.push(BOB, topic, "error", {"type": "broken"})
    elif phase == "cancelled":
        world.push(ALICE, topic, "cancel", {"reason": "changed my mind"})
    return task_id


def held(world: World, task_id: str) -> int:
    """What lies in a task's escrow."""
    return world.accounts[escrow(task_id)]


WHOLE = frozenset(
    (*("task_completed", "task_failed", "task_cancelled"), *("task_updated", "task_disputed", "task_settled"))
)
"""Events that tell the whole task."""


class Mirror:
    """A client that joined a task once and since then knows only what it was told.

    Args:
        world: Where it is.
        who: The agent it is of.
        task_id: The task it joined.
    """

    def __init__(self, world: World, who: Player, task_id: str) -> None:
        self.who = who
        self.topic = topic_of(task_id)
        self._world = world
        self._ahead: dict[tuple[str, int], bytes] = {}
        self._known = world.join(who, self.topic)
        self._listener = world.listen(who, self.topic)

    def push(self, event: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Send an event, and take the reply."""
        reply: dict[str, Any] = self._world.push(self.who, self.topic, event, payload)
        if "streams" in reply:
            self._take(reply)
        else:
            self._hear(event, {**payload, **reply})
        return reply

    def require_fresh(self) -> None:
        """The snapshot rule: what it was told since it joined equals a fresh join."""
        while self._listener.heard:
            heard = self._listener.heard.pop(0)
            self._hear(heard.event, heard.payload)
        assert self._known == self._world.join(self.who, self.topic)

    def _hear(self, event: str, told: dict[str, Any]) -> None:
        if event in WHOLE:
            self._take(told["task"])
        elif event in {"input_stream", "input_complete", "output_stream", "output_complete"}:
            direction, _, what = event.partition("_")
            if what == "stream":
                self._hear_chunk(direction, told)
            known = self._known["streams"][direction]
            known |= {name: told[name] for name in known if name in told}
            self._go_on(told)
        elif event == "progress":
            self._known["progress"] = {"percent": told["percent"], "message": told["message"]}
            self._go_on(told)
        elif event == "task_paid":
            self._known |= {name: told[name] for name in ("paid", "paid_up_to", "units")}
        else:
            assert event in {"error", "cancel"}, f"unknown to a client: {event}"  # The end of the task follows it.

    def _hear_chunk(self, direction: str, told: dict[str, Any]) -> None:
        """Carry the digest on over what has come, which only the sender's own reply says."""
        data = told["chunk"].encode() if told.get("encoding", "utf8") == "utf8" else base64.b64decode(told["chunk"])
        self._ahead[direction, told["seq"]] = data
        known = self._known["streams"][direction]
        for seq in range(known["next_seq"], told["next_seq"]):
            known["digest"] = next_digest(known["digest"], seq=seq, chunk=self._ahead.pop((direction, seq)))

    def _take(self, whole: dict[str, Any]) -> None:
        """The whole task, but for the checkpoint, which only a join tells."""
        kept = {name: self._known[name] for name in ("checkpoint",) if name in self._known}
        self._known = {name: value for name, value in whole.items() if name != "duplicate"} | kept

    def _go_on(self, told: dict[str, Any]) -> None:
        self._known |= {name: told[name] for name in ("status", "started_at", "units", "paid_up_to")}
