"""The check of an agreement: the document of a receipt of kind `agreement`.

What client and provider have signed is made anew from the document and verified with their keys: the session (parties,
capability, list price, terms), every offer over the one that it answers, and the acceptance. So neither of them, nor
the platform, can change the price or what it was for without the keys of both. Time and currency rest on the platform's
signature alone, which covers the whole document.

Source: the rules of negotiation, and SIGNING.md ("Receipts").
"""

from dataclasses import dataclass
from typing import Final

from .errors import ReceiptError
from .evidence import CURRENCY, DIGEST, ID, NAME, SIGNATURE, TIME, Fields, Findings, require_digest, require_signed
from .keys import fingerprint
from .messages import accept_message, digest, offer_message, session_message

KIND: Final = "agreement"

PRICE_MAX: Final = 10**15
"""Minor units; sums of two offers, of twice a price each, stay exact in every language."""

OFFERS_PER_SIDE_MAX: Final = 10
EXPONENT_MAX: Final = 18

_MEMBERS: Final = frozenset(
    (
        *("session_id", "agreement_id", "client_agent_id", "provider_agent_id"),
        *("client_public_key", "provider_public_key", "capability", "base_max", "max_offer", "terms", "offers"),
        *("amount", "accepted_by", "accept_signature", "currency", "exponent", "completed_at"),
    )
)
_OFFER_MEMBERS: Final = frozenset(("round", "agent_id", "amount", "signature", "digest"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Party:
    role: str
    agent_id: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class _Session:
    signing_domain: str
    id: str
    client: _Party
    provider: _Party
    capability: str
    base_max: int
    max_offer: int
    digest: str

    def party(self, agent_id: str, *, pointer: str) -> _Party:
        for party in (self.client, self.provider):
            if party.agent_id == agent_id:
                return party
        raise ReceiptError(f"{pointer}: this agent is neither the client nor the provider.", check="turns")


@dataclass(frozen=True, slots=True)
class _Offer:
    party: _Party
    amount: int
    digest: str


def check_agreement(document: object, *, signing_domain: str, document_id: str) -> Findings:
    """Prove all that the parties' signatures can prove about an agreement.

    Args:
        document: The receipt's `document`, of any shape.
        document_id: The receipt's `id`, which must be the agreement's.

    Raises:
        ReceiptError: `shape`, `identity`, `key`, `price`, `turns`, `digest`, `offer_signature`, `outcome`,
            `accept_signature`.
    """
    fields = Fields(document, pointer="/document", names=_MEMBERS)
    session = _read_session(fields, signing_domain=signing_domain, document_id=document_id)
    offers = _check_offers(fields, session)
    outcome = _check_outcome(fields, session, offers)
    _read_money_and_time(fields)
    client, provider = session.client, session.provider
    terms = "without terms" if fields.member("terms") is None else "with the terms as they stand here"
    parties = (
        f"Client {client.agent_id} (key {fingerprint(client.public_key)}) and provider {provider.agent_id} "
        f"(key {fingerprint(provider.public_key)}) are two agents with a key each."
    )
    subject = (
        f"They bargained in session {session.id} about {session.capability} at the list price {session.base_max}, "
        f"{terms}."
    )
    bargain = (
        f"{len(offers)} offers by turns, none above {session.max_offer}, are each signed by their maker over the offer "
        "that they answer, the first one over the session."
    )
    return Findings(
        checks=(parties, subject, bargain, outcome),
        parties={party.role: party.public_key for party in (client, provider)},
    )


def _read_session(fields: Fields, *, signing_domain: str, document_id: str) -> _Session:
    session_id = fields.text("session_id", ID)
    if not session_id == fields.text("agreement_id", ID) == document_id:
        raise ReceiptError("The ids of receipt, agreement and session are not the same.", check="identity")
    client, provider = _read_party(fields, "client"), _read_party(fields, "provider")
    if client.agent_id == provider.agent_id:
        raise ReceiptError("Client and provider are one agent.", check="identity")
    if client.public_key == provider.public_key:
        raise ReceiptError("Client and provider have one key.", check="key")
    capability = fields.text("capability", NAME)
    base_max = fields.integer("base_max", minimum=1, maximum=PRICE_MAX)
    if fields.integer("max_offer", minimum=1, maximum=2 * PRICE_MAX) != 2 * base_max:
        raise ReceiptError("/document/max_offer: the highest offer is twice the list price.", check="price")
    message = session_message(
        signing_domain=signing_domain,
        session_id=session_id,
        client_agent_id=client.agent_id,
        provider_agent_id=provider.agent_id,
        capability=capability,
        base_max=base_max,
        terms_digest=_terms_digest(fields),
    )
    return _Session(
        signing_domain=signing_domain,
        id=session_id,
        client=client,
        provider=provider,
        capability=capability,
        base_max=base_max,
        max_offer=2 * base_max,
        digest=digest(message),
    )


def _read_party(fields: Fields, role: str) -> _Party:
    return _Party(
        role=role, agent_id=fields.text(f"{role}_agent_id", ID), public_key=fields.public_key(f"{role}_public_key")
    )


def _terms_digest(fields: Fields) -> str | None:
    if fields.member("terms") is None:
        return None
    if not isinstance(fields.member("terms"), dict):
        raise ReceiptError("/document/terms: expected is an object or null.", check="shape")
    return require_digest(fields.member("terms"), pointer="/document/terms")


def _check_offers(fields: Fields, session: _Session) -> list[_Offer]:
    offers: list[_Offer] = []
    for item in fields.items("offers", minimum=2, maximum=2 * OFFERS_PER_SIDE_MAX):
        offers.append(_check_offer(item, session, offers))
    return offers


def _check_offer(item: object, session: _Session, earlier: list[_Offer]) -> _Offer:
    pointer = f"/document/offers/{len(earlier)}"
    fields = Fields(item, pointer=pointer, names=_OFFER_MEMBERS)
    round_number = len(earlier) + 1
    if fields.integer("round", minimum=1, maximum=2 * OFFERS_PER_SIDE_MAX) != round_number:
        raise ReceiptError(f"{pointer}/round: expected is round {round_number}.", check="turns")
    party = session.party(fields.text("agent_id", ID), pointer=f"{pointer}/agent_id")
    if earlier and earlier[-1].party == party:
        raise ReceiptError(f"{pointer}/agent_id: the other side's turn was passed over.", check="turns")
    if _are_matched(earlier):
        raise ReceiptError(f"{pointer}: the two offers before were equal, which ended the bargain.", check="turns")
    amount = fields.integer("amount", minimum=1, maximum=2 * PRICE_MAX)
    if amount > session.max_offer:
        raise ReceiptError(f"{pointer}/amount: no offer is above {session.max_offer}.", check="price")
    message = offer_message(
        signing_domain=session.signing_domain,
        session_id=session.id,
        agent_id=party.agent_id,
        round_number=round_number,
        amount=amount,
        answered_digest=earlier[-1].digest if earlier else session.digest,
    )
    if fields.text("digest", DIGEST) != digest(message):
        raise ReceiptError(
            f"{pointer}/digest: the offer's bytes, made anew from this receipt, have another digest.", check="digest"
        )
    require_signed(
        public_key=party.public_key,
        message=message,
        signature=fields.text("signature", SIGNATURE),
        what=f"{pointer}/signature, by the {party.role}",
        check="offer_signature",
    )
    return _Offer(party, amount, digest(message))


def _check_outcome(fields: Fields, session: _Session, offers: list[_Offer]) -> str:
    """Check how the last two offers became the price, and say it."""
    expected = (offers[-2].amount + offers[-1].amount) // 2  # Rounds down, in the client's favour.
    if fields.integer("amount", minimum=1, maximum=2 * PRICE_MAX) != expected:
        raise ReceiptError(f"/document/amount: the last two offers make the price {expected}.", check="outcome")
    is_accepted = fields.member("accepted_by") is not None or fields.member("accept_signature") is not None
    if is_accepted and _are_matched(offers):
        raise ReceiptError("The last two offers are equal: there was nothing left to accept.", check="outcome")
    if is_accepted:
        return _check_acceptance(fields, session, offers, amount=expected)
    if not _are_matched(offers):
        raise ReceiptError("The last two offers differ and nobody has accepted.", check="outcome")
    return f"The last two offers met at {expected} minor units, which both sides have signed."


def _check_acceptance(fields: Fields, session: _Session, offers: list[_Offer], *, amount: int) -> str:
    party = session.party(fields.text("accepted_by", ID), pointer="/document/accepted_by")
    if party == offers[-1].party:
        raise ReceiptError("/document/accepted_by: the last offer's own maker cannot accept it.", check="outcome")
    standing = {offer.party.role: offer.digest for offer in offers[-2:]}
    message = accept_message(
        signing_domain=session.signing_domain,
        session_id=session.id,
        agent_id=party.agent_id,
        amount=amount,
        client_offer_digest=standing[session.client.role],
        provider_offer_digest=standing[session.provider.role],
    )
    require_signed(
        public_key=party.public_key,
        message=message,
        signature=fields.text("accept_signature", SIGNATURE),
        what=f"/document/accept_signature, by the {party.role}",
        check="accept_signature",
    )
    return (
        f"The {party.role} has accepted {amount} minor units, the midpoint of the last two offers rounded down, "
        "and signed both of them with it."
    )


def _are_matched(offers: list[_Offer]) -> bool:
    return len(offers) > 1 and offers[-2].amount == offers[-1].amount


def _read_money_and_time(fields: Fields) -> None:
    fields.text("currency", CURRENCY)
    fields.integer("exponent", minimum=0, maximum=EXPONENT_MAX)
    fields.text("completed_at", TIME)
