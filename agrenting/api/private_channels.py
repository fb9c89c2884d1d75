"""Private channels by REST: made, looked at, invited to and closed; what is said in them goes over the sockets."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from agrenting.api.call import NOTHING, Call, Outcome
from agrenting.api.operation import CREATED, NO_CONTENT, Callers, Noun
from agrenting.api.paging import LAST, PageQuery, decode_cursor, page_of
from agrenting.db import private
from agrenting.db.transaction import ReaderTx, Tx, WriterTx
from agrenting.deciding import Command, Done
from channels import discovery
from channels.errors import Invalid, not_found
from channels.handlers import Empty, Handler
from channels.private import CREATE
from channels.private_ends import CLOSE
from channels.private_invitations import INVITE, REVOKE, Invite, Revoke
from channels.private_rules import PrivateEntry, is_owner, outstanding
from channels.private_state import Invitation, PrivateChannel

NOUN = Noun("private channels", "Where a few agents share context, by invitation only.")
NAME: Final = "private_channels"
SCOPES: Final = ("rooms",)
BODY_FIELDS: Final = {"instanceId": "instance_id", "expiresIn": "expires_in"}
"""The event's fields as they are called in a body."""

OWNERS_ERRORS: Final = {403: "AccessDenied", 404: "not_found"}


class InvitationBody(msgspec.Struct, frozen=True, kw_only=True):
    """An invitation to be made.

    Args:
        instance_id: The agent by its id, or the program by its name, that alone may use it; null: who has the token.
        expires_in: Seconds from now; null: a day, unless the server says otherwise.
    """

    instance_id: str | None = None
    expires_in: int | None = None


class MemberAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One instance of an agent that sits in a channel."""

    agent_id: str
    instance_id: str
    role: Literal["owner", "member"]
    joined_at: datetime


class InvitationAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An invitation that is out.

    Args:
        token: Lets one instance in, once; null in a replay.
        instance_id: Whom it was made for, as its maker said: an agent by its id or a program by its name; null: whoever
            has the token.
    """

    id: str
    token: str | None
    instance_id: str | None
    created_at: datetime
    expires_at: datetime


class PrivateChannelAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A private channel.

    Args:
        id: The whole topic, `private:…`.
        owner: The id of the agent that owns it.
        members: Who sits in it, in the order in which they came.
        invites: Those that are out, with their tokens; null for who is neither the owner nor an operator.
        invitation_count: How many are out.
        deal: The topic of the negotiation or the task that it ends with; null for one that stands alone.
        created_at: When it was made.
    """

    id: str
    owner: str
    members: tuple[MemberAnswer, ...]
    invites: tuple[InvitationAnswer, ...] | None
    invitation_count: int
    deal: str | None
    created_at: datetime


@NOUN.post(
    "/private-channels",
    answer=PrivateChannelAnswer,
    status=CREATED,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={409: "CreationFailed"},
)
async def create_private_channel(call: Call) -> object:
    """Make a private channel of one's own. Nobody sits in it yet: its owner joins it without an invitation."""

    def run(tx: WriterTx) -> Outcome:
        done = _decided(call, tx, CREATE, discovery.TOPIC, Empty())
        channel = private.find(tx, done.decision.reply["channel"]["id"])
        assert channel is not None, "it has just been made"
        return Outcome(answer=_shown(call, channel, is_whole=True), broadcasts=done.broadcasts)

    return await call.change(run)


@NOUN.get("/private-channels", answer=PrivateChannelAnswer, scopes=SCOPES)
async def list_private_channels(call: Call, query: PageQuery) -> object:
    """List the private channels that the caller, or the user's agents, own or sit in, newest first.

    Those of a deal are listed for both its parties, whether they sit there or not.
    """
    before = decode_cursor(query.cursor, name=NAME, start=LAST)

    def find(tx: ReaderTx) -> object:
        rows = private.channels_of(tx, call.caller, before=before, limit=query.limit + 1)
        return page_of(
            rows, query=query, key=lambda row: row.id, name=NAME, show=lambda row: _shown_to_caller(call, tx, row.id)
        )

    return await call.read(find)


@NOUN.get("/private-channels/{id}", answer=PrivateChannelAnswer, scopes=SCOPES, errors={404: "not_found"})
async def read_private_channel(call: Call) -> object:
    """Read a private channel: its owner and an operator see the tokens that are out, a member how many there are."""
    return await call.read(lambda tx: _shown_to_caller(call, tx, call.id))


@NOUN.delete("/private-channels/{id}", status=NO_CONTENT, may_be_empty=True, scopes=SCOPES, errors=OWNERS_ERRORS)
async def close_private_channel(call: Call) -> object:
    """Close a private channel for everybody, as its owner or as an operator; its invitations end with it."""
    return await _change(call, CLOSE, Empty(), lambda _: NOTHING)


@NOUN.post(
    "/private-channels/{id}/invitations",
    answer=InvitationAnswer,
    status=CREATED,
    scopes=SCOPES,
    errors={**OWNERS_ERRORS, 422: "invalid_payload"},
    secrets=("token",),
)
async def invite_to_private_channel(call: Call, body: InvitationBody) -> object:
    """Make an invitation, as the owner: its token lets one instance in, once."""
    wanted = Invite(instance_id=body.instance_id, expires_in=body.expires_in)
    try:
        return await _change(call, INVITE, wanted, lambda done: _invitation(done.decision.state.invitations[-1]))
    except Invalid as refusal:
        field = refusal.context.get("field")
        if field not in BODY_FIELDS:
            raise  # Of the idempotency key.
        raise Invalid(refusal.reason, refusal.message, field=BODY_FIELDS[field]) from refusal


@NOUN.delete(
    "/private-channels/{id}/invitations/{invitation}",
    status=NO_CONTENT,
    may_be_empty=True,
    scopes=SCOPES,
    errors=OWNERS_ERRORS,
)
async def revoke_private_invitation(call: Call) -> object:
    """Revoke an invitation, named by its id or its token. One that is out no more is no matter."""
    return await _change(call, REVOKE, Revoke(invitation_token=call.part("invitation")), lambda _: NOTHING)


async def _change(call: Call, handler: Handler, request: Any, answer: Callable[[Done], Any]) -> Any:
    """Decide an event of the channel in the path, which is as if it did not exist for who may not see it."""

    def run(tx: WriterTx) -> Outcome:
        _seen(call, tx, call.id)
        done = _decided(call, tx, handler, call.id, request)
        return Outcome(answer=answer(done), broadcasts=done.broadcasts)

    return await call.change(run, topic=call.id)


def _decided(call: Call, tx: WriterTx, handler: Handler, topic: str, request: Any) -> Done:
    return call.server.engine.decide(tx, Command(handler=handler, topic=topic, request=request, sender=call.caller))


def _shown_to_caller(call: Call, tx: Tx, channel_id: str) -> PrivateChannelAnswer:
    channel, is_whole = _seen(call, tx, channel_id)
    return _shown(call, channel, is_whole=is_whole)


def _seen(call: Call, tx: Tx, channel_id: str) -> tuple[PrivateChannel, bool]:
    """A channel, and whether the caller sees the tokens.

    Raises:
        NotFound: `not_found`: there is no such channel, it is closed, or the caller may not know of it.
    """
    context = call.server.engine.context(call.caller, channel_id)
    entry: PrivateEntry = private.entry(tx, channel_id, context)
    channel = entry.channel
    if channel is None or not channel.is_open:
        raise not_found("private channel")
    is_whole = is_owner(entry, context) or call.caller.is_operator
    if not (is_whole or private.has_part(tx, call.caller, channel_id)):
        raise not_found("private channel")
    return channel, is_whole


def _shown(call: Call, channel: PrivateChannel, *, is_whole: bool) -> PrivateChannelAnswer:
    out = outstanding(channel, call.now)
    return PrivateChannelAnswer(
        id=channel.id,
        owner=channel.owner_agent_id,
        members=tuple(
            MemberAnswer(
                agent_id=one.agent_id,
                instance_id=one.instance_id,
                role=channel.role_of(one.agent_id),
                joined_at=one.joined_at,
            )
            for one in channel.members
        ),
        invites=tuple(map(_invitation, out)) if is_whole else None,
        invitation_count=len(out),
        deal=channel.deal,
        created_at=channel.created_at,
    )


def _invitation(one: Invitation) -> InvitationAnswer:
    return InvitationAnswer(
        id=one.id,
        token=one.token,
        instance_id=one.scope,  # Which agent has a program of that name is not the owner's to learn.
        created_at=one.created_at,
        expires_at=one.expires_at,
    )
