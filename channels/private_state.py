"""What a private channel is: its owner, its members, and the invitations that are still out.

    OPEN ── close, the deal's end, idle ──► CLOSED

A member is one instance of an agent: the same agent may sit in a channel several times, from several programs. The
owner is an agent, whether it sits in the channel or not.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

import msgspec

PREFIX: Final = "private:"
"""What every id begins with: a channel's id is its topic."""

PRIVATE_IDLE: Final = "private_idle"
"""The timer that closes a channel in which nobody sits."""

DEAL_LAPSES: Final = "deal_lapses"
"""The timer that closes the channel of an agreement that nobody has used."""

INSTANCE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What an agent may call one of its programs. An agent's id is of this form, too."""


class Phase(StrEnum):
    """Whether a channel is there."""

    OPEN = "open"
    CLOSED = "closed"


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of an agent that sits in a channel."""

    agent_id: str
    instance_id: str
    joined_at: datetime


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """What lets one instance in, once.

    Args:
        id: Names it without granting anything.
        token: Grants; the one secret that is kept readable, because the owner may ask for it again.
        agent_id: The agent whose programs alone may use it; None: those of every agent.
        instance_id: What the program is called that alone may use it; None: however it is called.
        expires_at: From then on it grants nothing.
    """

    id: str
    token: str
    agent_id: str | None = None
    instance_id: str | None = None
    created_at: datetime
    expires_at: datetime

    def holds_at(self, now: datetime) -> bool:
        """Whether it still grants, by the clock."""
        return now < self.expires_at

    def is_for(self, *, agent_id: str | None, instance_id: str) -> bool:
        """Whether an agent's program of this name may use it: a name that is another agent's id is only a name."""
        return self.agent_id in {None, agent_id} and self.instance_id in {None, instance_id}

    @property
    def scope(self) -> str | None:
        """Whom it was made for, as its maker said: a program by its name, or an agent by its id."""
        return self.agent_id if self.instance_id is None else self.instance_id


class PrivateChannel(msgspec.Struct, frozen=True, kw_only=True):
    """A private channel.

    Args:
        id: The whole topic, `private:…`.
        owner_agent_id: Who invites and closes; it needs no invitation.
        members: In the order in which they came.
        invitations: Those that were neither used nor revoked; some may be over by the clock.
        parties: Agents that need no invitation, as the owner needs none: the other one of a deal.
        deal: The topic of the negotiation or task that it was made for; None for one that stands alone.
    """

    id: str
    owner_agent_id: str
    members: tuple[Member, ...] = ()
    invitations: tuple[Invitation, ...] = ()
    parties: tuple[str, ...] = ()
    deal: str | None = None
    status: Phase = Phase.OPEN
    created_at: datetime
    closed_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is there."""
        return self.status is Phase.OPEN

    @property
    def party_agent_id(self) -> str | None:
        """The other agent of the deal that it was made for: a deal has no more than one."""
        return next(iter(self.parties), None)

    def role_of(self, agent_id: str) -> Literal["owner", "member"]:
        """What an agent is in it, if it sits in it at all."""
        return "owner" if agent_id == self.owner_agent_id else "member"

    def member(self, *, agent_id: str, instance_id: str) -> Member | None:
        """The member that an instance is; None where it is none."""
        return next((one for one in self.members if one.agent_id == agent_id and one.instance_id == instance_id), None)
