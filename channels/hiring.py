"""Opening a task: the price is found, held, and the provider is told.

The price is what the two have agreed on, or the provider's list price. An agreement is used once, within a day, by the
client that it was made with, for the same provider and capability; the gate is asked again. Or nothing is held, and the
output is paid as it streams over a payment channel of the two (stream_price.py).
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

from channels.agents import Agent, PricingModel
from channels.changes import Insert, Mail, Save, Spend, Timer
from channels.contacts import Kind, require_price_in_scope, same_house
from channels.deal_channels import deal_channel, taken_over
from channels.documents import require_document
from channels.errors import Conflict, Expired, Invalid, not_found
from channels.fields import invalid_payload
from channels.handlers import Context, Decision
from channels.ledger import fee_of, hold
from channels.limits import Limits
from channels.negotiation import NegotiationSession
from channels.negotiation import Phase as NegotiationPhase
from channels.opening import Opening, require_counterpart, require_room
from channels.payment_state import PaymentChannel
from channels.private_state import PrivateChannel
from channels.stream_price import require_form, require_payable, require_unit_price
from channels.task_state import DEADLINE, Escrow, StreamPrice, Task, snapshot
from channels.told import Broadcast


class TaskOpening(msgspec.Struct, frozen=True, kw_only=True):
    """What opening a task rests on.

    Args:
        opening: The two agents.
        agreement: The negotiation that the request names; None where there is none that the sender takes part in.
        channel: The payment channel that the request names; None where there is none of that id.
        talk: The private channel of the agreement's negotiation, while it is there; None where there is none.
    """

    opening: Opening
    agreement: NegotiationSession | None
    channel: PaymentChannel | None = None
    talk: PrivateChannel | None = None


class OpenTask(msgspec.Struct, frozen=True, kw_only=True):
    """Hire a provider, by an agreement, at its list price, or paid as it streams: exactly one of the three.

    Args:
        input: Any JSON, at most 64 KiB; more goes through the input stream.
        max_price: A ceiling in minor units: the list price is held, which may be lower; 0 for a free capability.
        deadline: With an offset from UTC, 60 seconds to 30 days ahead; 7 days ahead unless given.
        hold_seconds: How long the price is held after completion, up to 7 days; an hour unless given. Not where the
            output is paid as it streams.
        stream_price: What each unit of the output costs, at least the list price.
        channel_id: The payment channel of the two that it is paid over.
        private_channel: The two get a private channel of their own until the task ends. One that their negotiation
            had is taken over, asked for or not.
    """

    provider_agent_id: str
    capability: str
    input: Any = None
    negotiation_session_id: str | None = None
    max_price: int | None = None
    deadline: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    hold_seconds: int | None = None
    channel_id: str | None = None
    stream_price: StreamPrice | None = None
    private_channel: bool = False


def open_task(facts: TaskOpening, request: OpenTask, context: Context) -> Decision:
    """Open a task, hold its price, and leave the provider a stored message of it.

    Whether a task was created from the agreement already is asked before all that may have changed since, such as the
    provider's offer: who repeats a hire always learns its task_id.

    Source: 'open_task' of agents:discovery, and its REST twin.

    Raises:
        Invalid: `invalid_payload`, `hold_out_of_range`, `deadline_out_of_range`, `same_agent`, `amount_out_of_range`
            with price_max.
        NotFound: `not_found`: of the provider, the agreement, or the payment channel.
        Forbidden: `contact_required`, `contact_scope_exceeded`.
        Conflict: `agreement_used` with task_id, `blocked_by_you`, `agent_unavailable`, `capability_not_offered`,
            `agreement_mismatch`, `negotiation_required`, `price_below_base` with base_price, `state_lost`,
            `terminal_state`, `channel_not_open`, `wrong_mode`, `contact_revoked`: of the payment channel;
            `too_many_open`, `spend_cap_exceeded`; once stored `insufficient_balance`,
            `mailbox_full`.
        Expired: `agreement_expired`.
    """
    limits, client = context.market.limits, facts.opening.client
    _require_one_price(request, limits)
    require_document("input", request.input, bytes_max=limits.result_bytes_max)
    hold_seconds = _hold_seconds(request, limits)
    _require_unused(facts.agreement, request, client)
    deadline = _deadline(request.deadline, context.now, limits)
    provider, list_price = require_counterpart(facts.opening, kind=Kind.TASK, capability=request.capability, keys=False)
    if request.stream_price is not None:
        price = 0
        require_unit_price(request.stream_price, provider=provider, list_price=list_price, limits=limits)
        require_payable(facts.channel, client_id=client.id, provider_id=provider.id)
        require_price_in_scope(request.stream_price.amount, facts.opening.max_price)
    elif request.max_price is not None:
        price = _listed_price(provider, list_price=list_price, max_price=request.max_price, limits=limits)
    else:
        price = _agreed_price(facts.agreement, request, client, context.now)
    require_price_in_scope(price, facts.opening.max_price)
    require_room(facts.opening.open_count, open_max=limits.tasks_open_max)
    context.sender.require_cap(price)
    fee = fee_of(price, fee_bps=context.market.fee_bps)
    task_id = context.new_id()
    if facts.talk is not None:
        private_channel_id, made = taken_over(facts.talk, deal=f"task:{task_id}")
    else:
        private_channel_id, made = deal_channel(
            is_wanted=request.private_channel,
            client_agent_id=client.id,
            provider_agent_id=provider.id,
            deal=f"task:{task_id}",
            context=context,
        )
    task = Task(
        id=task_id,
        client_agent_id=client.id,
        provider_agent_id=provider.id,
        client_owner_id=client.owner_id,
        is_countable=fee > 0 and not same_house(client.party, provider.party),
        capability=request.capability,
        input=request.input,
        negotiation_session_id=request.negotiation_session_id,
        price=price,
        fee=fee,
        fee_bps=context.market.fee_bps,
        escrow_status=Escrow.HELD if price else Escrow.NONE,
        hold_seconds=hold_seconds,
        channel_id=request.channel_id,
        stream_price=request.stream_price,
        private_channel_id=private_channel_id,
        created_at=context.now,
        deadline=deadline,
    )
    return Decision(
        reply=snapshot(task, context.market),
        changes=(
            Insert("task", task.id, task),
            *made,
            *_consumed(facts.agreement, task),
            *((Spend(price),) if price else ()),
            *hold(task_id=task.id, client_agent_id=client.id, price=price),
            Timer(DEADLINE, task.topic, deadline),
            _announcement(task, client),
        ),
        broadcasts=_told(facts.agreement, task),
    )


def _require_one_price(request: OpenTask, limits: Limits) -> None:
    named = (request.negotiation_session_id, request.max_price, request.stream_price)
    if sum(one is not None for one in named) != 1:
        raise invalid_payload(
            "max_price",
            "Name one of these: an agreement (negotiation_session_id), what you would pay at most (max_price), or what"
            " you pay for each unit of the output (stream_price).",
        )
    if (request.channel_id is None) != (request.stream_price is None):
        raise invalid_payload("channel_id", "A stream_price is paid over a payment channel, and nothing else is.")
    if request.stream_price is not None:
        require_form(request.stream_price, limits)


def _hold_seconds(request: OpenTask, limits: Limits) -> int:
    """How long the price is held after completion; where nothing is held, 0."""
    asked = request.hold_seconds
    if request.stream_price is not None:
        if asked is not None:
            raise invalid_payload("hold_seconds", "Nothing is held where the output is paid as it streams.")
        return 0
    if asked is None:
        return limits.hold_default_s
    if not 0 <= asked <= limits.hold_max_s:
        raise Invalid(
            "hold_out_of_range", f"A price is held 0 to {limits.hold_max_s} seconds.", hold_max_s=limits.hold_max_s
        )
    return asked


def _require_unused(agreement: NegotiationSession | None, request: OpenTask, client: Agent) -> None:
    """Refuse an agreement that this same hire has consumed. Another hire with it is a mismatch, and learns nothing."""
    if agreement is None or agreement.task_id is None or not _is_for(agreement, request, client):
        return
    raise Conflict("agreement_used", "A task was created from this agreement.", task_id=agreement.task_id)


def _deadline(asked: datetime | None, now: datetime, limits: Limits) -> datetime:
    if asked is None:
        return now + timedelta(seconds=limits.deadline_default_s)
    earliest, latest = (now + timedelta(seconds=s) for s in (limits.deadline_min_s, limits.deadline_max_s))
    if not earliest <= asked <= latest:
        raise Invalid(
            "deadline_out_of_range",
            f"A deadline is {limits.deadline_min_s} to {limits.deadline_max_s} seconds ahead.",
            earliest=earliest,
            latest=latest,
        )
    utc = asked.astimezone(UTC)
    return utc.replace(microsecond=utc.microsecond // 1_000 * 1_000)  # Rounds down, to what timers are kept in.


def _listed_price(provider: Agent, *, list_price: int, max_price: int, limits: Limits) -> int:
    if not 0 <= max_price <= limits.price_max:
        raise Invalid(
            "amount_out_of_range", f"max_price is between 0 and {limits.price_max}.", price_max=limits.price_max
        )
    if provider.pricing_model is PricingModel.AUCTION:
        raise Conflict("negotiation_required", "This provider has no fixed prices; open a negotiation with it.")
    if list_price > max_price:
        raise Conflict(
            "price_below_base", f"The list price is {list_price}, more than {max_price}.", base_price=list_price
        )
    return list_price


def _agreed_price(agreement: NegotiationSession | None, request: OpenTask, client: Agent, now: datetime) -> int:
    if agreement is None:
        raise not_found("negotiation")
    if not _is_for(agreement, request, client):
        raise Conflict(
            "agreement_mismatch",
            "This negotiation is no agreement for this client, provider and capability.",
            status=agreement.status,
        )
    expires_at, amount = agreement.agreement_expires_at, agreement.amount
    assert expires_at is not None, "an agreement has an end"
    assert amount is not None, "an agreement has a price"
    if now >= expires_at:
        raise Expired("agreement_expired", "This agreement is too old; negotiate anew.", expired_at=expires_at)
    return amount


def _is_for(agreement: NegotiationSession, request: OpenTask, client: Agent) -> bool:
    """Whether an agreement was come to, and by these two in these roles for this capability."""
    return agreement.status is NegotiationPhase.AGREED and (
        (agreement.client_agent_id, agreement.provider_agent_id, agreement.capability)
        == (client.id, request.provider_agent_id, request.capability)
    )


def _consumed(agreement: NegotiationSession | None, task: Task) -> tuple[Save, ...]:
    if agreement is None:
        return ()
    return (Save("negotiation", agreement.id, agreement, msgspec.structs.replace(agreement, task_id=task.id)),)


def _told(agreement: NegotiationSession | None, task: Task) -> tuple[Broadcast, ...]:
    """What those who have joined the negotiation are told: their snapshot has a task_id now."""
    if agreement is None:
        return ()
    told = {"session_id": agreement.id, "task_id": task.id}
    return (Broadcast(f"negotiation:{agreement.id}", "agreement_used", told),)


def _announcement(task: Task, client: Agent) -> Mail:
    """What the provider is told before it starts: the task, its price and fee, and until when it has to be done."""
    told = {
        "task_id": task.id,
        "topic": task.topic,
        "client_agent_id": client.id,
        "client_handle": client.handle,
        "capability": task.capability,
        "price": task.price,
        "fee": task.fee,
        "fee_bps": task.fee_bps,
        "net": task.price - task.fee,
        "negotiation_session_id": task.negotiation_session_id,
        "hold_seconds": task.hold_seconds,
        "channel_id": task.channel_id,
        "stream_price": task.stream_price,
        "deadline": task.deadline,
        "private_channel_id": task.private_channel_id,
    }
    return Mail(task.provider_agent_id, "task_handoff", told, client.id)
