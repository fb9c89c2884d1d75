"""A marketplace in memory that keeps every reply and all that is told, for comparison with PROTOCOL.md.

Alice hires, Bob works, an operator bans; in the end Bob blocks Alice.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from channels import ending
from channels.changes import Mail
from channels.handlers import Context, Decision
from channels.identity import Identity
from channels.negotiation import NegotiationSession
from channels.payment_moves import revoked
from channels.payment_state import Cause
from channels.told import Audience, Broadcast
from tests import paying
from tests.channels.bargain import signed_accept, signed_offer
from tests.channels.roles import ALICE, BOB, MARKET, Player, as_told
from tests.channels.work import HELLO, PURSE, close, hired, stream
from tests.channels.world import THE_HOUSE, World

ENDS: dict[str, Callable[[Any, Context], Decision]] = {
    "negotiation": partial(ending.cancel_negotiation, reason=ending.BANNED),
    "task": lambda task, context: ending.ban_task(task, context, agent_id=task.provider_agent_id),
    "payment": partial(revoked, cause=Cause.BANNED),
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
        """What a ban of one of its agents makes of a negotiation, a task or a payment channel."""
        context = self.context(THE_HOUSE, f"{store}:{id_}")
        self._carry_out(ENDS[store](self.states[store][id_], context), THE_HOUSE, store)

    def _carry_out(self, decision: Decision, sender: Identity, store: str) -> None:
        super()._carry_out(decision, sender, store)
        for told in decision.broadcasts:
            if isinstance(told, Broadcast):
                self._keep_told(told)

    def _deliver(self, mail: Mail, sender: Identity) -> Broadcast:
        letter = super()._deliver(mail, sender)
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

    def channel(self, *, accepted: bool = True, deposit: int = 0, **fields: Any) -> str:
        """A payment channel of Alice's with Bob; its topic."""
        opened = self.open_channel(ALICE, counterparty_agent_id=BOB.id, deposit=1_000, **fields)
        topic = f"payment:{opened['id']}"
        if accepted:
            self.rest(BOB, topic, "accept", deposit=deposit)
        return topic

    def propose(self, topic: str, who: Player = ALICE, amount: int = 10, task_id: str | None = None) -> Any:
        """A proposal by who pays; the channel."""
        payload = paying.proposal(
            self.join(who, topic), who.secret_key, from_agent_id=who.id, amount=amount, task_id=task_id
        )
        return self.push(who, topic, "propose_transfer", {**payload, "memo": "for words"})

    def pay(self, topic: str, payer: Player = ALICE, amount: int = 10, task_id: str | None = None) -> Any:
        """A whole transfer; the channel."""
        payee = BOB if payer is ALICE else ALICE
        channel = self.propose(topic, payer, amount, task_id)
        payload = paying.acknowledgement(channel, payee.secret_key, channel["pending_proposal"])
        return self.push(payee, topic, "acknowledge_transfer", payload)

    def close_channel(self, topic: str) -> None:
        """A joint close that Alice asks for and Bob answers."""
        payload = paying.close(self.join(ALICE, topic), ALICE.secret_key, BOB.secret_key)
        asked = {name: payload[name] for name in ("final_balance_a", "final_balance_b")}
        self.push(ALICE, topic, "close_request", {**asked, "signature": payload["signature_a"]})
        self.push(BOB, topic, "close", payload)

    def hand_in(self, topic: str, *amounts: int) -> Any:
        """A chain of an offline channel; the channel."""
        chain = paying.chain(self.join(BOB, topic), ALICE.secret_key, BOB.secret_key, amounts)
        return self.push(BOB, topic, "submit_transfers", {"transfers": chain})


def played() -> Played:
    """A new marketplace, where Alice has money."""
    world = Played()
    world.deposit(ALICE, PURSE)
    return world


def story() -> Played:
    """Everything that can happen to a negotiation, a task, a payment channel and a mailbox, once at least."""
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
    world.push(BOB, f"task:{task_id}", "checkpoint", {"state": {"at": 2}, "seq": 2})
    world.join(BOB, f"task:{task_id}")
    world.push(BOB, f"task:{task_id}", "complete", {"result": {"words": 2}})
    world.join(ALICE, f"task:{task_id}")
    _settle(world)
    world.push(BOB, f"task:{hired(world)}", "error", {"type": "broken", "details": {"at": 3}})
    world.push(ALICE, f"task:{hired(world)}", "cancel", {"reason": "too late"})
    world.ban("task", hired(world))
    hired(world)
    world.advance(MARKET.limits.deadline_default_s)
    world.bargain(600)
    hired(world)
    _pay(world, task_id)
    world.channel(accepted=False)
    world.propose(world.channel())
    world.call(BOB, "block", handle=ALICE.agent.handle)

    world.join(BOB, f"messages:{BOB.id}")
    taken, left, pushed = [one.id for one in world.mail(BOB) if one.at(world.now).status == "queued"][:3]
    world.mark_pushed(BOB.id, pushed)
    world.push(BOB, f"messages:{BOB.id}", "acknowledge", {"message_id": taken})
    world.push(BOB, f"messages:{BOB.id}", "reject", {"message_id": left, "reason": "busy"})
    return world


def _settle(world: Played) -> None:
    """All that can happen to the price of a completed task, or of one in progress."""
    world.deposit(ALICE, PURSE)
    for ends in ("release", "dispute", "clock"):
        task_id = hired(world, hold_seconds=60)
        world.push(BOB, f"task:{task_id}", "complete", {"result": "done"})
        if ends != "clock":
            world.push(ALICE, f"task:{task_id}", ends, {"reason": "it is wrong"})
        world.advance(60)
    begun = hired(world)
    world.push(BOB, f"task:{begun}", "progress", {"percent": 1})
    world.push(ALICE, f"task:{begun}", "dispute", {"reason": "nothing comes"})


def _stream(world: Played, topic: str) -> None:
    """A task that is paid as it streams, over a channel of Alice's."""
    price = {"amount": 1_000, "per": "chunk"}
    task_id = hired(world, stream_price=price, channel_id=topic.partition(":")[2])
    for seq in range(2):
        world.push(BOB, f"task:{task_id}", "output_stream", {"chunk": "a", "seq": seq})
        world.pay(topic, amount=1_000, task_id=task_id)
    world.push(BOB, f"task:{task_id}", "error", {"type": "broken"})


def _pay(world: Played, task_id: str) -> None:
    """All that can happen to payment channels."""
    world.deposit(BOB, PURSE)
    limits = MARKET.limits
    wide = world.open_channel(ALICE, counterparty_agent_id=BOB.id, deposit=5_000)
    world.rest(BOB, f"payment:{wide['id']}", "accept", deposit=0)
    _stream(world, f"payment:{wide['id']}")
    topic = world.channel(deposit=500)
    first = world.pay(topic, task_id=task_id)
    world.pay(topic, BOB, 20)
    world.propose(topic)
    world.push(BOB, topic, "reject_transfer", {"reason": "not ordered"})
    world.rest(ALICE, topic, "deposit", amount=100)
    world.propose(topic)
    world.advance(limits.proposal_ttl_s)
    world.join(ALICE, topic, {"known": first["last_transfer"]})
    world.propose(topic)
    world.push(ALICE, topic, "dispute", {"reason": "nothing came", "evidence": {"since": 3}})
    world.push(ALICE, topic, "withdraw_dispute")
    world.close_channel(topic)

    world.rest(BOB, world.channel(accepted=False), "decline", reason="no")
    world.rest(ALICE, world.channel(accepted=False), "cancel")
    world.channel(accepted=False)
    world.advance(limits.channel_ttl_s)

    left = world.channel(mode="offline")
    world.hand_in(left, 5, 5, 5)
    world.rest(ALICE, left, "force_close")
    world.advance(limits.window_default_s)
    decided, late = world.channel(), world.channel()
    for disputed in (decided, late):
        world.push(BOB, disputed, "dispute", {"reason": "wrong"})
    world.rest(ALICE, decided, "decide", final_balance_a=400, final_balance_b=600, reason="half done")
    world.advance(limits.dispute_window_s)
    world.ban("payment", world.channel().partition(":")[2])
    world.ban("payment", world.channel(accepted=False).partition(":")[2])

    lost = world.channel()
    ahead = paying.chain(world.join(ALICE, lost), ALICE.secret_key, BOB.secret_key, [30])[0]
    world.join(BOB, lost, {"known": {**ahead, "balance_a": 970, "balance_b": 30}})
