"""Signer: signs offers and acceptances, after checking what the server told.

What is signed binds. So the session digest, every offer's digest and signature and the midpoint are computed anew, and
if one does not hold nothing is signed.
"""

from typing import Any

import msgspec

from ._crypto import (
    CryptoError,
    accept_message,
    canonical_digest,
    digest,
    format_public_key,
    key_proof_message,
    offer_message,
    parse_public_key,
    public_key_of,
    session_message,
    sign,
    verify_signature,
)
from .errors import LyingServer


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

    def public_key(self, agent_id: str) -> str | None:
        """The key that an agent signs with here; None for one who takes no part."""
        keys = {self.client_agent_id: self.client_public_key, self.provider_agent_id: self.provider_public_key}
        return keys.get(agent_id)


class Signer:
    """Signs for one agent on one deployment.

    Args:
        secret_key: The seed, 32 bytes; never shown.
        signing_domain: The deployment's, as `GET /api/v1/meta` tells it. Keep it: a server that tells another one later
            is another deployment.

    Raises:
        CryptoError: The secret key is none.
    """

    def __init__(self, secret_key: bytes, signing_domain: str) -> None:
        self._secret_key = secret_key
        self.signing_domain = signing_domain
        self.public_key = format_public_key(public_key_of(secret_key))

    def key_proof(self, *, owner_id: str, challenge: str, agent_id: str | None = None) -> dict[str, str]:
        """The `proof` that its holder registers the key.

        Args:
            owner_id: The user who owns the agent.
            challenge: From `POST /api/v1/key-challenges`.
            agent_id: The agent whose key it becomes; None for a new agent.
        """
        message = key_proof_message(
            signing_domain=self.signing_domain, owner_id=owner_id, agent_id=agent_id, challenge=challenge
        )
        return {"challenge": challenge, "signature": sign(self._secret_key, message)}

    def signature(self, message: bytes) -> str:
        """Sign bytes as they are. Whoever asks has checked what they say, as `ChannelKeeper` does.

        Args:
            message: In one of the forms of crypto/SIGNING.md, for this signing domain.
        """
        return sign(self._secret_key, message)

    def offer(self, session: dict[str, Any], *, agent_id: str, amount: int) -> dict[str, Any]:
        """The payload of `offer`.

        Args:
            session: As the last join or reply told it, or `negotiation_after` what was told since.
            agent_id: The agent who offers: this signer's.
            amount: Minor units, 1 to the session's `max_offer`.

        Raises:
            LyingServer: Something of the session does not hold.
            ValueError: The amount is none.
        """
        told = self._checked(session, agent_id)
        answered = told.offers[-1].digest if told.offers else told.session_digest
        round_number = len(told.offers) + 1
        message = self._offer(told.id, agent_id, round_number=round_number, amount=amount, answered=answered)
        return {"amount": amount, "round": round_number, "signature": sign(self._secret_key, message)}

    def accept(self, session: dict[str, Any], *, agent_id: str) -> dict[str, Any]:
        """The payload of `accept`: the midpoint of the two standing offers, computed here.

        The midpoint is agreed on whatever it is: look at `session["midpoint"]` before.

        Raises:
            LyingServer: Something of the session does not hold, or there are no two standing offers.
        """
        told = self._checked(session, agent_id)
        standing = {offer.agent_id: offer for offer in told.offers}
        client, provider = standing.get(told.client_agent_id), standing.get(told.provider_agent_id)
        if client is None or provider is None:
            raise LyingServer("there are no two standing offers to accept")
        amount = (client.amount + provider.amount) // 2  # Rounds down, in the client's favour.
        if told.midpoint != amount:
            raise LyingServer(f"the midpoint is {amount}, the server says {told.midpoint}")
        message = accept_message(
            signing_domain=self.signing_domain,
            session_id=told.id,
            agent_id=agent_id,
            amount=amount,
            client_offer_digest=client.digest,
            provider_offer_digest=provider.digest,
        )
        return {"amount": amount, "signature": sign(self._secret_key, message)}

    def _checked(self, session: dict[str, Any], agent_id: str) -> Session:
        try:
            told = msgspec.convert(session, Session)
            self._require_whole(told, agent_id)
        except (msgspec.ValidationError, CryptoError, ValueError) as error:
            raise LyingServer(f"what the server tells of the session cannot be: {error}") from error
        return told

    def _require_whole(self, told: Session, agent_id: str) -> None:
        """The session digest, and every offer's turn, digest and signature, computed anew."""
        if told.public_key(agent_id) != self.public_key:
            raise LyingServer(f"{agent_id} does not sign with this key in the session")
        answered = digest(
            session_message(
                signing_domain=self.signing_domain,
                session_id=told.id,
                client_agent_id=told.client_agent_id,
                provider_agent_id=told.provider_agent_id,
                capability=told.capability,
                base_max=told.base_max,
                terms_digest=None if told.terms is None else canonical_digest(told.terms),
            )
        )
        if answered != told.session_digest:
            raise LyingServer("the session digest does not fit domain, parties, capability, price and terms")
        before = ""
        for round_number, offer in enumerate(told.offers, 1):
            key = told.public_key(offer.agent_id)
            if key is None or offer.agent_id == before or offer.round != round_number:
                raise LyingServer(f"offer {round_number} is out of turn")
            message = self._offer(
                told.id, offer.agent_id, round_number=round_number, amount=offer.amount, answered=answered
            )
            verify_signature(public_key=parse_public_key(key), message=message, signature=offer.signature)
            answered, before = digest(message), offer.agent_id
            if answered != offer.digest:
                raise LyingServer(f"the digest of offer {round_number} does not fit")

    def _offer(self, session_id: str, agent_id: str, *, round_number: int, amount: int, answered: str) -> bytes:
        return offer_message(
            signing_domain=self.signing_domain,
            session_id=session_id,
            agent_id=agent_id,
            round_number=round_number,
            amount=amount,
            answered_digest=answered,
        )
