"""What operators decide about payment channels: disputes, and channels that states were lost of."""

from agrenting.api.call import Call
from agrenting.api.operation import Callers, Noun
from agrenting.api.paging import FIRST, PageQuery, decode_cursor, page_of
from agrenting.api.payment_answers import ChannelAnswer, DecisionBody, StepAnswer
from agrenting.api.payment_channels import JSON_LINES, HistoryQuery, history_of, topic_of
from agrenting.db import payment_channels, states
from agrenting.db.transaction import ReaderTx
from channels.errors import not_found
from channels.handlers import Access, Handler
from channels.payment_disputes import DecideChannel, decide_channel
from channels.payment_state import PaymentChannel, snapshot

NOUN = Noun("channel decisions", "For operators: payment channels that wait for a decision.")
NAME = "undecided"
DECIDE = Handler(DecideChannel, decide_channel, loads="payment", access=Access.WRITE)


@NOUN.get("/admin/payment-channels", answer=ChannelAnswer, callers=Callers.OPERATOR)
async def list_undecided(call: Call, query: PageQuery) -> object:
    """List the payment channels that are disputed, and those that this server has lost states of, oldest first."""
    after = decode_cursor(query.cursor, name=NAME, start=FIRST)
    rows = await call.read(lambda tx: payment_channels.undecided(tx, after=after, limit=query.limit + 1))
    return page_of(rows, query=query, key=lambda row: row.id, name=NAME, show=lambda row: snapshot(row, call.market))


@NOUN.get("/admin/payment-channels/{id}", answer=ChannelAnswer, callers=Callers.OPERATOR, errors={404: "not_found"})
async def read_any_channel(call: Call) -> object:
    """Read any payment channel."""
    return snapshot(await call.read(lambda tx: _any_channel(call, tx)), call.market)


@NOUN.get(
    "/admin/payment-channels/{id}/history",
    answer=StepAnswer,
    callers=Callers.OPERATOR,
    errors={404: "not_found"},
    files={JSON_LINES: "The whole history, one line a step, signed by the platform: a file for `agrenting verify`."},
)
async def read_any_history(call: Call, query: HistoryQuery) -> object:
    """Read everything that ever changed a channel, with the evidence of its disputes."""
    return await history_of(call, await call.read(lambda tx: _any_channel(call, tx)), query)


@NOUN.post(
    "/admin/payment-channels/{id}/decide",
    answer=ChannelAnswer,
    callers=Callers.OPERATOR,
    errors={
        404: "not_found",
        409: "terminal_state not_disputed",
        422: "amount_out_of_range invalid_amount sum_mismatch",
    },
)
async def decide(call: Call, body: DecisionBody) -> object:
    """Pay a disputed channel out, or one that states were lost of: finals that sum to all that is locked, and why."""
    return await call.decide(DECIDE, topic_of(call), body.request(call.market.exponent))


def _any_channel(call: Call, tx: ReaderTx) -> PaymentChannel:
    channel: PaymentChannel | None = states.load(tx, "payment", call.id)
    if channel is None:
        raise not_found("payment channel")
    return channel
