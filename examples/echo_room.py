"""room:*: a topic of one's own, and everything that a topic can do, in one file.

Serve it with `AGRENTING_TOPICS='["examples.echo_room"]' agrenting serve`. Anybody authenticated may join.

| join payload | effect |
|---|---|
| `deny: true` | the join is refused |
| `presence: false` | no presence is tracked |
| `key`, `meta` | the presence's key (else a unique one) and meta |

| event | reply | effect |
|---|---|---|
| `echo` | the payload, as text or binary | |
| `error_reply` | the payload, as an error | |
| `ignore` | none | |
| `shout` | none | `shout` with the payload to all |
| `shout_from` | `{}` | `shout_from` with the payload to all but the sending socket |
| `push_me` | `{}` | `pushed` with the payload to the sender only |
| `update_meta` | `{}` | the payload replaces the sender's presence meta |
| `crash` | none | the handler raises: `phx_error`, this topic alone |
| `stop` | `{}` | the topic ends normally: `phx_close` |
| `disconnect_me` | `{}` | every socket of the caller's socket id is closed |
"""

from typing import Any

import msgspec

from channels.errors import Forbidden
from channels.handlers import NO_REPLY, Context, Decision, Handler, Push, Track, UpdateMeta
from channels.identity import Identity
from channels.told import Audience, Broadcast

TOPIC = "room:*"

Payload = msgspec.Raw | bytes
"""Undecoded: text as it came, or the bytes of a binary frame."""


class JoinRoom(msgspec.Struct, frozen=True):
    """What a join may ask for."""

    deny: bool = False
    presence: bool = True
    key: str | None = None
    meta: dict[str, Any] = {}


def access(sender: Identity, topic_id: str) -> None:
    """Everybody may."""
    del sender, topic_id


def join(_loaded: None, request: JoinRoom, _context: Context) -> Decision:
    """Join, and be present unless the client does not want it.

    Raises:
        Forbidden: `denied`, because the client asked for it.
    """
    if request.deny:
        raise Forbidden("denied", "You asked to be refused.")
    return Decision(presence=(Track(request.meta, request.key),) if request.presence else ())


def echo(_loaded: None, payload: Payload, _context: Context) -> Decision:
    """Reply the payload."""
    return Decision(reply=payload)


def error_reply(_loaded: None, payload: Payload, _context: Context) -> Decision:
    """Reply the payload as an error."""
    return Decision(reply=payload, is_error=True)


def ignore(_loaded: None, _payload: Payload, _context: Context) -> Decision:
    """Say nothing."""
    return Decision(reply=NO_REPLY)


def shout(_loaded: None, payload: Payload, context: Context) -> Decision:
    """Tell all, the sender too."""
    return Decision(reply=NO_REPLY, broadcasts=(Broadcast(context.topic, "shout", payload),))


def shout_from(_loaded: None, payload: Payload, context: Context) -> Decision:
    """Tell all but the sending socket."""
    return Decision(broadcasts=(Broadcast(context.topic, "shout_from", payload, Audience.OTHER_SOCKETS),))


def push_me(_loaded: None, payload: Payload, _context: Context) -> Decision:
    """Push to the sender only."""
    return Decision(pushes=(Push("pushed", payload),))


def update_meta(_loaded: None, meta: dict[str, Any], context: Context) -> Decision:
    """Replace the sender's presence meta."""
    return Decision(presence=(UpdateMeta(context.topic, meta),))


def crash(_loaded: None, _payload: Payload, _context: Context) -> Decision:
    """Raise, as a bug would."""
    raise RuntimeError("the example crashes because it was told to")


def stop(_loaded: None, _payload: Payload, _context: Context) -> Decision:
    """End the topic for the sender."""
    return Decision(stop=True)


def disconnect_me(_loaded: None, _payload: Payload, context: Context) -> Decision:
    """Close every socket of the caller."""
    return Decision(disconnect=context.sender.socket_id)


ACCESS = access
JOIN = Handler(JoinRoom, join)
HANDLERS = {
    "echo": Handler(msgspec.Raw, echo),
    "error_reply": Handler(msgspec.Raw, error_reply),
    "ignore": Handler(msgspec.Raw, ignore),
    "shout": Handler(msgspec.Raw, shout),
    "shout_from": Handler(msgspec.Raw, shout_from),
    "push_me": Handler(msgspec.Raw, push_me),
    "update_meta": Handler(dict[str, Any], update_meta),
    "crash": Handler(msgspec.Raw, crash),
    "stop": Handler(msgspec.Raw, stop),
    "disconnect_me": Handler(msgspec.Raw, disconnect_me),
}
