"""DacpConnection: one socket's messages of FDC3, from decoding to the response.

    message ─► decode ─► queue ─► act ─► engine ─► response ─► what follows from it

One request is decided at a time, in the order in which they came, so that who pipelines a join, a listener and a
broadcast needs to wait for none of them. A response goes out before any event that its request causes. Whether the
instance sits in the channel is asked for every request anew.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec
import structlog

from agrenting import dacp_frames as dacp
from agrenting.dacp_frames import BadMessage, Message
from agrenting.db.commit import StorageUnavailable
from agrenting.deciding import Command, Done
from agrenting.ids import new_id
from agrenting.open_socket import OpenSocket
from agrenting.transport import HubProtocol
from channels import private
from channels.discovery import TOPIC as DISCOVERY
from channels.errors import Conflict, Forbidden, NotFound, RateLimited, Refusal
from channels.handlers import Access, Context, Decision, Empty, FollowChannel, Handler
from channels.identity import Identity
from channels.private_contexts import BROADCAST
from channels.private_listeners import LISTENERS_MAX
from channels.private_rules import require_member
from channels.private_state import PREFIX, PrivateChannel
from channels.wire import InvalidPayload, decode_payload

if TYPE_CHECKING:
    from agrenting.hub import Hub

log = structlog.get_logger(__name__)

CLOSE_NORMAL: Final = 1000
CLOSE_NOT_JSON: Final = 1003
CLOSE_NO_MESSAGE: Final = 1008
STRIKES_MAX: Final = 3
"""How many messages that could not be answered close the socket."""

_of_channel = msgspec.json.Decoder(dacp.OfChannel).decode


def _seat(channel: PrivateChannel | None, request: Empty, context: Context) -> Decision:
    """Whether the sending instance sits in the channel, by what is stored.

    Raises:
        NotFound: `NoChannelFound`.
        Forbidden: `AccessDenied`.
    """
    del request
    found = require_member(channel, context)
    return Decision(follow=FollowChannel(found.id, found.role_of(context.sender.require_agent()), listens=False))


SEAT: Final = Handler(Empty, _seat, loads="private_channel", access=Access.WRITE, scope="rooms")


class DacpConnection(OpenSocket):
    """One open socket that speaks FDC3's messages.

    Args:
        hub: Who sits where, the engine, settings.
        protocol: The transport.
        identity: An agent, proven before the upgrade.
        instance_id: Which of the agent's programs it is.
    """

    __slots__ = (
        "_deciding",
        "_heartbeat",
        "_is_new",
        "_is_running",
        "_kept",
        "_kept_bytes",
        "_strikes",
        "_unheard",
        "_waiting",
    )

    def __init__(self, hub: "Hub", protocol: HubProtocol, identity: Identity, instance_id: str) -> None:
        super().__init__(hub, protocol, identity, instance_id)
        self._waiting: deque[Message] = deque()
        self._kept: list[str] = []
        """Events that wait for the response of what is being decided."""
        self._kept_bytes = 0
        self._deciding: Message | None = None
        self._is_running = False
        self._is_new = True
        self._strikes = 0
        self._unheard: dict[str, str] = {}
        """Listeners to what never happens here, by id: the request that removes each."""
        self._heartbeat = hub.loop.call_later(hub.settings.dacp_heartbeat_s, self._beat)

    # What comes in.

    def receive(self, message: str | bytes) -> None:
        """One message of the peer."""
        self.heard()
        if not self.is_open or self._is_leaving:
            return
        try:
            request = dacp.decode_message(message)
        except BadMessage as error:
            self._strike(error)
            return
        if request.type == dacp.HEARTBEAT_ACKNOWLEDGEMENT:
            with contextlib.suppress(RateLimited):  # It lives, that is all that it says; but even that costs.
                self.limit("control", 1.0)
            return
        self._waiting.append(request)
        self.under_way(1, request.size)
        self._run()

    def _strike(self, error: BadMessage) -> None:
        self._strikes += 1
        log.info("bad_message", agent=self.identity.handle, error=str(error))
        if self._strikes >= STRIKES_MAX:
            self.close(CLOSE_NO_MESSAGE if error.is_json else CLOSE_NOT_JSON, str(error))

    def _run(self) -> None:
        """Decide what waits, until one has to be waited for."""
        if self._is_running:
            return
        self._is_running = True
        while self._waiting and self._deciding is None and self.is_open:
            self._deciding = request = self._waiting.popleft()
            self._guard(request, partial(self._decide, request))
        self._is_running = False

    def _guard(self, request: Message, act: Callable[[], None]) -> None:
        """Act, answer whatever refuses it, and go on with what waits.

        A request is under way until its response is sent, so that there is exactly one.
        """
        try:
            act()
        except Exception as error:
            if self._deciding is request:
                self._refuse(request, error)
            else:
                log.exception("dacp_crashed", agent=self.identity.handle, type=request.type)
        self._run()

    def _decide(self, request: Message) -> None:
        is_new, self._is_new = self._is_new, False
        if request.type == dacp.GOODBYE:
            self._done(request)
            self.close(CLOSE_NORMAL, "goodbye")
            return
        if request.type == dacp.BROADCAST:
            self.limit_event(BROADCAST, request.size)
        else:
            self.limit("control", 1.0)
        if request.type == dacp.VALIDATE:
            self._validate(request, is_new=is_new)
            return
        act = self.ACTS.get(request.type)
        if act is not None:
            act(self, request)
        else:
            self._answer(request, dacp.ELSEWHERE.get(request.type, {"error": dacp.MALFORMED_MESSAGE}))

    # What goes out.

    def hear(self, event: str, payload: Any) -> None:
        """Send an event, whose payload may be JSON already; while a request is being decided, behind its response."""
        if not self.is_open:
            return
        frame = dacp.encode_event(event, payload, now=self.hub.engine.clock())
        if self._deciding is None:
            self.send(frame)
            return
        self._kept.append(frame)
        self._kept_bytes += len(frame)
        if self._kept_bytes > self.hub.settings.outbox_bytes_max:
            self.too_slow()

    def _beat(self) -> None:
        self.hear(dacp.HEARTBEAT_EVENT, {})
        self._heartbeat = self.hub.loop.call_later(self.hub.settings.dacp_heartbeat_s, self._beat)

    def _answer(self, request: Message, payload: dict[str, Any], then: Callable[[], None] | None = None) -> None:
        """Send the response, and let happen what follows from it."""
        known = request.type in self.ACTS or request.type in dacp.ELSEWHERE
        self.hub.metrics.count("dacp", "", request.type if known else "", payload.get("error", "ok"))
        self._done(request, dacp.encode_response(request, payload, now=self.hub.engine.clock()))
        if then is not None:
            then()

    def _answer_step(self, request: Message, type_: str, payload: dict[str, Any]) -> None:
        self._done(request, dacp.encode_step(request, type_, payload, now=self.hub.engine.clock()))

    def _refuse(self, request: Message, error: Exception) -> None:
        if not isinstance(error, Refusal | InvalidPayload | StorageUnavailable):
            log.error("dacp_crashed", agent=self.identity.handle, type=request.type, exc_info=error)
        if request.type == dacp.VALIDATE:
            self._answer_step(request, dacp.NOT_VALIDATED, {"message": "This cannot be read, or came too often."})
        else:
            self._answer(request, {"error": dacp.error_of(request.type, error)})

    def _done(self, request: Message, response: str | None = None) -> None:
        self._deciding = None
        kept, self._kept, self._kept_bytes = self._kept, [], 0
        for frame in kept if response is None else [response, *kept]:
            self.send(frame)
        self.under_way(-1, -request.size)

    # Who it is.

    def _validate(self, request: Message, *, is_new: bool) -> None:
        """Take an instance up again, where that is asked for and proven; if not, it is a new one."""
        asked = decode_payload(request.payload, dacp.ValidateAppIdentity)
        if not is_new:
            self._answer_step(request, dacp.NOT_VALIDATED, {"message": "This comes first on a socket, or not at all."})
            return
        seats = self.hub.private
        if asked.instance_id is not None and asked.instance_uuid is not None:
            seats.attach(self, instance_id=asked.instance_id, instance_uuid=asked.instance_uuid)
        own = {
            "appId": self.identity.handle,
            "instanceId": self.instance_id,
            "instanceUuid": seats.uuid_of(self),
            "implementationMetadata": self._metadata(),
        }
        self._answer_step(request, dacp.VALIDATED, own)

    def _info(self, request: Message) -> None:
        self._answer(request, {"implementationMetadata": self._metadata()})

    def _metadata(self) -> dict[str, Any]:
        return dacp.implementation_metadata(app_id=self.identity.handle, instance_id=self.instance_id)

    # What the rules of private channels decide.

    def _create(self, request: Message) -> None:
        asked = decode_payload(request.payload, Empty)
        if self.hub.private.seats_count(self) >= self.hub.settings.topics_per_socket_max:
            raise Conflict("CreationFailed", "You sit in too many private channels; leave one first.")
        self._submit(request, private.CREATE_SEATED, DISCOVERY, asked, partial(self._created, request))

    def _created(self, request: Message, decision: Decision) -> None:
        channel = decision.reply["channel"]
        payload = {"privateChannel": channel}
        if request.type == dacp.CREATE_ALIAS:
            payload["channel"] = channel
        self._answer(request, payload, partial(self._sit, decision))

    def _join(self, request: Message) -> None:
        asked = decode_payload(request.payload, dacp.JoinChannel)
        channel_id = _require_private(asked.channel_id)
        seats = self.hub.private
        self.limit("joins", 1.0)
        try:
            seats.guesses.require_may_try(self, channel_id)
        except RateLimited as limited:
            raise Forbidden("AccessDenied", "Too many of your joins were refused there.") from limited
        if not seats.sits(self, channel_id) and seats.seats_count(self) >= self.hub.settings.topics_per_socket_max:
            raise Forbidden("AccessDenied", "You sit in too many private channels; leave one first.")
        enter = private.Enter(token=asked.invitation_token)
        self._submit(request, private.ENTER, channel_id, enter, partial(self._joined, request))

    def _joined(self, request: Message, decision: Decision) -> None:
        self._answer(request, {"channel": decision.reply["channel"]}, partial(self._sit, decision))

    def _sit(self, decision: Decision) -> None:
        follow = decision.follow
        assert isinstance(follow, FollowChannel), "who creates or joins a private channel sits there"
        self.hub.private.sit(self, follow.channel_id, follow.role)

    def _by_rule(self, request: Message) -> None:
        """An event that is the same on a Phoenix topic."""
        handler = private.HANDLERS[request.type]
        try:
            channel_id = _of_channel(request.payload).channel_id
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidPayload("channelId", "names a private channel") from error
        asked = decode_payload(request.payload, handler.request)
        answers = _ANSWERED.get(request.type, ())

        def settle(decision: Decision) -> None:
            self._answer(request, {name: decision.reply[name] for name in answers})

        self._submit(request, handler, _require_private(channel_id), asked, settle)

    def _submit(
        self, request: Message, handler: Handler, topic: str, asked: Any, settle: Callable[[Decision], None]
    ) -> None:
        self.identity.require_scope(handler.scope)
        command = Command(
            handler=handler,
            topic=topic,
            request=asked,
            sender=self.identity,
            socket=self,
            instance_id=self.instance_id,
        )
        self.hub.engine.submit(command, lambda done, error: self._settled(request, topic, settle, done, error))

    def _settled(
        self,
        request: Message,
        topic: str,
        settle: Callable[[Decision], None],
        done: Done | None,
        error: Exception | None,
    ) -> None:
        if done is None:
            assert error is not None, "a request is decided or it failed"
            if request.type == dacp.JOIN:
                self.hub.private.guesses.note_refused(self, topic, error)
            self._guard(request, partial(self._refuse, request, error))
        elif self.is_open:
            self._guard(request, partial(settle, done.decision))
        elif isinstance(done.decision.follow, FollowChannel):
            self.hub.private.missed(self, done.decision.follow)

    # Listeners.

    def _listen(self, request: Message) -> None:
        asked = decode_payload(request.payload, dacp.Listen)
        if asked.channel_id is None:
            self._add_unheard(request, dacp.UNLISTEN)
            return
        channel_id = asked.channel_id

        def act() -> None:
            id_, notices = self.hub.private.listen(self, channel_id, asked.context_type)
            self._answer(request, {"listenerUUID": id_}, partial(self.hub.private.tell, channel_id, notices))

        self._once_seated(request, channel_id, act)

    def _watch(self, request: Message) -> None:
        asked = decode_payload(request.payload, dacp.Watch)
        channel_id = asked.private_channel_id

        def act() -> None:
            id_, notices = self.hub.private.watch(self, channel_id, asked.listener_type)
            self._answer(request, {"listenerUUID": id_}, partial(self.hub.private.tell, channel_id, notices))

        self._once_seated(request, channel_id, act)

    def _once_seated(self, request: Message, channel_id: str, act: Callable[[], None]) -> None:
        """Act, if the instance sits there; which refusal it is otherwise is asked of the database."""
        if self.hub.private.sits(self, channel_id):
            act()
            return

        def settle(decision: Decision) -> None:
            self._sit(decision)
            act()

        self._submit(request, SEAT, _require_private(channel_id), Empty(), settle)

    def _unlisten(self, request: Message) -> None:
        id_ = decode_payload(request.payload, dacp.Unlisten).listener_uuid
        if self._unheard.get(id_) == request.type:
            del self._unheard[id_]
            self._answer(request, {})
            return
        channel_id = self._channel_of(id_)
        notices = self.hub.private.unlisten(self, channel_id, id_)
        self._answer(request, {}, partial(self.hub.private.tell, channel_id, notices))

    def _unwatch(self, request: Message) -> None:
        id_ = decode_payload(request.payload, dacp.Unlisten).listener_uuid
        self.hub.private.unwatch(self, self._channel_of(id_), id_)
        self._answer(request, {})

    def _channel_of(self, listener_id: str) -> str:
        channel_id = self.hub.private.channel_of(self, listener_id)
        if channel_id is None:
            raise Forbidden("AccessDenied", "You have no such listener.")
        return channel_id

    def _add_event_listener(self, request: Message) -> None:
        self._add_unheard(request, dacp.REMOVE_EVENT_LISTENER)

    def _remove_event_listener(self, request: Message) -> None:
        id_ = decode_payload(request.payload, dacp.Unlisten).listener_uuid
        if self._unheard.get(id_) != request.type:
            raise Forbidden("AccessDenied", "You have no such listener.")
        del self._unheard[id_]
        self._answer(request, {})

    def _add_unheard(self, request: Message, removed_by: str) -> None:
        """Take a listener to what never happens here: user channels, and the agent's own events."""
        if len(self._unheard) >= LISTENERS_MAX:
            raise Forbidden("AccessDenied", f"You have {LISTENERS_MAX} such listeners; remove one first.")
        id_ = new_id()
        self._unheard[id_] = removed_by
        self._answer(request, {"listenerUUID": id_})

    ACTS: ClassVar[Mapping[str, Callable[[Any, Message], None]]] = {
        dacp.GET_INFO: _info,
        dacp.CREATE: _create,
        dacp.CREATE_ALIAS: _create,
        dacp.JOIN: _join,
        dacp.INVITE: _by_rule,
        dacp.REVOKE: _by_rule,
        dacp.REMOVE: _by_rule,
        dacp.LEAVE: _by_rule,
        dacp.DISCONNECT: _by_rule,
        dacp.BROADCAST: _by_rule,
        dacp.GET_CONTEXT: _by_rule,
        dacp.LISTEN: _listen,
        dacp.UNLISTEN: _unlisten,
        dacp.WATCH: _watch,
        dacp.UNWATCH: _unwatch,
        dacp.ADD_EVENT_LISTENER: _add_event_listener,
        dacp.REMOVE_EVENT_LISTENER: _remove_event_listener,
    }
    """What each request does. Of what is elsewhere in FDC3, and of what is nowhere, nothing does anything."""

    def _let_go(self) -> None:
        """Nothing more is decided of what waits."""
        self._heartbeat.cancel()
        self._waiting.clear()
        self._kept.clear()


def _require_private(channel_id: str) -> str:
    """The id of what may be a private channel.

    Raises:
        NotFound: `NoChannelFound`.
    """
    if not channel_id.startswith(PREFIX):
        raise NotFound("NoChannelFound", "There is no such private channel, or it is closed.")
    return channel_id


_ANSWERED: Final[Mapping[str, tuple[str, ...]]] = {
    dacp.INVITE: ("invitationToken",),
    dacp.GET_CONTEXT: ("context",),
}
"""What of the reply of a Phoenix topic stands in the response; of the others nothing does."""
