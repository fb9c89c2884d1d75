"""Who listens in one private channel, and who is told what: in memory only, because no listener outlives a restart.

An instance of an agent has context listeners (of one type, or of all) and event listeners (of one kind, or of all).
It gets one frame of an event, however many of its listeners the event concerns: its own library tells them all. It is
never told what it did itself.

    of one                          to the others
    ──────────────────────────────  ─────────────────────────────────────────────────────────────────────────────
    a context listener is added     privateChannelOnAddContextListenerEvent   to those with event listeners
    a context listener is removed   privateChannelOnUnsubscribeEvent
    it leaves, or is gone           privateChannelOnUnsubscribeEvent          for each context listener left open,
                                    privateChannelOnDisconnectEvent           then this, once
    it tells a context              broadcastEvent                            to those that listen to its type

An event listener of the kind `addContextListener` gets the three kinds of events, as one of all kinds does: the 2.2.0
client asks for that kind where it means all. The other two kinds are told nothing else. Who gets its first listener to
`addContextListener` is told at once of the context listeners that others have open, so that nobody waits for one that
was there before it. Contexts are never told again: those are asked for.

In a join over Phoenix stands one context listener of all types, unless it says `listen: false`, and one event listener
of all kinds.

Source: FDC3 2.2, PrivateChannel; DACP event messages.
"""

from typing import Any, Final, Literal

import msgspec

from channels.errors import Forbidden

ListenerKind = Literal["addContextListener", "unsubscribe", "disconnect"]
"""What an event listener is for."""

LISTENERS_MAX: Final = 16
"""Listeners, of both sorts together, that one instance may have in one channel."""

OF_JOIN: Final = "join"
"""The id of the listeners that stand in a join over Phoenix. No UUID reads like this."""

LISTENER_ADDED: Final = "privateChannelOnAddContextListenerEvent"
UNSUBSCRIBED: Final = "privateChannelOnUnsubscribeEvent"
DISCONNECTED: Final = "privateChannelOnDisconnectEvent"
BROADCAST: Final = "broadcastEvent"

_HEARS: Final[dict[ListenerKind, frozenset[ListenerKind | None]]] = {
    "addContextListener": frozenset((None, "addContextListener")),
    "unsubscribe": frozenset((None, "addContextListener", "unsubscribe")),
    "disconnect": frozenset((None, "addContextListener", "disconnect")),
}
"""Kind of an event → the kinds of listeners that it is told to."""


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of an agent, as it sits in a channel."""

    agent_id: str
    instance_id: str


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One frame to one instance: on all of its sockets, as a DACP message or as a Phoenix push."""

    to: Instance
    event: str
    payload: dict[str, Any]


Notices = tuple[Notice, ...]


class _Open(msgspec.Struct):
    """What one instance has open, by the ids of the listeners, in the order in which they came."""

    contexts: dict[str, str | None] = {}
    events: dict[str, ListenerKind | None] = {}

    def hears(self, kind: ListenerKind) -> bool:
        return not _HEARS[kind].isdisjoint(self.events.values())

    def takes(self, context_type: str) -> bool:
        return any(wanted is None or wanted == context_type for wanted in self.contexts.values())


class Listeners:
    """The listeners of one channel.

    It holds those who sit in it and are there or awaited: whether an instance may sit there is decided before, by the
    handlers of private.py. Every method answers with the frames that follow, in their order; who carries them out sends
    the reply of the request first.

    Args:
        channel_id: The whole topic.
    """

    def __init__(self, channel_id: str) -> None:
        self._channel_id = channel_id
        self._open: dict[Instance, _Open] = {}

    def __contains__(self, instance: Instance) -> bool:
        return instance in self._open

    def __len__(self) -> int:
        return len(self._open)

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Those who sit here, in the order in which they came."""
        return tuple(self._open)

    def sit(self, instance: Instance) -> None:
        """An instance sits here, over DACP: it listens to nothing until it says so. Once more is nothing."""
        self._open.setdefault(instance, _Open())

    def join(self, instance: Instance, *, listens: bool) -> Notices:
        """An instance has joined over Phoenix: it is told every event, and every context if it listens.

        What its newest join says holds: one that listens no more is as if it had removed the listener.
        """
        self.sit(instance)
        mine = self._open[instance]
        added: Notices = ()
        if listens and OF_JOIN not in mine.contexts:
            mine.contexts[OF_JOIN] = None
            added = self._added(instance, None)
        elif not listens and OF_JOIN in mine.contexts:
            del mine.contexts[OF_JOIN]
            added = self._unsubscribed(instance, None)
        return (*added, *self._watch(instance, OF_JOIN, None))

    def add_context_listener(self, instance: Instance, *, listener_id: str, context_type: str | None) -> Notices:
        """An instance listens to the contexts of a type; None: of all.

        Args:
            instance: It sits here.
            listener_id: A fresh one, by which it is removed.
            context_type: Exactly this one.

        Raises:
            Forbidden: `AccessDenied`: it does not sit here, or has as many listeners as it may.
        """
        self._require_seat(instance).contexts[listener_id] = context_type
        return self._added(instance, context_type)

    def add_event_listener(self, instance: Instance, *, listener_id: str, kind: ListenerKind | None) -> Notices:
        """An instance is told what happens in the channel; `kind` None: all of it.

        Answers with what it is told at once: the context listeners that others have open.

        Raises:
            Forbidden: `AccessDenied`: it does not sit here, or has as many listeners as it may.
        """
        self._require_seat(instance)
        return self._watch(instance, listener_id, kind)

    def remove_context_listener(self, instance: Instance, *, listener_id: str) -> Notices:
        """A context listener of an instance is removed.

        Raises:
            Forbidden: `AccessDenied`: it has no such context listener here.
        """
        mine = self._open.get(instance, _Open())
        if listener_id not in mine.contexts:
            raise _no_such_listener()
        return self._unsubscribed(instance, mine.contexts.pop(listener_id))

    def remove_event_listener(self, instance: Instance, *, listener_id: str) -> None:
        """An event listener of an instance is removed; nobody is told.

        Raises:
            Forbidden: `AccessDenied`: it has no such event listener here.
        """
        mine = self._open.get(instance, _Open())
        if listener_id not in mine.events:
            raise _no_such_listener()
        del mine.events[listener_id]

    def left(self, instance: Instance) -> Notices:
        """An instance sits here no more: it left, was removed, or is gone. Who did not sit here leaves nothing."""
        mine = self._open.pop(instance, None)
        if mine is None:
            return ()
        closed = (
            told for context_type in mine.contexts.values() for told in self._unsubscribed(instance, context_type)
        )
        return (*closed, *self._tell(instance, "disconnect", DISCONNECTED, {"privateChannelId": self._channel_id}))

    def closed(self) -> Notices:
        """The channel is there no more: everybody is told of the listeners of the others, and once that it is over.

        Who sits here alone is told that it is over, too.
        """
        over = dict(self._open)
        notices = [
            told
            for instance, mine in over.items()
            for context_type in mine.contexts.values()
            for told in self._unsubscribed(instance, context_type)
        ]
        payload = {"privateChannelId": self._channel_id}
        notices += [
            Notice(to=one, event=DISCONNECTED, payload=payload)
            for one, mine in over.items()
            if mine.hears("disconnect")
        ]
        self._open.clear()
        return tuple(notices)

    def context_told(self, instance: Instance, context: dict[str, Any], *, app_id: str) -> Notices:
        """A member has told a context: to the others that listen to its type.

        Args:
            instance: Whose it is.
            context: With its `type`, as it came.
            app_id: What FDC3 calls the app: the agent's handle.
        """
        payload = {
            "channelId": self._channel_id,
            "context": context,
            "originatingApp": {"appId": app_id, "instanceId": instance.instance_id},
        }
        return tuple(
            Notice(to=one, event=BROADCAST, payload=payload)
            for one, theirs in self._open.items()
            if one != instance and theirs.takes(context["type"])
        )

    def _require_seat(self, instance: Instance) -> _Open:
        mine = self._open.get(instance)
        if mine is None:
            raise Forbidden("AccessDenied", "You do not sit in this private channel; join it first.")
        if len(mine.contexts) + len(mine.events) >= LISTENERS_MAX:
            raise Forbidden("AccessDenied", f"You have {LISTENERS_MAX} listeners here; remove one first.")
        return mine

    def _watch(self, instance: Instance, listener_id: str, kind: ListenerKind | None) -> Notices:
        mine = self._open[instance]
        was_told = mine.hears("addContextListener")
        mine.events[listener_id] = kind
        if was_told or not mine.hears("addContextListener"):
            return ()
        return tuple(
            Notice(to=instance, event=LISTENER_ADDED, payload=self._of_type(context_type))
            for one, theirs in self._open.items()
            if one != instance
            for context_type in theirs.contexts.values()
        )

    def _added(self, instance: Instance, context_type: str | None) -> Notices:
        return self._tell(instance, "addContextListener", LISTENER_ADDED, self._of_type(context_type))

    def _unsubscribed(self, instance: Instance, context_type: str | None) -> Notices:
        return self._tell(instance, "unsubscribe", UNSUBSCRIBED, self._of_type(context_type))

    def _of_type(self, context_type: str | None) -> dict[str, Any]:
        """The key is always there: null stands for all types."""
        return {"privateChannelId": self._channel_id, "contextType": context_type}

    def _tell(self, instance: Instance, kind: ListenerKind, event: str, payload: dict[str, Any]) -> Notices:
        return tuple(
            Notice(to=one, event=event, payload=payload)
            for one, theirs in self._open.items()
            if one != instance and theirs.hears(kind)
        )


def _no_such_listener() -> Forbidden:
    return Forbidden("AccessDenied", "You have no such listener in this private channel.")
