"""The private channel that a negotiation or a task may have of its own: both parties enter, it ends with the deal."""

from datetime import datetime

import msgspec

from channels.changes import Insert, Save, Timer
from channels.handlers import Context
from channels.private_state import DEAL_LAPSES, PREFIX, PrivateChannel

DealChannel = tuple[str | None, tuple[Insert | Save | Timer, ...]]
"""The id of the channel that a deal has, None for none; and what changes by it."""


def deal_channel(
    *,
    is_wanted: bool,
    client_agent_id: str,
    provider_agent_id: str,
    deal: str,
    context: Context,
) -> DealChannel:
    """The id of a deal's new channel, and what changes by it; None and nothing where none is wanted.

    The client owns it; the provider enters without an invitation, as the owner does. It does not count among the
    owner's other channels: how many deals one has open is bounded already.

    Args:
        is_wanted: Whether the deal asks for one.
        client_agent_id: Whose it is.
        provider_agent_id: The other party.
        deal: The topic of the negotiation or task.
        context: Clock and ids.
    """
    if not is_wanted:
        return None, ()
    channel = PrivateChannel(
        id=f"{PREFIX}{context.new_id()}",
        owner_agent_id=client_agent_id,
        parties=(provider_agent_id,),
        deal=deal,
        created_at=context.now,
    )
    return channel.id, (Insert("private", channel.id, channel),)


def taken_over(channel: PrivateChannel, *, deal: str) -> DealChannel:
    """The id of a channel that a deal goes on with, and what changes: from now on it ends with that.

    Args:
        channel: That of the negotiation; it is there.
        deal: The topic of the task.
    """
    after = msgspec.structs.replace(channel, deal=deal)
    return channel.id, (Save("private", channel.id, channel, after), *lapses(channel.id, None))


def lapses(channel_id: str | None, at: datetime | None) -> tuple[Timer, ...]:
    """A deal's channel ends then, unless a task has taken it over.

    Args:
        channel_id: None where the deal has none.
        at: When nobody can use the agreement any more; None once a task has.
    """
    return () if channel_id is None else (Timer(DEAL_LAPSES, channel_id, at),)
