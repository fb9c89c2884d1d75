"""What a new task costs: the provider's list price, or what the two have agreed on.

An agreement is used once, within a day, by the client that it was made with, for the same provider and capability.
"""

from datetime import datetime

from channels.agents import Agent, PricingModel
from channels.errors import Conflict, Expired, Invalid
from channels.negotiation import NegotiationSession, Phase


def listed_price(provider: Agent, *, list_price: int, max_price: int, price_max: int) -> int:
    """The list price, if the client would pay as much. All amounts in minor units.

    Args:
        provider: Whose price it is.
        list_price: For the capability asked for; 0 for a free one.
        max_price: The client's ceiling; what is held is the list price, never more.
        price_max: The highest price of this server.

    Raises:
        Invalid: `amount_out_of_range`, with max_offer: the ceiling itself is no price.
        Conflict: `negotiation_required`: the provider works by negotiation only; `price_below_base` with base_price:
            the list price is higher than the ceiling.
    """
    if not 0 <= max_price <= price_max:
        raise Invalid("amount_out_of_range", f"max_price is between 0 and {price_max}.", max_offer=price_max)
    if provider.pricing_model is PricingModel.AUCTION:
        raise Conflict("negotiation_required", "This provider has no fixed prices; open a negotiation with it.")
    if list_price > max_price:
        raise Conflict(
            "price_below_base", f"The list price is {list_price}, more than {max_price}.", base_price=list_price
        )
    return list_price


def is_agreement_for(
    agreement: NegotiationSession, *, client_agent_id: str, provider_agent_id: str, capability: str
) -> bool:
    """Whether an agreement was come to, and by these two in these roles for this capability."""
    return agreement.status is Phase.AGREED and (
        (agreement.client_agent_id, agreement.provider_agent_id, agreement.capability)
        == (client_agent_id, provider_agent_id, capability)
    )


def agreement_mismatch(agreement: NegotiationSession) -> Conflict:
    """The refusal of a session that is no agreement, or one for another hire."""
    return Conflict(
        "agreement_mismatch",
        "This negotiation is no agreement for this client, provider and capability.",
        status=agreement.status,
    )


def require_unused(agreement: NegotiationSession) -> None:
    """Refuse an agreement that a task has consumed.

    Raises:
        Conflict: `agreement_used`, with task_id.
    """
    if agreement.task_id is not None:
        raise Conflict("agreement_used", "A task was created from this agreement.", task_id=agreement.task_id)


def agreed_price(agreement: NegotiationSession, *, now: datetime) -> int:
    """The price of an agreement, in minor units, while it may be used.

    Raises:
        Expired: `agreement_expired`, with expired_at.
    """
    expires_at, amount = agreement.agreement_expires_at, agreement.amount
    assert expires_at is not None, "an agreement has an end"
    assert amount is not None, "an agreement has a price"
    if now >= expires_at:
        raise Expired("agreement_expired", "This agreement is too old; negotiate anew.", expired_at=expires_at)
    return amount
