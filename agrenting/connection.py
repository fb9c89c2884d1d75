"""Connection: one socket's frames, from decoding to the reply, by Phoenix's rules.

    message ─► decode ─► session.receive ─► join / leave / push ─► engine ─► slot ─► reply

Each push takes a slot in its topic's queue of replies, so that replies come in the order of the pushes though some are
decided at once and others once they are durable. Frames of a topic whose join is being decided wait for it; heartbeats
and other topics never wait.
"""

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec
import structlog

from agrenting import feeds
from agrenting.db.commit import StorageUnavailable
from agrenting.deciding import Command, Done
from agrenting.open_socket import CLOSE_BAD_FRAME, CLOSE_TRY_LATER, OpenSocket
from agrenting.replays import Replays
from agrenting.subscriptions import Slot, Subscription
from agrenting.transport import HubProtocol
from channels.errors import Invalid, Refusal
from channels.handlers import NO_REPLY, Access, Decision, Handler
from channels.identity import Identity
from channels.routes import Route
from channels.session import Answer, Ignored, Join, Joined, Leave, Push, Session
from channels.wire import (
    PHX_CLOSE,
    PHX_ERROR,
    BadFrame,
    Frame,
    InvalidPayload,
    Outgoing,
    Vsn,
    decode_frame,
    decode_payload,
    encode_lifecycle,
    encode_reply,
)

if TYPE_CHECKING:
    from agrenting.hub import Hub

log = structlog.get_logger(__name__)


class Joining:
    """A join that is being decided, and the topic's frames that wait for it."""

    __slots__ = ("join", "waiting")

    def __init__(self, join: Join) -> None:
        self.join = join
        self.waiting: deque[Frame] = deque()


class Connection(OpenSocket):
    """One open socket that speaks Phoenix's protocol.

    Args:
        hub: Routes, engine, subscribers, settings.
        protocol: The transport.
        identity: Who it is, proven before the upgrade.
        vsn: The protocol version that it speaks.
        instance_id: Which of the agent's programs it is.
    """

    __slots__ = ("_joining", "replays", "session", "vsn")

    def __init__(self, hub: "Hub", protocol: HubProtocol, identity: Identity, vsn: Vsn, instance_id: str = "") -> None:
        super().__init__(hub, protocol, identity, instance_id)
        self.vsn = vsn
        self.session = Session(
            vsn,
            topics_max=hub.settings.topics_per_socket_max,
            room_topics_max=hub.settings.room_topics_per_socket_max,
        )
        self.replays = Replays()
        self._joining: dict[str, Joining] = {}

    @property
    def joined(self) -> Mapping[str, Joined]:
        """The topics that it has joined."""
        return self.session.joined

    def is_joining(self, topic: str) -> bool:
        """Whether a topic's join is being decided."""
        return topic in self._joining

    # What comes in.

    def receive(self, message: str | bytes) -> None:
        """One message of the peer."""
        self.heard()
        if not self.is_open or self._is_leaving:
            return
        try:
            frame = decode_frame(self.vsn, message)
        except BadFrame as error:
            log.info("bad_frame", agent=self.identity.handle, error=str(error))
            self.close(CLOSE_BAD_FRAME, f"bad frame: {error}")
            return
        joining = self._joining.get(frame.topic)
        if joining is None:
            self._act(frame)
        elif len(joining.waiting) < self.hub.settings.inbox_frames_max:
            joining.waiting.append(frame)
        else:
            self.close(CLOSE_TRY_LATER, "too many frames before the join was answered")

    def _act(self, frame: Frame) -> None:
        action = self.session.receive(frame)
        match action:
            case Push():
                self._push(action)
            case Answer():
                self.send(action.text)
            case Join():
                self._join(action)
            case Leave():
                self._leave(action)
            case Ignored():
                pass

    # Joining and leaving.

    def _join(self, join: Join) -> None:
        replaced = join.replaced
        if replaced is not None:
            self.hub.unsubscribe(replaced.subscription)
        try:
            self.limit("joins", 1.0)
            route = self.hub.routes.find(join.topic)
            if route is None:
                raise Invalid("unmatched topic", "There is no such topic.")
            route.access(self.identity, join.topic.partition(":")[2])
            self.hub.private.guesses.require_may_try(self, join.topic)
            command = self._command(route.join, join.topic, join.payload)
        except (Refusal, InvalidPayload) as refusal:
            self._refuse_join(join, _response(refusal))
            return
        if route.join.access is Access.AT_ONCE:
            try:
                done: Done | None = self.hub.engine.decide_at_once(command)
                error: Exception | None = None
            except Exception as raised:  # noqa: BLE001 - the hub's one place for a join that crashes
                done, error = None, raised
            self._joined(join, route, done, error)
            return
        self._joining[join.topic] = Joining(join)
        self.hub.loop.call_later(self.hub.settings.join_timeout_s, self._time_out, join)
        self.hub.engine.submit(command, lambda done, error: self._join_settled(join, route, done, error))

    def _time_out(self, join: Join) -> None:
        if not self._is_joining(join):
            return
        log.warning("join_timeout", topic=join.topic, agent=self.identity.handle)
        self._refuse_join(join, {"reason": "join timeout", "message": "The server is busy; join again."})
        self._resume(join.topic)

    def _join_settled(self, join: Join, route: Route, done: Done | None, error: Exception | None) -> None:
        if not self.is_open or not self._is_joining(join):
            self.hub.join_came_to_nothing(join.topic, self, None if done is None else done.decision)
            return  # It has timed out, or the socket is gone.
        self._joined(join, route, done, error)
        self._resume(join.topic)

    def _is_joining(self, join: Join) -> bool:
        joining = self._joining.get(join.topic)
        return joining is not None and joining.join is join

    def _joined(self, join: Join, route: Route, done: Done | None, error: Exception | None) -> None:
        if done is None:
            assert error is not None, "a join is decided or it failed"
            self.hub.private.guesses.note_refused(self, join.topic, error)
            self._refuse_join(join, _join_error(error, join.topic, self.identity))
            return
        decision = done.decision
        if decision.is_error:
            self._refuse_join(join, decision.reply)
            return
        joined = self.session.admit(join)
        subscription = Subscription(self, joined, join, route, self.identity.party)
        joined.subscription = subscription
        self.hub.subscribe(subscription)
        self.hub.count("join", route, "ok")
        self._send_reply(join.join_ref, join.ref, join.topic, "ok", decision.reply)
        self._close_replaced(join)
        self._tell(subscription, decision)

    def _refuse_join(self, join: Join, response: Any) -> None:
        self.session.refuse(join)
        fields = cast("dict[str, Any]", response) if isinstance(response, dict) else {}
        reason: str = fields.get("reason", "refused")
        self.hub.count("join", self.hub.routes.find(join.topic), reason)
        log.info("join_refused", topic=join.topic, agent=self.identity.handle, reason=reason)
        join_ref = None if reason == "unmatched topic" else join.join_ref
        self._send_reply(join_ref, join.ref, join.topic, "error", response)
        self._close_replaced(join)

    def _close_replaced(self, join: Join) -> None:
        if join.replaced is not None:
            self._send_lifecycle(join.replaced, PHX_CLOSE, {})

    def _resume(self, topic: str) -> None:
        """The topic's join is settled: act on the frames that have waited for it."""
        waiting = self._joining.pop(topic).waiting
        while waiting and self.is_open:
            frame = waiting.popleft()
            self._act(frame)
            again = self._joining.get(topic)
            if again is not None:  # A rejoin among them: the rest waits for that one.
                again.waiting.extend(waiting)
                return

    def _leave(self, leave: Leave) -> None:
        subscription: Subscription = leave.joined.subscription
        self.hub.unsubscribe(subscription, is_leaving=True)
        slot = subscription.take_slot()

        def send() -> None:
            self._send_reply(leave.joined.join_ref, leave.ref, leave.joined.topic, "ok", {})
            self._send_lifecycle(leave.joined, PHX_CLOSE, {})

        subscription.fill(slot, send)

    # Pushes.

    def _push(self, push: Push) -> None:
        subscription: Subscription = push.joined.subscription
        handler = subscription.route.handlers.get(push.event)
        slot = subscription.take_slot(len(push.payload))
        try:
            if handler is None:
                raise Invalid(
                    "unknown_event",
                    f"This topic has no event {push.event!r}.",
                    events=sorted(subscription.route.handlers),
                )
            self.limit_event(handler, len(push.payload))
            command = self._command(handler, push.topic, push.payload)
        except (Refusal, InvalidPayload) as refusal:
            self._settle(push, subscription, slot, None, refusal)
            return
        if handler.access is Access.WRITE:
            self.hub.engine.submit(command, lambda done, error: self._settle(push, subscription, slot, done, error))
        elif handler.access is Access.READ:
            self.hub.spawn(self._answer(push, subscription, slot, command))
        else:
            try:
                done = self.hub.engine.decide_at_once(command)
            except Exception as error:  # noqa: BLE001 - the hub's one place for a handler that crashes
                self._settle(push, subscription, slot, None, error)
            else:
                self._settle(push, subscription, slot, done, None)

    async def _answer(self, push: Push, subscription: Subscription, slot: Slot, command: Command) -> None:
        try:
            decision = await self.hub.engine.answer(command)
        except Exception as error:  # noqa: BLE001 - the hub's one place for a question that crashes
            self._settle(push, subscription, slot, None, error)
        else:
            self._settle(push, subscription, slot, Done(decision, ()), None)

    def _settle(
        self, push: Push, subscription: Subscription, slot: Slot, done: Done | None, error: Exception | None
    ) -> None:
        if done is not None:
            self.hub.count("push", subscription.route, "ok", push.event)
            if done.decision.takes is not None:  # Now, not with the reply, which may have to wait: nothing is missed.
                subscription.takes |= {done.decision.takes}
            subscription.fill(slot, lambda: self._reply(push, subscription, done.decision))
            return
        assert error is not None, "an event is decided or it failed"
        if isinstance(error, Refusal | InvalidPayload | StorageUnavailable):
            response = _response(error)
            self.hub.count("push", subscription.route, response["reason"], push.event)
            subscription.fill(slot, lambda: self._reply_to(push, subscription, "error", response))
            return
        log.error(
            "handler_crashed", topic=push.topic, topic_event=push.event, agent=self.identity.handle, exc_info=error
        )
        self.hub.count("push", subscription.route, "crash", push.event)
        subscription.fill(slot, lambda: self.end(subscription, PHX_ERROR, {"reason": "channel_crash"}))

    def _reply(self, push: Push, subscription: Subscription, decision: Decision) -> None:
        if decision.reply is not NO_REPLY:
            self._reply_to(push, subscription, "error" if decision.is_error else "ok", decision.reply)
        self._tell(subscription, decision)

    def _reply_to(self, push: Push, subscription: Subscription, status: str, response: Any) -> None:
        self._send_reply(subscription.join_ref, push.ref, push.topic, status, response)

    def _tell(self, subscription: Subscription, decision: Decision) -> None:
        """What a decision does beside its reply: pushes, presences, the end of the topic, disconnects."""
        for pushed in decision.pushes:
            outgoing = Outgoing(subscription.topic, pushed.event, pushed.payload)
            self.send(outgoing.frame_for(self.vsn, subscription.join_ref))
        if decision.follow is not None:
            feeds.follow(subscription, decision.follow)
        if decision.presence:
            self.hub.change_presence(subscription, decision.presence)
        if decision.stop:
            self.end(subscription, PHX_CLOSE, {})
        if decision.disconnect is not None:
            self.hub.disconnect(decision.disconnect)

    def end(self, subscription: Subscription, event: str, payload: Any) -> None:
        """End a topic from this side: with phx_close, or phx_error after a crash."""
        if self.session.close(subscription.joined):
            self.hub.unsubscribe(subscription)
            self._send_lifecycle(subscription.joined, event, payload)

    def _command(self, handler: Handler, topic: str, payload: Any) -> Command:
        self.identity.require_scope(handler.scope)
        if handler.request is msgspec.Raw:
            request = payload
        elif handler.binary is not None and isinstance(payload, bytes):
            request = handler.binary(payload)
        else:
            request = decode_payload(payload, handler.request)
        return Command(
            handler=handler,
            topic=topic,
            request=request,
            sender=self.identity,
            socket=self,
            instance_id=self.instance_id,
        )

    # What goes out.

    def _send_reply(self, join_ref: Any, ref: Any, topic: str, status: str, response: Any) -> None:
        self.send(encode_reply(self.vsn, join_ref=join_ref, ref=ref, topic=topic, status=status, response=response))

    def _send_lifecycle(self, joined: Joined, event: str, payload: Any) -> None:
        self.send(
            encode_lifecycle(self.vsn, join_ref=joined.join_ref, topic=joined.topic, event=event, payload=payload)
        )

    def _let_go(self) -> None:
        """Every topic ends, and with it the presences there."""
        self._joining.clear()
        for joined in list(self.session.joined.values()):
            if self.session.close(joined):
                self.hub.unsubscribe(joined.subscription)


def _response(error: Exception) -> dict[str, Any]:
    if isinstance(error, Refusal):
        return error.response()
    if isinstance(error, InvalidPayload):
        return {"reason": error.reason, "message": str(error), "field": error.field}
    return {"reason": "unavailable", "message": "The change could not be stored, nothing has happened; try again."}


def _join_error(error: Exception, topic: str, identity: Identity) -> dict[str, Any]:
    if isinstance(error, Refusal | InvalidPayload | StorageUnavailable):
        return _response(error)
    log.error("join_crashed", topic=topic, agent=identity.handle, exc_info=error)
    return {"reason": "join crashed"}
