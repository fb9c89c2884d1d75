"""What every event of a private channel is decided on, and the checks that they begin with.

The reasons are FDC3's own words, because its clients compare them: `AccessDenied`, `NoChannelFound`, `CreationFailed`
and `MalformedContext`. They are the same on a Phoenix topic, in a DACP message and by REST.

Source: FDC3 2.2, ChannelError.
"""

from datetime import datetime, timedelta
from typing import Any

import msgspec

from channels.agents import Agent
from channels.changes import Timer
from channels.contacts import NO_TIE, Party, Tie
from channels.errors import Forbidden, NotFound
from channels.handlers import Context
from channels.private_state import PRIVATE_IDLE, Invitation, Member, PrivateChannel


class PrivateEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A channel as it stands for who asks.

    Args:
        channel: None where there is none of that id.
        owner: The agent who owns it; None where there is no channel, or no such agent any more.
        tie: Of the sender towards that agent.
        is_active: The sender is an active agent.
        guest_agent_id: Of an invitation: the agent whose id the sender names in it; None where it is no agent's.
    """

    channel: PrivateChannel | None
    owner: Party | None = None
    tie: Tie = NO_TIE
    is_active: bool = True
    guest_agent_id: str | None = None


class Creating(msgspec.Struct, frozen=True, kw_only=True):
    """What a new channel rests on: who makes it, and how many it owns that are open."""

    owner: Agent
    open_count: int


class PrivateContext(msgspec.Struct, frozen=True, kw_only=True):
    """A channel and the context in it that is asked for; None where there is none."""

    channel: PrivateChannel | None
    context: dict[str, Any] | None


def access_denied(message: str) -> Forbidden:
    """The refusal of what who asks may not do here."""
    return Forbidden("AccessDenied", message)


def require_open(channel: PrivateChannel | None) -> PrivateChannel:
    """The channel.

    Raises:
        NotFound: `NoChannelFound`: there is none of that id, or it is closed.
    """
    if channel is None or not channel.is_open:
        raise NotFound("NoChannelFound", "There is no such private channel, or it is closed.")
    return channel


def require_member(channel: PrivateChannel | None, context: Context) -> PrivateChannel:
    """The channel, in which the sender's instance sits.

    Raises:
        NotFound: `NoChannelFound`.
        Forbidden: `AccessDenied`.
    """
    found = require_open(channel)
    if own_seat(found, context) is None:
        raise access_denied("You do not sit in this private channel; join it first.")
    return found


def require_owner(entry: PrivateEntry, context: Context) -> PrivateChannel:
    """The channel, whose owner asks: the agent from any of its programs, or the user to whom that agent belongs.

    Raises:
        NotFound: `NoChannelFound`.
        Forbidden: `AccessDenied`.
    """
    found = require_open(entry.channel)
    if not is_owner(entry, context):
        raise access_denied("Only the owner of this private channel may do this.")
    return found


def require_owner_or_operator(entry: PrivateEntry, context: Context) -> PrivateChannel:
    """The channel, whose owner asks, or an operator.

    Raises:
        NotFound: `NoChannelFound`.
        Forbidden: `AccessDenied`.
    """
    found = require_open(entry.channel)
    if not (is_owner(entry, context) or context.sender.is_operator):
        raise access_denied("Only the owner of this private channel, or an operator, may do this.")
    return found


def is_owner(entry: PrivateEntry, context: Context) -> bool:
    """Whether the sender is the agent that owns the channel, which is there, or that agent's user."""
    sender = context.sender
    assert entry.channel is not None, "asked once there is a channel"
    if sender.agent_id is not None:
        return sender.agent_id == entry.channel.owner_agent_id
    return entry.owner is not None and sender.user_id == entry.owner.user_id


def own_seat(channel: PrivateChannel, context: Context) -> Member | None:
    """The member that the sending instance is; None where it is none."""
    agent_id = context.sender.agent_id
    return None if agent_id is None else channel.member(agent_id=agent_id, instance_id=context.instance_id)


def swept(channel: PrivateChannel, context: Context) -> PrivateChannel:
    """A channel without the invitations that are over by the clock: nobody can use them any more."""
    return msgspec.structs.replace(channel, invitations=outstanding(channel, context.now))


def seated(channel: PrivateChannel) -> dict[str, Any]:
    """What a member is told of a channel when it joins."""
    return {
        "channel": {"id": channel.id, "type": "private"},
        "owner": channel.owner_agent_id,
        "members": members_of(channel),
    }


def outstanding(channel: PrivateChannel, now: datetime) -> tuple[Invitation, ...]:
    """The invitations that let somebody in at that time."""
    return tuple(one for one in channel.invitations if one.holds_at(now))


def members_of(channel: PrivateChannel) -> list[dict[str, Any]]:
    """Who sits in a channel, as it is told everywhere."""
    return [
        {"agentId": one.agent_id, "instanceId": one.instance_id, "role": channel.role_of(one.agent_id)}
        for one in channel.members
    ]


def idle_timer(channel: PrivateChannel, context: Context) -> Timer:
    """The clock of a channel as it now is: it runs while nobody sits there; a deal's channel the deal itself ends."""
    is_idle = channel.is_open and not channel.members and channel.deal is None
    idle_s = context.market.limits.private_idle_s
    return Timer(PRIVATE_IDLE, channel.id, context.now + timedelta(seconds=idle_s) if is_idle else None)
