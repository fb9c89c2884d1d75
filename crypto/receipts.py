"""Receipts, checked offline: no server, no clock, only the document and public keys.

A receipt is a document about something that has ended, with the platform's signature over all of it. What the parties
have signed themselves is checked too, so that such a receipt proves more than the platform's word. SIGNING.md
("Receipts") gives the formats, each with a whole example.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from . import agreements, channel_receipts, task_receipts
from .errors import ReceiptError
from .evidence import (
    ID,
    NAME,
    RECEIPT_MEMBERS,
    SIGNATURE,
    SIGNING_DOMAIN,
    Fields,
    Findings,
    require_digest,
    require_signed,
)
from .keys import fingerprint, format_public_key
from .messages import receipt_message

_PLATFORM_MEMBERS: Final = frozenset(("public_key", "signature"))


class _Checker(Protocol):
    def __call__(self, document: object, *, signing_domain: str, document_id: str) -> Findings: ...


_CHECKERS: Final[dict[str, _Checker]] = {
    agreements.KIND: agreements.check_agreement,
    channel_receipts.KIND: channel_receipts.check_channel,
    task_receipts.KIND: task_receipts.check_task,
}
"""How a document of each kind is checked."""


@dataclass(frozen=True, slots=True)
class ReceiptReport:
    """What a receipt proves, or a history.

    Args:
        kind: Of the document, such as `agreement`.
        id: Of what the document is about.
        checks: One sentence for each thing that was proved.
        unproven: One sentence for each key that was taken from the receipt itself. Anyone can make keys: the receipt
            is worth what is known about them from elsewhere.
    """

    kind: str
    id: str
    checks: tuple[str, ...]
    unproven: tuple[str, ...]


def verify_receipt(
    receipt: object,
    *,
    platform_key: bytes | None = None,
    client_key: bytes | None = None,
    provider_key: bytes | None = None,
    opener_key: bytes | None = None,
    counterparty_key: bytes | None = None,
) -> ReceiptReport:
    """Check a receipt of any kind as far as mathematics goes.

    Args:
        receipt: What a JSON parser made of it. It may be anything: every flaw is a `ReceiptError`.
        platform_key, client_key, provider_key, opener_key, counterparty_key: The keys that the receipt must name, 32
            bytes each, where they are known from elsewhere; None leaves that open, and the report says so. A key of a
            role that the kind does not have is refused: whoever gives it expects another document.

    Raises:
        ReceiptError: `kind`, `shape`, `key`, `pinned_key`, `platform_signature`, and those of the kind's own check.
    """
    fields = Fields(receipt, pointer="", names=RECEIPT_MEMBERS)
    kind = fields.text("kind", NAME)
    checker = _CHECKERS.get(kind)
    if checker is None:
        raise ReceiptError(f"Receipts of kind {kind} are not known here.", check="kind")
    document_id = fields.text("id", ID)
    signing_domain = fields.text("signing_domain", SIGNING_DOMAIN)
    platform = Fields(fields.member("platform"), pointer="/platform", names=_PLATFORM_MEMBERS)
    document = fields.member("document")
    findings = checker(document, signing_domain=signing_domain, document_id=document_id)
    keys = {"platform": platform.public_key("public_key"), **findings.parties}
    pins = {
        "platform": platform_key,
        "client": client_key,
        "provider": provider_key,
        "opener": opener_key,
        "counterparty": counterparty_key,
    }
    pinned = require_pinned(keys, pins, what="receipt")
    signed = require_platform_signed(
        platform,
        signing_domain=signing_domain,
        kind=kind,
        document_id=document_id,
        document_digest=require_digest(document, pointer="/document"),
    )
    return ReceiptReport(
        kind=kind,
        id=document_id,
        checks=(*findings.checks, signed, *pinned),
        unproven=unpinned(keys, pins, what="receipt"),
    )


def require_platform_signed(
    platform: Fields, *, signing_domain: str, kind: str, document_id: str, document_digest: str
) -> str:
    """Return the sentence that the platform has signed a document.

    Args:
        platform: Its `public_key` and `signature`.

    Raises:
        ReceiptError: `shape`, `key`, `platform_signature`.
    """
    public_key = platform.public_key("public_key")
    require_signed(
        public_key=public_key,
        message=receipt_message(
            signing_domain=signing_domain, kind=kind, document_id=document_id, document_digest=document_digest
        ),
        signature=platform.text("signature", SIGNATURE),
        what=f"{platform.pointer}/signature",
        check="platform_signature",
    )
    return (
        f"The platform (key {fingerprint(public_key)}) has signed the whole document for the deployment "
        f"{signing_domain}, with its time and currency, which nobody else has signed."
    )


def require_pinned(keys: dict[str, bytes], pins: dict[str, bytes | None], *, what: str) -> tuple[str, ...]:
    """Return a sentence for each role whose key is the expected one.

    Args:
        keys: Of each role, as the document states them.
        pins: Of each role, as they are known from elsewhere; None where they are not.
        what: What the document is.

    Raises:
        ReceiptError: `pinned_key`.
    """
    expected = {role: key for role, key in pins.items() if key is not None}
    for role, key in expected.items():
        if keys.get(role) != key:
            raise ReceiptError(f"The {role}'s key in the {what} is not the expected one.", check="pinned_key")
    return tuple(f"The {role}'s key is the expected one." for role in expected)


def unpinned(keys: dict[str, bytes], pins: dict[str, bytes | None], *, what: str) -> tuple[str, ...]:
    """A sentence for each role whose key nobody has vouched for; the arguments are those of `require_pinned`."""
    return tuple(
        f"The {role}'s key {format_public_key(key)} is taken from the {what} itself: compare it with a source that you "
        "trust."
        for role, key in keys.items()
        if pins.get(role) is None
    )
