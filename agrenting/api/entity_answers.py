"""How users and agents are answered where they are found, listed or registered as Band's clients do it."""

from datetime import datetime
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import UNSET, UnsetType

from agrenting.api.offsets import OffsetMetadata
from agrenting.db import directory, peers
from agrenting.db.people import User
from channels.agents import Agent, AgentStatus
from channels.contact_book import Entity
from channels.contacts import Party, needs_contact
from channels.identity import EntityType

if TYPE_CHECKING:
    from agrenting.hub import Hub


class DirectoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An agent, as the directory shows it.

    Args:
        capabilities: Their names.
        reputation: 0-5 stars.
        is_contact: Whether it is a contact of the caller's.
        contact_required: Whether the caller has to ask it for contact before a negotiation or a task.
        online: Whether a connection of it is open.
    """

    id: str
    type: Literal["Agent"]
    handle: str
    name: str
    description: str
    tags: tuple[str, ...]
    capabilities: tuple[str, ...]
    reputation: float
    is_contact: bool
    contact_required: bool
    online: bool


class ResolvedHandle(msgspec.Struct, frozen=True, kw_only=True):
    """Who has a handle; neither its id nor its e-mail address, for those are not for strangers."""

    type: EntityType
    handle: str
    name: str


class PeerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whom the caller may open things with.

    Args:
        source: `registry`: its owner or own agents, siblings, agents for all, its organisation; `contact`: by a contact
            alone.
        is_contact: Whether it is a contact, besides or alone.
        online: Whether a connection of it is open.
        is_external: Whether it runs outside of this marketplace, as every agent does.
        description, listed_in_directory, tags: Of agents.
    """

    id: str
    handle: str
    name: str
    type: EntityType
    source: peers.Source
    is_contact: bool
    online: bool
    is_external: bool
    description: str | UnsetType | None = UNSET
    listed_in_directory: bool | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType | None = UNSET


class ProfileAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The user itself, as only it sees itself.

    Args:
        name: As others are told: first and last name, or the handle.
        email: Empty where there is none. Nobody else is told it.
        role: `admin` for operators.
    """

    id: str
    handle: str
    name: str
    first_name: str | None
    last_name: str | None
    email: str
    role: Literal["user", "admin"]
    inserted_at: datetime


class OwnAgent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent of the caller's.

    Args:
        slug: The part of its handle behind the owner's.
        listed_in_directory: Whether strangers find it, once it has a tag.
        registry_access: It may always see whom it may reach.
        shared_with_organization: Whether all of the owner's organisation see it.
        is_external: It runs outside of this marketplace, as every agent does.
    """

    id: str
    owner_id: str
    name: str
    handle: str
    slug: str
    description: str
    tags: tuple[str, ...]
    status: AgentStatus
    listed_in_directory: bool
    registry_access: bool
    shared_with_organization: bool
    is_external: bool
    inserted_at: datetime
    updated_at: datetime


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent signs in with. The key is shown this once; null in a replay."""

    api_key: str | None


class RegisteredAgent(msgspec.Struct, frozen=True, kw_only=True):
    """A new agent, and what it signs in with."""

    agent: OwnAgent
    credentials: Credentials


class DeletedAgent(msgspec.Struct, frozen=True, kw_only=True):
    """The agent is gone. `executions_deleted` is always 0: what it did stays on record."""

    id: str
    name: str
    description: str
    executions_deleted: int = 0


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter that narrows the list."""

    label: str
    param: str
    type: Literal["string", "boolean"]


class SortableField(msgspec.Struct, frozen=True, kw_only=True):
    """A value of `sort`."""

    label: str
    param: str


class OwnAgentsMetadata(OffsetMetadata, frozen=True, kw_only=True):
    """Where a page of the caller's agents stands, and how it may be asked for."""

    available_filters: tuple[Filter, ...]
    sortable_fields: tuple[SortableField, ...]


def is_online(hub: "Hub", id_: str, *, type_: EntityType) -> bool:
    """Whether a connection of an agent or a user is open."""
    return hub.is_connected(f"{type_.lower()}_socket:{id_}")


def directory_entry(found: directory.Found, *, viewer: Party, hub: "Hub") -> DirectoryEntry:
    """An agent as the directory shows it to `viewer`."""
    agent = found.agent
    return DirectoryEntry(
        id=agent.id,
        type="Agent",
        handle=agent.handle,
        name=agent.name,
        description=agent.description,
        tags=agent.tags,
        capabilities=tuple(own.name for own in agent.capabilities),
        reputation=agent.reputation_centi / 100,  # Exact to two decimals, as it is stored.
        is_contact=found.tie.is_contact,
        contact_required=needs_contact(viewer, agent.party, found.tie),
        online=is_online(hub, agent.id, type_="Agent"),
    )


def resolved_handle(entity: Entity) -> ResolvedHandle:
    """Who has a handle."""
    return ResolvedHandle(type=entity.side.type, handle=entity.handle, name=entity.name)


def peer_answer(peer: peers.Peer, *, hub: "Hub") -> PeerAnswer:
    """A peer as it is listed."""
    entity = peer.entity
    is_agent = entity.side.type == "Agent"
    return PeerAnswer(
        id=entity.id,
        handle=entity.handle,
        name=entity.name,
        type=entity.side.type,
        source=peer.source,
        is_contact=peer.is_contact,
        online=is_online(hub, entity.id, type_=entity.side.type),
        is_external=is_agent,
        description=entity.description if is_agent else UNSET,
        listed_in_directory=entity.party.is_listed if is_agent else UNSET,
        tags=entity.tags if is_agent else UNSET,
    )


def profile_answer(user: User) -> ProfileAnswer:
    """A user as it sees itself."""
    return ProfileAnswer(
        id=user.id,
        handle=user.handle,
        name=user.name,
        first_name=user.first_name,
        last_name=user.last_name,
        email=user.email or "",
        role="admin" if user.is_operator else "user",
        inserted_at=user.created_at,
    )


def own_agent(agent: Agent) -> OwnAgent:
    """An agent as its owner lists it."""
    return OwnAgent(
        id=agent.id,
        owner_id=agent.owner_id,
        name=agent.name,
        handle=agent.handle,
        slug=agent.handle.partition("/")[2],
        description=agent.description,
        tags=agent.tags,
        status=agent.status,
        listed_in_directory=agent.is_listed,
        registry_access=True,
        shared_with_organization=agent.organisation_id is not None,
        is_external=True,
        inserted_at=agent.created_at,
        updated_at=agent.updated_at,
    )
