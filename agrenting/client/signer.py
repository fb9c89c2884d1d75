"""Signer: signs offers and acceptances, after checking what the server told.

What is signed binds. So the session digest, every offer's digest and signature and the midpoint are computed anew, and
if one does not hold nothing is signed.
"""

from typing import Any

from ._crypto import format_public_key, key_proof_message, public_key_of, sign
from .sessions import Session, checked_session, require_agreement


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
            MalformedAnswer, WrongMarket, WrongSession, ForgedOffer, WrongMidpoint: Something of the session does not
                hold.
            ValueError: The amount is none.
        """
        told = self._checked(session, agent_id)
        round_number = len(told.offers) + 1
        message = told.offer_bytes(
            agent_id,
            round_number=round_number,
            amount=amount,
            answered=told.answered_digest,
            signing_domain=self.signing_domain,
        )
        return {"amount": amount, "round": round_number, "signature": sign(self._secret_key, message)}

    def accept(self, session: dict[str, Any], *, agent_id: str) -> dict[str, Any]:
        """The payload of `accept`: the midpoint of the two standing offers, computed here.

        The midpoint is agreed on whatever it is: look at `session["midpoint"]` before.

        Raises:
            MalformedAnswer, WrongMarket, WrongSession, ForgedOffer: Something of the session does not hold.
            WrongMidpoint: There are no two standing offers, or their midpoint is not the one that is told.
        """
        told = self._checked(session, agent_id)
        amount = told.agreed_amount()
        message = told.accept_bytes(agent_id, amount=amount, signing_domain=self.signing_domain)
        return {"amount": amount, "signature": sign(self._secret_key, message)}

    def agreed(self, session: dict[str, Any], *, agent_id: str) -> int:
        """The price that a session was agreed for, in minor units, once offers and acceptance have been verified.

        Raises:
            WrongAgreement: It is not agreed, or not for the price that both have signed.
            MalformedAnswer, WrongMarket, WrongSession, ForgedOffer, WrongMidpoint: Something else of the session does
                not hold.
        """
        return require_agreement(
            session, agent_id=agent_id, public_key=self.public_key, signing_domain=self.signing_domain
        )

    def check(self, session: dict[str, Any], *, agent_id: str) -> None:
        """Look at a session as `offer` and `accept` do, and sign nothing: whoever only thinks about it is not deceived.

        Raises:
            MalformedAnswer, WrongMarket, WrongSession, ForgedOffer, WrongMidpoint: Something of it does not hold.
        """
        self._checked(session, agent_id)

    def _checked(self, session: dict[str, Any], agent_id: str) -> Session:
        return checked_session(
            session, agent_id=agent_id, public_key=self.public_key, signing_domain=self.signing_domain
        )
