"""Negotiations: the REST twins of `negotiation:{session_id}`, and the receipt of an agreement."""

from typing import Literal

import msgspec

from agrenting.api.answers import NegotiationAnswer
from agrenting.api.bodies import AcceptBody, OfferBody
from agrenting.api.call import Call, Raw
from agrenting.api.operation import CREATED, Callers, Noun
from agrenting.api.paging import LAST, PageQuery, decode_cursor, page_of
from agrenting.api.receipts import MEDIA_TYPE, Receipt, agreement_receipt
from agrenting.db import pages, states
from channels import discovery, negotiation
from channels.handlers import Empty
from channels.negotiation import OpenNegotiation, Phase, Reject, require_participant, snapshot

NOUN = Noun("negotiations", "Bargaining over a price with signed offers.")
NAME = "negotiations"
OPEN = discovery.HANDLERS["open_negotiation"]
SCOPES = ("negotiate",)
ENDED = "terminal_state"


class NegotiationsQuery(PageQuery, frozen=True, kw_only=True):
    """Which of the caller's negotiations, newest first.

    Args:
        role: Only those where this is the caller's part.
        status: Only those that stand so.
    """

    role: Literal["client", "provider"] | None = None
    status: Phase | None = None


@NOUN.post(
    "/negotiations",
    answer=NegotiationAnswer,
    status=CREATED,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={
        403: "contact_required contact_scope_exceeded",
        404: "not_found",
        409: "blocked_by_you public_key_required agent_unavailable capability_not_offered pricing_model_fixed"
        " free_agent too_many_open mailbox_full",
        422: "same_agent invalid_terms",
    },
)
async def open_negotiation(call: Call, body: OpenNegotiation) -> object:
    """Open a negotiation with a provider, who gets a stored message of it."""
    return await call.decide(OPEN, discovery.TOPIC, body)


@NOUN.get("/negotiations", answer=NegotiationAnswer, callers=Callers.AGENT, scopes=SCOPES)
async def list_negotiations(call: Call, query: NegotiationsQuery) -> object:
    """List the caller's negotiations, newest first."""
    before = decode_cursor(query.cursor, name=NAME, start=LAST)
    rows = await call.read(
        lambda tx: pages.of_agent(
            tx,
            "negotiation",
            call.agent_id,
            role=query.role,
            status=query.status,
            before=before,
            limit=query.limit + 1,
        )
    )
    return page_of(rows, query=query, key=lambda row: row.id, name=NAME, show=lambda row: snapshot(row, call.market))


@NOUN.get(
    "/negotiations/{id}",
    answer=NegotiationAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found"},
)
async def read_negotiation(call: Call) -> object:
    """Read a negotiation of one's own, also once it has ended."""
    return await call.ask(negotiation.JOIN, _topic(call), Empty())


@NOUN.post(
    "/negotiations/{id}/offer",
    answer=NegotiationAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={
        403: "contact_scope_exceeded",
        404: "not_found",
        409: f"{ENDED} not_your_turn stale_state max_rounds_exceeded spend_cap_exceeded",
        410: "expired",
        422: "amount_out_of_range invalid_amount invalid_signature",
    },
)
async def make_offer(call: Call, body: OfferBody) -> object:
    """Make a signed offer, in turn. One equal to the standing counter-offer agrees at once.

    What is signed: the bytes of kind `negotiation.offer`, always over an integer of minor units.
    """
    return await call.decide(negotiation.HANDLERS["offer"], _topic(call), body.request(call.market.exponent))


@NOUN.post(
    "/negotiations/{id}/accept",
    answer=NegotiationAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={
        404: "not_found",
        409: f"{ENDED} no_counter_offer not_your_turn stale_state spend_cap_exceeded",
        410: "expired",
        422: "amount_mismatch invalid_amount invalid_signature",
    },
)
async def accept_offer(call: Call, body: AcceptBody) -> object:
    """Agree on the midpoint of the two standing offers; only the side that did not make the latest one may."""
    return await call.decide(negotiation.HANDLERS["accept"], _topic(call), body.request(call.market.exponent))


@NOUN.post(
    "/negotiations/{id}/reject",
    answer=NegotiationAnswer,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found", 409: ENDED, 410: "expired"},
)
async def reject_negotiation(call: Call, body: Reject) -> object:
    """End a negotiation without an agreement; either side, at any time."""
    return await call.decide(negotiation.HANDLERS["reject"], _topic(call), body)


@NOUN.get(
    "/negotiations/{id}/receipt",
    answer=Receipt,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found", 409: "not_agreed"},
    files={MEDIA_TYPE: "The receipt alone, as a file for `agrenting verify`."},
)
async def read_receipt(call: Call) -> object:
    """The receipt of an agreement, which anyone can verify offline with public keys alone.

    With `Accept: application/agrenting-receipt+json` it comes bare, as a file.
    """
    context = call.server.engine.context(call.caller, _topic(call))
    session = await call.read(lambda tx: require_participant(states.load(tx, "negotiation", call.id), context))
    receipt = agreement_receipt(session, call.market, platform_seed=call.server.server_key)
    if not call.accepts(MEDIA_TYPE):
        return receipt
    name = f'attachment; filename="agreement-{session.id}.json"'
    return Raw(msgspec.json.encode(receipt), MEDIA_TYPE, {"Content-Disposition": name})


def _topic(call: Call) -> str:
    return f"negotiation:{call.id}"
