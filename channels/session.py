"""Session: one socket's joined topics, by Phoenix's rules, as a state machine without I/O.

             phx_join                     admit
    (none) ───────────► join is decided ─────────► joined ── phx_leave, close ──► (none)
                               └── refuse ──► (none)

A frame goes in, what is to be done about it comes out. Joining a topic again ends the first join at once, whatever
becomes of the new one. A frame is of the current join when its join_ref is that one's, or null; with any other it is
stale, and nothing happens. While a topic's join is decided the hub keeps that topic's frames back.
"""

from typing import Any

import msgspec

from channels.wire import HEARTBEAT, PHOENIX, PHX_JOIN, PHX_LEAVE, Frame, Vsn, encode_reply

UNMATCHED_TOPIC = "unmatched topic"
TOO_MANY_TOPICS = "too many channels joined"
ROOM_PREFIXES = ("chat_room:", "room_participants:")


class Joined:
    """One joined topic. `subscription` is the hub's to use."""

    __slots__ = ("join_ref", "subscription", "topic")

    def __init__(self, topic: str, join_ref: Any) -> None:
        self.topic = topic
        self.join_ref = join_ref
        self.subscription: Any = None


class Answer(msgspec.Struct, frozen=True):
    """Send this now: the frame needs nobody else."""

    text: str | bytes


class Join(msgspec.Struct, frozen=True, eq=False):
    """Decide this join, then `admit` or `refuse` it. `replaced`, an earlier join of the topic, has ended."""

    topic: str
    payload: msgspec.Raw | bytes
    join_ref: Any
    ref: Any
    replaced: Joined | None


class Leave(msgspec.Struct, frozen=True, eq=False):
    """The topic is left already; say so."""

    joined: Joined
    ref: Any


class Push(msgspec.Struct, frozen=True, eq=False):
    """An event of a joined topic. `payload` is raw JSON, or bytes if it came in a binary frame.

    `join_ref` is as it was sent: that of `joined`, or null.
    """

    joined: Joined
    topic: str
    event: str
    payload: msgspec.Raw | bytes
    binary: bool
    ref: Any
    join_ref: Any


class Ignored(msgspec.Struct, frozen=True):
    """The frame is stale: there is nothing to do, and nothing to say."""


Action = Answer | Join | Leave | Push | Ignored


class Session:
    """The joined topics of one socket.

    Args:
        vsn: The version that it speaks.
        topics_max: How many topics may be joined, those included whose join is being decided.
        room_topics_max: How many topics of chat rooms, which do not count among the others: each room has two, and
            clients join those of every room.
    """

    __slots__ = ("_taken", "joined", "room_topics_max", "topics_max", "vsn")

    def __init__(self, vsn: Vsn, *, topics_max: int, room_topics_max: int) -> None:
        self.vsn = vsn
        self.topics_max = topics_max
        self.room_topics_max = room_topics_max
        self.joined: dict[str, Joined] = {}
        self._taken = {True: 0, False: 0}
        """How many topics of rooms, and how many others, are joined, or being decided."""

    def receive(self, frame: Frame) -> Action:
        """What is to be done about a frame."""
        if frame.topic == PHOENIX:
            return self._of_phoenix(frame)
        joined = self.joined.get(frame.topic)
        if frame.event == PHX_JOIN:
            return self._join(frame, joined)
        if joined is None:
            return self._answer(frame, "ok", {}) if frame.event == PHX_LEAVE else self._refuse(frame, UNMATCHED_TOPIC)
        if frame.join_ref is not None and frame.join_ref != joined.join_ref:
            return Ignored()
        if frame.event == PHX_LEAVE:
            self.close(joined)
            return Leave(joined, frame.ref)
        return Push(joined, frame.topic, frame.event, frame.payload, frame.binary, frame.ref, frame.join_ref)

    def admit(self, join: Join) -> Joined:
        """The application says yes to a join."""
        joined = self.joined[join.topic] = Joined(join.topic, join.join_ref)
        return joined

    def refuse(self, join: Join) -> None:
        """The application says no to a join."""
        assert join.topic not in self.joined, "a join that is decided has no topic yet"
        self._taken[_is_of_room(join.topic)] -= 1

    def close(self, joined: Joined) -> bool:
        """End a topic from this side; whether it was still the current one."""
        if self.joined.get(joined.topic) is not joined:
            return False
        del self.joined[joined.topic]
        self._taken[_is_of_room(joined.topic)] -= 1
        return True

    def _of_phoenix(self, frame: Frame) -> Answer:
        if frame.event == HEARTBEAT:
            return self._answer(frame, "ok", {})
        return self._refuse(frame, UNMATCHED_TOPIC)

    def _join(self, frame: Frame, replaced: Joined | None) -> Join | Answer:
        if replaced is not None:
            self.close(replaced)
        is_of_room = _is_of_room(frame.topic)
        if self._taken[is_of_room] >= (self.room_topics_max if is_of_room else self.topics_max):
            return self._refuse(frame, TOO_MANY_TOPICS, join_ref=frame.join_ref)
        self._taken[is_of_room] += 1
        return Join(frame.topic, frame.payload, frame.join_ref, frame.ref, replaced)

    def _refuse(self, frame: Frame, reason: str, join_ref: Any = None) -> Answer:
        return self._answer(frame, "error", {"reason": reason}, join_ref)

    def _answer(self, frame: Frame, status: str, response: dict[str, str], join_ref: Any = None) -> Answer:
        return Answer(
            encode_reply(
                self.vsn, join_ref=join_ref, ref=frame.ref, topic=frame.topic, status=status, response=response
            )
        )


def _is_of_room(topic: str) -> bool:
    return topic.startswith(ROOM_PREFIXES)
