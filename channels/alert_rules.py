"""Which alerts are raised, and which conditions are over, by what a unit has changed.

    task      a task fails                     task_failed          error to its provider, warning to its client
              it is disputed, until settled    dispute_opened       error to its provider; to both where a ban did it
              it ends, as the tenth or later   success_rate_low     warning, while under half of the last ten completed
    channel   it is disputed, until it is not  channel_dispute      error to both
              states are lost, until its end   channel_state_lost   critical to both, and to the whole market
    message   some expire unanswered           delivery_exhausted   warning to its receiver and its sender
    money     less is available than is set    balance_low          warning, until it is enough again
    ledger    it does not add up               ledger_mismatch      critical, to the whole market, until it does

A condition is raised where it begins: who has resolved its alert by hand hears of it again once it was over, and came
back. Messages that expire are counted, by mailbox, in the alert that stands already. All is decided by what was and
what is, so it does not matter who did it, and how.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from channels.alerts import Alert, AlertType, Severity
from channels.limits import Market
from channels.messages import Phase as MessagePhase
from channels.messages import StoredMessage
from channels.payment_state import PaymentChannel
from channels.payment_state import Phase as ChannelPhase
from channels.task_state import Phase as TaskPhase
from channels.task_state import Task

ENDS_MAX: Final = 10
"""The success rate is that of a provider's last ten tasks, and of no fewer."""

LEDGER: Final = "ledger"
"""What `ledger_mismatch` is about."""

ENDED_SO: Final = frozenset({TaskPhase.COMPLETED, TaskPhase.FAILED})
"""How a task ends that counts for the success rate."""

DECIMALS_MIN: Final = 2
"""Decimals of an amount that people are told, where its currency has them."""

NameOf = Callable[[str], str]
"""An agent's handle."""


class Raise(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that is due, unless there is an unresolved one of its type, subject and agent; as of `Alert`.

    Args:
        headline: What has happened, in few words: one sentence.
        detail: The rest, and what to do next.
    """

    type: AlertType
    severity: Severity
    subject: str
    agent_id: str | None
    headline: str
    detail: str
    data: dict[str, Any]

    @property
    def message(self) -> str:
        """The whole, for people."""
        return f"{self.headline} {self.detail}"


class Over(msgspec.Struct, frozen=True):
    """A condition is over: its alerts, whoever's they are, resolve themselves."""

    type: AlertType
    subject: str


Verdict = tuple[Raise | Over, ...]

Ends = tuple[tuple[str, bool], ...]
"""A provider's last tasks that have ended, oldest first, ENDS_MAX at most: each one's id, and whether it completed."""


# What has changed.


def is_notable(store: str, before: Any, after: Any) -> bool:
    """Whether a rule may have something to say of a change; most changes are of no matter, and this is cheap."""
    if before is None or store not in RULES:
        return False
    return before.status is not after.status or (store == "payment" and before.state_lost is not after.state_lost)


def verdict_on(store: str, before: Any, after: Any, *, name_of: NameOf, market: Market) -> Verdict:
    """What follows from a notable change."""
    return RULES[store](before, after, name_of, market)


def _of_task(before: Task, after: Task, name_of: NameOf, market: Market) -> Verdict:
    over: Verdict = ()
    if before.status is TaskPhase.DISPUTED:
        over = (Over(AlertType.DISPUTE_OPENED, after.topic),)
    if after.status is TaskPhase.FAILED:
        return (*over, *_failed(after, name_of, market))
    if after.status is TaskPhase.DISPUTED:
        return (*over, *_task_disputed(after, name_of, market))
    return over


def _failed(task: Task, name_of: NameOf, market: Market) -> Verdict:
    client, provider = name_of(task.client_agent_id), name_of(task.provider_agent_id)
    error = "unknown" if task.error is None else task.error.type
    why = _why_failed(task, f"{provider} reported the error {error}.")
    paid_back = f" The price of {amount_text(task.price, market)} is back with {client}." if task.price else ""
    to_provider = "Look into it before the next one: failures lower the success rate and the reputation."
    to_client = "Open it again, with this agent or another one."
    told = (
        ("provider", Severity.ERROR, task.provider_agent_id, f"for {client}", to_provider),
        ("client", Severity.WARNING, task.client_agent_id, f"by {provider}", to_client),
    )
    return tuple(
        Raise(
            type=AlertType.TASK_FAILED,
            severity=severity,
            subject=task.topic,
            agent_id=agent_id,
            headline=f"Task failed: {task.capability} {whose}.",
            detail=f"{why}{paid_back} {next_step}",
            data={"task_id": task.id, "role": role, "error": error, "capability": task.capability},
        )
        for role, severity, agent_id, whose, next_step in told
    )


def _why_failed(task: Task, said: str) -> str:
    """By what has become of it: the type of an error is the provider's own word."""
    if task.settlement is not None:
        return "Its dispute was decided for the client."
    return "Its deadline was over before anything was delivered." if task.ended_by is None else said


def _task_disputed(task: Task, name_of: NameOf, market: Market) -> Verdict:
    dispute = task.dispute
    assert dispute is not None, "a disputed task has a dispute"
    client, provider = name_of(task.client_agent_id), name_of(task.provider_agent_id)
    held = f"{amount_text(task.price, market)} stay held until an operator decides"
    until = f"{dispute.decides_at:%Y-%m-%d %H:%M} UTC"
    if dispute.opened_by is None:
        headline = f"Task disputed by a ban: {task.capability} of {provider} for {client}."
        detail = f"{held}, or the clock does at {until}. Tell the operator what speaks for you."
        concerned = {"provider": task.provider_agent_id, "client": task.client_agent_id}
    else:
        headline = f"Task disputed: {task.capability} for {client}."
        detail = (
            f"{held}; without a decision by {until} they go to {provider} if output is delivered and verified, else"
            f" back to {client}. Finish and verify the output, and tell the operator what speaks for you."
        )
        concerned = {"provider": task.provider_agent_id}
    return tuple(
        Raise(
            type=AlertType.DISPUTE_OPENED,
            severity=Severity.ERROR,
            subject=task.topic,
            agent_id=agent_id,
            headline=headline,
            detail=detail,
            data={
                "task_id": task.id,
                "role": role,
                "opened_by": dispute.opened_by,
                "reason": dispute.reason,
                "amount": task.price,
                "decides_at": dispute.decides_at,
            },
        )
        for role, agent_id in concerned.items()
    )


def _of_channel(before: PaymentChannel, after: PaymentChannel, name_of: NameOf, market: Market) -> Verdict:
    verdict: Verdict = ()
    if before.status is not after.status:
        if before.status is ChannelPhase.DISPUTED:
            verdict = (Over(AlertType.CHANNEL_DISPUTE, after.topic),)
        if after.status is ChannelPhase.DISPUTED:
            verdict = (*verdict, *_channel_disputed(after, name_of, market))
        if after.is_final and after.state_lost is not None:
            verdict = (*verdict, Over(AlertType.CHANNEL_STATE_LOST, after.topic))
    if before.state_lost is None and after.state_lost is not None and not after.is_final:
        verdict = (*verdict, *_state_lost(after, name_of))
    return verdict


def _channel_disputed(channel: PaymentChannel, name_of: NameOf, market: Market) -> Verdict:
    dispute = channel.dispute
    assert dispute is not None, "a disputed channel has a dispute"
    a, b, by = name_of(channel.agent_a_id), name_of(channel.agent_b_id), name_of(dispute.agent_id)
    to_a, to_b = amount_text(channel.balance_a, market), amount_text(channel.balance_b, market)
    detail = (
        f"It is the one of {a} and {b}. At {dispute.ends_at:%Y-%m-%d %H:%M} UTC it is paid out by its balances, {to_a}"
        f" to {a} and {to_b} to {b}, unless both sign a close before, an operator decides, or {by} withdraws the"
        " dispute."
    )
    return tuple(
        Raise(
            type=AlertType.CHANNEL_DISPUTE,
            severity=Severity.ERROR,
            subject=channel.topic,
            agent_id=agent_id,
            headline=f"Payment channel disputed by {by}.",
            detail=detail,
            data={
                "channel_id": channel.id,
                "opened_by": dispute.agent_id,
                "reason": dispute.reason,
                "balance_a": channel.balance_a,
                "balance_b": channel.balance_b,
                "ends_at": dispute.ends_at,
            },
        )
        for agent_id in (channel.agent_a_id, channel.agent_b_id)
    )


def _state_lost(channel: PaymentChannel, name_of: NameOf) -> Verdict:
    """What the whole market is told names no party and no amount: anybody hears it."""
    lost = channel.state_lost
    assert lost is not None, "just looked at"
    a, b = name_of(channel.agent_a_id), name_of(channel.agent_b_id)
    to_parties = (
        f"This market was shown a transfer of {a} and {b} with nonce {lost.nonce} that both have signed, and does not"
        " have it. Keep every transfer that both have signed, and sign a close together, or ask the operator to decide."
    )
    to_all = (
        "Until its parties sign a close together or an operator decides it, nothing moves there. Look for what else was"
        " lost with the last backup or disk failure, and decide the channel."
    )
    data = {"channel_id": channel.id, "nonce": lost.nonce}
    return tuple(
        Raise(
            type=AlertType.CHANNEL_STATE_LOST,
            severity=Severity.CRITICAL,
            subject=channel.topic,
            agent_id=agent_id,
            headline="Payment channel frozen: states of it are lost.",
            detail=to_all if agent_id is None else to_parties,
            data={"channel_id": channel.id} if agent_id is None else data,
        )
        for agent_id in (channel.agent_a_id, channel.agent_b_id, None)
    )


def _of_message(_before: StoredMessage, after: StoredMessage, name_of: NameOf, _market: Market) -> Verdict:
    if after.status is not MessagePhase.EXPIRED:
        return ()
    sender_id = None if after.is_from_market else after.from_agent_id
    sender, receiver = "the market" if sender_id is None else name_of(sender_id), name_of(after.to_agent_id)
    how = "was pushed and not answered" if after.delivered_at else f"was not fetched: {receiver} was not there"
    told = (
        ("receiver", after.to_agent_id, "Join the mailbox's topic, and acknowledge what comes."),
        ("sender", sender_id, "Send it again once the receiver is there, or turn to another agent."),
    )
    return tuple(
        Raise(
            type=AlertType.DELIVERY_EXHAUSTED,
            severity=Severity.WARNING,
            subject=f"messages:{after.to_agent_id}",
            agent_id=agent_id,
            headline=f"{ONE_EXPIRED} unanswered, {sender} to {receiver}.",
            detail=f"It is of type {after.type}, and {how}. {next_step}",
            data={
                "count": 1,
                "role": role,
                "message_id": after.id,
                "message_type": after.type,
                "from_agent_id": after.from_agent_id,
                "to_agent_id": after.to_agent_id,
                "first_at": after.ended_at,
                "last_at": after.ended_at,
            },
        )
        for role, agent_id, next_step in told
        if agent_id is not None
    )


RULES: Final[Mapping[str, Callable[[Any, Any, NameOf, Market], Verdict]]] = {
    "task": _of_task,
    "payment": _of_channel,
    "message": _of_message,
}
"""Store → what follows from a change of one of its states."""

# What adds up over several changes.


ONE_EXPIRED: Final = "1 message expired"
GROWING: Final = frozenset({AlertType.DELIVERY_EXHAUSTED})
"""Types whose alert counts what comes on top of it, as long as nobody has resolved it."""


def merged(verdict: Verdict) -> Verdict:
    """The same, where what grows and concerns one agent and subject is raised once, with all of its count."""
    found: dict[object, Raise | Over] = {}
    for number, one in enumerate(verdict):
        key: object = number
        if isinstance(one, Raise) and one.type in GROWING:
            key = (one.type, one.subject, one.agent_id)
            before = found.get(key)
            if isinstance(before, Raise):
                found[key] = on_top(before.data, one)
                continue
        found[key] = one
    return tuple(found.values())


def on_top(before: Mapping[str, Any], due: Raise) -> Raise:
    """What is due on top of what was counted before; it tells of the newest."""
    count = before["count"] + due.data["count"]
    words = due.headline.partition(" unanswered")[2]
    return msgspec.structs.replace(
        due,
        headline=f"{count} messages expired unanswered{words}",
        detail=due.detail.replace("It is of type", "The newest is of type", 1),
        data={**due.data, "count": count, "first_at": before["first_at"]},
    )


def grown(alert: Alert, due: Raise, *, now: datetime) -> Alert:
    """An alert that stands, with what is due on top of it. Where somebody looks after it, that stays so."""
    after = on_top(alert.data, due)
    return msgspec.structs.replace(alert, message=after.message, data=after.data, updated_at=now)


def counts(before: Task, after: Task) -> bool:
    """Whether a task has ended so that it counts for the success rate, or ends so after a dispute."""
    return after.status in ENDED_SO and before.status is not after.status


def noted(ends: Ends, before: Task, after: Task) -> Ends:
    """A provider's last ends, once a task of it has ended.

    A task that had ended before, and ends otherwise after a dispute, keeps its place; while it is disputed it stands as
    it ended first.
    """
    is_completed = after.status is TaskPhase.COMPLETED
    if before.ended_at is not None:
        return tuple((id_, is_completed if id_ == after.id else was) for id_, was in ends)
    return (*ends, (after.id, is_completed))[-ENDS_MAX:]


def is_rate_low(ends: Ends) -> bool:
    """Whether fewer than half of the last ENDS_MAX have completed; fewer ends say nothing."""
    return len(ends) == ENDS_MAX and 2 * sum(is_completed for _, is_completed in ends) < ENDS_MAX


def verdict_on_rate(before: Ends, after: Ends, *, agent_id: str, name_of: NameOf) -> Verdict:
    """What follows from a provider's last ends."""
    subject = f"agent:{agent_id}"
    if is_rate_low(before) is is_rate_low(after):
        return ()
    if is_rate_low(before):
        return (Over(AlertType.SUCCESS_RATE_LOW, subject),)
    completed = sum(is_completed for _, is_completed in after)
    return (
        Raise(
            type=AlertType.SUCCESS_RATE_LOW,
            severity=Severity.WARNING,
            subject=subject,
            agent_id=agent_id,
            headline=f"Success rate low: {completed} of the last {ENDS_MAX} tasks of {name_of(agent_id)} completed.",
            detail=f"The other {ENDS_MAX - completed} failed. Take it out of the market until the cause is found: each"
            " failure lowers its reputation.",
            data={"completed": completed, "failed": ENDS_MAX - completed, "success_rate": completed / ENDS_MAX},
        ),
    )


class Funds(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent has available, and below which amount that is low; None: never. In minor units."""

    available: int
    low_below: int | None

    @property
    def are_low(self) -> bool:
        """Whether it is less than it should be."""
        return self.low_below is not None and self.available < self.low_below


def verdict_on_funds(before: Funds, after: Funds, *, agent_id: str, name_of: NameOf, market: Market) -> Verdict:
    """What follows from what an agent has, or from another threshold."""
    subject = f"agent:{agent_id}"
    if before.are_low is after.are_low:
        return ()
    if before.are_low:
        return (Over(AlertType.BALANCE_LOW, subject),)
    low_below = after.low_below
    assert low_below is not None, "without a threshold nothing is low"
    return (
        Raise(
            type=AlertType.BALANCE_LOW,
            severity=Severity.WARNING,
            subject=subject,
            agent_id=agent_id,
            headline=f"Balance low: {name_of(agent_id)} has {amount_text(after.available, market)} available.",
            detail=f"That is less than the {amount_text(low_below, market)} that are set as its least. Deposit more, or"
            " it cannot pay for what it opens next.",
            data={"available": after.available, "balance_below": low_below},
        ),
    )


def verdict_on_ledger(differences: int) -> Verdict:
    """What follows from a look at the ledger; what it tells names no account, because anybody hears it."""
    if not differences:
        return (Over(AlertType.LEDGER_MISMATCH, LEDGER),)
    counted = "1 difference" if differences == 1 else f"{differences} differences"
    return (
        Raise(
            type=AlertType.LEDGER_MISMATCH,
            severity=Severity.CRITICAL,
            subject=LEDGER,
            agent_id=None,
            headline=f"The ledger does not add up: {counted}.",
            detail="Pay nothing out, keep a copy of the database as it is, and ask `agrenting doctor` what differs.",
            data={"differences": differences},
        ),
    )


def amount_text(amount: int, market: Market) -> str:
    """An amount as people read it, exact: "8.50 USD"."""
    whole, rest = divmod(amount, 10**market.exponent)
    if market.exponent == 0:
        return f"{whole} {market.currency}"
    least = min(DECIMALS_MIN, market.exponent)
    decimals = f"{rest:0{market.exponent}}".rstrip("0").ljust(least, "0")
    return f"{whole}.{decimals} {market.currency}"
