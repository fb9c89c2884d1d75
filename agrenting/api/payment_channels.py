"""Payment channels: opening and answering, money in, the way out without the other party, and what is on record."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Literal

import msgspec

from agrenting.api.call import Call, Raw, Streamed
from agrenting.api.operation import CREATED, Callers, Noun
from agrenting.api.paging import LAST, LIMIT_DEFAULT, Limit, Page, PageQuery, decode_cursor, page, page_of
from agrenting.api.payment_answers import (
    AcceptanceBody,
    ChannelAnswer,
    DepositBody,
    HistoryEnd,
    OpenChannelBody,
    SignedState,
    StepAnswer,
)
from agrenting.api.receipts import MEDIA_TYPE, Receipt, channel_receipt, platform_signature
from agrenting.db import channel_steps, pages, states
from agrenting.db.transaction import ReaderTx
from channels import discovery, payment
from channels.channel_steps import ChannelStep, StepKind
from channels.handlers import Empty
from channels.payment import JoinChannel
from channels.payment_known import signed_state
from channels.payment_opening import ACCEPT, CANCEL, DECLINE, DEPOSIT, OPEN, DeclineChannel
from channels.payment_state import PaymentChannel, Phase, history_header, require_party, snapshot
from crypto import HistoryDigest

NOUN = Noun("payment channels", "Paying in small, doubly signed steps out of money that is locked.")
NAME = "payment_channels"
SCOPES = ("payments",)
JSON_LINES = "application/jsonl"
STEPS_AT_ONCE = 500
NONCE_MAX = 2**53 - 1
PENDING_ERRORS = {
    403: "forbidden_role",
    404: "not_found",
    409: "terminal_state channel_not_pending state_lost recently_restored",
    410: "expired",
}


class ChannelsQuery(PageQuery, frozen=True, kw_only=True):
    """Which of the caller's payment channels, newest first.

    Args:
        role: Only those where this is the caller's part.
        status: Only those that stand so.
    """

    role: Literal["opener", "counterparty"] | None = None
    status: Phase | None = None


class TransfersQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which signed states.

    Args:
        after: Only those of a higher nonce; `next_cursor` of the page before.
        limit: Nonces on a page at most; those that were voided have no state.
    """

    after: Annotated[int, msgspec.Meta(ge=0, le=NONCE_MAX)] = 0
    limit: Limit = LIMIT_DEFAULT


class HistoryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which steps.

    Args:
        after: Only those of a higher number; `next_cursor` of the page before.
        limit: Steps on a page at most.
    """

    after: Annotated[int, msgspec.Meta(ge=0, le=NONCE_MAX)] = 0
    limit: Limit = LIMIT_DEFAULT


@NOUN.post(
    "/payment-channels",
    answer=ChannelAnswer,
    status=CREATED,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={
        403: "contact_required contact_scope_exceeded",
        404: "not_found",
        409: "blocked_by_you public_key_required agent_unavailable too_many_open spend_cap_exceeded"
        " insufficient_balance mailbox_full",
        422: "same_agent amount_out_of_range invalid_amount window_out_of_range",
    },
)
async def open_channel(call: Call, body: OpenChannelBody) -> object:
    """Open a payment channel: the deposit is locked, and the counterparty gets a stored message of it."""
    return await call.decide(OPEN, discovery.TOPIC, body.request(call.market.exponent))


@NOUN.get("/payment-channels", answer=ChannelAnswer, callers=Callers.AGENT, scopes=SCOPES)
async def list_channels(call: Call, query: ChannelsQuery) -> object:
    """List the caller's payment channels, newest first."""
    before = decode_cursor(query.cursor, name=NAME, start=LAST)
    rows = await call.read(
        lambda tx: pages.of_agent(
            tx, "payment", call.agent_id, role=query.role, status=query.status, before=before, limit=query.limit + 1
        )
    )
    return page_of(rows, query=query, key=lambda row: row.id, name=NAME, show=lambda row: snapshot(row, call.market))


@NOUN.get(
    "/payment-channels/{id}", answer=ChannelAnswer, callers=Callers.AGENT, scopes=SCOPES, errors={404: "not_found"}
)
async def read_channel(call: Call) -> object:
    """Read a payment channel of one's own, also once it has ended."""
    return await call.ask(payment.JOIN, topic_of(call), JoinChannel())


@NOUN.post(
    "/payment-channels/{id}/accept",
    answer=ChannelAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={
        **PENDING_ERRORS,
        409: "terminal_state channel_not_pending state_lost contact_revoked agent_unavailable spend_cap_exceeded"
        " insufficient_balance mailbox_full",
        422: "amount_out_of_range invalid_amount",
    },
)
async def accept_channel(call: Call, body: AcceptanceBody) -> object:
    """Accept a channel, with a deposit of one's own or without; counterparty only. It is open then."""
    return await call.decide(ACCEPT, topic_of(call), body.request(call.market.exponent))


@NOUN.post(
    "/payment-channels/{id}/decline",
    answer=ChannelAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={**PENDING_ERRORS, 409: f"{PENDING_ERRORS[409]} mailbox_full"},
)
async def decline_channel(call: Call, body: DeclineChannel) -> object:
    """Decline a channel; counterparty only. The opener has its deposit back."""
    return await call.decide(DECLINE, topic_of(call), body)


@NOUN.post(
    "/payment-channels/{id}/cancel", answer=ChannelAnswer, callers=Callers.AGENT, scopes=SCOPES, errors=PENDING_ERRORS
)
async def cancel_channel(call: Call) -> object:
    """Take a channel back that nobody has accepted; opener only, who has its deposit back."""
    return await call.decide(CANCEL, topic_of(call), Empty())


@NOUN.post(
    "/payment-channels/{id}/deposit",
    answer=ChannelAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={
        403: "contact_scope_exceeded",
        404: "not_found",
        409: "terminal_state channel_not_open wrong_mode contact_revoked state_lost transfer_pending"
        " spend_cap_exceeded insufficient_balance",
        422: "amount_out_of_range invalid_amount",
    },
)
async def make_deposit(call: Call, body: DepositBody) -> object:
    """Put more into one's own side of an open online channel, while no transfer is proposed."""
    return await call.decide(DEPOSIT, topic_of(call), body.request(call.market.exponent))


@NOUN.post(
    "/payment-channels/{id}/force-close",
    answer=ChannelAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found", 409: "terminal_state channel_not_open state_lost"},
)
async def force_close(call: Call) -> object:
    """Close without the other party: the balances are paid out when the channel's window is over."""
    return await call.decide(payment.FORCE_CLOSE, topic_of(call), Empty())


@NOUN.get(
    "/payment-channels/{id}/transfers",
    answer=SignedState,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found"},
)
async def list_transfers(call: Call, query: TransfersQuery) -> object:
    """Read the doubly signed states in the order of their nonces. `next_cursor` is the next page's `after`."""

    def read(tx: ReaderTx) -> Page:
        channel = own_channel(call, tx)
        found = channel_steps.from_nonce(tx, channel.id, query.after + 1, limit=query.limit + 1)
        shown = found[: query.limit]
        items = [signed_state(step) for step in shown if step.kind is StepKind.TRANSFER]
        has_more = len(found) > query.limit
        return page(items, limit=query.limit, next_cursor=str(shown[-1].last_nonce) if has_more else None)

    return await call.read(read)


@NOUN.get(
    "/payment-channels/{id}/history",
    answer=StepAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found"},
    files={JSON_LINES: "The whole history, one line a step, signed by the platform: a file for `agrenting verify`."},
)
async def read_history(call: Call, query: HistoryQuery) -> object:
    """Read everything that ever changed a channel, in order. `next_cursor` is the next page's `after`.

    With `Accept: application/jsonl` the whole of it comes as a file that anyone can verify offline.
    """
    channel = await call.read(lambda tx: own_channel(call, tx))
    return await history_of(call, channel, query)


@NOUN.get(
    "/payment-channels/{id}/receipt",
    answer=Receipt,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found", 409: "not_closed"},
    files={MEDIA_TYPE: "The receipt alone, as a file for `agrenting verify`."},
)
async def read_channel_receipt(call: Call) -> object:
    """The receipt of a closed channel: the last doubly signed state, the close, and what was paid out.

    Anyone can verify it offline. With `Accept: application/agrenting-receipt+json` it comes bare, as a file.
    """
    channel = await call.read(lambda tx: own_channel(call, tx))
    receipt = channel_receipt(channel, call.market, platform_seed=call.server.server_key)
    if not call.accepts(MEDIA_TYPE):
        return receipt
    name = f'attachment; filename="payment-channel-{channel.id}.json"'
    return Raw(msgspec.json.encode(receipt), MEDIA_TYPE, {"Content-Disposition": name})


async def history_of(call: Call, channel: PaymentChannel, query: HistoryQuery) -> object:
    """A page of a channel's history, or all of it as a file, as the caller asks."""
    if call.accepts(JSON_LINES):
        name = f'attachment; filename="payment-channel-{channel.id}.jsonl"'
        return Streamed(_lines(call, channel), JSON_LINES, {"Content-Disposition": name})
    found = await call.read(lambda tx: channel_steps.history(tx, channel.id, after=query.after, limit=query.limit + 1))
    shown = found[: query.limit]
    next_cursor = str(shown[-1].number) if len(found) > query.limit else None
    return page(shown, limit=query.limit, next_cursor=next_cursor)


def own_channel(call: Call, tx: ReaderTx) -> PaymentChannel:
    """The channel of the path, if the caller is a party of it.

    Raises:
        NotFound: `not_found`.
    """
    return require_party(states.load(tx, "payment", call.id), call.server.engine.context(call.caller, topic_of(call)))


def topic_of(call: Call) -> str:
    """The topic of the channel in the path."""
    return f"payment:{call.id}"


async def _lines(call: Call, channel: PaymentChannel) -> AsyncIterator[bytes]:
    """A history line by line, as far as it went when it was asked for: what is appended later does not touch it."""
    header = history_header(channel, call.market)
    chain = HistoryDigest(msgspec.to_builtins(header))
    yield msgspec.json.encode(header) + b"\n"
    while chain.steps < channel.steps:
        found = await call.read(partial(_next_steps, channel=channel, after=chain.steps))
        for step in found:
            chain.add(msgspec.to_builtins(step))
        yield b"".join(msgspec.json.encode(step) + b"\n" for step in found)
    signed = platform_signature(
        kind=header["kind"],
        document_id=channel.id,
        document_digest=chain.hexdigest,
        market=call.market,
        platform_seed=call.server.server_key,
    )
    end = HistoryEnd(
        steps=chain.steps, digest=chain.hexdigest, public_key=signed.public_key, signature=signed.signature
    )
    yield msgspec.json.encode(end) + b"\n"


def _next_steps(tx: ReaderTx, *, channel: PaymentChannel, after: int) -> tuple[ChannelStep, ...]:
    limit = min(STEPS_AT_ONCE, channel.steps - after)
    return channel_steps.history(tx, channel.id, after=after, limit=limit)
