"""The events of `payment:{channel_id}`: their REST twins."""

from typing import Any

from agrenting.api.call import Call
from agrenting.api.operation import Callers, Noun
from agrenting.api.payment_answers import (
    AcknowledgementBody,
    ChannelAnswer,
    CloseBody,
    CloseRequestBody,
    ProposalBody,
)
from agrenting.api.payment_channels import SCOPES, topic_of
from channels import payment
from channels.handlers import Empty
from channels.payment import RejectTransfer
from channels.payment_chain import SubmitTransfers
from channels.payment_disputes import OpenDispute

NOUN = Noun("payments", "The events of a payment channel: transfers, closes, disputes.")
ANSWER_ERRORS = (
    "terminal_state channel_not_open wrong_mode state_lost nonce_replayed no_pending_transfer proposal_mismatch"
)
CLOSE_ERRORS = {
    404: "not_found",
    409: "terminal_state channel_not_open transfer_pending stale_state",
    422: "amount_out_of_range invalid_amount sum_mismatch invalid_signature",
}


@NOUN.post(
    "/payment-channels/{id}/propose_transfer",
    answer=ChannelAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={
        404: "not_found",
        409: "terminal_state channel_not_open wrong_mode contact_revoked state_lost transfer_pending nonce_replayed"
        " nonce_gap insufficient_channel_balance stale_state",
        422: "amount_out_of_range invalid_amount invalid_signature",
    },
)
async def propose_transfer(call: Call, body: ProposalBody) -> object:
    """Propose to pay the other party, signed over the balances after it; it stands for 5 minutes."""
    return await _decide(call, "propose_transfer", body.request(call.market.exponent))


@NOUN.post(
    "/payment-channels/{id}/acknowledge_transfer",
    answer=ChannelAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={
        403: "forbidden_role",
        404: "not_found",
        409: f"{ANSWER_ERRORS} stale_state",
        422: "invalid_amount invalid_signature",
    },
)
async def acknowledge_transfer(call: Call, body: AcknowledgementBody) -> object:
    """Confirm the proposed transfer, signed over the same bytes; payee only. The amount moves."""
    return await _decide(call, "acknowledge_transfer", body.request(call.market.exponent))


@NOUN.post(
    "/payment-channels/{id}/reject_transfer",
    answer=ChannelAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found", 409: ANSWER_ERRORS},
)
async def reject_transfer(call: Call, body: RejectTransfer) -> object:
    """Refuse the proposed transfer, or withdraw one's own. Its nonce is used up."""
    return await _decide(call, "reject_transfer", body)


@NOUN.post(
    "/payment-channels/{id}/close", answer=ChannelAnswer, callers=Callers.AGENT, scopes=SCOPES, errors=CLOSE_ERRORS
)
async def close_channel(call: Call, body: CloseBody) -> object:
    """End a channel as both parties have signed, and pay both."""
    return await _decide(call, "close", body.request(call.market.exponent))


@NOUN.post(
    "/payment-channels/{id}/close_request",
    answer=ChannelAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors=CLOSE_ERRORS,
)
async def request_close(call: Call, body: CloseRequestBody) -> object:
    """Offer a close that one has signed oneself; the other party answers with `close`."""
    return await _decide(call, "close_request", body.request(call.market.exponent))


@NOUN.post(
    "/payment-channels/{id}/dispute",
    answer=ChannelAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    rate="chain",
    errors={
        404: "not_found",
        409: "terminal_state channel_not_open state_lost dispute_used nonce_replayed",
        422: "bad_transfer",
    },
)
async def dispute_channel(call: Call, body: OpenDispute) -> object:
    """Freeze an open or closing channel; each party may once."""
    return await _decide(call, "dispute", body)


@NOUN.post(
    "/payment-channels/{id}/withdraw_dispute",
    answer=ChannelAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={403: "forbidden_role", 404: "not_found", 409: "terminal_state not_disputed"},
)
async def withdraw_dispute(call: Call) -> object:
    """Take one's dispute back: the channel is as before."""
    return await _decide(call, "withdraw_dispute", Empty())


@NOUN.post(
    "/payment-channels/{id}/submit_transfers",
    answer=ChannelAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    rate="chain",
    errors={
        404: "not_found",
        409: "terminal_state channel_not_open wrong_mode nonce_replayed",
        422: "bad_transfer",
    },
)
async def submit_transfers(call: Call, body: SubmitTransfers) -> object:
    """Hand in transfers of an offline channel that both have signed elsewhere, 1 to 1,000 without gaps."""
    return await _decide(call, "submit_transfers", body)


async def _decide(call: Call, event: str, request: Any) -> Any:
    return await call.decide(payment.HANDLERS[event], topic_of(call), request)
