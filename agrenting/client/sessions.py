"""What a server tells of a negotiation, and what of it holds: every digest, signature and midpoint is computed anew.

A session starts from its digest, which covers domain, parties, capability, list price and terms. Each offer is signed
over the one that it answers, and an acceptance over the two that stand. So nothing of it can be changed, left out or
put in without the keys of both.

Source: the rules of negotiation; SIGNING.md ("negotiation.session", "negotiation.offer", "negotiation.accept").
"""

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from ._crypto import (
    CryptoError,
    accept_message,
    canonical_digest,
    digest,
    offer_message,
    parse_public_key,
    session_message,
    verify_signature,
)
from .errors import (
    ForgedOffer,
    MalformedAnswer,
    RolledBack,
    WrongAgreement,
    WrongAnswer,
    WrongMarket,
    WrongMidpoint,
    WrongSession,
)

FIXED: Final = (
    *("session_digest", "client_agent_id", "provider_agent_id", "client_public_key", "provider_public_key"),
    *("capability", "base_max", "terms"),
)
"""What of a session never changes. The keys are not in its digest, so that nothing else would tell."""


class Offer(msgspec.Struct, frozen=True):
    """One offer of a session, as the server tells it."""

    agent_id: str
    round: int
    amount: int
    signature: str
    digest: str


class Session(msgspec.Struct, frozen=True):
    """What signatures rest on, of a session as the server tells it."""

    id: str
    client_agent_id: str
    provider_agent_id: str
    client_public_key: str
    provider_public_key: str
    capability: str
    base_max: int
    terms: dict[str, Any] | None
    session_digest: str
    offers: tuple[Offer, ...]
    midpoint: int | None
    signing_domain: str | None = None
    turn: str | UnsetType | None = UNSET
    status: str = "open"
    amount: int | None = None
    accepted_by: str | None = None
    accept_signature: str | None = None

    def public_key(self, agent_id: str) -> str | None:
        """The key that an agent signs with here; None for one who takes no part."""
        keys = {self.client_agent_id: self.client_public_key, self.provider_agent_id: self.provider_public_key}
        return keys.get(agent_id)

    @property
    def answered_digest(self) -> str:
        """What the next offer is signed over: the last one, or the session."""
        return self.offers[-1].digest if self.offers else self.session_digest

    def offer_bytes(
        self, agent_id: str, *, round_number: int, amount: int, answered: str, signing_domain: str
    ) -> bytes:
        """What is signed for an offer.

        Raises:
            ValueError: The amount is none.
        """
        return offer_message(
            signing_domain=signing_domain,
            session_id=self.id,
            agent_id=agent_id,
            round_number=round_number,
            amount=amount,
            answered_digest=answered,
        )

    def accept_bytes(self, agent_id: str, *, amount: int, signing_domain: str) -> bytes:
        """What is signed for an acceptance of the two standing offers.

        Raises:
            WrongMidpoint: There are no two.
        """
        client, provider = self._standing()
        return accept_message(
            signing_domain=signing_domain,
            session_id=self.id,
            agent_id=agent_id,
            amount=amount,
            client_offer_digest=client.digest,
            provider_offer_digest=provider.digest,
        )

    def agreed_amount(self) -> int:
        """The midpoint of the two standing offers, computed here.

        Raises:
            WrongMidpoint: There are no two.
        """
        self._standing()
        amount = self.computed_midpoint
        assert amount is not None, "both have offered"
        return amount

    @property
    def computed_midpoint(self) -> int | None:
        """The same; None before both have offered."""
        standing = {offer.agent_id: offer.amount for offer in self.offers}
        if len(standing) < 2:  # noqa: PLR2004 - The two sides.
            return None
        return sum(standing.values()) // 2  # Rounds down, in the client's favour.

    def _standing(self) -> tuple[Offer, Offer]:
        standing = {offer.agent_id: offer for offer in self.offers}
        client, provider = standing.get(self.client_agent_id), standing.get(self.provider_agent_id)
        if client is None or provider is None:
            raise WrongMidpoint("there are no two standing offers to accept")
        return client, provider


def checked_session(told: dict[str, Any], *, agent_id: str, public_key: str, signing_domain: str) -> Session:
    """A session as it is told, once all that it rests on has been computed anew.

    Args:
        told: As a join or a reply told it, or `negotiation_after` what was told since.
        agent_id: Who looks at it: one of the two.
        public_key: What that agent signs with.
        signing_domain: The deployment's, as it is known.

    Raises:
        MalformedAnswer: It is no session.
        WrongMarket: It is another deployment's.
        WrongSession: The session digest, or the agent's own key, is another.
        ForgedOffer: An offer is out of turn, has another digest, or is not signed.
        WrongMidpoint: The midpoint is not that of the offers.
    """
    try:
        session = msgspec.convert(told, Session)
        _require_beginning(session, agent_id=agent_id, public_key=public_key, signing_domain=signing_domain)
        _require_offers(session, signing_domain)
        _require_midpoint(session)
        _require_turn(session)
    except (msgspec.ValidationError, CryptoError, ValueError) as error:
        raise MalformedAnswer(f"what the server tells of the session cannot be: {error}") from error
    return session


def require_opened(
    told: dict[str, Any], *, client_agent_id: str, provider_agent_id: str, capability: str, terms: dict[str, Any] | None
) -> None:
    """Refuse a new session that is not the one that was asked for.

    Args:
        told: The reply to `open_negotiation`, which `checked_session` has looked at, or will.
        client_agent_id, provider_agent_id, capability, terms: What was asked for.

    Raises:
        WrongAnswer: It is another one.
        WrongSession: Its terms are others.
    """
    asked = {
        "client_agent_id": client_agent_id,
        "provider_agent_id": provider_agent_id,
        "capability": capability,
    }
    for name, expected in asked.items():
        if told.get(name) != expected:
            raise WrongAnswer(f"the session's {name} is not what was asked for", expected=expected, told=told.get(name))
    if told.get("terms") != terms:
        raise WrongSession("the session's terms are not those that were asked for", expected=terms, told=told["terms"])


def require_continued(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Refuse a session that is behind what was told before: who bargains must not sign twice in one round.

    Args:
        before: The session as it was told, and checked.
        after: As it is told now.

    Raises:
        WrongAnswer: It is another session.
        WrongSession: It has another digest, or other parties, keys or terms.
        RolledBack: Offers that were told are gone, or others.
    """
    if after.get("id") != before["id"]:
        raise WrongAnswer("this is another session", expected=before["id"], told=after.get("id"))
    for name in FIXED:
        if after.get(name) != before.get(name):
            raise WrongSession(
                f"the session's {name} was another one before", expected=before.get(name), told=after.get(name)
            )
    known, told = _digests(before), _digests(after)
    if told[: len(known)] != known:
        raise RolledBack("offers of the session that were told before are gone, or others", expected=known, told=told)


def require_agreement(told: dict[str, Any], *, agent_id: str, public_key: str, signing_domain: str) -> int:
    """The price that both have signed, in minor units; refused is what they have not.

    Args:
        told, agent_id, public_key, signing_domain: As for `checked_session`.

    Raises:
        WrongAgreement: It is not agreed, or for another price than the offers make; or nobody has signed it who could.
        MalformedAnswer, WrongMarket, WrongSession, ForgedOffer, WrongMidpoint: As for `checked_session`.
    """
    session = checked_session(told, agent_id=agent_id, public_key=public_key, signing_domain=signing_domain)
    if session.status != "agreed":
        raise WrongAgreement("the session is not agreed", expected="agreed", told=session.status)
    try:
        amount = session.agreed_amount()
    except WrongMidpoint as error:
        raise WrongAgreement("it is agreed, and there are no two offers") from error
    if session.amount != amount:
        raise WrongAgreement(
            f"the two last offers make the price {amount}, and {session.amount} is said to be agreed",
            expected=amount,
            told=session.amount,
        )
    last, before = session.offers[-1], session.offers[-2]
    if session.accepted_by is None and session.accept_signature is None:
        if last.amount != before.amount:
            raise WrongAgreement("the two last offers differ, and nobody has accepted")
        return amount
    if session.accepted_by != before.agent_id:
        raise WrongAgreement(
            "only who did not make the last offer accepts it", expected=before.agent_id, told=session.accepted_by
        )
    _require_accepted(session, before.agent_id, amount=amount, signing_domain=signing_domain)
    return amount


def _require_accepted(session: Session, agent_id: str, *, amount: int, signing_domain: str) -> None:
    message = session.accept_bytes(agent_id, amount=amount, signing_domain=signing_domain)
    key = parse_public_key(session.public_key(agent_id) or "")
    try:
        verify_signature(public_key=key, message=message, signature=session.accept_signature or "")
    except CryptoError as error:
        raise WrongAgreement(f"{agent_id} has not signed the acceptance that is told: {error}") from error


def _require_beginning(session: Session, *, agent_id: str, public_key: str, signing_domain: str) -> None:
    if session.signing_domain not in {None, signing_domain}:
        raise WrongMarket(
            f"the session digest does not fit domain {signing_domain}: it is for {session.signing_domain}",
            expected=signing_domain,
            told=session.signing_domain,
        )
    if session.public_key(agent_id) != public_key:
        raise WrongSession(
            f"{agent_id} does not sign with this key in the session",
            expected=public_key,
            told=session.public_key(agent_id),
        )
    message = session_message(
        signing_domain=signing_domain,
        session_id=session.id,
        client_agent_id=session.client_agent_id,
        provider_agent_id=session.provider_agent_id,
        capability=session.capability,
        base_max=session.base_max,
        terms_digest=None if session.terms is None else canonical_digest(session.terms),
    )
    if digest(message) != session.session_digest:
        raise WrongSession(
            "the session digest does not fit domain, parties, capability, price and terms",
            expected=digest(message),
            told=session.session_digest,
        )


def _require_offers(session: Session, signing_domain: str) -> None:
    """Refuse offers of which one's turn, digest or signature is not what it would be."""
    answered, before = session.session_digest, ""
    for round_number, offer in enumerate(session.offers, 1):
        key = session.public_key(offer.agent_id)
        if key is None or offer.agent_id == before or offer.round != round_number:
            raise ForgedOffer(f"offer {round_number} is out of turn")
        message = session.offer_bytes(
            offer.agent_id,
            round_number=round_number,
            amount=offer.amount,
            answered=answered,
            signing_domain=signing_domain,
        )
        _require_offer_signed(offer, key, message)
        answered, before = digest(message), offer.agent_id
        if answered != offer.digest:
            raise ForgedOffer(f"the digest of offer {round_number} does not fit", expected=answered, told=offer.digest)


def _require_midpoint(session: Session) -> None:
    expected = session.computed_midpoint
    if session.midpoint != expected:
        raise WrongMidpoint(
            f"the midpoint is {expected}, the server says {session.midpoint}", expected=expected, told=session.midpoint
        )


def _require_turn(session: Session) -> None:
    """Refuse a turn that would leave both waiting for each other: after an offer it is the other side's."""
    if session.turn is UNSET or session.status != "open" or not session.offers:
        return
    *before, last = session.offers
    is_matched = bool(before) and before[-1].amount == last.amount  # Then nobody's: it is agreed.
    answering = session.provider_agent_id if last.agent_id == session.client_agent_id else session.client_agent_id
    expected = None if is_matched else answering
    if session.turn != expected:
        raise WrongSession("the turn is not that of who answers the last offer", expected=expected, told=session.turn)


def _require_offer_signed(offer: Offer, public_key: str, message: bytes) -> None:
    key = parse_public_key(public_key)
    try:
        verify_signature(public_key=key, message=message, signature=offer.signature)
    except CryptoError as error:
        raise ForgedOffer(f"{offer.agent_id} has not signed offer {offer.round} as it is told: {error}") from error


def _digests(session: dict[str, Any]) -> list[Any]:
    try:
        return [offer["digest"] for offer in session["offers"]]
    except (KeyError, TypeError) as error:
        raise MalformedAnswer(f"what the server tells of the session cannot be: {error!r}") from error
