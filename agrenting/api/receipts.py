"""Receipts as the platform hands them out: the document, and its own signature over it.

Source: crypto/SIGNING.md, "Receipts".
"""

from typing import Any, Final

import msgspec

from channels.limits import Market
from channels.negotiation import NegotiationSession, agreement_document
from channels.payment_state import PaymentChannel, receipt_document
from channels.task_receipts import receipt_document as task_document
from channels.task_state import Task
from crypto import canonical_digest, format_public_key, public_key_of, receipt_message, sign

MEDIA_TYPE: Final = "application/agrenting-receipt+json"
AGREEMENT: Final = "agreement"
PAYMENT_CHANNEL: Final = "payment_channel"
TASK: Final = "task"


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


def channel_receipt(channel: PaymentChannel, market: Market, *, platform_seed: bytes) -> Receipt:
    """The receipt of a payment channel that was closed.

    Raises:
        Conflict: `not_closed`.
    """
    document = receipt_document(channel, market)
    return _signed(PAYMENT_CHANNEL, channel.id, document, market=market, platform_seed=platform_seed)


def task_receipt(task: Task, market: Market, *, platform_seed: bytes) -> Receipt:
    """The receipt of a task that has ended, once none of its money is held.

    Raises:
        Conflict: `not_settled`.
    """
    return _signed(TASK, task.id, task_document(task, market), market=market, platform_seed=platform_seed)


def platform_signature(
    *, kind: str, document_id: str, document_digest: str, market: Market, platform_seed: bytes
) -> PlatformSignature:
    """What the platform signs under a document."""
    message = receipt_message(
        signing_domain=market.signing_domain, kind=kind, document_id=document_id, document_digest=document_digest
    )
    public_key = format_public_key(public_key_of(platform_seed))
    return PlatformSignature(public_key=public_key, signature=sign(platform_seed, message))


def agreement_receipt(session: NegotiationSession, market: Market, *, platform_seed: bytes) -> Receipt:
    """The receipt of an agreement.

    Raises:
        Conflict: `not_agreed`.
    """
    document = agreement_document(session, market)
    return _signed(AGREEMENT, session.id, document, market=market, platform_seed=platform_seed)


def _signed(kind: str, document_id: str, document: dict[str, Any], *, market: Market, platform_seed: bytes) -> Receipt:
    plain = msgspec.to_builtins(document)
    return Receipt(
        kind=kind,
        id=document_id,
        signing_domain=market.signing_domain,
        document=plain,
        platform=platform_signature(
            kind=kind,
            document_id=document_id,
            document_digest=canonical_digest(plain),
            market=market,
            platform_seed=platform_seed,
        ),
    )
