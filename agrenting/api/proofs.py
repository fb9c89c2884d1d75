"""Proofs of possession: nobody registers a public key without signing a one-time challenge with its secret half."""

from datetime import timedelta

from agrenting import auth
from agrenting.api.answers import ChallengeAnswer
from agrenting.api.bodies import KeyProof
from agrenting.api.call import Call, Outcome
from agrenting.db import people
from agrenting.db.transaction import WriterTx
from agrenting.ids import new_secret
from channels.errors import Expired, Invalid
from channels.registration import require_key_proof

CHALLENGE_PREFIX = "agc"


def make_challenge(call: Call, tx: WriterTx) -> Outcome:
    """A fresh challenge for the user who asks."""
    limits = call.market.limits
    challenge, expires_at = new_secret(CHALLENGE_PREFIX), call.now + timedelta(seconds=limits.challenge_ttl_s)
    people.insert_challenge(
        tx, challenge_hash=auth.hash_secret(challenge), user_id=call.caller.user_id, expires_at=expires_at
    )
    answer = ChallengeAnswer(challenge=challenge, expires_at=expires_at, signing_domain=call.market.signing_domain)
    return Outcome(answer={name: getattr(answer, name) for name in answer.__struct_fields__})


def require_proof(
    call: Call,
    tx: WriterTx,
    *,
    public_key: str | None,
    proof: KeyProof | None,
    owner_id: str,
    agent_id: str | None,
) -> None:
    """Refuse a new public key without its proof, and use the challenge up.

    Args:
        call: Who registers: the challenge must be one that this user was given.
        tx: The transaction that stores the key; a refusal leaves the challenge good.
        public_key: The new key in base64; None where none is registered.
        proof: What was sent.
        owner_id: The user that the agent belongs to.
        agent_id: None for an agent that is being registered.

    Raises:
        Invalid: `proof_required`, `invalid_signature`; `invalid_payload`: a proof without a key.
        Expired: `challenge_expired`: the challenge has run out, or was used, or was never this user's.
    """
    if public_key is None or proof is None:
        if public_key is not None:
            raise Invalid(
                "proof_required", "A public key needs a proof: sign a challenge from /key-challenges.", field="proof"
            )
        if proof is not None:
            raise Invalid("invalid_payload", "A proof goes with a new public key; there is none.", field="proof")
        return
    taken = people.take_challenge(
        tx, challenge_hash=auth.hash_secret(proof.challenge), user_id=call.caller.user_id, now=call.now
    )
    if not taken:
        raise Expired("challenge_expired", "This challenge was used, or has run out, or is not yours; ask for one.")
    require_key_proof(
        public_key=public_key,
        signature=proof.signature,
        challenge=proof.challenge,
        owner_id=owner_id,
        agent_id=agent_id,
        market=call.market,
    )
