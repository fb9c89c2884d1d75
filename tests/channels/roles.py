"""Who takes part in the tests of the rules: Alice opens, Bob answers, Carol watches, Mallory cheats.

A `Player` is an agent with the secret half of its key and the identity that its credential proves. Clock and ids are
handed in, so the same test always sees the same bytes.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ParamSpec

import msgspec
import pytest

from channels.agents import Agent, Capability
from channels.errors import Refusal
from channels.handlers import Context, Decision
from channels.identity import Identity
from channels.limits import Limits, Market
from channels.told import Broadcast
from crypto import format_public_key, public_key_of

P = ParamSpec("P")

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MARKET = Market(signing_domain="market.test")
FRESH_ID = "11111111-1111-4111-8111-111111111111"
OTHER_ID = "22222222-2222-4222-8222-222222222222"
ORGANISATION = "99999999-9999-4999-8999-999999999999"


class Player(msgspec.Struct, frozen=True, kw_only=True):
    """An agent, its secret key, and who its credential says it is."""

    agent: Agent
    secret_key: bytes
    identity: Identity

    @property
    def id(self) -> str:
        assert self.identity.agent_id is not None
        return self.identity.agent_id


def agent_named(name: str, *, number: int, **fields: Any) -> Agent:
    """An active agent of an owner of its own, in the organisation that makes Alice and Bob known to each other."""
    digit = f"{number:x}"
    defaults: dict[str, Any] = {
        "id": f"{digit * 8}-{digit * 4}-4{digit * 3}-8{digit * 3}-{digit * 12}",
        "owner_id": f"{digit * 8}-{digit * 4}-4{digit * 3}-9{digit * 3}-{digit * 12}",
        "name": name,
        "handle": f"{name}/bot",
        "description": f"What {name} does.",
        "capabilities": (Capability("translate", 1000),),
        "organisation_id": ORGANISATION,
        "owner_organisation_id": ORGANISATION,
        "public_key": format_public_key(public_key_of(secret_of(number))),
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Agent(**(defaults | fields))


def secret_of(number: int) -> bytes:
    """The seed of a player's key."""
    return bytes([number]) * 32


def identity_of(agent: Agent, **fields: Any) -> Identity:
    """The identity behind an agent's own key."""
    return Identity(
        kind="agent",
        user_id=agent.owner_id,
        agent_id=agent.id,
        handle=agent.handle,
        key_id=f"key of {agent.handle}",
        organisation_id=agent.owner_organisation_id,
        agent_organisation_id=agent.organisation_id,
        **fields,
    )


def player(name: str, *, number: int, **fields: Any) -> Player:
    agent = agent_named(name, number=number, **fields)
    return Player(agent=agent, secret_key=secret_of(number), identity=identity_of(agent))


ALICE = player("alice", number=0xA)
BOB = player("bob", number=0xB)
CAROL = player("carol", number=0xC)
MALLORY = player("mallory", number=0xD)


def capped(who: Player, amount: int) -> Player:
    """The same agent, acting by a key that may spend at most `amount` in one operation."""
    return msgspec.structs.replace(who, identity=identity_of(who.agent, spend_max=amount))


def context(
    who: Player | Identity,
    *,
    now: datetime = NOW,
    market: Market = MARKET,
    topic: str = "",
    new_id: Callable[[], str] = lambda: FRESH_ID,
) -> Context:
    sender = who.identity if isinstance(who, Player) else who
    return Context(sender=sender, now=now, market=market, new_id=new_id, new_token=lambda: "token", topic=topic)


def market_with(**limits: Any) -> Market:
    """The market of the tests with other limits."""
    return msgspec.structs.replace(MARKET, limits=Limits(**limits))


def refused(act: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Refusal:
    """The refusal that `act(…)` ends in."""
    with pytest.raises(Refusal) as caught:
        act(*args, **kwargs)
    return caught.value


def broadcasts_of(decision: Decision) -> tuple[Broadcast, ...]:
    """What the subscribers of topics are told; the decision changes nobody's tie."""
    told = tuple(one for one in decision.broadcasts if isinstance(one, Broadcast))
    assert told == decision.broadcasts
    return told


def as_told(value: object) -> Any:
    """A payload as it arrives: written as JSON and read again."""
    return msgspec.json.decode(msgspec.json.encode(value))
