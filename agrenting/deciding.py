"""Deciding: load → decide → carry out, inside one writing transaction.

One event at a time, or several of one topic together, whose state is loaded once and saved once.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from agrenting import auth
from agrenting.db import states
from agrenting.db.changes import carry_out, carry_out_changes
from agrenting.db.questions import LOADERS, STATE_OF
from agrenting.db.transaction import WriterTx
from channels.errors import Refusal
from channels.handlers import Context, Decision, Handler
from channels.identity import Identity
from channels.told import Told

THE_HOUSE: Final = Identity(kind="user", user_id="", handle="system", key_id="", scopes=frozenset())
"""Who acts where the clock alone does: timers, and the command line on the data folder."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One event to be decided: from a frame, a REST call or a timer.

    Args:
        handler: The event's handler.
        topic: The whole topic; the handler's state is that of the part behind the colon.
        request: The decoded payload.
        sender: Who asks.
        socket: The sending connection, for broadcasts that leave it out; None for REST.
        instance_id: Which of the agent's programs it is, as its socket says.
    """

    handler: Handler
    topic: str
    request: Any
    sender: Identity
    socket: Any = None
    instance_id: str = ""

    @property
    def topic_id(self) -> str:
        """The part of the topic behind the first colon."""
        return self.topic.partition(":")[2]


class Done(msgspec.Struct, frozen=True):
    """A decision that is durable, and all that has to be told of it."""

    decision: Decision
    broadcasts: tuple[Told, ...]


Outcome = tuple[Done | None, Exception | None]
"""What became of an event: exactly one of the two."""

Settled = Callable[[Done | None, Exception | None], None]


class Together(msgspec.Struct, frozen=True):
    """What became of several events of one topic.

    Args:
        outcomes: Of each, in order.
        state: The topic's, after all of them, as far as the next ones are foreseen on it; None where there is none.
    """

    outcomes: list[Outcome]
    state: Any


def decide(tx: WriterTx, command: Command, context: Context) -> Done:
    """Load, decide, save. Whoever calls has made sure who asks."""
    handler = command.handler
    loads = handler.loads
    loaded = LOADERS[loads](tx, command.topic_id, command.request, context) if loads else None
    decision = handler.decide(loaded, command.request, context)
    store = STATE_OF.get(loads, "")
    state_id = decision.state.id if decision.state is not None else ""
    return Done(decision, carry_out(tx, decision, context, store=store, state_id=state_id))


def decide_together(tx: WriterTx, commands: Sequence[Command], context: Callable[[Command], Context]) -> Together:
    """Load once, decide each on what the one before has left, save once. A refused one leaves the others be.

    Args:
        tx: The transaction.
        commands: Of one topic, whose handlers name the same loader, and foresee.
        context: What a handler may know, now.
    """
    first = commands[0]
    loads, topic_id = first.handler.loads, first.topic_id
    facts = LOADERS[loads](tx, topic_id, None, context(first))
    state: Any = None
    outcomes: list[Outcome] = []
    live: dict[Identity, None] = {}
    for command in commands:
        now = context(command)
        try:
            if command.sender not in live:
                auth.require_live(tx, command.sender, now=now.now)
                live[command.sender] = None
            decision = command.handler.decide(facts, command.request, now)
        except Refusal as refusal:
            outcomes.append((None, refusal))
            continue
        except Exception as bug:  # noqa: BLE001 - a bug in one event must not take the others with it
            outcomes.append((None, bug))
            continue
        told = carry_out_changes(tx, decision, now)
        if decision.state is not None:
            state = decision.state
            facts = facts.then(state)
        outcomes.append((Done(decision, (*decision.broadcasts, *told)), None))
    if state is not None:
        states.save(tx, STATE_OF[loads], topic_id, state)
    return Together(outcomes, facts.known)
