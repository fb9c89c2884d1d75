"""Honest receipts of any bargain of Alice and Bob, and dishonest ones that the platform has signed all the same."""

import json
from collections.abc import Sequence
from typing import Any, Final

from crypto import (
    accept_message,
    canonical_digest,
    digest,
    offer_message,
    receipt_message,
    session_message,
    sign,
)

from .roles import ALICE, BOB, DOMAIN, PLATFORM, SESSION_ID, Role

Receipt = dict[str, Any]

TERMS: Final = {"languages": ["de", "en"], "due": "2026-12-01"}


def agreement(
    amounts: Sequence[int],
    *,
    client: Role = ALICE,
    provider: Role = BOB,
    is_opened_by_provider: bool = False,
    terms: object = TERMS,
    base_max: int = 1000,
    domain: str = DOMAIN,
) -> Receipt:
    """The receipt of a bargain: offers by turns, then a match, or the acceptance by who did not make the last one.

    Args:
        client, provider: Alice and Bob, unless somebody takes their place.
    """
    parties = (provider, client) if is_opened_by_provider else (client, provider)
    answered = digest(
        session_message(
            signing_domain=domain,
            session_id=SESSION_ID,
            client_agent_id=client.agent_id,
            provider_agent_id=provider.agent_id,
            capability="translate",
            base_max=base_max,
            terms_digest=None if terms is None else canonical_digest(terms),
        )
    )
    offers: list[dict[str, Any]] = []
    for index, amount in enumerate(amounts):
        maker = parties[index % 2]
        message = offer_message(
            signing_domain=domain,
            session_id=SESSION_ID,
            agent_id=maker.agent_id,
            round_number=index + 1,
            amount=amount,
            answered_digest=answered,
        )
        answered = digest(message)
        offers.append(
            {
                "round": index + 1,
                "agent_id": maker.agent_id,
                "amount": amount,
                "signature": sign(maker.secret_key, message),
                "digest": answered,
            }
        )
    document = {
        "session_id": SESSION_ID,
        "agreement_id": SESSION_ID,
        "client_agent_id": client.agent_id,
        "provider_agent_id": provider.agent_id,
        "client_public_key": client.public_key_text,
        "provider_public_key": provider.public_key_text,
        "capability": "translate",
        "base_max": base_max,
        "max_offer": 2 * base_max,
        "terms": terms,
        "offers": offers,
        "amount": sum(amounts[-2:]) // 2,  # Rounds down, in the client's favour.
        "accepted_by": None,
        "accept_signature": None,
        "currency": "USD",
        "exponent": 6,
        "completed_at": "2026-11-01T12:00:00Z",
    }
    receipt = {"kind": "agreement", "id": SESSION_ID, "signing_domain": domain, "document": document}
    if len(set(amounts[-2:])) > 1:
        accept(receipt, parties[len(amounts) % 2])
    return platform_signs(receipt)


def accept(receipt: Receipt, acceptor: Role) -> None:
    """Let anyone accept the receipt's last two offers."""
    document = receipt["document"]
    standing = {offer["agent_id"]: offer["digest"] for offer in document["offers"][-2:]}
    message = accept_message(
        signing_domain=receipt["signing_domain"],
        session_id=document["session_id"],
        agent_id=acceptor.agent_id,
        amount=document["amount"],
        client_offer_digest=standing[document["client_agent_id"]],
        provider_offer_digest=standing[document["provider_agent_id"]],
    )
    document["accepted_by"] = acceptor.agent_id
    document["accept_signature"] = sign(acceptor.secret_key, message)


def platform_signs(receipt: Receipt) -> Receipt:
    """Put the platform's signature under whatever the receipt says."""
    message = receipt_message(
        signing_domain=receipt["signing_domain"],
        kind=receipt["kind"],
        document_id=receipt["id"],
        document_digest=canonical_digest(receipt["document"]),
    )
    receipt["platform"] = {
        "public_key": PLATFORM.public_key_text,
        "signature": sign(PLATFORM.secret_key, message),
    }
    return receipt


def copy_of(receipt: Receipt) -> Receipt:
    """A deep copy, as it comes out of a file."""
    copied: Receipt = json.loads(json.dumps(receipt))
    return copied
