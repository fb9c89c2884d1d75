"""Signer: signs offers and acceptances, after checking what the server told.

What is signed binds. So the session digest, every offer's digest and signature and the midpoint are computed anew, and
if one does not hold nothing is signed.
"""

from typing import Any

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


class Signer:
    """Signs for one agent on one deployment.

    Args:
        secret_key: The seed, 32 bytes; never shown.
        signing_domain: The deployment's, from `GET /api/v1/meta`: a server that tells another one is not believed.
    """

    def __init__(self, secret_key: bytes, signing_domain: str) -> None:
        self._secret_key = secret_key
        self.signing_domain = signing_domain
        self.public_key = format_public_key(public_key_of(secret_key))

    def key_proof(self, *, owner_id: str, challenge: str, agent_id: str | None = None) -> dict[str, str]:
        """The proof that its holder registers the key."""
        message = key_proof_message(
            signing_domain=self.signing_domain, owner_id=owner_id, agent_id=agent_id, challenge=challenge
        )
        return {"challenge": challenge, "signature": sign(self._secret_key, message)}

    def offer(self, session: dict[str, Any], *, agent_id: str, amount: int) -> dict[str, Any]:
        """The payload of `offer`, for the session as the last join or reply told it.

        Raises:
            LyingServer: Something of it does not hold.
        """
        answered = self.check(session)[-1]
        round_number = len(session["offers"]) + 1
        message = self._offer(session, agent_id, round_number, amount, answered)
        return {"amount": amount, "round": round_number, "signature": sign(self._secret_key, message)}

    def accept(self, session: dict[str, Any], *, agent_id: str) -> dict[str, Any]:
        """The payload of `accept`: the midpoint of the two standing offers, computed here.

        Raises:
            LyingServer: Something of it does not hold, or there are no two standing offers.
        """
        self.check(session)
        standing = {offer["agent_id"]: offer for offer in session["offers"]}
        client, provider = (standing.get(session[f"{side}_agent_id"]) for side in ("client", "provider"))
        if client is None or provider is None:
            raise LyingServer("there are no two standing offers to accept")
        amount = (client["amount"] + provider["amount"]) // 2  # Rounds down, in the client's favour.
        if session["midpoint"] != amount:
            raise LyingServer(f"the midpoint is {amount}, the server says {session['midpoint']}")
        message = accept_message(
            signing_domain=self.signing_domain,
            session_id=session["id"],
            agent_id=agent_id,
            amount=amount,
            client_offer_digest=client["digest"],
            provider_offer_digest=provider["digest"],
        )
        return {"amount": amount, "signature": sign(self._secret_key, message)}

    def check(self, session: dict[str, Any]) -> list[str]:
        """Compute the session digest and every offer's digest and signature anew.

        Returns:
            The digests, the session's first: the last one is what the next offer signs.

        Raises:
            LyingServer: One of them does not hold.
        """
        terms = session["terms"]
        message = session_message(
            signing_domain=self.signing_domain,
            session_id=session["id"],
            client_agent_id=session["client_agent_id"],
            provider_agent_id=session["provider_agent_id"],
            capability=session["capability"],
            base_max=session["base_max"],
            terms_digest=None if terms is None else canonical_digest(terms),
        )
        digests = [digest(message)]
        if digests[0] != session["session_digest"]:
            raise LyingServer("the session digest does not fit parties, capability, price and terms")
        for round_number, offer in enumerate(session["offers"], 1):
            signed = self._offer(session, offer["agent_id"], round_number, offer["amount"], digests[-1])
            self._require_signed(session, offer, signed)
            digests.append(digest(signed))
        return digests

    def _require_signed(self, session: dict[str, Any], offer: dict[str, Any], signed: bytes) -> None:
        side = "client" if offer["agent_id"] == session["client_agent_id"] else "provider"
        try:
            key = parse_public_key(session[f"{side}_public_key"])
            verify_signature(public_key=key, message=signed, signature=offer["signature"])
        except CryptoError as error:
            raise LyingServer(f"the {side}'s offer {offer['round']} is not signed by its key") from error
        if digest(signed) != offer["digest"]:
            raise LyingServer(f"the digest of offer {offer['round']} does not fit")

    def _offer(self, session: dict[str, Any], agent_id: str, round_number: int, amount: int, answered: str) -> bytes:
        return offer_message(
            signing_domain=self.signing_domain,
            session_id=session["id"],
            agent_id=agent_id,
            round_number=round_number,
            amount=amount,
            answered_digest=answered,
        )
