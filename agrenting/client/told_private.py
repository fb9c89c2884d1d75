"""What the market tells of private channels. Fields that this version does not know are ignored."""

from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec

Context: TypeAlias = dict[str, Any]
"""An FDC3 context: an object with `type`."""


Role: TypeAlias = Literal["owner", "member"]


class Member(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One program of an agent that sits in a channel.

    Args:
        role: `owner`, where the agent owns the channel.
    """

    agent_id: str
    instance_id: str
    role: Role


class Invitation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Lets one program in, once.

    Args:
        id: Names it, and grants nothing.
        token: What is handed to the guest. It is a secret, and is not shown.
        instance_id: Whom it was made for: an agent by its id, or a program by its name; None: whoever has the token.
    """

    id: str
    token: str
    expires_at: datetime
    instance_id: str | None = None

    def __repr__(self) -> str:
        """Everything but the token."""
        return f"<Invitation {self.id}, until {self.expires_at:%Y-%m-%dT%H:%M:%SZ}>"


class PrivateChannelState(msgspec.Struct, frozen=True, kw_only=True):
    """A private channel, as it stands.

    Args:
        id: The topic, `private:…`.
        owner: The agent that owns it.
        invites: Those that are out; None for who is not its owner.
        deal: The topic of the negotiation or the task that it ends with; None: it stands alone.
    """

    id: str
    owner: str
    members: tuple[Member, ...]
    invites: tuple[Invitation, ...] | None
    invitation_count: int
    deal: str | None
    created_at: datetime


class ContextTold(msgspec.Struct, frozen=True, kw_only=True):
    """A member has told a context.

    Args:
        from_handle: Who; None: it was told while the connection was lost.
        instance_id: Which program of it.
    """

    context: Context
    from_handle: str | None
    instance_id: str | None


class MemberCame(msgspec.Struct, frozen=True, kw_only=True):
    """A program that sits in the channel is connected."""

    agent_id: str
    instance_id: str


class MemberWent(msgspec.Struct, frozen=True, kw_only=True):
    """A program has left the channel, or has lost its connection."""

    agent_id: str
    instance_id: str


class ListenerAdded(msgspec.Struct, frozen=True):
    """A member listens to contexts of a type; None: of every type."""

    context_type: str | None


class ListenerRemoved(msgspec.Struct, frozen=True):
    """A member listens to contexts of a type no more."""

    context_type: str | None


PrivateEvent: TypeAlias = ContextTold | MemberCame | MemberWent | ListenerAdded | ListenerRemoved


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """A join's reply."""

    owner: str
    members: tuple[Member, ...]


class App(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who has told a context."""

    app_id: str
    instance_id: str


class Broadcast(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `broadcastEvent` tells."""

    context: Context
    originating_app: App


class Listens(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is told of listeners."""

    context_type: str | None = None


class Current(msgspec.Struct, frozen=True, kw_only=True):
    """The newest context; None: there is none."""

    context: Context | None


class Meta(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A member's presence."""

    instance_id: str


class Metas(msgspec.Struct, frozen=True):
    """An agent's presences."""

    metas: tuple[Meta, ...]


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """Who comes and goes."""

    joins: dict[str, Metas]
    leaves: dict[str, Metas]
