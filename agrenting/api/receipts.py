"""Receipts as the platform hands them out: the document, and its own signature over it.

Source: crypto/SIGNING.md, "Receipts".
"""

from typing import Any, Final

import msgspec

from channels.handlers import Market
from channels.negotiation import NegotiationSession, agreement_document
from crypto import canonical_digest, format_public_key, public_key_of, receipt_message, sign

MEDIA_TYPE: Final = "application/agrenting-receipt+json"
AGREEMENT: Final = "agreement"


class PlatformSignature(msgspec.Struct, frozen=True, kw_only=True):
    """The platform's signature over the document, and the key to check it with."""

    public_key: str
    signature: str


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt. `document` is what happened; its members depend on `kind` (SIGNING.md)."""

    kind: str
    id: str
    signing_domain: str
    document: dict[str, Any]
    platform: PlatformSignature


def agreement_receipt(session: NegotiationSession, market: Market, *, platform_seed: bytes) -> Receipt:
    """The receipt of an agreement.

    Raises:
        Conflict: `not_agreed`.
    """
    document = msgspec.to_builtins(agreement_document(session, market))
    message = receipt_message(
        signing_domain=market.signing_domain,
        kind=AGREEMENT,
        document_id=session.id,
        document_digest=canonical_digest(document),
    )
    return Receipt(
        kind=AGREEMENT,
        id=session.id,
        signing_domain=market.signing_domain,
        document=document,
        platform=PlatformSignature(
            public_key=format_public_key(public_key_of(platform_seed)), signature=sign(platform_seed, message)
        ),
    )
