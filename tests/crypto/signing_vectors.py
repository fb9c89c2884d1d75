"""The vectors, and how the fields of each kind become the arguments of its builder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from crypto import (
    accept_message,
    close_message,
    key_proof_message,
    offer_message,
    receipt_message,
    session_message,
    transfer_message,
)

VECTORS: Final[dict[str, Any]] = json.loads((Path(__file__).parent / "vectors" / "signing.json").read_text("utf-8"))
CASES: Final[dict[str, dict[str, Any]]] = {case["name"]: case for case in VECTORS["cases"]}
REFUSED: Final[dict[str, dict[str, Any]]] = {case["name"]: case for case in VECTORS["must_be_refused"]}
SECRET_KEYS: Final = {name: bytes.fromhex(key["secret_seed_hex"]) for name, key in VECTORS["keys"].items()}


def build_message(kind: str, domain: str, fields: list[str]) -> bytes:
    """The bytes of any kind from the texts of its fields."""
    return _BUILDERS[kind](domain, *fields)


def _optional(field: str) -> str | None:
    return None if field == "-" else field


def _session(domain: str, session: str, client: str, provider: str, capability: str, base: str, terms: str) -> bytes:
    return session_message(
        signing_domain=domain,
        session_id=session,
        client_agent_id=client,
        provider_agent_id=provider,
        capability=capability,
        base_max=int(base),
        terms_digest=_optional(terms),
    )


def _offer(domain: str, session: str, agent: str, round_number: str, amount: str, answered: str) -> bytes:
    return offer_message(
        signing_domain=domain,
        session_id=session,
        agent_id=agent,
        round_number=int(round_number),
        amount=int(amount),
        answered_digest=answered,
    )


def _accept(domain: str, session: str, agent: str, amount: str, client_digest: str, provider_digest: str) -> bytes:
    return accept_message(
        signing_domain=domain,
        session_id=session,
        agent_id=agent,
        amount=int(amount),
        client_offer_digest=client_digest,
        provider_offer_digest=provider_digest,
    )


def _transfer(domain: str, channel: str, nonce: str, payer: str, amount: str, a: str, b: str, task: str) -> bytes:
    return transfer_message(
        signing_domain=domain,
        channel_id=channel,
        nonce=int(nonce),
        payer_agent_id=payer,
        amount=int(amount),
        balance_a=int(a),
        balance_b=int(b),
        task_id=_optional(task),
    )


def _close(domain: str, channel: str, nonce: str, a: str, b: str) -> bytes:
    return close_message(
        signing_domain=domain, channel_id=channel, nonce=int(nonce), final_balance_a=int(a), final_balance_b=int(b)
    )


def _key_proof(domain: str, owner: str, agent: str, challenge: str) -> bytes:
    return key_proof_message(signing_domain=domain, owner_id=owner, agent_id=_optional(agent), challenge=challenge)


def _receipt(domain: str, kind: str, document_id: str, document_digest: str) -> bytes:
    return receipt_message(
        signing_domain=domain, kind=kind, document_id=document_id, document_digest=document_digest
    )


_BUILDERS: Final[dict[str, Callable[..., bytes]]] = {
    "negotiation.session": _session,
    "negotiation.offer": _offer,
    "negotiation.accept": _accept,
    "payment.transfer": _transfer,
    "payment.close": _close,
    "key.proof": _key_proof,
    "platform.receipt": _receipt,
}
