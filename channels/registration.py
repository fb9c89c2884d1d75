"""What an owner registers: agents, and keys with their scopes and caps. Pure checks, behind REST and the command line.

    by its owner         draft ──► active ◄──► inactive
    by an operator       active, inactive ──► suspended ──► active         suspend, reinstate
                         draft, active, inactive, suspended ──► banned     ban: final

Every function takes what was sent and returns the agent as it then is; storing it, and whether a handle or a public key
is still free, is the server's part.
"""

import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from channels.agents import Agent, AgentStatus, Capability, PricingModel
from channels.documents import require_document
from channels.errors import Conflict, Forbidden, Invalid
from channels.fields import (
    invalid_amount,
    invalid_payload,
    parse_capability_names,
    parse_key,
    parse_price,
    parse_tags,
    parse_text,
)
from channels.fields import parse_money as parse_money  # noqa: PLC0414 - REST and the command line import it from here.
from channels.fields import parse_name as parse_name  # noqa: PLC0414 - The same reason.
from channels.identity import SCOPES
from channels.ledger import MONEY_MAX
from channels.limits import Limits, Market
from crypto import BadSignature, key_proof_message, parse_public_key, verify_signature

PROTOCOL_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,15}\Z")
PROTOCOL_VERSIONS_MAX: Final = 16

OwnersStatus = Literal["draft", "active", "inactive"]
"""The statuses that an owner may set."""

OWNERS_TRANSITIONS: Final[Mapping[AgentStatus, Collection[AgentStatus]]] = {
    AgentStatus.DRAFT: {AgentStatus.ACTIVE},
    AgentStatus.ACTIVE: {AgentStatus.INACTIVE},
    AgentStatus.INACTIVE: {AgentStatus.ACTIVE},
    AgentStatus.SUSPENDED: frozenset[AgentStatus](),
}
"""What an owner may make of an agent of each status that is not final."""


class CapabilityDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A capability as it is sent: `price` in minor units, or in major units as a decimal string; null: base price."""

    name: str
    price: int | str | None = None


class AgentDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A new agent as it is sent.

    Args:
        name: 1-100 characters.
        description: 1-2,000 characters.
        capabilities: At most 50.
        base_price: For the capabilities without a price; without both, a capability cannot be hired.
        tags: At most 16 of at most 16 characters; upper case is lowered.
        is_listed: Whether strangers find it, once it has a tag.
        is_global: Whether it is one for all; only operators may say so.
        public_key: Ed25519, 32 bytes in base64.
        did: The same key as did:key; one of the two is enough.
        metadata: An object of at most 8 KiB.
    """

    name: str
    description: str
    capabilities: tuple[CapabilityDraft, ...] = ()
    base_price: int | str | None = None
    pricing_model: PricingModel = PricingModel.HYBRID
    tags: tuple[str, ...] = ()
    is_listed: bool = True
    is_global: bool = False
    public_key: str | None = None
    did: str | None = None
    protocol_versions: tuple[str, ...] = ("1.0",)
    metadata: dict[str, Any] = {}
    status: OwnersStatus = "active"


class AgentPatch(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to an agent: what is left out stays. Fields as in AgentDraft; a null key takes the key away."""

    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    capabilities: tuple[CapabilityDraft, ...] | UnsetType = UNSET
    base_price: int | str | UnsetType | None = UNSET
    pricing_model: PricingModel | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    is_listed: bool | UnsetType = UNSET
    is_global: bool | UnsetType = UNSET
    public_key: str | UnsetType | None = UNSET
    did: str | UnsetType | None = UNSET
    protocol_versions: tuple[str, ...] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    status: OwnersStatus | UnsetType = UNSET


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may spend, in minor units: in one operation, and in a UTC day. None: without end."""

    max_amount: int | None = None
    max_amount_per_day: int | None = None


def register(
    draft: AgentDraft,
    *,
    agent_id: str,
    owner_id: str,
    handle: str,
    organisation_id: str | None,
    owner_organisation_id: str | None,
    by_operator: bool,
    now: datetime,
    market: Market,
) -> Agent:
    """A new agent.

    Args:
        draft: What was sent.
        agent_id: A fresh id.
        owner_id: The user that it belongs to.
        handle: `owner/slug`, without `@`.
        organisation_id: The organisation whose members all see it; None for a personal agent.
        owner_organisation_id: The owner's organisation.
        by_operator: Whether an operator asks.
        now: The server's clock, UTC.
        market: Exponent and limits.

    Raises:
        Invalid: `invalid_payload` with the field, `invalid_capability`, `invalid_price`, `invalid_public_key`.
        Forbidden: `operator_required`: only operators make an agent global.
    """
    checked = {name: parse(getattr(draft, name), market) for name, parse in _PARSERS.items()}
    public_key = parse_key(public_key=draft.public_key, did=draft.did)
    if draft.is_global and not by_operator:
        raise _operator_required()
    return Agent(
        id=agent_id,
        owner_id=owner_id,
        handle=handle,
        organisation_id=organisation_id,
        owner_organisation_id=owner_organisation_id,
        public_key=public_key,
        status=AgentStatus(draft.status),
        created_at=now,
        updated_at=now,
        **checked,
    )


def revise(agent: Agent, patch: AgentPatch, *, by_operator: bool, now: datetime, market: Market) -> Agent:
    """The agent with what its owner changed. Its handle stays, whatever its name becomes.

    The caller compares `public_key`: a new key needs its proof, and none may change while one signs in something open.

    Raises:
        Invalid: As `register`.
        Forbidden: `operator_required`: only operators make an agent global, or end that.
        Conflict: `terminal_state`: the agent is banned; `invalid_transition`: its owner cannot set that status now.
    """
    given = {name: value for name in _PARSERS if (value := getattr(patch, name)) is not UNSET}
    checked = {name: _PARSERS[name](value, market) for name, value in given.items()}
    public_key = _revised_key(agent, patch)
    if checked.get("is_global", agent.is_global) != agent.is_global and not by_operator:
        raise _operator_required()
    _require_not_banned(agent)
    status = agent.status if patch.status is UNSET else AgentStatus(patch.status)
    if status not in {agent.status, *OWNERS_TRANSITIONS[agent.status]}:
        raise _invalid_transition(agent, status)
    return msgspec.structs.replace(agent, public_key=public_key, status=status, updated_at=now, **checked)


def suspend(agent: Agent, *, now: datetime) -> Agent:
    """Take an agent out of the market for a while; what runs, it finishes. A suspended one stays as it is.

    Raises:
        Conflict: `terminal_state`: it is banned; `invalid_transition`: it is a draft, which nobody sees anyway.
    """
    return _moved(agent, AgentStatus.SUSPENDED, {AgentStatus.ACTIVE, AgentStatus.INACTIVE}, now)


def reinstate(agent: Agent, *, now: datetime) -> Agent:
    """End a suspension: the agent is active. An active one stays as it is.

    Raises:
        Conflict: `terminal_state`: it is banned; `invalid_transition`: it is not suspended: its owner activates it.
    """
    return _moved(agent, AgentStatus.ACTIVE, {AgentStatus.SUSPENDED}, now)


def ban(agent: Agent, *, now: datetime) -> Agent:
    """Ban an agent for good. A banned one stays as it is."""
    return _moved(agent, AgentStatus.BANNED, {*AgentStatus}, now)


def require_key_proof(
    *, public_key: str, signature: str, challenge: str, owner_id: str, agent_id: str | None, market: Market
) -> None:
    """Refuse a public key whose secret half the one who registers it does not hold.

    Args:
        public_key: Ed25519, 32 bytes in base64.
        signature: Over the key.proof bytes, by that key, in base64.
        challenge: The one-time challenge; that it is this user's and still good, the caller has checked.
        owner_id: The user who registers.
        agent_id: The agent whose key it becomes; None for a new agent.
        market: The signing domain.

    Raises:
        Invalid: `invalid_public_key`, `invalid_signature`.

    Source: crypto/SIGNING.md, key.proof.
    """
    key = parse_key(public_key=public_key, did=None)
    assert key is not None, "a key was given"
    message = key_proof_message(
        signing_domain=market.signing_domain, owner_id=owner_id, agent_id=agent_id, challenge=challenge
    )
    try:
        verify_signature(public_key=parse_public_key(key), message=message, signature=signature)
    except BadSignature as error:
        raise Invalid(
            "invalid_signature",
            "The proof does not verify: sign the challenge with the secret key of this very public key.",
        ) from error


def require_key_scopes(*, own_scopes: Collection[str], own_caps: Caps, scopes: Collection[str], caps: Caps) -> None:
    """Refuse a new key with more rights than the one that makes it.

    Raises:
        Invalid: `invalid_payload`: an unknown scope; `invalid_amount`: a cap that is no amount of money.
        Forbidden: `scope_exceeded`, with the scopes that are too many.
        Conflict: `spend_cap_exceeded`, with the field and the own cap.
    """
    unknown = sorted({*scopes} - {*SCOPES})
    if unknown:
        raise invalid_payload("scopes", f"There is no scope {', '.join(unknown)}.")
    for field in Caps.__struct_fields__:
        cap: int | None = getattr(caps, field)
        if cap is not None and not 0 <= cap <= MONEY_MAX:
            raise invalid_amount(field)
    exceeded = sorted({*scopes} - {*own_scopes})
    if exceeded:
        raise Forbidden(
            "scope_exceeded",
            f"This key cannot give a scope that it does not have: {', '.join(exceeded)}.",
            scopes=exceeded,
        )
    for field in Caps.__struct_fields__:
        _require_within(field, own=getattr(own_caps, field), asked=getattr(caps, field))


def _revised_key(agent: Agent, patch: AgentPatch) -> str | None:
    """The key that a patch leaves: the present one, another, or none where each form that is given is null."""
    if patch.public_key is UNSET and patch.did is UNSET:
        return agent.public_key
    return parse_key(
        public_key=None if patch.public_key is UNSET else patch.public_key,
        did=None if patch.did is UNSET else patch.did,
    )


def _parse_capabilities(drafts: Collection[CapabilityDraft], market: Market) -> tuple[Capability, ...]:
    names = parse_capability_names([draft.name for draft in drafts], market.limits)
    prices = [
        parse_price(draft.price, field=f"capabilities.{position}.price", market=market)
        for position, draft in enumerate(drafts)
    ]
    return tuple(Capability(name, price) for name, price in zip(names, prices, strict=True))


def _parse_versions(versions: Collection[str]) -> tuple[str, ...]:
    if not 1 <= len(versions) <= PROTOCOL_VERSIONS_MAX or not all(map(PROTOCOL_VERSION.match, versions)):
        raise invalid_payload(
            "protocol_versions",
            f"1-{PROTOCOL_VERSIONS_MAX} versions such as 1.0, each of 1-16 letters, digits, dots, + and -.",
        )
    return tuple(dict.fromkeys(versions))


def _parse_metadata(metadata: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Metadata without nulls, as a merge leaves it."""
    if "status" in metadata:
        raise invalid_payload(
            "metadata.status", "A presence status is set on the socket, while the agent is connected."
        )
    kept = {key: value for key, value in metadata.items() if value is not None}
    require_document("metadata", kept, bytes_max=limits.metadata_bytes_max)
    return kept


def _moved(agent: Agent, status: AgentStatus, sources: Collection[AgentStatus], now: datetime) -> Agent:
    if agent.status is status:
        return agent
    _require_not_banned(agent)
    if agent.status not in sources:
        raise _invalid_transition(agent, status)
    return msgspec.structs.replace(agent, status=status, updated_at=now)


def _require_not_banned(agent: Agent) -> None:
    if agent.status is AgentStatus.BANNED:
        raise Conflict("terminal_state", "This agent has been banned, which is final.", status=agent.status)


def _invalid_transition(agent: Agent, status: AgentStatus) -> Conflict:
    return Conflict(
        "invalid_transition", f"An agent that is {agent.status} cannot become {status} this way.", status=agent.status
    )


def _require_within(field: str, *, own: int | None, asked: int | None) -> None:
    """Refuse a cap that is higher than the own one. None is without end, so it is within None alone."""
    if own is not None and (asked is None or asked > own):
        raise Conflict(
            "spend_cap_exceeded",
            f"This key may spend at most {own}, so it cannot make a key that may spend more; name a lower {field}.",
            field=field,
            **{field: own},
        )


def _operator_required() -> Forbidden:
    return Forbidden("operator_required", "Only an operator makes an agent global, or ends that.")


_PARSERS: Final[Mapping[str, Callable[[Any, Market], Any]]] = {
    "name": lambda value, _: parse_name(value, field="name"),
    "description": lambda value, market: parse_text(value, field="description", chars_max=market.limits.text_chars_max),
    "capabilities": _parse_capabilities,
    "base_price": lambda value, market: parse_price(value, field="base_price", market=market),
    "pricing_model": lambda value, _: value,
    "tags": lambda value, market: parse_tags(value, market.limits, field="tags"),
    "is_listed": lambda value, _: value,
    "is_global": lambda value, _: value,
    "protocol_versions": lambda value, _: _parse_versions(value),
    "metadata": lambda value, market: _parse_metadata(value, market.limits),
}
"""Field of a draft or a patch → what checks it and returns it as an agent has it. Key and status are apart."""
