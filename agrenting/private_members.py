"""Who sits in which private channel right now, over either transport, and what they are told there.

What is stored says which instances of agents are members. Here stands which of them have a socket, what they listen to
(channels/private_listeners.py), and for how long one that has lost its last socket is waited for:

    a socket sits ──► present ── its last socket is gone ──► awaited ── private_grace_s ──► gone
                         ▲                                      │
                         └────────── a socket comes back ───────┘

Who is awaited is a member with all of its listeners, and gets nothing. Who is gone is no member any more: the house
submits that like any other event, and what it means to the others is told once it is durable. `phx_leave` of the last
socket waits for nobody. After a start every stored member is awaited, for private_restart_grace_s.

An instance is named by its agent and its own id. A Phoenix subscription sits where it has joined; a socket that speaks
FDC3 sits wherever its instance does.
"""

import hmac
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import structlog

from agrenting.db.commit import StorageUnavailable
from agrenting.db.private import StoredSeat
from agrenting.deadlines import Deadlines
from agrenting.deciding import THE_HOUSE, Command
from agrenting.ids import new_id, new_phx_ref
from agrenting.open_socket import OpenSocket
from agrenting.private_guesses import Guesses
from agrenting.private_programs import Programs
from agrenting.private_seats import ChannelSeat, Fdc3Socket, LiveChannel, Role, Seat, key_of
from agrenting.subscriptions import Subscription
from channels.handlers import FollowChannel
from channels.private_ends import GONE, Gone
from channels.private_listeners import BROADCAST, OF_JOIN, Instance, ListenerKind, Notices
from channels.told import ChannelClosed, ContextTold, MemberLeft, OfPrivateChannel
from channels.wire import PHX_CLOSE, Outgoing

if TYPE_CHECKING:
    from agrenting.hub import Hub

log = structlog.get_logger(__name__)

JOIN_WAIT_S: Final = 0.5
"""How much longer an instance is waited for whose join is being decided."""

NOTICES_PER_TOKEN: Final = 16
"""How many frames to others one token of `control` pays for."""

Waits = tuple[Literal["program", "seat", "join"], str, Instance]
"""What is waited for: a program itself, its seat in a channel, or a seat's subscription though it has other sockets."""


class PrivateMembers:
    """Every instance that sits in a private channel, and every socket that may.

    Args:
        hub: Settings, topics, the engine, the time.
    """

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self.channels: dict[str, LiveChannel] = {}
        self.programs = Programs()
        self.guesses = Guesses(hub, self.sits)
        self._awaited = Deadlines[Waits](monotonic=hub.monotonic, loop=hub.loop, ring=self.sweep)

    def begin(self, seats: Iterable[StoredSeat]) -> None:
        """The server has started: every stored member is awaited."""
        for one in seats:
            key = Instance(agent_id=one.agent_id, instance_id=one.instance_id)
            self._take_seat(one.channel_id, key, "owner" if one.agent_id == one.owner_agent_id else "member")
            self._awaited.set(("seat", one.channel_id, key), self._hub.settings.private_restart_grace_s)

    # Instances and their sockets.

    def opened(self, socket: OpenSocket) -> None:
        """A socket has been opened. One that speaks FDC3 sits at once wherever its instance sits."""
        if socket.identity.agent_id is None:
            return
        program = self.programs.make(key_of(socket))
        program.handle = socket.identity.handle
        program.sockets[socket] = None
        self._awaited.drop(("program", "", program.key))
        if isinstance(socket, Fdc3Socket):
            program.fdc3[socket] = None
            for channel_id, seat in list(program.seats.items()):
                self._come(channel_id, seat)

    def gone(self, socket: OpenSocket) -> None:
        """A socket is gone. Once more is nothing."""
        program = None if socket.identity.agent_id is None else self.programs.get(key_of(socket))
        if program is None or socket not in program.sockets:
            return
        del program.sockets[socket]
        if isinstance(socket, Fdc3Socket):
            program.fdc3.pop(socket, None)
            for channel_id, seat in list(program.seats.items()):
                if not seat.is_present and ("seat", channel_id, program.key) not in self._awaited:
                    self._go(channel_id, seat)
        if program.sockets:
            return
        if not program.uuid:  # Nobody can come back as it, but where it sits.
            self._forget_unused(program.key)
        else:
            self._awaited.set(("program", "", program.key), self._hub.settings.private_grace_s)

    def holder_of(self, instance_id: str) -> str | None:
        """The agent whose program was the first of those that are known by an instance id. Any thread may ask."""
        return self.programs.holder_of(instance_id)

    def uuid_of(self, socket: OpenSocket) -> str:
        """The secret of a socket's instance."""
        return self.programs.uuid_of(key_of(socket))

    def attach(self, socket: OpenSocket, *, instance_id: str, instance_uuid: str) -> bool:
        """A socket takes up an instance of its agent that it was before; whether the secret was the right one."""
        before = key_of(socket)
        program = self.programs.get(Instance(agent_id=before.agent_id, instance_id=instance_id))
        if program is None or not program.uuid:
            return False
        if not hmac.compare_digest(program.uuid.encode(), instance_uuid.encode(errors="replace")):
            return False
        if program.key != before:
            self.gone(socket)
            self._awaited.drop(("program", "", before))  # Nobody knows of it, so nobody comes back as it.
            self._forget_unused(before)
            socket.instance_id = instance_id
            self.opened(socket)
        return True

    # Who sits where.

    def sits(self, socket: OpenSocket, channel_id: str) -> bool:
        """Whether a socket's instance sits in a channel."""
        channel = self.channels.get(channel_id)
        return channel is not None and socket.identity.agent_id is not None and key_of(socket) in channel.seats

    def seats_count(self, socket: OpenSocket) -> int:
        """In how many channels a socket's instance sits."""
        program = self.programs.get(key_of(socket))
        return 0 if program is None else len(program.seats)

    def seat(self, subscription: Subscription, follow: FollowChannel) -> ChannelSeat:
        """A Phoenix socket has joined: it is pushed who is present, and what the others listen to."""
        channel, seat = self._take_seat(follow.channel_id, key_of(subscription.connection), follow.role)
        mine = ChannelSeat(self, subscription, is_listening=follow.listens)
        seat.subscriptions[mine] = None
        seat.has_joined = True
        self._back(channel.id, seat)
        self._show(channel, seat, subscription)
        is_listening = any(one.is_listening for one in seat.subscriptions)
        notices = channel.listeners.join(seat.program.key, listens=is_listening)
        _charge(subscription.connection, notices)
        self._tell(channel, notices)
        return mine

    def sit(self, socket: OpenSocket, channel_id: str, role: Role) -> None:
        """An instance has joined over FDC3."""
        channel, seat = self._take_seat(channel_id, key_of(socket), role)
        self._come(channel.id, seat)

    def missed(self, socket: OpenSocket, follow: FollowChannel) -> None:
        """An instance has joined, and its socket was gone before it could be told: it is awaited."""
        channel, seat = self._take_seat(follow.channel_id, key_of(socket), follow.role)
        if not seat.is_present:
            self._awaited.set(("seat", channel.id, seat.program.key), self._hub.settings.private_grace_s)

    def lost(self, mine: ChannelSeat, *, is_leaving: bool) -> None:
        """A Phoenix subscription is over: of a rejoin, a lost socket, or because its client left."""
        subscription = mine.subscription
        channel = self.channels.get(subscription.topic)
        if channel is None:
            return
        seat = channel.seats.get(key_of(subscription.connection))
        if seat is None or mine not in seat.subscriptions:
            return
        del seat.subscriptions[mine]
        if seat.is_present:
            if is_leaving:
                self._end_join(channel, seat)
            else:
                self._awaited.set(("join", channel.id, seat.program.key), self._hub.settings.private_grace_s)
            return
        self._go(subscription.topic, seat, (subscription,))
        if is_leaving and _is_joining(seat, channel.id):
            self._awaited.set(("seat", channel.id, seat.program.key), JOIN_WAIT_S)
        elif is_leaving:
            self._back(channel.id, seat)
            self._give_up(channel.id, seat)

    # Listeners, which come in FDC3's messages.

    def listen(self, socket: OpenSocket, channel_id: str, context_type: str | None) -> tuple[str, Notices]:
        """Add a context listener of an instance that sits there: its id, and what is to be told after the answer.

        Raises:
            Forbidden: `AccessDenied`.
        """
        program, id_ = self.programs.known[key_of(socket)], new_id()
        listeners = self.channels[channel_id].listeners
        notices = listeners.add_context_listener(program.key, listener_id=id_, context_type=context_type)
        _charge(socket, notices)
        program.listeners[id_] = channel_id
        return id_, notices

    def watch(self, socket: OpenSocket, channel_id: str, kind: ListenerKind | None) -> tuple[str, Notices]:
        """Add an event listener of an instance that sits there: its id, and what is to be told after the answer.

        Raises:
            Forbidden: `AccessDenied`.
        """
        program, id_ = self.programs.known[key_of(socket)], new_id()
        notices = self.channels[channel_id].listeners.add_event_listener(program.key, listener_id=id_, kind=kind)
        _charge(socket, notices)
        program.listeners[id_] = channel_id
        return id_, notices

    def channel_of(self, socket: OpenSocket, listener_id: str) -> str | None:
        """The channel of a listener of a socket's instance; None where it has no such listener."""
        return self.programs.known[key_of(socket)].listeners.get(listener_id)

    def unlisten(self, socket: OpenSocket, channel_id: str, listener_id: str) -> Notices:
        """Remove a context listener; what follows from it, to be told after the answer.

        Raises:
            Forbidden: `AccessDenied`: it is none.
        """
        program = self.programs.known[key_of(socket)]
        notices = self.channels[channel_id].listeners.remove_context_listener(program.key, listener_id=listener_id)
        _charge(socket, notices)
        del program.listeners[listener_id]
        return notices

    def unwatch(self, socket: OpenSocket, channel_id: str, listener_id: str) -> None:
        """Remove an event listener; nobody is told.

        Raises:
            Forbidden: `AccessDenied`: it is none.
        """
        program = self.programs.known[key_of(socket)]
        self.channels[channel_id].listeners.remove_event_listener(program.key, listener_id=listener_id)
        del program.listeners[listener_id]

    # What is told.

    def told(self, one: OfPrivateChannel, socket: OpenSocket | None = None) -> None:
        """Turn what was decided into frames.

        Args:
            one: What was decided.
            socket: Whose request it was; None where it was none of a socket's.
        """
        channel = self.channels.get(one.channel_id)
        if channel is None:
            return
        match one:
            case MemberLeft():
                self._left(channel, Instance(agent_id=one.agent_id, instance_id=one.instance_id), socket)
            case ChannelClosed():
                self._closed(channel)
            case ContextTold():
                key = Instance(agent_id=one.agent_id, instance_id=one.instance_id)
                program = self.programs.get(key)
                app_id = one.agent_id if program is None else program.handle
                self._tell(channel, channel.listeners.context_told(key, one.context, app_id=app_id))

    def tell(self, channel_id: str, notices: Notices) -> None:
        """Send what follows from a listener, once the answer has been sent."""
        channel = self.channels.get(channel_id)
        if channel is not None:
            self._tell(channel, notices)

    def _left(self, channel: LiveChannel, key: Instance, socket: OpenSocket | None = None) -> None:
        seat = channel.seats.get(key)
        if seat is None:
            return
        notices = channel.listeners.left(key)
        if socket is not None:
            _charge(socket, notices)
        else:
            self._hub.agent_buckets["control"].charge(key.agent_id, len(notices) / NOTICES_PER_TOKEN)
        self._drop(channel, seat)
        self._tell(channel, notices)
        leavers = [one.subscription for one in seat.subscriptions]
        seat.subscriptions.clear()
        for subscription in leavers:
            _end(subscription)
        topic = self._hub.topics.get(channel.id)
        if topic is not None:
            topic.vanish(seat, leavers)
        if not channel.seats:
            self.channels.pop(channel.id, None)

    def _closed(self, channel: LiveChannel) -> None:
        self._tell(channel, channel.listeners.closed())
        for seat in list(channel.seats.values()):
            self._drop(channel, seat)
            seat.subscriptions.clear()  # Their topics end with what is told next.
        self.channels.pop(channel.id, None)

    def _tell(self, channel: LiveChannel, notices: Notices) -> None:
        """Send each notice to all sockets of its instance; what several get is encoded once."""
        encoded: dict[int, tuple[Outgoing, msgspec.Raw]] = {}
        for notice in notices:
            seat = channel.seats.get(notice.to)
            if seat is None:
                continue
            known = encoded.get(id(notice.payload))
            if known is None:
                raw = msgspec.Raw(msgspec.json.encode(notice.payload))
                known = encoded[id(notice.payload)] = (Outgoing(channel.id, notice.event, raw), raw)
            outgoing, raw = known
            for one in list(seat.subscriptions):
                if one.is_listening or notice.event != BROADCAST:
                    one.subscription.push(outgoing)
            for socket in list(seat.program.fdc3):
                socket.hear(notice.event, raw)

    # Presence.

    def _show(self, channel: LiveChannel, seat: Seat, joiner: Subscription) -> None:
        """Push a joiner who is present, itself among them; and tell the others of it, if it is new."""
        topic = self._hub.topics[channel.id]
        for other in channel.seats.values():
            if other is not seat and other.is_present and not topic.presence.owned(other):
                # Nobody has listened to the topic until now, so nobody else is to be told.
                topic.presence.track(other.program.key.agent_id, other, other.meta, new_phx_ref())
        topic.appear(seat, seat.program.key.agent_id, seat.meta, joiner)

    def _come(self, channel_id: str, seat: Seat) -> None:
        """A socket that speaks FDC3 sits there."""
        self._awaited.drop(("seat", channel_id, seat.program.key))
        if seat.has_joined and not seat.subscriptions:
            self._awaited.set(("join", channel_id, seat.program.key), self._hub.settings.private_grace_s)
        topic = self._hub.topics.get(channel_id)
        if topic is not None:
            topic.appear(seat, seat.program.key.agent_id, seat.meta)

    def _go(self, channel_id: str, seat: Seat, leavers: Collection[Subscription] = ()) -> None:
        """The last socket of a seat is gone. When the server stops nobody hears of it: all come again."""
        if self._hub.is_draining:
            return
        topic = self._hub.topics.get(channel_id)
        if topic is not None:
            topic.vanish(seat, leavers)
        self._awaited.set(("seat", channel_id, seat.program.key), self._hub.settings.private_grace_s)

    # Coming, waiting, and giving up.

    def sweep(self) -> None:
        """Give up who has been waited for long enough. A server that stops gives up nobody."""
        for what, channel_id, key in self._awaited.take():
            if what == "program":
                self._forget_unused(key)
                continue
            seat = self.programs.known[key].seats[channel_id]
            if _is_joining(seat, channel_id):
                self._awaited.set((what, channel_id, key), JOIN_WAIT_S)
            elif what == "join":
                self._end_join(self.channels[channel_id], seat)
            elif not self._hub.is_draining:
                self._give_up(channel_id, seat)

    def _back(self, channel_id: str, seat: Seat) -> None:
        """A seat is waited for no more."""
        self._awaited.drop(("seat", channel_id, seat.program.key))
        self._awaited.drop(("join", channel_id, seat.program.key))

    def _end_join(self, channel: LiveChannel, seat: Seat) -> None:
        """What stood in a join over Phoenix ends with it, though the instance has other sockets."""
        if not seat.is_present:
            return  # It is waited for with all of its listeners.
        seat.has_joined = bool(seat.subscriptions)
        listeners, key = channel.listeners, seat.program.key
        notices = listeners.join(key, listens=any(one.is_listening for one in seat.subscriptions))
        if not seat.has_joined:
            listeners.remove_event_listener(key, listener_id=OF_JOIN)
        self._tell(channel, notices)

    def _give_up(self, channel_id: str, seat: Seat) -> None:
        """An instance sits there no more, as soon as that is durable."""
        key = seat.program.key
        request = Gone(agent_id=key.agent_id, instance_id=key.instance_id)
        command = Command(handler=GONE, topic=channel_id, request=request, sender=THE_HOUSE)
        self._hub.engine.submit(command, lambda _done, error: self._given_up(channel_id, seat, error))

    def _given_up(self, channel_id: str, seat: Seat, error: Exception | None) -> None:
        """What followed has been told; only where nothing did is the seat still there."""
        channel, key = self.channels.get(channel_id), seat.program.key
        if channel is None or channel.seats.get(key) is not seat or seat.is_present:
            return
        if isinstance(error, StorageUnavailable):
            self._awaited.set(("seat", channel_id, key), self._hub.settings.private_grace_s)
            return
        if error is not None:
            log.error("member_not_given_up", channel=channel_id, agent_id=key.agent_id, exc_info=error)
        self._left(channel, key)

    def _take_seat(self, channel_id: str, key: Instance, role: Role) -> tuple[LiveChannel, Seat]:
        """The seat of an instance that is a member, which it may have already."""
        channel = self.channels.get(channel_id)
        if channel is None:
            channel = self.channels[channel_id] = LiveChannel(channel_id)
        seat = channel.seats.get(key)
        if seat is None:
            program = self.programs.make(key)
            seat = channel.seats[key] = program.seats[channel_id] = Seat(program, role)
            channel.listeners.sit(key)
        return channel, seat

    def _drop(self, channel: LiveChannel, seat: Seat) -> None:
        """A seat is there no more."""
        program = seat.program
        del channel.seats[program.key], program.seats[channel.id]
        program.listeners = {id_: of for id_, of in program.listeners.items() if of != channel.id}
        self._back(channel.id, seat)
        self._forget_unused(program.key)

    def _forget_unused(self, key: Instance) -> None:
        program = self.programs.get(key)
        if program is None or program.sockets or program.seats or ("program", "", key) in self._awaited:
            return
        self.programs.forget(key)


def _is_joining(seat: Seat, channel_id: str) -> bool:
    """Whether a join of the instance is being decided: it came in time, whatever the clock says by now."""
    return any(socket.is_joining(channel_id) for socket in seat.program.sockets)


def _charge(socket: OpenSocket, notices: Notices) -> None:
    """Who made these frames necessary pays for them, though how many they would be nobody knew before."""
    socket.charge("control", len(notices) / NOTICES_PER_TOKEN)


def _end(subscription: Subscription) -> None:
    """End a topic with `phx_close`, behind the replies that are still due on it."""
    slot = subscription.take_slot()
    subscription.fill(slot, lambda: subscription.connection.end(subscription, PHX_CLOSE, {}))
