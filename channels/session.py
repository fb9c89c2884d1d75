"""One socket's joined topics (temporary)."""
from dataclasses import dataclass
from typing import Any

from channels.wire import HEARTBEAT, PHOENIX, PHX_JOIN, PHX_LEAVE, Frame, Vsn, encode_reply


class Joined:
    __slots__ = ("join_ref", "subscription", "topic")

    def __init__(self, topic: str, join_ref: Any) -> None:
        self.topic, self.join_ref, self.subscription = topic, join_ref, None


@dataclass(frozen=True, slots=True)
class Answer:
    text: str | bytes


@dataclass(frozen=True, slots=True, eq=False)
class Join:
    topic: str
    payload: Any
    join_ref: Any
    ref: Any
    replaced: Joined | None


@dataclass(frozen=True, slots=True)
class Leave:
    joined: Joined
    ref: Any


@dataclass(frozen=True, slots=True)
class Push:
    joined: Joined
    topic: str
    event: str
    payload: Any
    binary: bool
    ref: Any
    join_ref: Any


@dataclass(frozen=True, slots=True)
class Ignored:
    pass


class Session:
    def __init__(self, vsn: Vsn, *, topics_max: int) -> None:
        self.vsn, self.topics_max = vsn, topics_max
        self.joined: dict[str, Joined] = {}
        self.pending = 0

    def receive(self, f: Frame) -> Any:
        if f.topic == PHOENIX:
            if f.event == HEARTBEAT:
                return self._answer(f, "ok", {})
            return self._answer(f, "error", {"reason": "unmatched topic"})
        j = self.joined.get(f.topic)
        if f.event == PHX_JOIN:
            if j is None and len(self.joined) + self.pending >= self.topics_max:
                return self._answer(f, "error", {"reason": "too many channels joined"})
            self.joined.pop(f.topic, None)
            self.pending += 1
            return Join(f.topic, f.payload, f.join_ref, f.ref, j)
        if j is None:
            if f.event == PHX_LEAVE:
                return self._answer(f, "ok", {})
            return self._answer(f, "error", {"reason": "unmatched topic"})
        if f.join_ref is not None and f.join_ref != j.join_ref:
            return Ignored()
        if f.event == PHX_LEAVE:
            del self.joined[f.topic]
            return Leave(j, f.ref)
        return Push(j, f.topic, f.event, f.payload, f.binary, f.ref, f.join_ref)

    def _answer(self, f: Frame, status: str, response: Any) -> Answer:
        return Answer(encode_reply(self.vsn, join_ref=None, ref=f.ref, topic=f.topic, status=status, response=response))

    def admit(self, join: Join) -> Joined:
        self.pending -= 1
        j = self.joined[join.topic] = Joined(join.topic, join.join_ref)
        return j

    def refuse(self, join: Join) -> None:
        self.pending -= 1

    def close(self, joined: Joined) -> bool:
        if self.joined.get(joined.topic) is joined:
            del self.joined[joined.topic]
            return True
        return False
