"""What opening a negotiation or a task rests on, and the checks that both begin with, in one order.

The facts are loaded in the transaction that opens, so nothing opens on what was true a moment ago.
"""

import msgspec

from channels.agents import Agent, require_active, require_public_key
from channels.contacts import require_may_open
from channels.errors import Conflict, Invalid, not_found


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """The two agents of something new, and how much they have open already.

    Args:
        client: The hiring agent, who asks.
        provider: The hired agent; None where there is none that the client may know of.
        open_count: Negotiations, or unfinished tasks, that the pair has open.
    """

    client: Agent
    provider: Agent | None
    open_count: int


def require_counterpart(opening: Opening, *, capability: str, keys: bool) -> tuple[Agent, int]:
    """The provider and its list price, once all that does not depend on the kind of session is checked.

    Args:
        opening: The facts.
        capability: What the provider is asked for.
        keys: Whether both need a signing key.

    Raises:
        NotFound: `not_found`.
        Invalid: `same_agent`.
        Forbidden: `contact_required`.
        Conflict: `public_key_required`, `agent_unavailable`, `capability_not_offered`.
    """
    client, provider = opening.client, opening.provider
    if provider is None:
        raise not_found("agent")
    if provider.id == client.id:
        raise Invalid("same_agent", "An agent cannot hire itself; name another provider.")
    require_may_open(client.party, provider.party)
    if keys:
        require_public_key(client)
        require_public_key(provider)
    require_active(client)
    require_active(provider)
    price = provider.price_of(capability)
    if price is None:
        raise Conflict(
            "capability_not_offered",
            "The provider does not offer this capability at a price.",
            capabilities=[own.name for own in provider.capabilities],
        )
    return provider, price


def require_room(open_count: int, *, open_max: int) -> None:
    """Refuse one more than a pair may have open.

    Raises:
        Conflict: `too_many_open`, with the limit.
    """
    if open_count >= open_max:
        raise Conflict(
            "too_many_open", f"These two agents have {open_max} open already; finish one first.", max=open_max
        )
