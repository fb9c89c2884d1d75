"""private:{id}: a few agents share context, by invitation only.

A channel's id is its topic, with the prefix, everywhere. Who may join: its owner; the other party of the deal that it
was made for; an instance that sits there already, as after a lost connection; and whoever brings an invitation that
holds. Nobody whom the owner has blocked, or who has blocked the owner.

    create ──► OPEN ── close, the deal's end, nobody there for private_idle_s ──► CLOSED

Each member is one instance of an agent. The same handlers serve three doors: this topic, whose events have the names
and the payloads of FDC3's messages; the DACP socket, which speaks those messages themselves; and REST.

What is shared: private_contexts.py. Who is let in: private_invitations.py. How one leaves: private_ends.py. Who
listens, and is told what: private_listeners.py.

Source: FDC3 2.2, DACP messages of private channels; the three extensions that invite, join and leave.
"""

from typing import Any, Final

import msgspec

from channels.changes import Insert
from channels.errors import Conflict
from channels.handlers import Access, Context, Decision, Empty, FollowChannel, Handler
from channels.identity import Identity
from channels.private_contexts import BROADCAST, CURRENT_CONTEXT
from channels.private_ends import LEAVE, REMOVE_MEMBER, idle, lapsed
from channels.private_invitations import INVITE, REVOKE, use
from channels.private_rules import (
    Creating,
    PrivateEntry,
    access_denied,
    idle_timer,
    own_seat,
    require_open,
    seated,
    swept,
)
from channels.private_state import DEAL_LAPSES, PREFIX, PRIVATE_IDLE, Member, PrivateChannel

TOPIC = "private:*"


class Join(msgspec.Struct, frozen=True, kw_only=True):
    """Join over Phoenix.

    Args:
        invitation_token: Of an invitation; who owns the channel or sits there needs none, and uses up none.
        invitation_token_camel: The same under FDC3's manner of names.
        listen: Take every context from now on; the others are told of it as of a listener of all types.
    """

    invitation_token: str | None = None
    invitation_token_camel: str | None = msgspec.field(default=None, name="invitationToken")
    listen: bool = True


class Enter(msgspec.Struct, frozen=True, kw_only=True):
    """Join over DACP; `token` of an invitation."""

    token: str | None = None


def access(sender: Identity, topic_id: str) -> None:
    """Only agents join; whether this one may, the join decides."""
    del topic_id
    sender.require_agent()


def create(creating: Creating, request: Empty, context: Context) -> Decision:
    """A channel of the sender's own, in which nobody sits yet.

    Raises:
        Conflict: `CreationFailed`: the agent is not active, or owns private_channels_max that are open.
    """
    del request
    return _made(_new_channel(creating, context), context)


def create_seated(creating: Creating, request: Empty, context: Context) -> Decision:
    """A channel of the sender's own, in which the sending instance sits at once.

    Raises:
        Conflict: `CreationFailed`: as `create`.
    """
    del request
    channel = _with_seat(_new_channel(creating, context), context)
    return msgspec.structs.replace(_made(channel, context), follow=_follow(channel, context, listens=False))


def join(entry: PrivateEntry, request: Join, context: Context) -> Decision:
    """Sit in the channel, over Phoenix.

    Raises:
        NotFound: `NoChannelFound`.
        Forbidden: `AccessDenied`.
    """
    token = request.invitation_token if request.invitation_token is not None else request.invitation_token_camel
    return _let_in(entry, token, context, listens=request.listen)


def enter(entry: PrivateEntry, request: Enter, context: Context) -> Decision:
    """Sit in the channel, over DACP.

    Raises:
        NotFound: `NoChannelFound`.
        Forbidden: `AccessDenied`.
    """
    return _let_in(entry, request.token, context, listens=False)


def _new_channel(creating: Creating, context: Context) -> PrivateChannel:
    open_max = context.market.limits.private_channels_max
    if not creating.owner.is_active:
        raise Conflict("CreationFailed", "An agent that is not active opens nothing.")
    if creating.open_count >= open_max:
        raise Conflict("CreationFailed", f"You own {open_max} private channels; close one first.", max=open_max)
    return PrivateChannel(id=PREFIX + context.new_id(), owner_agent_id=creating.owner.id, created_at=context.now)


def _made(channel: PrivateChannel, context: Context) -> Decision:
    timer = idle_timer(channel, context)
    clock = () if timer.due_at is None else (timer,)
    return Decision(reply=seated(channel), changes=(Insert("private", channel.id, channel), *clock))


def _let_in(entry: PrivateEntry, token: str | None, context: Context, *, listens: bool) -> Decision:
    """The sending instance sits in the channel from now on; what it is told of it.

    The order of the checks is part of the protocol: a block wins over everything, and who sits there or may always
    come uses up no invitation.
    """
    channel = require_open(entry.channel)
    if entry.tie.is_blocked or entry.tie.has_blocked:
        raise access_denied("You and the owner of this private channel do not reach each other.")
    follow = _follow(channel, context, listens=listens)
    if own_seat(channel, context) is not None:
        return Decision(reply=seated(channel), follow=follow)
    admitted = channel if _may_always_come(channel, context) else _invited(entry, channel, token, context)
    members_max = context.market.limits.private_members_max
    if len(channel.members) >= members_max:
        raise access_denied(f"{members_max} members sit in this private channel; one has to leave first.")
    after = _with_seat(swept(admitted, context), context)
    timer = () if channel.members else (idle_timer(after, context),)
    return Decision(state=after, reply=seated(after), changes=timer, follow=follow)


def _may_always_come(channel: PrivateChannel, context: Context) -> bool:
    agent_id = context.sender.agent_id
    return agent_id == channel.owner_agent_id or agent_id in channel.parties


def _invited(entry: PrivateEntry, channel: PrivateChannel, token: str | None, context: Context) -> PrivateChannel:
    if not entry.is_active:
        raise access_denied("An agent that is not active joins nothing new.")
    return use(channel, token, context)


def _follow(channel: PrivateChannel, context: Context, *, listens: bool) -> FollowChannel:
    return FollowChannel(channel.id, channel.role_of(context.sender.require_agent()), listens)


def _with_seat(channel: PrivateChannel, context: Context) -> PrivateChannel:
    seat = Member(agent_id=context.sender.require_agent(), instance_id=context.instance_id, joined_at=context.now)
    return msgspec.structs.replace(channel, members=(*channel.members, seat))


def _entry(request: Any, decide: Any) -> Handler:
    return Handler(request, decide, loads="private_entry", access=Access.WRITE, scope="rooms")


ACCESS = access
JOIN = _entry(Join, join)
ENTER: Final = _entry(Enter, enter)
CREATE: Final = Handler(Empty, create, loads="private_creating", access=Access.WRITE, scope="rooms")
CREATE_SEATED: Final = Handler(Empty, create_seated, loads="private_creating", access=Access.WRITE, scope="rooms")
"""FDC3's `createPrivateChannelRequest`: who creates a channel there talks in it at once."""

HANDLERS = {
    "broadcastRequest": BROADCAST,
    "getCurrentContextRequest": CURRENT_CONTEXT,
    "createPrivateChannelInvitation": INVITE,
    "revokePrivateChannelInvitation": REVOKE,
    "removePrivateChannelMember": REMOVE_MEMBER,
    "leavePrivateChannel": LEAVE,
    "privateChannelDisconnectRequest": LEAVE,
}
TIMERS = {PRIVATE_IDLE: idle, DEAL_LAPSES: lapsed}
