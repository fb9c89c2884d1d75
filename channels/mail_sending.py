"""Sending messages: what one agent writes into the mailbox of another, and what an operator tells an agent.

Who may: agents, to whom the gate lets them write, as it lets them open a session; operators, with `system` messages,
which need nothing. Nobody else sends those, so what speaks for the house is the house's.
"""

import re
from datetime import timedelta
from string import digits
from typing import Any, Final

import msgspec

from channels.agents import Agent
from channels.changes import Mail
from channels.contacts import NO_TIE, Kind, Tie
from channels.documents import is_same_document, require_document
from channels.errors import Conflict, Forbidden, Invalid, not_found
from channels.fields import invalid_payload
from channels.handlers import Access, Context, Decision, Handler
from channels.identity import Identity
from channels.limits import Limits
from channels.messages import StoredMessage, stored
from channels.opening import Opening, require_partner

SYSTEM: Final = "system"
TYPES: Final = ("negotiation", "task_handoff", "status_update", "collaboration", SYSTEM)
"""What a message may be about; agents add types of their own, which begin with `x_`."""

OWN_TYPE: Final = re.compile(r"x_[a-z0-9_]{1,62}\Z")
DEDUP_KEY_CHARS_MAX: Final = 128


class SendMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message to an agent.

    Args:
        type: `negotiation`, `task_handoff`, `status_update`, `collaboration`, `system`, or one that begins with `x_`.
        payload: Any JSON, at most 64 KiB.
        to_agent_id, to_handle: The receiver, by one of the two; a handle with or without `@`.
        protocol_version: Of the payload; without it, the highest that both have declared.
        dedup_key: 1-128 characters: within 7 days the sender's messages of one key are one message.
    """

    type: str
    payload: Any
    to_agent_id: str | None = None
    to_handle: str | None = None
    protocol_version: str | None = None
    dedup_key: str | None = None


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """What sending rests on.

    Args:
        sender: None for a user.
        receiver: None where there is none of that id or handle.
        tie: Of the sender towards the receiver.
        before: The sender's newest message of the same dedup_key.
        pair_count: Undelivered messages of the sender to the receiver.
        house_count: Undelivered messages to the receiver that agents of the sender's owner have written.
        mailbox_count: Undelivered messages to the receiver.
    """

    sender: Agent | None
    receiver: Agent | None
    tie: Tie = NO_TIE
    before: StoredMessage | None = None
    pair_count: int = 0
    house_count: int = 0
    mailbox_count: int = 0


def send(facts: Sending, request: SendMessage, context: Context) -> Decision:
    """Leave a message in an agent's mailbox. The same dedup_key again answers the first message, as it stands now.

    That is asked before all that may have changed since, so who repeats a call whose answer was lost always learns
    what became of it.

    Raises:
        Forbidden: `forbidden_role`: only operators send `system`; `agent_required`; `contact_required`,
            `contact_scope_exceeded`.
        Invalid: `invalid_payload`, `same_agent`, `no_common_version` with both lists.
        NotFound: `not_found`: the receiver.
        Conflict: `dedup_mismatch` with message_id, `blocked_by_you`, `agent_unavailable`, `mailbox_full` with max and
            scope.
    """
    is_system = _require_sender(request.type, context.sender)
    _require_form(request, context.market.limits)
    before = _sent_before(facts, request, context)
    if before is not None:
        return Decision(reply={**sent(before, context), "duplicate": True})
    receiver = _require_receiver(facts, is_system=is_system)
    version = version_between(
        (facts.sender or receiver).protocol_versions, receiver.protocol_versions, wanted=request.protocol_version
    )
    if not is_system:
        require_pair_room(facts.pair_count, context.market.limits)
        if receiver.owner_id != context.sender.user_id:
            _require_house_room(facts.house_count, context.market.limits)
        _require_mailbox_room(facts.mailbox_count, context.market.limits)
    mail = Mail(
        to_agent_id=receiver.id,
        type=request.type,
        payload=request.payload,
        from_agent_id=context.sender.agent_id,
        protocol_version=version,
        dedup_key=request.dedup_key,
        id=context.new_id(),
        is_from_market=is_system,
    )
    return Decision(reply=sent(stored(mail, context), context), changes=(mail,))


def sent(message: StoredMessage, context: Context) -> dict[str, Any]:
    """A message whole, as sender and receiver read it, by the clock. Its dedup_key is the sender's alone."""
    now = message.at(context.now)
    return {
        "id": now.id,
        "type": now.type,
        "payload": now.payload,
        "from_agent_id": now.from_agent_id,
        "to_agent_id": now.to_agent_id,
        "protocol_version": now.protocol_version,
        "from_market": now.is_from_market,
        "dedup_key": None if context.sender.agent_id == now.to_agent_id else now.dedup_key,
        "status": now.status,
        "reason": now.reason,
        "inserted_at": now.inserted_at,
        "updated_at": now.updated_at,
        "expires_at": now.expires_at,
    }


def require_reader(message: StoredMessage | None, context: Context) -> StoredMessage:
    """The message, for its receiver and its sender alone.

    Raises:
        NotFound: `not_found`.
    """
    agent_id = context.sender.require_agent()
    if message is None or agent_id not in {message.to_agent_id, message.from_agent_id}:
        raise not_found("message")
    return message


def version_between(own: tuple[str, ...], other: tuple[str, ...], *, wanted: str | None) -> str:
    """The protocol version of a message: the one that is wanted, or the highest that both have declared.

    Versions are compared part by part, as numbers where they are such: 1.10 is higher than 1.9, and 1.0 than 1.0-beta.

    Args:
        own: What the sender has declared.
        other: What the receiver has declared.
        wanted: None for the highest.

    Raises:
        Invalid: `no_common_version`, with both lists.
    """
    common = [version for version in own if version in other and wanted in {None, version}]
    if not common:
        raise Invalid(
            "no_common_version",
            "A message has a protocol version that both agents have declared"
            + (f", and {wanted} is none." if wanted is not None else ", and these have none in common."),
            own_versions=own,
            other_versions=other,
        )
    return max(common, key=_parts)


def require_pair_room(pair_count: int, limits: Limits) -> None:
    """Refuse one more message of one agent to another that answers none.

    Raises:
        Conflict: `mailbox_full`, scope `sender`, with max.
    """
    if pair_count >= limits.messages_per_sender_max:
        raise Conflict(
            "mailbox_full",
            f"{limits.messages_per_sender_max} messages of yours wait for this agent; wait until it has some of them.",
            max=limits.messages_per_sender_max,
            scope="sender",
        )


def _require_house_room(house_count: int, limits: Limits) -> None:
    """Refuse one more message of one owner's agents: agents cost nothing, and a few would fill a mailbox for all."""
    if house_count >= limits.messages_per_house_max:
        raise Conflict(
            "mailbox_full",
            f"{limits.messages_per_house_max} messages of your owner's agents wait for this agent;"
            " wait until it has some of them.",
            max=limits.messages_per_house_max,
            scope="house",
        )


def _require_mailbox_room(mailbox_count: int, limits: Limits) -> None:
    if mailbox_count >= limits.mailbox_max:
        raise Conflict(
            "mailbox_full",
            f"{limits.mailbox_max} messages wait for this agent; try again when it has some of them.",
            max=limits.mailbox_max,
            scope="mailbox",
        )


def _require_sender(type_: str, sender: Identity) -> bool:
    """Whether the house itself speaks; who may not send such a message is refused."""
    is_system = type_ == SYSTEM
    if is_system and not sender.is_operator:
        raise Forbidden("forbidden_role", "Only operators send system messages; choose another type.")
    if not is_system:
        sender.require_agent()
    return is_system


def _require_form(request: SendMessage, limits: Limits) -> None:
    """Check all that has to do with the request alone."""
    if request.type not in TYPES and not OWN_TYPE.match(request.type):
        raise invalid_payload("type", f"A type is one of {', '.join(TYPES)}, or x_ and 1-62 of a-z, 0-9 and _.")
    if (request.to_agent_id is None) == (request.to_handle is None):
        raise invalid_payload("to_agent_id", "Name the receiver by to_agent_id or by to_handle, one of the two.")
    require_document("payload", request.payload, bytes_max=limits.message_payload_bytes_max)
    if request.dedup_key is not None and not 1 <= len(request.dedup_key) <= DEDUP_KEY_CHARS_MAX:
        raise invalid_payload("dedup_key", f"A dedup_key has 1-{DEDUP_KEY_CHARS_MAX} characters.")


def _sent_before(facts: Sending, request: SendMessage, context: Context) -> StoredMessage | None:
    """The sender's message of the same dedup_key; one with other contents is refused."""
    before = facts.before
    if before is None or context.now >= before.inserted_at + timedelta(seconds=context.market.limits.dedup_ttl_s):
        return None
    is_to_the_same = facts.receiver is not None and facts.receiver.id == before.to_agent_id
    if is_to_the_same and before.type == request.type and is_same_document(before.payload, request.payload):
        return before
    raise Conflict(
        "dedup_mismatch",
        "You have sent another message with this dedup_key; take a new one.",
        message_id=before.id,
    )


def _require_receiver(facts: Sending, *, is_system: bool) -> Agent:
    if not is_system:
        assert facts.sender is not None, "only agents send anything else"
        opening = Opening(client=facts.sender, provider=facts.receiver, open_count=0, tie=facts.tie)
        return require_partner(opening, kind=Kind.MESSAGE, keys=False)
    if facts.receiver is None:
        raise not_found("agent")
    return facts.receiver


def _parts(version: str) -> list[tuple[int, bool, str]]:
    parts: list[tuple[int, bool, str]] = []
    for part in version.split("."):
        rest = part.lstrip(digits)
        number = part.removesuffix(rest) if rest else part
        parts.append((int(number or -1), not rest, rest))  # What has no number is before what has.
    return parts


SEND = Handler(SendMessage, send, loads="mail_sending", access=Access.WRITE, scope="messages", rate="message")
