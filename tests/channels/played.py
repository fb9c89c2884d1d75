"""A marketplace in memory that keeps every reply and all that is told, for comparison with PROTOCOL.md.

Alice hires, Bob works, an operator bans; in the end Bob blocks Alice.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from channels import ending
from channels.handlers import Audience, Broadcast, Context, Decision, Mail
from channels.identity import Identity
from channels.negotiation import NegotiationSession
from tests.channels.bargain import signed_accept, signed_offer
from tests.channels.roles import ALICE, BOB, MARKET, Player, as_told
from tests.channels.work import HELLO, PURSE, close, hired, stream
from tests.channels.world import THE_HOUSE, World

ENDS: dict[str, Callable[[Any, Context], Decision]] = {
    "negotiation": partial(ending.cancel_negotiation, reason=ending.BANNED),
    "task": partial(ending.cancel_task, reason=ending.BANNED),
}
"""What a ban makes of what its agent has open."""


class Played(World):
    """A marketplace that keeps every reply and all that is told."""

    def __init__(self) -> None:
        super().__init__(ALICE, BOB)
        self.replies: dict[tuple[str, str], list[Any]] = defaultdict(list)
        self.told: dict[tuple[str, str], list[tuple[Audience, Any]]] = defaultdict(list)

    def join(self, who: Player, topic: str, payload: Any = None) -> Any:
        reply = super().join(who, topic, payload)
        self.replies[topic.partition(":")[0], "phx_join"].append(reply)
        return reply

    def push(self, who: Player, topic: str, event: str, payload: Any = None) -> Any:
        reply = super().push(who, topic, event, payload)
        self.replies[topic.partition(":")[0], event].append(reply)
        return reply

    def open_negotiation(self, who: Player, **payload: Any) -> Any:
        reply = super().open_negotiation(who, **payload)
        self.replies["agents", "open_negotiation"].append(reply)
        return reply

    def open_task(self, who: Player, **payload: Any) -> Any:
        reply = super().open_task(who, **payload)
        self.replies["agents", "open_task"].append(reply)
        return reply

    def ban(self, store: str, id_: str) -> None:
        """What a ban of one of its agents makes of a negotiation or a task."""
        context = self.context(THE_HOUSE, f"{store}:{id_}")
        self._carry_out(ENDS[store](self.states[store][id_], context), THE_HOUSE, store)

    def _carry_out(self, decision: Decision, sender: Identity, store: str) -> None:
        super()._carry_out(decision, sender, store)
        for told in decision.broadcasts:
            if isinstance(told, Broadcast):
                self._keep_told(told)

    def _deliver(self, mail: Mail) -> Broadcast:
        letter = super()._deliver(mail)
        self._keep_told(letter)
        return letter

    def _keep_told(self, broadcast: Broadcast) -> None:
        key = (broadcast.topic.partition(":")[0], broadcast.event)
        self.told[key].append((broadcast.audience, as_told(broadcast.payload)))

    # Moves of the stories.

    def bargain(self, *amounts: int, accepted: bool = False) -> str:
        """A negotiation with those offers, Alice's first; its id."""
        opened = self.open_negotiation(
            ALICE, provider_agent_id=BOB.id, capability="translate", terms={"due": "2026-12-01"}
        )
        session_id: str = opened["id"]
        self.join(BOB, f"negotiation:{session_id}")
        for number, amount in enumerate(amounts):
            self.offer((ALICE, BOB)[number % 2], session_id, amount)
        if accepted:
            self.accept(session_id, amounts)
        return session_id

    def offer(self, who: Player, session_id: str, amount: int) -> None:
        made = signed_offer(self.session(session_id), who, amount)
        self.push(who, f"negotiation:{session_id}", "offer", msgspec.structs.asdict(made))

    def accept(self, session_id: str, offers: tuple[int, ...]) -> None:
        who = (ALICE, BOB)[len(offers) % 2]
        made = signed_accept(self.session(session_id), who)
        self.push(who, f"negotiation:{session_id}", "accept", msgspec.structs.asdict(made))

    def session(self, session_id: str) -> NegotiationSession:
        found: NegotiationSession = self.states["negotiation"][session_id]
        return found


def played() -> Played:
    """A new marketplace, where Alice has money."""
    world = Played()
    world.deposit(ALICE, PURSE)
    return world


def story() -> Played:
    """Everything that can happen to a negotiation, a task and a mailbox, once at least."""
    world = played()
    agreed = world.bargain(600, 1_001, accepted=True)
    world.bargain(600, 900, 900)
    world.push(BOB, f"negotiation:{world.bargain(600)}", "reject", {"reason": "too low"})
    world.ban("negotiation", world.bargain())
    world.bargain(600)
    world.advance(MARKET.limits.negotiation_ttl_s)

    task_id = hired(world, negotiation_session_id=agreed)
    world.join(ALICE, f"negotiation:{agreed}")
    for direction in ("input", "output"):
        world.join(BOB, f"task:{task_id}")
        stream(world, task_id, direction, *HELLO)
        close(world, task_id, direction)
    for message in ("half", None):
        world.push(BOB, f"task:{task_id}", "progress", {"percent": 50, "message": message})
    world.push(BOB, f"task:{task_id}", "complete", {"result": {"words": 2}})
    world.join(ALICE, f"task:{task_id}")
    world.push(BOB, f"task:{hired(world)}", "error", {"type": "broken", "details": {"at": 3}})
    world.push(ALICE, f"task:{hired(world)}", "cancel", {"reason": "too late"})
    world.ban("task", hired(world))
    hired(world)
    world.advance(MARKET.limits.deadline_default_s)
    world.bargain(600)
    hired(world)
    world.call(BOB, "block", handle=ALICE.agent.handle)

    world.join(BOB, f"messages:{BOB.id}")
    for message_id in list(world.states["message"])[:2]:
        world.push(BOB, f"messages:{BOB.id}", "acknowledge", {"message_id": message_id})
    return world
