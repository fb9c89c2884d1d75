"""How one leaves a private channel, and how the channel itself ends.

    a member   leaves, is removed by the owner, or is gone: its connection was lost and did not come back in time
    a channel  is closed by its owner or an operator, with the deal that it was made for, or by the clock once nobody
               has sat in it for private_idle_s

Whose members are told what of it follows from who listens, which only the live registry knows: `MemberLeft` and
`ChannelClosed` are turned into frames there (private_listeners.py), and it ends the topic for the sockets of an
instance that sits there no more. The owner leaves like everybody, and owns the channel all the same.
"""

from typing import Final

import msgspec

from channels.changes import DropContexts, Save
from channels.handlers import Access, Context, Decision, Empty, Handler
from channels.private_rules import (
    PrivateEntry,
    idle_timer,
    own_seat,
    require_member,
    require_owner,
    require_owner_or_operator,
    swept,
)
from channels.private_state import Member, Phase, PrivateChannel
from channels.told import ChannelClosed, Ended, MemberLeft


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """An instance has not come back: what the server itself sends."""

    agent_id: str
    instance_id: str


class Remove(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Remove the members of an instance id; with `agent_id` only that agent's."""

    instance_id: str
    agent_id: str | None = None


def leave(channel: PrivateChannel | None, request: Empty, context: Context) -> Decision:
    """Sit there no more. Coming back needs a new invitation, but for the owner.

    Raises:
        NotFound: `NoChannelFound`.
        Forbidden: `AccessDenied`: the sending instance does not sit there.
    """
    del request
    found = require_member(channel, context)
    own = own_seat(found, context)
    assert own is not None, "a member has a seat"
    return msgspec.structs.replace(_without(found, (own,), context), stop=True)


def gone(channel: PrivateChannel | None, request: Gone, context: Context) -> Decision:
    """An instance that has lost its connection sits there no more; one that does not sit there anyway is no matter."""
    if channel is None or not channel.is_open:
        return Decision()
    seat = channel.member(agent_id=request.agent_id, instance_id=request.instance_id)
    return Decision() if seat is None else _without(channel, (seat,), context)


def remove(entry: PrivateEntry, request: Remove, context: Context) -> Decision:
    """Remove members; the owner alone. Who does not sit there is no matter.

    Raises:
        NotFound: `NoChannelFound`.
        Forbidden: `AccessDenied`.
    """
    channel = require_owner(entry, context)
    leaving = tuple(
        one
        for one in channel.members
        if one.instance_id == request.instance_id and request.agent_id in {None, one.agent_id}
    )
    return _without(channel, leaving, context) if leaving else Decision()


def close(entry: PrivateEntry, request: Empty, context: Context) -> Decision:
    """End a channel for everybody; its owner or an operator. Its invitations end, and its contexts are deleted.

    Raises:
        NotFound: `NoChannelFound`.
        Forbidden: `AccessDenied`.
    """
    del request
    return closed(require_owner_or_operator(entry, context), context)


def idle(entry: PrivateEntry, context: Context) -> Decision:
    """The clock ends a channel in which nobody sits, unless it is a deal's: that one the deal ends."""
    channel = entry.channel
    if channel is None or channel.members or channel.deal is not None:
        return Decision()
    return ended(channel, context)


def lapsed(entry: PrivateEntry, context: Context) -> Decision:
    """Nobody has used the agreement that a channel came from in time: that deal is over."""
    return Decision() if entry.channel is None else ended(entry.channel, context)


def ended(channel: PrivateChannel, context: Context) -> Decision:
    """What the end of the deal that a channel was made for does to it; nothing to one that is closed."""
    return closed(channel, context) if channel.is_open else Decision()


def without_agent(channel: PrivateChannel, *, agent_id: str, context: Context) -> Decision:
    """What the end of an agent, deleted or banned, does to an open channel: its own is closed, another it leaves."""
    if agent_id == channel.owner_agent_id:
        return closed(channel, context)
    leaving = tuple(one for one in channel.members if one.agent_id == agent_id)
    return _without(channel, leaving, context) if leaving else Decision()


def closed(channel: PrivateChannel, context: Context) -> Decision:
    """An open channel is closed: the members are told of each other's listeners and of the end, then its topic ends."""
    after = msgspec.structs.replace(channel, status=Phase.CLOSED, members=(), invitations=(), closed_at=context.now)
    return Decision(
        changes=(
            Save("private", channel.id, channel, after),
            DropContexts(channel.id),
            idle_timer(after, context),
        ),
        broadcasts=(ChannelClosed(channel.id), Ended(channel.id)),
    )


def _without(channel: PrivateChannel, leaving: tuple[Member, ...], context: Context) -> Decision:
    """A channel in which these sit no more."""
    left = tuple(one for one in channel.members if one not in leaving)
    after = msgspec.structs.replace(swept(channel, context), members=left)
    return Decision(
        state=after,
        changes=() if left else (idle_timer(after, context),),
        broadcasts=tuple(MemberLeft(channel.id, one.agent_id, one.instance_id) for one in leaving),
    )


LEAVE: Final = Handler(Empty, leave, loads="private_channel", access=Access.WRITE, scope="rooms")
GONE: Final = Handler(Gone, gone, loads="private_channel", access=Access.WRITE)
REMOVE_MEMBER: Final = Handler(Remove, remove, loads="private_entry", access=Access.WRITE, scope="rooms")
CLOSE: Final = Handler(Empty, close, loads="private_entry", access=Access.WRITE, scope="rooms")
