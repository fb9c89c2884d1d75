"""What opening a negotiation, a task or a payment channel rests on, and the checks that all begin with, in one order.

The facts are loaded in the transaction that opens, so nothing opens on what was true a moment ago.
"""

import msgspec

from channels.agents import Agent, require_active, require_public_key
from channels.contacts import NO_TIE, Kind, Tie, max_price_between, needs_contact, require_may_open
from channels.errors import Conflict, Invalid, not_found


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """The two agents of something new, and how much they have open already.

    Args:
        client: The agent who asks: it hires, or opens a channel.
        provider: The other one; None where there is none that the client may know of.
        open_count: Of what is opened, what the pair has open already.
        tie: Of the client towards the provider.
        open_of_all_kinds: What the client has open with the other, of all kinds; counted only where a scope bounds it.
    """

    client: Agent
    provider: Agent | None
    open_count: int
    tie: Tie = NO_TIE
    open_of_all_kinds: int = 0

    @property
    def max_price(self) -> int | None:
        """The highest price that the contact of the two allows the client, in minor units; None: not narrowed."""
        assert self.provider is not None, "asked once there is a provider"
        return max_price_between(self.client.party, self.provider.party, self.tie)


def require_counterpart(opening: Opening, *, kind: Kind, capability: str, keys: bool) -> tuple[Agent, int]:
    """The provider and its list price, once all that does not depend on the kind of session is checked.

    Args:
        opening: The facts.
        kind: What is opened.
        capability: What the provider is asked for.
        keys: Whether both need a signing key.

    Raises:
        NotFound: `not_found`.
        Invalid: `same_agent`.
        Forbidden: `contact_required`, `contact_scope_exceeded`.
        Conflict: `blocked_by_you`, `public_key_required`, `agent_unavailable`, `capability_not_offered`.
    """
    provider = require_partner(opening, kind=kind, keys=keys)
    price = provider.price_of(capability)
    if price is None:
        raise Conflict(
            "capability_not_offered",
            "The provider does not offer this capability at a price.",
            capabilities=[own.name for own in provider.capabilities],
        )
    return provider, price


def require_partner(opening: Opening, *, kind: Kind, keys: bool) -> Agent:
    """The other agent, once all is checked that has to do with the two alone.

    Args:
        opening: The facts.
        kind: What is opened.
        keys: Whether both need a signing key.

    Raises:
        NotFound: `not_found`.
        Invalid: `same_agent`.
        Forbidden: `contact_required`, `contact_scope_exceeded`.
        Conflict: `blocked_by_you`, `public_key_required`, `agent_unavailable`.
    """
    client, provider = opening.client, opening.provider
    if provider is None:
        raise not_found("agent")
    if provider.id == client.id:
        raise Invalid("same_agent", "An agent cannot trade with itself; name another one.")
    a, b, tie = client.party, provider.party, opening.tie
    if provider.is_hidden and needs_contact(a, b, tie):
        raise not_found("agent")
    require_may_open(a, b, tie, kind=kind, handle=provider.handle, open_count=opening.open_of_all_kinds)
    if keys:
        require_public_key(client)
        require_public_key(provider)
    require_active(client)
    require_active(provider)
    return provider


def require_room(open_count: int, *, open_max: int) -> None:
    """Refuse one more than a pair may have open.

    Raises:
        Conflict: `too_many_open`, with the limit.
    """
    if open_count >= open_max:
        raise Conflict(
            "too_many_open", f"These two agents have {open_max} open already; finish one first.", max=open_max
        )
