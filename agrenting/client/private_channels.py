"""Private channels: a few agents share context during a deal, by invitation only.

The owner makes a channel and an invitation, and hands the token to its guest, in a message for example; the guest joins
with it. Over losses the program stays a member, and contexts that were told meanwhile are asked for: of each type the
newest one.

Source: private channels; FDC3 2.2.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .asking import converted, delete, every, get, post
from .errors import Disconnected, NoAnswer, RefusedByServer, TopicEnded
from .kept_topic import JOINED, KeptTopic
from .listening import Listeners, Listening
from .told_private import (
    Broadcast,
    Context,
    ContextTold,
    Current,
    Diff,
    Invitation,
    Joined,
    ListenerAdded,
    ListenerRemoved,
    Listens,
    Member,
    MemberCame,
    MemberWent,
    Metas,
    PrivateChannelState,
    PrivateEvent,
    Role,
)

if TYPE_CHECKING:
    from .context import AgentContext

_LOG = logging.getLogger(__name__)


class PrivateChannel:
    """A private channel that this program sits in. Inside `async with` it is left at the end.

    Args:
        context: The agent's.
        channel_id: `private:…`.
        token: What lets it in; None: the owner, a party of the channel's deal, or a program that sits there already.
    """

    def __init__(self, context: "AgentContext", channel_id: str, token: str | None = None) -> None:
        self.id = channel_id
        self.owner_id = ""
        """The agent that owns it."""
        self._context = context
        self._token = token
        self._topic = KeptTopic(context.connection, channel_id, self._payload)
        self._members: dict[tuple[str, str], Member] = {}
        self._events: Listeners[PrivateEvent] = Listeners()
        self._newest: dict[str, Context] = {}
        """Of each type that was told or listened to, what is known to be the newest."""
        self._wanted: set[str] = set()
        """Types that somebody here listens to."""
        self._live: set[str] = set()
        """Types that were told since the newest join: what was missed before is older."""
        self._reader: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        """Which one it is."""
        return f"<PrivateChannel {self.id}>"

    async def __aenter__(self) -> Self:
        """It is joined already."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave it."""
        await self.leave()

    @property
    def members(self) -> tuple[Member, ...]:
        """Who sits there and is connected, as it was told last."""
        return tuple(self._members.values())

    @property
    def is_open(self) -> bool:
        """Whether this program sits there."""
        return self._reader is not None and not self._reader.done()

    async def join(self) -> None:
        """Sit down there, unless this program does. `PrivateChannels.join` does it.

        Raises:
            RefusedByServer: `NoChannelFound`, `AccessDenied`.
            Disconnected: The connection is closed.
        """
        if self.is_open:
            return
        self._take_state(await self._topic.join())
        self._token = None  # It is used up; over losses the program is known by its name.
        if self._events.has_ended:  # It was left, or has lost its place, before.
            self._events = Listeners()
        self._reader = self._context.spawn(self._read(self._events), self.id)
        self._reader.add_done_callback(partial(_ended, self._events))

    async def leave(self) -> None:
        """Get up. The owner keeps owning the channel; everybody else needs a new invitation to come back."""
        reader, self._reader = self._reader, None
        if reader is None or reader.done():
            return
        reader.cancel()
        await asyncio.wait([reader])
        await self._topic.leave()

    async def close(self) -> None:
        """Close it for everybody, as its owner.

        Raises:
            RefusedByServer: `not_found`, `AccessDenied`.
            Disconnected: The connection is closed.
        """
        await delete(self._context, f"/private-channels/{self.id}")

    # Contexts.

    async def broadcast(self, context: Context) -> None:
        """Tell a context to the other members that listen to its type. It is kept as the newest of its type.

        Over a loss it may be told twice: a context says how things are, not what has happened.

        Args:
            context: An object with `type`, and whatever else; at most `private_context_bytes_max` bytes as JSON.

        Raises:
            RefusedByServer: `NoChannelFound`, `AccessDenied`, `MalformedContext`.
            Disconnected: The connection is closed.
        """
        self._newest[_type_of(context)] = context  # A loss may come before the reply: it is not told to oneself then.
        await self._topic.push("broadcastRequest", {"context": context})
        self._newest[_type_of(context)] = context

    async def current(self, context_type: str | None = None) -> Context | None:
        """The newest context; None: there is none.

        Args:
            context_type: Exactly this type; None: of all types.

        Raises:
            RefusedByServer: `NoChannelFound`, `AccessDenied`.
            Disconnected: The connection is closed.
        """
        reply = await self._topic.push("getCurrentContextRequest", {"contextType": context_type})
        return converted(reply, Current).context

    def listen(self, context_type: str | None = None) -> AsyncIterator[Context]:
        """Contexts that the others tell from now on. It ends with the channel.

        What is told while the connection is lost is made good by the newest context of each type that is known here.

        Args:
            context_type: Exactly this type; None: all types.
        """
        if context_type is not None:
            self._wanted.add(context_type)
        return _Contexts(self.events(), context_type)

    def events(self) -> Listening[PrivateEvent]:
        """What happens there from now on: contexts, who comes and goes, who listens. It ends with the channel."""
        return self._events.listen()

    def __aiter__(self) -> AsyncIterator[PrivateEvent]:
        """What happens there from now on: `events`."""
        return self.events()

    # Members.

    async def invite(self, who: str | None = None, expires_in_s: int | None = None) -> Invitation:
        """Make an invitation, as the owner. Hand its token to the guest alone.

        Args:
            who: Who alone may use it, an agent's id or a program's name; None: whoever has the token.
            expires_in_s: None: as long as the market says, a day as a rule.

        Raises:
            RefusedByServer: `AccessDenied`, `not_found`, `invalid_payload`.
            Disconnected: The connection is closed.
        """
        return await invite(self._context, self.id, who, expires_in_s)

    async def revoke(self, invitation: Invitation | str) -> None:
        """Make an invitation useless, as the owner. One that is out no more is no matter.

        Args:
            invitation: Or its id.

        Raises:
            RefusedByServer: `NoChannelFound`, `AccessDenied`.
            Disconnected: The connection is closed.
        """
        named = invitation.id if isinstance(invitation, Invitation) else invitation
        await self._topic.push("revokePrivateChannelInvitation", {"invitationToken": named})

    async def remove(self, member: Member) -> None:
        """Remove a member, as the owner. One that does not sit there is no matter.

        Raises:
            RefusedByServer: `NoChannelFound`, `AccessDenied`.
            Disconnected: The connection is closed.
        """
        body = {"instanceId": member.instance_id, "agentId": member.agent_id}
        await self._topic.push("removePrivateChannelMember", body)

    # Listening.

    def _payload(self) -> dict[str, Any]:
        return {} if self._token is None else {"invitation_token": self._token}

    def _take_state(self, state: Any) -> None:
        joined = converted(state, Joined)
        self.owner_id = joined.owner
        self._members = {(one.agent_id, one.instance_id): one for one in joined.members}

    async def _read(self, events: Listeners[PrivateEvent]) -> None:
        ending: BaseException = StopAsyncIteration()
        try:
            while True:
                self._take(*await self._topic.next_event())
        except TopicEnded:
            _LOG.debug("%s was left", self.id)
        except Disconnected as error:
            ending = error
        except RefusedByServer as refusal:
            if refusal.reason != "NoChannelFound":  # That is how it is told that it was closed.
                ending = refusal
        finally:
            events.end(ending)
            if self._catching_up is not None:
                self._catching_up.cancel()

    def _take(self, event: str, payload: Any) -> None:
        if event == JOINED:
            before = set(self._members)
            self._take_state(payload)
            self._tell_members(before)
            self._live.clear()
            if self._catching_up is not None:
                self._catching_up.cancel()
            self._catching_up = self._context.spawn(self._catch_up(), f"{self.id}: what was missed")
        elif event == "broadcastEvent":
            told = converted(payload, Broadcast)
            app = told.originating_app
            self._live.add(_type_of(told.context))
            self._tell(ContextTold(context=told.context, from_handle=app.app_id, instance_id=app.instance_id))
        elif event == "privateChannelOnAddContextListenerEvent":
            self._events.tell(ListenerAdded(converted(payload, Listens).context_type))
        elif event == "privateChannelOnUnsubscribeEvent":
            self._events.tell(ListenerRemoved(converted(payload, Listens).context_type))
        elif event == "presence_diff":
            self._take_diff(converted(payload, Diff))

    def _take_diff(self, diff: Diff) -> None:
        before, came, went = set(self._members), _programs(diff.joins), _programs(diff.leaves)
        for program in went - came:
            self._members.pop(program, None)
        for agent_id, instance_id in came:
            role: Role = "owner" if agent_id == self.owner_id else "member"
            self._members[agent_id, instance_id] = Member(agent_id=agent_id, instance_id=instance_id, role=role)
        self._tell_members(before)

    def _tell_members(self, before: set[tuple[str, str]]) -> None:
        """Tell who has come and who has gone since."""
        now = set(self._members)
        for agent_id, instance_id in sorted(before - now):
            self._events.tell(MemberWent(agent_id=agent_id, instance_id=instance_id))
        for agent_id, instance_id in sorted(now - before):
            self._events.tell(MemberCame(agent_id=agent_id, instance_id=instance_id))

    async def _catch_up(self) -> None:
        """Tell what was told while the connection was lost: the newest context of each type that is known here.

        Beside the reading, which tells whatever comes meanwhile: that is newer.
        """
        try:
            newest = await self._answered()
            kinds = self._newest.keys() | self._wanted
            if newest is not None:
                kinds.add(_type_of(newest))
            for kind in sorted(kinds):
                context = await self._answered(kind)
                if context is not None and kind not in self._live and context != self._newest.get(kind):
                    self._tell(ContextTold(context=context, from_handle=None, instance_id=None))
        except (RefusedByServer, TopicEnded, Disconnected) as error:  # The reading tells that it is over.
            _LOG.debug("%s: what was missed was not asked for: %s", self.id, error)

    async def _answered(self, context_type: str | None = None) -> Context | None:
        """The newest context, however often it has to be asked for: nobody is there to be told that no reply came."""
        while True:
            try:
                return await self.current(context_type)
            except NoAnswer as error:
                _LOG.debug("%s: %s", self.id, error)

    def _tell(self, told: ContextTold) -> None:
        self._newest[_type_of(told.context)] = told.context
        self._events.tell(told)


class PrivateChannels:
    """The private channels of one agent.

    Args:
        context: The agent's.
    """

    def __init__(self, context: "AgentContext") -> None:
        self._context = context

    async def create(self) -> PrivateChannel:
        """Make a channel of one's own, and sit down there.

        Raises:
            RefusedByServer: `CreationFailed`.
            Disconnected: The connection is closed.
        """
        made = await post(self._context, "/private-channels", None, PrivateChannelState)
        return await self.join(made.id)

    async def join(self, channel_id: str, token: str | None = None) -> PrivateChannel:
        """Sit down in a channel.

        Args:
            channel_id: `private:…`, as the owner tells it, or `private_channel_id` of a deal.
            token: Of an invitation. None: the owner, and a party of the channel's deal, need none.

        Raises:
            RefusedByServer: `NoChannelFound`; `AccessDenied`: the token does not let this program in.
            Disconnected: The connection is closed.
        """
        channel = PrivateChannel(self._context, channel_id, token)
        await channel.join()
        return channel

    def list(self) -> AsyncIterator[PrivateChannelState]:
        """Channels that the agent owns or sits in, or that belong to a deal of it, newest first."""
        return every(self._context, "/private-channels", PrivateChannelState)

    async def get(self, channel_id: str) -> PrivateChannelState:
        """A channel, as it stands.

        Raises:
            RefusedByServer: `not_found`: there is none, or it is not the agent's to see.
            Disconnected: The connection is closed.
        """
        return await get(self._context, f"/private-channels/{channel_id}", PrivateChannelState)

    async def invite(self, channel_id: str, who: str | None = None, expires_in_s: int | None = None) -> Invitation:
        """Make an invitation, as the owner, who need not sit there: `PrivateChannel.invite`."""
        return await invite(self._context, channel_id, who, expires_in_s)

    async def close(self, channel_id: str) -> None:
        """Close a channel for everybody, as its owner.

        Raises:
            RefusedByServer: `not_found`, `AccessDenied`.
            Disconnected: The connection is closed.
        """
        await delete(self._context, f"/private-channels/{channel_id}")


async def invite(context: "AgentContext", channel_id: str, who: str | None, expires_in_s: int | None) -> Invitation:
    """Make an invitation: `PrivateChannel.invite`.

    Not over the socket: a repeated push would make a second invitation. A repeated answer by REST leaves out the token,
    which is then read from the channel.
    """
    asked: dict[str, Any] = {"instance_id": who, "expires_in": expires_in_s}
    body = {name: value for name, value in asked.items() if value is not None}
    made = await post(context, f"/private-channels/{channel_id}/invitations", body, dict[str, Any])
    if made.get("token") is None:
        channel = await get(context, f"/private-channels/{channel_id}", PrivateChannelState)
        return next(one for one in channel.invites or () if one.id == made.get("id"))
    return converted(made, Invitation)


class _Contexts(AsyncIterator[Context]):
    """The contexts among events. No generator: that would end with a reader that has given up waiting."""

    def __init__(self, events: Listening[PrivateEvent], context_type: str | None) -> None:
        self._events = events
        self._type = context_type

    async def __anext__(self) -> Context:
        while True:
            event = await anext(self._events)
            if isinstance(event, ContextTold) and self._type in {None, event.context.get("type")}:
                return event.context


def _ended(events: Listeners[PrivateEvent], reader: asyncio.Task[None]) -> None:
    """Whoever listens is told the end also where the reading was ended before it has begun."""
    if reader.cancelled():
        events.end()


def _type_of(context: Context) -> str:
    return str(context.get("type"))


def _programs(metas: dict[str, Metas]) -> set[tuple[str, str]]:
    return {(agent_id, meta.instance_id) for agent_id, one in metas.items() for meta in one.metas}
