"""Pay as you stream: units of a task's output, and how far they are paid.

    chunks ──►  units delivered  ≤  paid_up_to + credit  ◄── transfers on the task's channel that name the task

Nothing is held for such a task. Its client pays unit by unit over a payment channel of the two, and the next chunk is
taken only as far as the credit reaches: so either side can stop at any time, having lost at most credit × amount. What
is paid is what both have signed for this task, also after its end; it never goes down.
"""

import msgspec

from channels.agents import Agent, PricingModel
from channels.changes import Save
from channels.errors import Conflict, Invalid, TooLarge, not_found
from channels.fields import invalid_payload
from channels.limits import Limits
from channels.payment_rules import require_mode, require_open, require_tradable, require_unfrozen
from channels.payment_state import Mode, PaymentChannel, SignedTransfer
from channels.task_state import StreamPrice, StreamState, Task, units_of
from channels.told import Broadcast


def require_form(price: StreamPrice, limits: Limits) -> None:
    """Refuse a stream price that says nothing sensible, whoever the provider is.

    Raises:
        Invalid: `invalid_payload`: `unit_bytes` belongs to `per: bytes` and only to it; `credit` is out of range.
    """
    if price.per == "chunk" and price.unit_bytes is not None:
        raise invalid_payload("stream_price.unit_bytes", "A price per chunk has no unit_bytes.")
    if price.per == "bytes" and not (price.unit_bytes is not None and 1 <= price.unit_bytes <= limits.stream_bytes_max):
        raise invalid_payload(
            "stream_price.unit_bytes", f"A price per bytes has unit_bytes, 1 to {limits.stream_bytes_max}."
        )
    if not 1 <= price.credit <= limits.stream_credit_max:
        raise invalid_payload("stream_price.credit", f"credit is 1 to {limits.stream_credit_max} units.")


def require_unit_price(price: StreamPrice, *, provider: Agent, list_price: int, limits: Limits) -> None:
    """Refuse a unit price that the provider does not work for.

    Raises:
        Invalid: `amount_out_of_range`, with minimum and price_max.
        Conflict: `negotiation_required`; `price_below_base`, with base_price.
    """
    if not 1 <= price.amount <= limits.price_max:
        raise Invalid(
            "amount_out_of_range",
            f"The price of a unit is between 1 and {limits.price_max}.",
            minimum=1,
            price_max=limits.price_max,
        )
    if provider.pricing_model is PricingModel.AUCTION:
        raise Conflict("negotiation_required", "This provider has no fixed prices; open a negotiation with it.")
    if price.amount < list_price:
        raise Conflict(
            "price_below_base",
            f"The list price is {list_price}, more than {price.amount} for a unit.",
            base_price=list_price,
        )


def require_payable(channel: PaymentChannel | None, *, client_id: str, provider_id: str) -> PaymentChannel:
    """The channel that a task is paid over, if its client can pay the provider in it now.

    Raises:
        NotFound: `not_found`: there is none, or it is not of the two.
        Conflict: `state_lost`, `terminal_state`, `channel_not_open`, `wrong_mode`, `contact_revoked`.
    """
    if channel is None or {channel.agent_a_id, channel.agent_b_id} != {client_id, provider_id}:
        raise not_found("payment channel of the two")
    require_unfrozen(channel)
    require_open(channel)
    require_mode(channel, Mode.ONLINE)
    require_tradable(channel)
    return channel


def paid_by(transfer: SignedTransfer, task: Task | None, channel: PaymentChannel) -> tuple[Save, Broadcast] | None:
    """What a transfer that both have signed pays of a task, and what both are told of it; None where it pays none.

    Args:
        transfer: As it was executed.
        task: The one that it names; None where there is none.
        channel: The one that it was made on.
    """
    if task is None or (task.channel_id, task.client_agent_id) != (channel.id, transfer.from_agent_id):
        return None
    after = msgspec.structs.replace(task, paid=task.paid + transfer.amount)
    told = {
        "task_id": task.id,
        "channel_id": channel.id,
        "nonce": transfer.nonce,
        "amount": transfer.amount,
        "paid": after.paid,
        "paid_up_to": after.paid_up_to,
        "units": after.units,
    }
    return Save("task", task.id, task, after), Broadcast(task.topic, "task_paid", told)


def require_paid(task: Task, after: StreamState, *, chunk_bytes: int) -> None:
    """Refuse a chunk that is not paid, as far as the credit reaches; a held price pays for all.

    Args:
        task: As it is.
        after: Its output with the chunk.
        chunk_bytes: The chunk's, decoded.

    Raises:
        TooLarge: `chunk_too_large`: it has more bytes than a unit.
        Conflict: `payment_due`, with what is due until it is taken.
    """
    price = task.stream_price
    if price is None:
        return
    if price.unit_bytes is not None and chunk_bytes > price.unit_bytes:
        raise TooLarge(
            "chunk_too_large",
            f"No chunk of this task has more than the {price.unit_bytes} bytes of a unit.",
            chunk_bytes_max=price.unit_bytes,
        )
    units, paid_up_to = units_of(after, price), task.paid // price.amount  # Rounds down: whole units.
    if units > paid_up_to + price.credit:
        raise Conflict(
            "payment_due",
            f"With this chunk {units} units are delivered; {paid_up_to} are paid, and {price.credit} are on credit.",
            units=units,
            paid_up_to=paid_up_to,
            credit=price.credit,
            unit_price=price.amount,
            due=(units - price.credit) * price.amount - task.paid,
        )
