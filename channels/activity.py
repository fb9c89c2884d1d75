"""What there is to see of the market: each deal's steps, as they happen, for those who may see them.

Read from what a unit has changed, so that nothing is shown that has not happened, whoever or whatever did it.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

from channels.changes import Changed, Happened, Stepped
from channels.channel_steps import ChannelStep, StepKind
from channels.negotiation_state import NegotiationSession
from channels.negotiation_state import Phase as SessionPhase
from channels.payment_state import PaymentChannel
from channels.task_state import Phase as TaskPhase
from channels.task_state import Task
from channels.told import Activity, Partaker

Kind = Literal[
    "negotiation_opened",
    "offer",
    "negotiation_agreed",
    "negotiation_ended",
    "task_opened",
    "task_started",
    "task_completed",
    "task_failed",
    "task_cancelled",
    "task_disputed",
    "task_settled",
    "channel_opened",
    "channel_closed",
    "channel_disputed",
    "transfer",
]
"""What may have happened."""

Named = Callable[[str], tuple[str, str] | None]
"""An agent's id → its owner's id and its handle; None for one that never was."""

Seen = tuple[Kind, datetime, int | None]
"""What has happened, when, and the money that it is about."""

SHOWN_MAX: Final = 50
"""Activities in one answer, and in one push."""

_TASKS: Final[dict[TaskPhase, Kind]] = {
    TaskPhase.IN_PROGRESS: "task_started",
    TaskPhase.COMPLETED: "task_completed",
    TaskPhase.FAILED: "task_failed",
    TaskPhase.CANCELLED: "task_cancelled",
}
_STEPS: Final[dict[StepKind, Kind]] = {
    StepKind.OPENED: "channel_opened",
    StepKind.DECLINED: "channel_closed",
    StepKind.CANCELLED: "channel_closed",
    StepKind.EXPIRED: "channel_closed",
    StepKind.CLOSED: "channel_closed",
    StepKind.DISPUTE: "channel_disputed",
    StepKind.TRANSFER: "transfer",
}


def seen(happened: Sequence[Happened], name_of: Named, new_id: Callable[[], str]) -> tuple[Activity, ...]:
    """What there is to see of all that one unit has done, in order.

    Args:
        happened: What it has done.
        name_of: Whose an agent is, and what it is called.
        new_id: Makes a fresh id for each.
    """
    found: list[Activity] = []
    for one in happened:
        deal = _deal(one, happened)
        if deal is None:
            continue
        names = [name_of(agent_id) for agent_id in deal.sides]
        first, second = map(_partaker, deal.sides, names)
        owners = (_owner(names[0]), _owner(names[1]))
        found += [
            Activity(
                id=new_id(),
                at=at,
                kind=kind,
                topic=deal.topic,
                agents=(first, second),
                owners=owners,
                capability=deal.capability,
                amount=amount,
            )
            for kind, at, amount in deal.steps
        ]
    return tuple(found)


class _Deal(NamedTuple):
    """Where something has happened, and what, in order."""

    topic: str
    sides: tuple[str, str]
    capability: str | None
    steps: list[Seen]


def _deal(one: Happened, happened: Sequence[Happened]) -> _Deal | None:
    """Most of what happens shows nothing: that is found out first, and without a look at more than its kind."""
    if type(one) is Changed:
        if one.store == "task":
            task: Task = one.after
            steps = [*_of_task(one.before, task)]
            return _Deal(task.topic, _sides(task), task.capability, steps) if steps else None
        if one.store == "negotiation":
            session: NegotiationSession = one.after
            steps = [*_of_session(one.before, session)]
            return _Deal(f"negotiation:{session.id}", _sides(session), session.capability, steps) if steps else None
    elif type(one) is Stepped and one.step.kind in _STEPS:
        channel = _channel(one.channel_id, happened)
        if channel is not None:
            step = one.step
            transfer: Seen = (_STEPS[step.kind], step.at, step.details.get("amount"))
            return _Deal(channel.topic, _payer_first(channel, step), None, [transfer])
    return None


def _channel(channel_id: str, happened: Sequence[Happened]) -> PaymentChannel | None:
    """The payment channel of a step, as it was last saved beside it."""
    for one in reversed(happened):
        if type(one) is Changed and one.store == "payment" and one.after.id == channel_id:
            channel: PaymentChannel = one.after
            return channel
    return None


def scopes_of(activity: Activity) -> frozenset[str]:
    """The scopes whose activity it is: its agents', their owners', and the market's."""
    owners = (f"user:{owner}" for owner in activity.owners if owner is not None)
    return frozenset(("global", *owners, *(f"agent:{agent.id}" for agent in activity.agents)))


def shown(activity: Activity) -> dict[str, object]:
    """An activity as it is told: whose its agents are is not said."""
    return {name: getattr(activity, name) for name in activity.__struct_fields__ if name != "owners"}


def _of_session(before: NegotiationSession | None, after: NegotiationSession) -> Iterator[Seen]:
    if before is None:
        yield "negotiation_opened", after.created_at, after.base_max
    for offer in after.offers[0 if before is None else len(before.offers) :]:
        yield "offer", offer.made_at, offer.amount
    if after.ended_at is None or (before is not None and before.status is after.status):
        return
    is_agreed = after.status is SessionPhase.AGREED
    yield "negotiation_agreed" if is_agreed else "negotiation_ended", after.ended_at, after.amount


def _of_task(before: Task | None, after: Task) -> Iterator[Seen]:
    amount = after.price if after.stream_price is None else after.paid
    if before is None:
        yield "task_opened", after.created_at, amount
        return
    if before.dispute is None and after.dispute is not None:
        yield "task_disputed", after.dispute.opened_at, amount
    if before.settlement is None and after.settlement is not None:
        yield "task_settled", after.settlement.settled_at, amount
    elif before.status is not after.status and after.status in _TASKS:
        at = after.started_at if after.status is TaskPhase.IN_PROGRESS else after.ended_at
        assert at is not None, "what has begun or ended says when"
        yield _TASKS[after.status], at, amount


def _sides(deal: NegotiationSession | Task) -> tuple[str, str]:
    return deal.client_agent_id, deal.provider_agent_id


def _payer_first(channel: PaymentChannel, step: ChannelStep) -> tuple[str, str]:
    payer = step.details.get("from_agent_id")
    if payer == channel.agent_b_id:
        return channel.agent_b_id, channel.agent_a_id
    return channel.agent_a_id, channel.agent_b_id


def _partaker(agent_id: str, named: tuple[str, str] | None) -> Partaker:
    return Partaker(agent_id, None if named is None else named[1])


def _owner(named: tuple[str, str] | None) -> str | None:
    return None if named is None else named[0]
