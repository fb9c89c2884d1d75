"""Invitations to a private channel: one token lets one instance in, once.

    invite ──► out ──┬── the first join with it ──► used
                     ├── revoke ───────────────────► revoked
                     └── the clock, the channel's end ► over

What is out is kept with the channel, readable, because the owner may ask for it again; what is not is gone, and its
token is as good as any other word. A token holds for its own channel alone. One that is for an agent, or for one
program of it, is not used up by whoever else tries it. Every agent calls its programs what it likes, also what others
call theirs; so an invitation for a program is one for the agent that has a program of that name just then, if any has.
"""

from datetime import timedelta
from hmac import compare_digest
from typing import Any, Final

import msgspec

from channels.fields import invalid_payload
from channels.handlers import Access, Context, Decision, Handler
from channels.limits import Limits
from channels.private_rules import PrivateEntry, access_denied, require_owner, require_owner_or_operator, swept
from channels.private_state import INSTANCE_ID, Invitation, PrivateChannel


class Invite(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Make an invitation.

    Args:
        instance_id: The agent by its id, or the program by its name, that alone may use it; None: who has the token.
        expires_in: Seconds from now, at most invitation_ttl_max_s; None: invitation_ttl_s.
    """

    instance_id: str | None = None
    expires_in: int | None = None


class Revoke(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Revoke an invitation, named by its token or its id."""

    invitation_token: str


def invite(entry: PrivateEntry, request: Invite, context: Context) -> Decision:
    """Make an invitation; the owner alone, whether it sits in the channel or not.

    Raises:
        NotFound: `NoChannelFound`.
        Forbidden: `AccessDenied`: the sender is not the owner, or is suspended; or private_invitations_max are out.
        Invalid: `invalid_payload`.
    """
    channel = swept(require_owner(entry, context), context)
    limits = context.market.limits
    if not entry.is_active:
        raise access_denied("An agent that is not active invites nobody.")
    if len(channel.invitations) >= limits.private_invitations_max:
        raise access_denied(f"{limits.private_invitations_max} invitations are out; revoke one first.")
    agent_id, instance_id = _bound_to(entry, _parse_instance_id(request.instance_id), context)
    made = Invitation(
        id=context.new_id(),
        token=context.new_token(),
        agent_id=agent_id,
        instance_id=instance_id,
        created_at=context.now,
        expires_at=context.now + timedelta(seconds=_parse_ttl_s(request.expires_in, limits)),
    )
    return Decision(
        state=msgspec.structs.replace(channel, invitations=(*channel.invitations, made)), reply=invitation_made(made)
    )


def invitation_made(made: Invitation) -> dict[str, Any]:
    """What is answered of a new invitation: FDC3's extension has the token alone."""
    return {"invitationToken": made.token, "invitationId": made.id, "expiresAt": made.expires_at}


def revoke(entry: PrivateEntry, request: Revoke, context: Context) -> Decision:
    """Revoke an invitation; the owner or an operator. One that is out no more is no matter.

    Raises:
        NotFound: `NoChannelFound`.
        Forbidden: `AccessDenied`.
    """
    channel = swept(require_owner_or_operator(entry, context), context)
    left = tuple(
        one
        for one in channel.invitations
        if one.id != request.invitation_token and not _is_same(one.token, request.invitation_token)
    )
    after = msgspec.structs.replace(channel, invitations=left)
    return Decision(state=None if after == entry.channel else after)


def use(channel: PrivateChannel, token: str | None, context: Context) -> PrivateChannel:
    """The channel without the invitation of a token, which is used up.

    Args:
        channel: Open.
        token: As it was offered.
        context: Whose instance it lets in.

    Raises:
        Forbidden: `AccessDenied`: none was offered, or it is not one of this channel, used, revoked, over, or for
            another instance; which of them is not told.
    """
    offered = "" if token is None else token
    found = [one for one in channel.invitations if _is_same(one.token, offered)]
    if not found or not found[0].holds_at(context.now) or not _is_for(found[0], context):
        raise access_denied("Joining this private channel needs an invitation that holds, for you, unused.")
    left = tuple(one for one in channel.invitations if one is not found[0])
    return msgspec.structs.replace(channel, invitations=left)


def _is_for(invitation: Invitation, context: Context) -> bool:
    return invitation.is_for(agent_id=context.sender.agent_id, instance_id=context.instance_id)


def _bound_to(entry: PrivateEntry, scope: str | None, context: Context) -> tuple[str | None, str | None]:
    """The agent, and the name of its program, that an invitation is for."""
    if scope is None or entry.guest_agent_id is not None:
        return entry.guest_agent_id, None
    return context.holder_of(scope), scope


def _is_same(one: str, other: str) -> bool:
    """Whether two tokens are one, in a time that does not say how much of them is."""
    return compare_digest(one.encode(), other.encode(errors="surrogatepass"))


def _parse_instance_id(text: str | None) -> str | None:
    if text is not None and not INSTANCE_ID.fullmatch(text):
        raise invalid_payload("instanceId", "An instance id has 1-128 of A-Z, a-z, 0-9, ., _, : and -.")
    return text


def _parse_ttl_s(seconds: int | None, limits: Limits) -> int:
    if seconds is None:
        return limits.invitation_ttl_s
    if not 1 <= seconds <= limits.invitation_ttl_max_s:
        raise invalid_payload("expiresIn", f"An invitation holds for 1-{limits.invitation_ttl_max_s} seconds.")
    return seconds


INVITE: Final = Handler(Invite, invite, loads="private_inviting", access=Access.WRITE, scope="rooms")
REVOKE: Final = Handler(Revoke, revoke, loads="private_entry", access=Access.WRITE, scope="rooms")
