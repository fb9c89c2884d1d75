"""What `agrenting channel …` does: private channels on a data folder, seen and ended by the operator.

An invitation is made as the channel's owner, which alone may invite.
"""

import argparse
from collections.abc import Callable
from typing import Any

import msgspec

from agrenting import registry
from agrenting.announcements import Announcement
from agrenting.channel_manager import ChannelManager
from agrenting.clock import system_clock
from agrenting.commands import Answer
from agrenting.config import Settings
from agrenting.db import agents, private, states
from agrenting.db.transaction import Tx, WriterTx
from agrenting.deciding import THE_HOUSE, Command, decide
from agrenting.folder import Folder
from agrenting.membership import house_context
from channels.agents import Agent
from channels.errors import not_found
from channels.handlers import Empty, Handler
from channels.identity import Identity, normalise_handle
from channels.limits import Market
from channels.private_ends import CLOSE
from channels.private_invitations import INVITE, REVOKE, Invite, Revoke
from channels.private_rules import members_of, outstanding
from channels.private_state import PrivateChannel

THE_OPERATOR = msgspec.structs.replace(THE_HOUSE, is_operator=True)
LISTED_MAX = 1_000_000


def list_all(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """The open channels: all of them, or those of an agent or of a user's agents."""

    def look(tx: Tx) -> list[dict[str, Any]]:
        if chosen.of is None:
            found = private.all_channels(tx)
        else:
            found = private.channels_of(tx, _identity(tx, chosen.of), before="~", limit=LISTED_MAX)
        return [_listed(tx, channel) for channel in found]

    rows = Folder(settings).look(look)
    lines = [f"{row['id']}  {row['owner']}: {row['members']} inside, {row['invitations']} invited" for row in rows]
    return Answer("\n".join([*lines, f"channels: {len(rows) or 'none'}"]), {"channels": rows})


def show(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """A channel whole, with the tokens that are out."""

    def look(tx: Tx) -> dict[str, Any]:
        state = ChannelManager(lambda question: question(tx)).get_private_channel_state(chosen.channel)
        if state is None:
            raise not_found("private channel")
        return {**state, "owner_handle": _handle(tx, state["owner"])}

    state = Folder(settings).look(look)
    lines = [f"{state['id']}, owned by {state['owner_handle']}", f"members: {len(state['members']) or 'none'}"]
    lines += [f"  {one['agentId']}  {one['instanceId']}  {one['role']}" for one in state["members"]]
    lines += [f"invitations: {len(state['invites']) or 'none'}"]
    lines += [
        f"  {one['token']}  {'for ' + one['instanceId'] if one['instanceId'] else ''}".rstrip()
        for one in state["invites"]
    ]
    return Answer("\n".join(lines), state)


def close(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """End a channel."""
    _decided(settings, chosen.channel, CLOSE, lambda _: Empty())
    return Answer(f"{chosen.channel} is closed.", {"id": chosen.channel, "status": "closed"})


def invite(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Make an invitation, as the owner."""

    def ask(tx: Tx) -> Invite:
        bound = chosen.instance if chosen.agent is None else registry.require_agent(tx, chosen.agent).id
        return Invite(instance_id=bound, expires_in=chosen.expires_in)

    made = msgspec.to_builtins(_decided(settings, chosen.channel, INVITE, ask, as_owner=True))
    fields = {name: made[name] for name in ("invitationId", "invitationToken", "expiresAt")}
    return Answer(f"Its token, for one join until {fields['expiresAt']}: {fields['invitationToken']}", fields)


def revoke(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Revoke an invitation."""
    _decided(settings, chosen.channel, REVOKE, lambda _: Revoke(invitation_token=chosen.invitation))
    return Answer(f"That invitation to {chosen.channel} lets nobody in.", {"id": chosen.channel})


def _decided(
    settings: Settings, channel_id: str, handler: Handler, asked: Callable[[Tx], Any], *, as_owner: bool = False
) -> Any:
    """Decide an event of a channel as the operator, or as its owner; the reply."""

    def change(tx: WriterTx, market: Market) -> tuple[Any, Announcement]:
        channel = private.find(tx, channel_id)
        if channel is None or not channel.is_open:
            raise not_found("private channel")
        sender = _identity_of(_agent(tx, channel.owner_agent_id)) if as_owner else THE_OPERATOR
        context = house_context(now=system_clock(), market=market, sender=sender, topic=channel_id)
        done = decide(tx, Command(handler=handler, topic=channel_id, request=asked(tx), sender=sender), context)
        return done.decision.reply, Announcement(done.broadcasts)

    return Folder(settings).change(change)


def _identity(tx: Tx, handle: str) -> Identity:
    """An agent or a user, by its handle."""
    agent = agents.by_handle(tx, normalise_handle(handle))
    if agent is not None:
        return _identity_of(agent)
    user = registry.require_user(tx, normalise_handle(handle))
    return Identity(kind="user", user_id=user.id, handle=user.handle, key_id="")


def _identity_of(agent: Agent) -> Identity:
    return Identity(kind="agent", user_id=agent.owner_id, agent_id=agent.id, handle=agent.handle, key_id="")


def _agent(tx: Tx, agent_id: str) -> Agent:
    agent: Agent | None = states.load(tx, "agent", agent_id)
    if agent is None:
        raise not_found("agent")
    return agent


def _handle(tx: Tx, agent_id: str) -> str:
    return _agent(tx, agent_id).handle


def _listed(tx: Tx, channel: PrivateChannel) -> dict[str, Any]:
    return {
        "id": channel.id,
        "owner": _handle(tx, channel.owner_agent_id),
        "members": len(members_of(channel)),
        "invitations": len(outstanding(channel, system_clock())),
        "deal": channel.deal,
    }
