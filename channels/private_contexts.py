"""Contexts in a private channel: told to its members, and kept as the newest of their types.

A context is any JSON object with a string `type`; what else stands in it is handed on as it came. It is told once it is
stored, to the other members that listen to its type, and never again: who comes later asks for the current one.

Source: FDC3 2.2, Context; `broadcastRequest`, `getCurrentContextRequest`.
"""

from typing import Any, Final, cast

import msgspec

from channels.changes import StoreContext
from channels.errors import Invalid
from channels.handlers import Access, Context, Decision, Handler
from channels.limits import Limits
from channels.private_rules import PrivateContext, require_member
from channels.private_state import PrivateChannel
from channels.told import ContextTold

TYPE_CHARS_MAX: Final = 256


class BroadcastContext(msgspec.Struct, frozen=True, kw_only=True):
    """Tell the other members a context: any JSON object with a `type`."""

    context: Any = None


class GetCurrentContext(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Ask for the newest context of a type, exactly that one; null: the newest of all."""

    context_type: str | None = None


def require_context(context: Any, limits: Limits) -> dict[str, Any]:
    """A context that every FDC3 client can take.

    Args:
        context: Any JSON value.
        limits: How large it may be, as compact JSON.

    Raises:
        Invalid: `MalformedContext`, saying what is wrong.
    """
    if not isinstance(context, dict):
        raise _malformed("A context is a JSON object.")
    found = cast("dict[str, Any]", context)
    type_ = found.get("type")
    if not isinstance(type_, str) or not 1 <= len(type_) <= TYPE_CHARS_MAX:
        raise _malformed(f"A context has a type: a string of 1-{TYPE_CHARS_MAX} characters.")
    if not isinstance(found.get("name", ""), str):
        raise _malformed("A context's name is a string, or absent.")
    if not _is_of_strings(found.get("id", {})):
        raise _malformed("A context's id is an object of strings, or absent.")
    bytes_max = limits.private_context_bytes_max
    if len(msgspec.json.encode(found)) > bytes_max:
        raise _malformed(f"A context has at most {bytes_max} bytes as JSON.")
    return found


def broadcast(channel: PrivateChannel | None, request: BroadcastContext, context: Context) -> Decision:
    """Tell a context to the other members that listen to its type, and keep it as the newest of that type.

    Raises:
        NotFound: `NoChannelFound`.
        Forbidden: `AccessDenied`: the sending instance does not sit in the channel.
        Invalid: `MalformedContext`.
    """
    found = require_member(channel, context)
    told = require_context(request.context, context.market.limits)
    return Decision(
        changes=(StoreContext(found.id, told),),
        broadcasts=(
            ContextTold(
                channel_id=found.id,
                agent_id=context.sender.require_agent(),
                instance_id=context.instance_id,
                context=told,
            ),
        ),
    )


def current_context(loaded: PrivateContext, request: GetCurrentContext, context: Context) -> Decision:
    """The newest context of the type, or of all; null where there is none.

    Raises:
        NotFound: `NoChannelFound`.
        Forbidden: `AccessDenied`: the sending instance does not sit in the channel.
    """
    del request
    require_member(loaded.channel, context)
    return Decision(reply={"context": loaded.context})


def _malformed(message: str) -> Invalid:
    return Invalid("MalformedContext", message)


def _is_of_strings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in cast("dict[str, Any]", value).values())


BROADCAST: Final = Handler(
    BroadcastContext, broadcast, loads="private_channel", access=Access.WRITE, scope="rooms", rate="message"
)
CURRENT_CONTEXT: Final = Handler(
    GetCurrentContext, current_context, loads="private_context", access=Access.WRITE, scope="rooms"
)
"""In order with the broadcasts: who asks after one that it sent is answered that one."""
